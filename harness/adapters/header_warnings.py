"""Warnings from an adapter file's header alone: incomplete modules, and header texts that names and shapes contradict.
Shapes decide; contradicted texts are reported and ignored."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from harness.adapters.adapter_file import Stored, quoted
from harness.adapters.formats.headers import HEADER, components_of, fits, flag, said_rank, settings, strength
from harness.adapters.kinds import KINDS, wrong_roles
from harness.adapters.live_plan import AdapterError

_CLAIMS: Final = (  # the first match counts, so the order matters: "sdxl" before "sd_?1"
    (r"flux", "Flux.1"), (r"sd3|stable-diffusion-3|stable_diffusion_3", "Stable Diffusion 3"),
    (r"refiner", "Stable Diffusion XL refiner"), (r"sdxl|sd_xl|-xl-|xl_", "Stable Diffusion XL"),
    (r"sd_?2|sd_v2|stable-diffusion-v2|stable-diffusion-2", "Stable Diffusion 2"),
    (r"sd_?1|sd_v1|stable-diffusion-v1|stable-diffusion-1|sd15", "Stable Diffusion 1"),
)
_TITLES: Final = {"flux": "Flux.1", "sd3": "Stable Diffusion 3", "sdxl_refiner": "Stable Diffusion XL refiner",
                 "sdxl": "Stable Diffusion XL", "sd2": "Stable Diffusion 2", "sd1": "Stable Diffusion 1"}
_BASES: Final = frozenset(family for _, family in _CLAIMS)
_BESIDE: Final = frozenset({"alpha", "magnitude", "magnitude_rows"})
_NUMBER: Final = re.compile(r"\d{1,9}(\.\d{1,9})?")


@dataclass(frozen=True, kw_only=True)
class Module:
    """A module in a file's header: keys by role, the kinds that their endings indicate, and its rank (0 without)."""

    part: str
    name: str
    keys: Mapping[str, str]
    kinds: frozenset[str]
    rank: int


def oddities(stored: Stored, modules: Sequence[Module], base: str, alphas: Sequence[float], reads_header: bool) -> Iterator[str]:
    """Every oddity as a sentence. `alphas` are the file's; `reads_header` says whether its format uses PEFT's settings."""
    yield from _kohya(stored, modules, base, alphas)
    yield from _peft(stored, modules, reads_header)
    yield from _first_of(_broken(stored, modules), "modules are incomplete")


def other_family(stored: Stored, base: str, family: str) -> Iterator[str]:
    """A warning if header texts name another family than that of the model it is read against, and names and shapes fit both."""
    title = _TITLES.get(family, "")
    for name in ("ss_base_model_version", "modelspec.architecture") if title and base not in _BASES else ():
        text = stored.metadata.get(name, "")
        if (claimed := _claimed(text)) and claimed != title:
            yield (f"its header says {name} = {text[:60]!a}, {claimed}, but this model is {title}; its names and shapes fit "
                   "both, and what it learnt does not")
            return


def _claimed(text: str) -> str:
    return next((family for mark, family in _CLAIMS if re.search(mark, text.lower())), "")


def _kohya(stored: Stored, modules: Sequence[Module], base: str, alphas: Sequence[float]) -> Iterator[str]:
    """Compares the header texts of kohya's trainers and of modelspec with names and shapes."""
    header, ranks = stored.metadata, [module.rank for module in modules if module.rank]
    for name in ("ss_base_model_version", "modelspec.architecture"):
        text = header.get(name, "")
        claimed = _claimed(text)
        if claimed and base in _BASES and claimed != base:
            yield f"its header says {name} = {text[:60]!a}, but its names and shapes are of {base}"
    if header.get("ss_v2", "").lower() == "true" and base in _BASES - {"Stable Diffusion 2"}:
        yield f"its header says ss_v2 = 'True', but its names and shapes are of {base}"
    header_text = header.get("ss_network_dim", "")
    if header_text.isdecimal() and len(header_text) < 9 and ranks and not min(ranks) <= int(header_text) <= max(ranks):
        yield f"its header says ss_network_dim = {header_text}, but its ranks are {min(ranks)} to {max(ranks)}"
    header_text = header.get("ss_network_alpha", "")
    if _NUMBER.fullmatch(header_text) and alphas and not min(alphas) <= float(header_text) <= max(alphas):
        yield f"its header says ss_network_alpha = {header_text}, but its alphas are {min(alphas):g} to {max(alphas):g}"
    elif _NUMBER.fullmatch(header_text) and not alphas and ranks and {float(header_text)} != set(ranks):
        yield f"its header says ss_network_alpha = {header_text}, but it has no alpha tensors, so alpha = rank is used"
    if "dylora" in header.get("ss_network_module", "").lower() or re.search(
            r'"?algo"?\s*[:=]\s*"?dylora', header.get("ss_network_args", "").lower()):
        yield "trained as DyLoRA, which also works at any lower rank; the full rank is used"


def _peft(stored: Stored, modules: Sequence[Module], reads_header: bool) -> Iterator[str]:
    """Compares PEFT's settings, from the header or adapter_config.json, with the tensors."""
    where = "adapter_config.json" if stored.config is not None else f"header {HEADER}"
    if stored.config is None and HEADER not in stored.metadata:
        return
    if not reads_header:
        odd = "" if any("alpha" in module.keys for module in modules) else (
            ". The tools of this format read it so; diffusers, where it loads such names, scales the factors as the header says")
        yield f"its {where} is ignored: files of this format store their strength in alpha tensors or in the factors{odd}"
        return
    try:
        for part in dict.fromkeys(module.part for module in modules):
            own = [module for module in modules if module.part == part]
            yield from _settings(stored, settings(stored, part), own, where)
    except AdapterError as error:
        yield str(error)
        return
    if stored.config is None:
        heads = {key.partition(".")[0] for key in settings(stored, "") if "." in key}
        for head in sorted(heads - {component for module in modules for component in components_of(module.part)}):
            yield f"its {where} has settings for {head[:40]!a}, but the file has no tensors of it"


def _settings(stored: Stored, config: Mapping[str, Any], modules: Sequence[Module], where: str) -> Iterator[str]:
    if not config:
        yield f"its {where} has no settings for {modules[0].part}: the factors are used unscaled"
        return
    wrong = [module for module in modules if module.rank and said_rank(stored, config, module.name, module.rank) != module.rank]
    yield from _first_of((f"{quoted(module.name)} has rank {module.rank}, its {where} says "
                          f"{said_rank(stored, config, module.name, module.rank):g}" for module in wrong), "ranks contradict it")
    for module in modules:
        # Reports invalid settings even if the file is not read against a model.
        strength(stored, config, module.name, module.rank or 1)
    dora = [module for module in modules if any(role.startswith("magnitude") for role in module.keys)]
    if flag(stored, config, "use_dora") and len(dora) < len(modules):
        yield f"its {where} says use_dora, but {len(modules) - len(dora)} of {len(modules)} modules have no magnitude"
    if config.get("use_dora") is False and dora:
        yield f"its {where} says use_dora = false, but {len(dora)} of {len(modules)} modules have a magnitude"
    names = {module.name for module in modules}
    for pattern in ("rank_pattern", "alpha_pattern"):
        given = config.get(pattern) or {}
        # Plain paths are looked up first, because matching a thousand patterns against a thousand names takes seconds.
        idle = [str(text) for text in given if str(text).removeprefix("^").replace("\\.", ".") not in names and not any(
            fits(stored, str(text), name) for name in names)] if isinstance(given, dict) else []
        yield from _first_of((f"{pattern} of its {where} names {text[:80]!a}, which matches no module" for text in idle),
                             f"entries of {pattern} are without effect")


def _broken(stored: Stored, modules: Iterable[Module]) -> Iterator[str]:
    """Modules that cannot be read: half a pair, two kinds, unequal ranks."""
    for module in modules:
        key = quoted(next(iter(module.keys.values())))
        roles = set(module.keys) - _BESIDE
        kinds = set(module.kinds) - ({"full"} if roles & {"diff_b"} and "diff" not in roles else set())
        if len(kinds) > 1:
            yield f"{key} is in a module of two kinds, {' and '.join(sorted(kinds))}"
        elif not kinds and roles != {"diff_b"}:
            yield f"{key} has no matching factors"
        elif kinds:
            kind = next(iter(kinds))
            problem = wrong_roles(KINDS["oft" if kind == "boft" else kind], roles)
            sides = {role: stored.entries[module.keys[role]].shape for role in ("up", "down") if role in module.keys}
            if problem:
                yield f"{key}: its {kind} has {problem}"
            elif kind == "lora" and "mid" not in roles and sides["up"][1:2] != sides["down"][:1]:
                yield f"{key}: its factors have shapes {sides['down']} and {sides['up']}, whose ranks differ"


def _first_of(warnings: Iterable[str], what: str) -> Iterator[str]:
    """The first of several similar sentences, with their number."""
    all_found = list(warnings)
    if all_found:
        yield all_found[0] + (f" ({len(all_found)} {what})" if len(all_found) > 1 else "")
