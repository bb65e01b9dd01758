"""How the weights of a candidate's components are stored where one word does not say it: by component, and by layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final, TypeAlias

from harness.declare.models import DENOISER
from harness.declare.normalise import settle

FULL: Final = "fp32"
"""The mode that quantizes nothing."""
DENOISERS: Final = (DENOISER, "unet", "transformer")
COMPONENTS: Final = (*DENOISERS, "vae", "text_encoder", "text_encoder_2", "text_encoder_3")
"""What a mapping by component may name."""


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """Layers of one component in different quantization modes: Mixed(default="int8_weight_only",
    keys={"up_blocks.*": "int4_weight_only"})."""

    default: str
    """The mode of all other layers; "fp32" leaves them as they are."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Modes by pattern with `*` for whole names of weights, such as "*.attn2.to_k.weight". If several match, the last one
    counts."""

    def __post_init__(self) -> None:
        if isinstance(self.keys, list | tuple):
            # `plain` writes pairs because hashing sorts mappings, and here the order matters.
            with suppress(TypeError, ValueError):
                object.__setattr__(self, "keys", dict(self.keys))
        settle(self)

    def __hash__(self) -> int:
        return hash((self.default, tuple(self.keys.items())))

    def mode_of(self, name: str) -> str:
        """The mode of the weight of this name."""
        return next((mode for pattern, mode in reversed([*self.keys.items()]) if fnmatchcase(name, pattern)), self.default)

    def __str__(self) -> str:
        # As repr writes them: a pattern may hold characters that act on a terminal.
        parts = [self.default, *(f"{repr(pattern)[1:-1]} {mode}" for pattern, mode in self.keys.items())]
        return f"mixed ({', '.join(parts)})"


Mode: TypeAlias = str | Mixed
Quantization: TypeAlias = str | Mixed | Mapping[str, str | Mixed]


def of_denoiser(quantization: Quantization, absent: str = FULL) -> Mode:
    """How the denoiser is quantized; `absent` where a mapping does not name it."""
    if not isinstance(quantization, Mapping):
        return quantization
    return next((mode for part, mode in quantization.items() if part in DENOISERS), absent)


def beside_denoiser(quantization: Quantization) -> dict[str, Mode]:
    """The modes of the other components that are quantized, by their names, in their order."""
    if not isinstance(quantization, Mapping):
        return {}
    return {part: mode for part, mode in sorted(quantization.items()) if part not in DENOISERS and mode != FULL}


def with_denoiser(quantization: Quantization, mode: Mode) -> Quantization:
    """The same with another mode of the denoiser; one word where nothing else is quantized."""
    others = beside_denoiser(quantization)
    return {DENOISER: mode, **others} if others else mode


def in_one_spelling(quantization: Quantization, absent: str = FULL) -> Quantization:
    """The same where several declarations say it: one word for what is in one mode, and the denoiser's alone where nothing beside
    it is quantized. `absent` as in `of_denoiser`."""
    mode = _one_mode(of_denoiser(quantization, absent))
    beside = {part: _one_mode(of) for part, of in beside_denoiser(quantization).items()}
    settled: Quantization = {DENOISER: mode, **beside} if beside else mode
    return quantization if settled == quantization else settled


def _one_mode(mode: Mode) -> Mode:
    """A mixture without the patterns that decide nothing: as one mode where all its layers are in it."""
    if not isinstance(mode, Mixed) or not isinstance(mode.keys, Mapping):
        return mode
    default, keys = mode.default, list[tuple[str, str]]()
    for pattern, of in mode.keys.items():
        # Such as "*" and "*.weight", which match the weight of every layer.
        if str(pattern).startswith("*") and fnmatchcase(".weight", str(pattern)):
            default, keys = of, []
        elif keys or of != default:
            keys.append((pattern, of))
    return Mixed(default=default, keys=dict(keys)) if keys else default


def modes_in(quantization: Quantization) -> tuple[str, ...]:
    """The names of all modes, each once. The fields may hold any object."""
    return tuple(dict.fromkeys(mode for mode in _modes(quantization) if isinstance(mode, str)))


def _modes(quantization: Any) -> Iterator[Any]:
    if isinstance(quantization, Mixed):
        yield quantization.default
        yield from quantization.keys.values() if isinstance(quantization.keys, Mapping) else ()
    elif isinstance(quantization, Mapping):
        for mode in quantization.values():
            yield from _modes(mode) if isinstance(mode, Mixed) else (mode,)
    else:
        yield quantization


def spelled(quantization: Quantization) -> str:
    """In words: "int8_weight_only", "mixed (fp32, up_blocks.* nf4)", "denoiser fp32, text_encoder nf4"."""
    if isinstance(quantization, Mapping):
        return ", ".join(f"{part} {mode}" for part, mode in quantization.items())
    return str(quantization)
