"""A call of a pipeline without values: its own checks of sizes and texts and its tokenizers run, and nothing is computed."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from inspect import signature
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from harness.own_pipelines.calling import OwnCall, cut_off, not_as_asked, options, watched
from harness.own_pipelines.loading import called_pipeline

if TYPE_CHECKING:
    import torch

    from harness.weights.pipeline import Pipeline

_CHECKS: Final = "check_inputs"
_OF_SIZE: Final = ("divisible", "height", "width")


@dataclass(frozen=True, kw_only=True)
class Rehearsed:
    """`problem` is what the pipeline itself says against the call; empty if nothing. `too_long` is a text that no encoder reads
    whole, and `in_part` says that one of several encoders cuts the text off."""

    problem: str
    too_long: str
    in_part: bool


def rehearsed(pipeline: Pipeline, call: OwnCall) -> Rehearsed:
    """What a call of one text of a pipeline on the meta device would come to, as far as that shows without values. It stops where
    the first value is missing, and has been through its checks and its tokenizers by then."""
    import torch

    assert pipeline.own is not None
    on_host = replace(pipeline, device=torch.device("cpu"))
    called = called_pipeline(on_host)
    unknown: list[str] = []
    for name in on_host.own.attributes.values() if on_host.own is not None else ():
        if name.startswith("text_encoder"):
            # Past diffusers' own registering, which takes modules alone.
            object.__setattr__(called, name, _Encoder(name, getattr(called, name), unknown))
    problem, sizes = "", _sizes(called)
    with watched(on_host, call.prompts) as seen, _quiet():
        try:
            with torch.inference_mode():
                called(**options(on_host, call, [0]))
        except ValueError as error:
            said = (str(error).splitlines() or [""])[0]
            if _from_checks(error) or any(word in said.lower() for word in _OF_SIZE):
                problem = said
        except Exception:  # of any type, where the first value is missing
            pass
    problem = problem or next(iter(unknown), "") or _other_size(sizes, call)
    return Rehearsed(problem=problem or next(iter(not_as_asked(seen)), ""), too_long=cut_off(seen),
                     in_part=seen.tokenizers.in_part)


def _sizes(called: Any) -> list[tuple[int, ...]]:
    """The (height, width) that a pipeline makes its noise for, and the shapes of the noise, once it is called."""
    sizes: list[tuple[int, ...]] = []
    make = getattr(called, "prepare_latents", None)
    if make is not None:
        def prepare(*args: Any, **kwargs: Any) -> Any:
            given = signature(make).bind(*args, **kwargs).arguments
            if {"height", "width"} <= given.keys():
                sizes.append((int(given["height"]), int(given["width"])))
            latents = make(*args, **kwargs)
            sizes.append(tuple(getattr(latents[0] if isinstance(latents, tuple) else latents, "shape", ())))
            return latents

        called.prepare_latents = prepare
    return sizes


def _other_size(sizes: Sequence[tuple[int, ...]], call: OwnCall) -> str:
    """What is wrong with noise for another size: (height, width) in pixels or latents, (n, channels, height, width), or (n,
    squares of latents, channels)."""
    for size in sizes:
        if len(size) == 2 and not _divides((size[0], size[1]), call):
            return f"it makes images of {size[1]} x {size[0]} in place of {call.width} x {call.height}; give this size"
        square = call.width * call.height / size[1] if len(size) == 3 and size[1] else 1
        # With frames, these or the channels may come last.
        planes = [size[-2:], size[-3:-1]] if len(size) == 5 else [size[-2:]] if len(size) == 4 else []
        if square != round(square**0.5) ** 2 or (planes and not any(_divides((h, w), call) for h, w in planes)):
            return f"it rounds {call.width} x {call.height} to what its latents can have; give multiples of a higher power of 2"
    return ""


def _divides(size: tuple[int, int], call: OwnCall) -> bool:
    height, width = size
    by, rest = divmod(call.height, max(height, 1))
    return by >= 1 and not rest and by * width == call.width


class _Encoder:
    """Stands for a text encoder: its states are zeros of the right shape. Tokens beyond its rows are noted in `unknown`."""

    def __init__(self, name: str, module: Any, unknown: list[str]) -> None:
        self.config, self.device, self._dtype = module.config, "cpu", None
        self._name, self._rows, self._unknown = name, _rows(module), unknown
        text = getattr(module.config, "text_config", module.config)
        self._projected = type(module).__name__.endswith("WithProjection")
        self._projection = int(getattr(module.config, "projection_dim", 1) or 1)
        self._width = next((int(getattr(text, name)) for name in ("d_model", "hidden_size") if hasattr(text, name)), 1)
        self._layers = next((int(getattr(text, name)) for name in ("num_hidden_layers", "num_layers") if hasattr(text, name)), 1)

    @property
    def dtype(self) -> torch.dtype:
        """Of the states."""
        import torch

        return torch.float32

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The states of some token ids (n, tokens)."""
        import torch

        ids = next((value for value in (*args, *kwargs.values()) if getattr(value, "ndim", 0) == 2), None)
        if ids is None:
            raise RuntimeError("no token ids")
        if not ids.is_floating_point() and ids.numel() and int(ids.max()) >= self._rows > 0:
            self._unknown.append(f"its tokenizer makes the token {int(ids.max())}, and its {self._name} knows {self._rows:,}; "
                                 "they are of different models. Download the folder again")
        states, projected = torch.zeros((*ids.shape, self._width)), torch.zeros((len(ids), self._projection))
        pooled = states[:, 0]
        return _States(last_hidden_state=states, hidden_states=(states,) * (self._layers + 1), pooler_output=pooled,
                       text_embeds=projected, in_order=(projected, states) if self._projected else (states, pooled))

    forward = __call__

    def parameters(self) -> Iterator[Any]:
        """One tensor on the host: pipelines look where an encoder is."""
        import torch

        return iter([torch.zeros(1)])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self  # an inner module, which is called like the outer one


def _rows(module: Any) -> int:
    """How many tokens a text encoder knows; 0 if it does not say."""
    try:
        return int(module.get_input_embeddings().weight.shape[0])
    except (AttributeError, NotImplementedError):
        return 0


class _States(SimpleNamespace):
    def __getitem__(self, place: int | str) -> Any:
        return getattr(self, place) if isinstance(place, str) else self.in_order[place]


def _from_checks(error: Exception) -> bool:
    return any(frame.name == _CHECKS for frame in traceback.extract_tb(error.__traceback__))


@contextmanager
def _quiet() -> Iterator[None]:
    """Within the block diffusers and transformers log nothing to the terminal: what they say is said here."""
    import logging

    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    handlers = [(logger, handler, handler.level) for logger in loggers for handler in logger.handlers
                if isinstance(handler, logging.StreamHandler)]
    for _, handler, _ in handlers:
        handler.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for _, handler, level in handlers:
            handler.setLevel(level)
