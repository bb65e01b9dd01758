"""Compiled denoisers that outlive their weights: what was compiled for a quantized copy, or for the live model of another number
format, is kept without tensors, and computes with those of the next module of the same layers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness.declare import short_hash
from harness.materialise.exported import Exported
from harness.materialise.live_model import Frame
from harness.reference.attention import PicturesBesideText
from harness.weights import Pipeline, with_part

CASTS = "harness.quantize.cast"
"""The module of the hooks that belong to a number format."""


@dataclass(frozen=True, kw_only=True)
class CompiledCopies:
    """By runtime, number format and layers: a module whose tensors are exchanged, and its compiled form; by number format and
    layers: the denoiser of a live model that went, with its compiled forms by runtime."""

    _copies: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    _denoisers: dict[str, tuple[Any, dict[str, Any]]] = field(default_factory=dict)

    def compiled(self, module: Any, name: str, compile_: Callable[[Any], Any]) -> tuple[Any, Callable[[], None]]:
        """The compiled form of a quantized module, and what must be called before it is used again after another one. `name` says
        runtime and number format."""
        layers = _layers(module)
        if layers is None:
            return compile_(module), lambda: None
        key = short_hash([name, layers])
        if key not in self._copies:
            shell = _shell(module)
            self._copies[key] = shell, compile_(shell)
        shell, compiled = self._copies[key]
        _share(shell, module)
        return compiled, lambda: _share(shell, module)

    def empty(self) -> None:
        """Lets go of the tensors of the copies."""
        for shell, _ in self._copies.values():
            for layer in shell.modules():
                layer._parameters, layer._buffers = dict.fromkeys(layer._parameters), dict.fromkeys(layer._buffers)

    def keep(self, frame: Frame, mode: str) -> None:
        """Keeps the compiled denoiser of a live model in the number format `mode`, without its tensors. The model cannot be used
        any more."""
        executed = {name: made for name, made in frame.executed.items() if not isinstance(made, Exported)}
        frame.executed.clear()  # a graph's executor holds the weights, and is opened quickly
        if not executed:
            return
        frame.detach(())
        denoiser = frame.pipeline.denoiser
        if (layers := _layers(denoiser)) is None:
            return
        for layer in denoiser.modules():
            for tensors in (layer._parameters, layer._buffers):
                tensors.update(dict.fromkeys(tensors))
        self._denoisers[short_hash([mode, layers])] = denoiser, executed

    def taken_up(self, pipeline: Pipeline, mode: str) -> tuple[Pipeline, dict[str, Any]]:
        """The pipeline on a denoiser that was kept, with the same weights, and what was compiled of it; as it is, if none of its
        layers was kept."""
        kept = self._denoisers.pop(short_hash([mode, _layers(pipeline.denoiser)]), None)
        if kept is None:
            return pipeline, {}
        denoiser, executed = kept
        _share(denoiser, pipeline.denoiser)
        return with_part(pipeline, "unet" if "unet" in pipeline.parts else "transformer", denoiser), executed


def _layers(module: Any) -> list[Any] | None:
    """The module's config, and the path, class and tensor names of every layer; None if a layer has more than its tensors: an
    adapter on it, or a hook."""
    listed: list[Any] = [sorted((name, repr(value)) for name, value in dict(getattr(module, "config", {})).items()
                                if not name.startswith("_"))]
    for path, layer in module.named_modules():
        hooks = [*layer._forward_hooks.values(), *layer._forward_pre_hooks.values()]
        if hasattr(layer, "base_layer") or any(getattr(hook, "__module__", "") != CASTS for hook in hooks):
            return None
        shapes = [[name, list(tensor.shape), str(tensor.dtype)] for tensors in (layer._parameters, layer._buffers)
                  for name, tensor in tensors.items() if tensor is not None]
        # Attention that sees pictures is compiled otherwise.
        sees = [type(layer.processor).__name__] if type(getattr(layer, "processor", None)) is PicturesBesideText else []
        listed.append([path, f"{type(layer).__module__}.{type(layer).__qualname__}", shapes, *sees])
    return listed


def _shell(module: Any) -> Any:
    """The same layers with the same tensors, as objects of their own."""
    tensors = [tensor for layer in module.modules() for held in (layer._parameters, layer._buffers)
               for tensor in held.values() if tensor is not None]
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})


def _share(shell: Any, module: Any) -> None:
    """Gives the shell the tensors of the module: what moves them in one moves them in both. What was compiled takes tensors as
    its inputs."""
    for path, layer in shell.named_modules():
        other = module.get_submodule(path)
        layer._parameters, layer._buffers = other._parameters, other._buffers
