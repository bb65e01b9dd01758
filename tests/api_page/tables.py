"""The sections of names to choose from: one table for each table of the code."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from harness.adapters.formats import FORMATS
from harness.adapters.kinds import KINDS
from harness.declare.grid import LOW_MEMORY
from harness.declare.prompt_sets import KIND, prompt_set
from harness.declare.sampler_names import SAMPLER_NAMES, SCHEDULE_NAMES
from harness.declare.syntax import SYNTAXES
from harness.merge import MERGE_METHODS, MergeMethod
from harness.merge.blocks import CONVENTIONS
from harness.merge.presets import PRESETS
from harness.metrics import METRICS, Metric
from harness.quantize import QUANTIZATION_MODES
from harness.records import ValueSpec
from harness.records.gate_kinds import LIMITS, gate_kind
from harness.records.values import RUN_VALUES
from harness.runtimes import RUNTIMES
from harness.samplers import SAMPLERS, SCHEDULES
from harness.savers import SAVERS
from harness.text.weighting import WEIGHTINGS
from harness.zoo import NAMES
from tests.api_page.docstrings import markdown, own_docstring, table

Rows = Iterable[Iterable[str]]


def code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def first_paragraph(thing: object) -> str:
    return markdown(own_docstring(thing).split("\n\n")[0])


def _values() -> Rows:
    of_metrics = [spec for name, metric in METRICS.items() for spec in metric.rows(name)]
    for spec in (*of_metrics, *RUN_VALUES.values()):
        yield f"`{spec.name}`", _origin(spec), markdown(spec.unit), spec.better, _limits(spec), markdown(spec.definition)


def _origin(spec: ValueSpec) -> str:
    if spec.metric in METRICS:
        return f"metric `{spec.metric}`"
    return {"derived": "the objective", "people": "people", "run": "the run"}[spec.origin]


def _limits(spec: ValueSpec) -> str:
    kind = gate_kind(spec.name)
    if not kind.limits:
        return f"none: {kind.why_limits}"
    return "any" if kind.limits == LIMITS else code(kind.limits)


def _metrics() -> Rows:
    for name, metric in METRICS.items():
        values = [spec.name for spec in (*metric.values, *RUN_VALUES.values()) if spec in metric.values or spec.metric == name]
        yield f"`{name}`", code(values), ", ".join(_needs(metric)), metric.paper


def _needs(metric: Metric) -> Iterator[str]:
    if metric.needs_clip:
        yield "a CLIP model"
    if metric.uses_styles:
        yield "the suite's styles"
    if metric.uses_poses:
        yield "the suite's poses and their detector"
    if metric.paired:
        yield "the baseline's images"


def _methods() -> Rows:
    for name, method in MERGE_METHODS.items():
        settings = [f"`{one.name}` ({one.default:g}): {one.meaning}" for one in method.parameters]
        yield (f"`{name}`", _models(method), _range(method.alpha_range), _range(method.beta_range), "; ".join(settings),
               first_paragraph(method.function), method.paper)


def _models(method: MergeMethod) -> str:
    listed = ["A", "B"] + ["C"] * (method.models > 2 and not method.many)
    return ", ".join([*listed, *(["more"] if method.many else []), *(["the base C"] if method.base else [])])


def _range(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f"{ends[0]:g} to {ends[1]:g}"


def _modes() -> Rows:
    for name, mode in QUANTIZATION_MODES.items():
        refused = "; ".join(f"{kind}: {why}" for kind, why in mode.refused.items())
        yield f"`{name}`", str(mode.weight_bits), mode.package, refused, first_paragraph(mode.apply)


def _samplers() -> Rows:
    for name, sampler in SAMPLERS.items():
        yield (f"`{name}`", code(SAMPLER_NAMES[name]), code(sampler.schedules), ", ".join(sampler.same_as),
               "" if sampler.eta is None else f"{sampler.eta:g}", "yes" if sampler.ancestral else "",
               {"once": "", "twice": "2", "plms": "1, in the first step 2"}[sampler.evaluations],
               "" if not sampler.flow else "flow models (Stable Diffusion 3, Flux)" if sampler.scheduler else
               "folders that their own pipeline samples")


def _schedules() -> Rows:
    for name, schedule in SCHEDULES.items():
        yield (f"`{name}`", code(SCHEDULE_NAMES[name]), schedule.says, ", ".join(schedule.same_as), str(schedule.most_steps))


def _fields(rows: Mapping[str, Any], *names: str) -> Callable[[], Rows]:
    """Rows of a table by name, with these fields of theirs."""
    return lambda: ((f"`{key}`", *(getattr(row, name) for name in names)) for key, row in rows.items())


def _prompt_kinds() -> Rows:
    for kind in dict.fromkeys(prompt.tags[KIND] for prompt in prompt_set()):
        yield f"`{kind}`", str(len(prompt_set(kind))), prompt_set(kind)[0].text


SECTIONS: Mapping[str, tuple[str, tuple[str, ...], Callable[[], Rows]]] = {
    "Values": (
        "What objectives, constraints, penalties and gates can judge. A value of a metric needs that metric in `Suite.metrics`.",
        ("value", "comes from", "unit", "better", "limits of a gate", "what it is"), _values),
    "Metrics": ("For `Suite.metrics`.", ("metric", "values", "needs", "paper"), _metrics),
    "Merge methods": (
        "For `Merge.method`, see docs/merging.md. `sweetspot merge --methods` lists them too.",
        ("method", "models", "alpha", "beta", "settings (default)", "result", "source"), _methods),
    "Conventions": ("For `Blocks.convention`.", ("convention", "source"), _fields(CONVENTIONS, "source")),
    "Presets": ("For `Blocks.preset` and `Search.presets`.", ("preset", "values from IN00 to OUT11"),
                lambda: ((f"`{name}`", " ".join(f"{value:.3g}" for value in values)) for name, values in PRESETS.items())),
    "Quantization modes": (
        "For `Candidate.quantization`.", ("mode", "bits of a weight", "package", "not on", "what it does"), _modes),
    "Runtimes": ("For `Candidate.runtime`.", ("runtime", "what it is"), _fields(RUNTIMES, "description")),
    "Savers": ("For `Candidate.savers`, see docs/savers.md.", ("saver", "what it does", "changes pictures", "not offered"),
               _fields(SAVERS, "description", "changes_pictures", "refused")),
    "Low memory": ("For `Grid.low_memory`, see docs/gpu.md#memory.", ("measure", "what it does"),
                   lambda: ((f"`{name}`", text) for name, text in LOW_MEMORY.items())),
    "Samplers": (
        "For `Grid.sampler` and `Sampling.sampler`, see docs/sampling.md. In a tool's name case, spaces, hyphens, \"k_\" in "
        "front and \"++\" for \"pp\" make no difference.",
        ("sampler", "also called", "schedules", "the same steps as", "default eta", "draws noise", "denoiser runs a step",
         "only for"), _samplers),
    "Schedules": (
        "For `Sampling.schedule`, see docs/sampling.md.",
        ("schedule", "also called", "noise levels", "the same as", "most steps"), _schedules),
    "Syntaxes": ("For `Grid.syntax` and `Prompt.syntax`, see docs/prompts.md.", ("syntax", "markup of"),
                 lambda: ((f"`{name}`", syntax.tool or "none: every character is text") for name, syntax in SYNTAXES.items())),
    "Weightings": ("For `Emphasis.method`.", ("method", "what it does", "source"), _fields(WEIGHTINGS, "says", "source")),
    "Kinds of adapters": (
        "What adapter files can hold. They are recognised by themselves, see docs/adapters.md.", ("kind", "what it is", "source"),
        _fields(KINDS, "says", "paper")),
    "Layouts of adapter files": (
        "They are recognised by themselves, see docs/adapters.md.", ("layout", "what it is", "written by"),
        _fields(FORMATS, "says", "tool")),
    "Kinds of prompts": ("For `prompt_set`.", ("kind", "prompts", "the first of them"), _prompt_kinds),
    "Built-in models": (
        "Paths of models, adapters and CLIP models, see docs/zoo.md.", ("name",), lambda: ((f"`{name}`",) for name in NAMES)),
}
"""By heading: where the names are used, the header of the table, and its rows."""


def sections() -> Iterator[tuple[str, str]]:
    """The heading and the text of each section."""
    for heading, (used, header, rows) in SECTIONS.items():
        yield heading, f"### {heading}\n\n{markdown(used)}\n\n{table(header, rows())}\n"


