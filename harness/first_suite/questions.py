"""The question that files ask, and the candidates that a practised user would declare to answer it, as Python text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from harness.adapters.checkpoint_sweep import checkpoint_sweep
from harness.declare import Candidate
from harness.declare.hub_names import file_name
from harness.declare.ways_out import AS_FP16
from harness.first_suite.given_files import GivenAdapter, GivenModel, UnfitFileError
from harness.first_suite.python_text import call, listed, numbers, quoted
from harness.hub import is_path
from harness.records.file_names import unusable_on_windows
from harness.weights.training_files import saved_at

Values: TypeAlias = tuple[float, ...]
MOST_ADAPTERS: Final = 5
ATTACHED: Final = 0.8
"""The weight of adapters that are not what is asked about."""
EARLIEST: Final = "Of those about as good as the best the earliest is taken."
MODES: Final[Mapping[str, tuple[str, ...]]] = {
    "cpu": ("fp32", "bf16", "int8_weight_only", "int8_dynamic", "int4_weight_only"),
    "cuda": ("fp16", "bf16", "int8_weight_only", "int8_dynamic", "int4_weight_only")}
"""The number formats that are tried on a kind of device, the reference first."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a suite asks. `steps` are the values of its axis, from many to few; `source` gives the candidates at some of them as
    Python text, and `count` how many they are. `words` are the names that the text needs of harness. Without `raced` the whole
    grid is sampled."""

    asks: str
    name: str
    baseline: str
    values: tuple[Values, ...]
    source: Callable[[Values], str]
    count: Callable[[Values], int]
    words: tuple[str, ...]
    modules: tuple[str, ...] = ()
    refine: str = ""
    prefer: Mapping[str, str] = field(default_factory=dict)
    raced: bool = True
    metrics: tuple[str, ...] = ()
    one_scale: bool = False


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is said beside the files: the number formats are asked about, on which device, the configs of the models, the number
    of the last file of a training, and the steps."""

    quantize: bool = False
    device: str = "cpu"
    config: str = ""
    last: int | None = None
    steps: int | None = None


def question(models: Sequence[GivenModel], adapters: Sequence[GivenAdapter], options: Options) -> Question:
    """The question of these files. Raises UnfitFileError for files that ask none, and for options that have no effect."""
    spelled = [_spelled(model, options.config) for model in models]
    training = _one_training([one.path for one in (models if len(models) > 1 else adapters)])
    if options.last is not None and not training:
        raise UnfitFileError(f"--last is {options.last}, but the files are not of one training; leave it out")
    if len(models) == 1 or options.quantize:
        asked = _without_adapters(models, spelled[0], adapters, options)
        return asked or _with_adapters(models[0], spelled[0], adapters, options.last if training else None, training)
    if training:
        if adapters:
            raise UnfitFileError(f"{models[0].path!r} and others are models of one training, which are compared alone; leave out "
                                 f"{adapters[0].path!r}")
        return _whole_models([model.path for model in models], _config(models[0], options.config), options.last)
    if len(models) == 2:
        return _merge(models, spelled, adapters)
    if adapters:
        raise UnfitFileError(f"{len(models)} models and adapters are given; give one or two models with adapters, or "
                             "models alone")
    return _models(models, spelled)


def _without_adapters(models: Sequence[GivenModel], spelled: str, adapters: Sequence[GivenAdapter],
                      options: Options) -> Question | None:
    """The question of a model alone; None if there are adapters."""
    if options.quantize and (len(models) > 1 or adapters):
        raise UnfitFileError(f"--quantize takes one model, and {len(models) + len(adapters)} files are given; merge or fuse them "
                             "first (sweetspot merge, sweetspot adapter)")
    if options.quantize:
        return _quantization(models[0], spelled, options.device)
    return None if adapters else _sampling(models[0], spelled, options.steps)


def _with_adapters(model: GivenModel, spelled: str, adapters: Sequence[GivenAdapter], last: int | None,
                   training: bool) -> Question:
    if len(adapters) == 1:
        return _weight(model, spelled, adapters[0])
    return _checkpoints(model.path, spelled, [a.path for a in adapters], last) if training else _grid(model, spelled, adapters)


def _merge(models: Sequence[GivenModel], spelled: Sequence[str], adapters: Sequence[GivenAdapter]) -> Question:
    attached = listed([f"Adapter(path={quoted(a.path)}, weight={ATTACHED})" for a in adapters])
    words = ("sweep", "Merge") if models[0].packed else ("alpha_sweep",)

    def source(alphas: Values) -> str:
        merge = [call("Merge", *(f"{word}={text}" for word, text in zip("ab", spelled, strict=True)), AS_FP16)]
        sweep = call(words[0], *(merge if models[0].packed else spelled), f"alphas={numbers(alphas)}")
        return f"[replace(c, adapters={attached}) for c in {sweep}]" if adapters else sweep

    return Question(
        asks="Which share of the second model, alpha, and which CFG?", name=name_of([m.path for m in models]), baseline="alpha=0",
        values=((0, 0.2, 0.4, 0.6, 0.8, 1), (0, 0.25, 0.5, 0.75, 1), (0, 0.5, 1)), source=source, count=len, refine="alpha",
        words=(*words, *(["Adapter"] if adapters else []), *_checkpoint_word(spelled)),
        modules=("from dataclasses import replace",) if adapters else ())


def _models(models: Sequence[GivenModel], spelled: Sequence[str]) -> Question:
    names = _short_names([m.path for m in models])
    source = listed([f"Candidate(name={quoted(name)}, model={text})" for name, text in zip(names, spelled, strict=True)])
    return Question(asks="Which model, at which CFG?", name=name_of([m.path for m in models]), baseline=names[0], values=((),),
                    source=lambda _: source, count=lambda _: len(models), words=("Candidate", *_checkpoint_word(spelled)))


def _weight(model: GivenModel, spelled: str, adapter: GivenAdapter) -> Question:
    return Question(
        asks="Which weight of the adapter, and which CFG?", name=name_of([model.path, adapter.path]), baseline="weight=0",
        values=((0, 0.2, 0.4, 0.6, 0.8, 1, 1.2), (0, 0.4, 0.6, 0.8, 1), (0, 0.5, 1)), refine="weight",
        source=lambda weights: call("adapter_sweep", spelled, quoted(adapter.path), f"weights={numbers(weights)}"), count=len,
        words=("adapter_sweep", *_checkpoint_word([spelled])))


def _grid(model: GivenModel, spelled: str, adapters: Sequence[GivenAdapter]) -> Question:
    if len(adapters) > MOST_ADAPTERS:
        raise UnfitFileError(f"{len(adapters)} adapters would be crossed, which takes {2 ** len(adapters)} candidates; give at "
                             f"most {MOST_ADAPTERS}. If they are of one training, number them: adapter_files in a suite")
    names = _short_names([a.path for a in adapters])
    files = ", ".join(f"{quoted(name)}: {quoted(a.path)}" for name, a in zip(names, adapters, strict=True))
    few: tuple[Values, ...] = ((0, 0.5, 1),) if len(adapters) < 4 else ()
    return Question(
        asks="Which weights of the adapters together, and which CFG?", name=name_of([model.path, *(a.path for a in adapters)]),
        baseline=" ".join(f"{name}=0" for name in names), values=(*few, (0, ATTACHED)),
        source=lambda weights: call("adapter_grid", spelled, f"{{{files}}}", f"weights={numbers(weights)}"),
        count=lambda weights: len(weights) ** len(adapters), words=("adapter_grid", *_checkpoint_word([spelled])))


def _checkpoints(model: str, spelled: str, files: Sequence[str], last: int | None) -> Question:
    axis = _swept(model, files, last)[0]
    paths, more = listed([quoted(file) for file in files]), [f"last={last}"] if last is not None else []
    prefer = {"guidance": "lowest", axis: "lowest"}
    return Question(
        asks=f"Which {axis} of the training, at which weight, and which CFG? {EARLIEST}",
        name=name_of([model, _training_name(files[0])]), baseline="weight=0", values=((0.6, 0.8, 1), (0.8, 1), (1,)),
        prefer=prefer,
        source=lambda weights: call("checkpoint_sweep", spelled, paths, f"weights={numbers(weights)}", *more),
        count=lambda weights: 1 + len(files) * len(weights), words=("checkpoint_sweep", *_checkpoint_word([spelled])))


def _whole_models(files: Sequence[str], config: str, last: int | None) -> Question:
    axis, made = _swept(None, files, last)
    sweep = call("checkpoint_sweep", listed([quoted(file) for file in files]), *([f"last={last}"] if last is not None else []))
    given = f"Checkpoint(path=c.model, config={quoted(config)})"
    return Question(
        asks=f"Which {axis} of the training, and which CFG? {EARLIEST}",
        name=name_of([_training_name(files[0])]), baseline=made[0].name, values=((),),
        prefer={"guidance": "lowest", axis: "lowest"}, count=lambda _: len(made),
        source=lambda _: f"[replace(c, model={given}) for c in {sweep}]" if config else sweep,
        words=("checkpoint_sweep", *(["Checkpoint"] if config else [])),
        modules=("from dataclasses import replace",) if config else ())


def _swept(model: str | None, files: Sequence[str], last: int | None) -> tuple[str, tuple[Candidate, ...]]:
    """The axis of a sweep over files of one training, and its candidates."""
    try:
        made = checkpoint_sweep(model, files, last=last)
    except ValueError as error:
        way = str(error).removeprefix("checkpoint_sweep: ").replace("give last=, its number,", "give --last and its number")
        raise UnfitFileError(way.replace("remove last", "leave out --last")) from None
    return next(axis for axis in made[0].axes if axis != "weight"), made


def _sampling(model: GivenModel, spelled: str, most: int | None) -> Question:
    """Steps and samplers, up to `most` steps."""
    samplers = ("flow_euler",) if model.family in ("sd3", "flux") else ("dpmpp_2m", "euler", "unipc")
    top = most or (20 if model.built_in else 30)
    many, few = (tuple(sorted({max(1, round(top * share)) for share in shares})) for shares in (
        (0.25, 0.4, 0.67, 1), (0.33, 0.67, 1)))
    if len(samplers) * len(few) < 2:
        raise UnfitFileError(f"--steps is {most}, and there is nothing to compare with one step and one sampler; give more steps")
    words = [*([f"steps={top}"] if len(few) > 1 else []), *([f"sampler={samplers[0]}"] if len(samplers) > 1 else [])]
    return Question(
        asks="How many steps, by which sampler, and which CFG?", name=name_of([model.path]), values=(many, few),
        baseline=" ".join(words), count=lambda steps: len(steps) * len(samplers),
        source=lambda steps: call("sampling_sweep", spelled, f"steps={numbers(steps)}", f"samplers={_words(samplers)}"),
        prefer={"guidance": "lowest", **({"steps": "lowest"} if len(few) > 1 else {})},
        words=("sampling_sweep", *_checkpoint_word([spelled])))


def _quantization(model: GivenModel, spelled: str, device: str) -> Question:
    modes = MODES["cpu" if device == "cpu" else "cuda"]
    return Question(
        asks="How few bits can the model do with?", name=f"{name_of([model.path])}_bits", baseline=modes[0], values=((),),
        raced=False,
        source=lambda _: (f'[\n    Candidate(name=mode, model={spelled},\n'
                          f'              quantization=mode, axes={{"quantization": mode}})\n'
                          f"    for mode in {_words(modes)}]"),
        count=lambda _: len(modes), words=("Candidate", *_checkpoint_word([spelled])), one_scale=True,
        metrics=("psnr", "ssim", "clip_score", "palette", "exposure"))


def _one_training(paths: Sequence[str]) -> bool:
    """Whether most files are numbered as a trainer numbers what it saves, or say that one training saved them."""
    saved = [saved_at(path if is_path(path) else file_name(path)) for path in paths if not path.startswith("zoo:")]
    numbered = sum(file.numbered for file in saved)
    sessions = {file.session for file in saved}
    return len(saved) == len(paths) > 1 and (2 * numbered > len(paths) or (len(sessions) == 1 and "" not in sessions) or (
        numbered == 1 == len(paths) - 1 and len({file.stem for file in saved}) == 1))


def _spelled(model: GivenModel, config: str) -> str:
    """A model as Python text, with the configs that it needs."""
    config = _config(model, config)
    return f"Checkpoint(path={quoted(model.path)}, config={quoted(config)})" if config else quoted(model.path)


def _config(model: GivenModel, config: str) -> str:
    return config or ("zoo:config" if model.built_in and not model.path.startswith("zoo:") else "")


def _checkpoint_word(spelled: Sequence[str]) -> tuple[str, ...]:
    return ("Checkpoint",) if any(text.startswith("Checkpoint(") for text in spelled) else ()


def _words(words: Sequence[str]) -> str:
    return f"({', '.join(map(quoted, words))}{',' if len(words) == 1 else ''})"


def _short_names(paths: Sequence[str]) -> list[str]:
    """A different short word for each file."""
    names: list[str] = []
    for path in paths:
        word = _word(path) or "file"
        names.append(next(name for name in (word, *(f"{word}_{n}" for n in range(2, len(paths) + 2))) if name not in names))
    return names


def _word(path: str) -> str:
    """The name of a file as one word."""
    stem = Path(file_name(path).removeprefix("zoo:")).stem
    return re.sub(r"[^A-Za-z0-9]+", "_", stem).strip("_")[:24].strip("_")


def _training_name(path: str) -> str:
    """A file of a training without its number, which is that of one file alone."""
    return f"{saved_at(path).stem.rstrip('/') or path}.safetensors"


def name_of(paths: Sequence[str]) -> str:
    """A name for the suite, its file and its run folder."""
    name = "_".join(filter(None, map(_word, paths[:3]))) or "models"
    return f"try_{name}" if unusable_on_windows(name) or not name[0].isalpha() else name
