"""Compiled forms of quantized denoisers. A quantized copy goes with its candidate; what was compiled for it is kept, and computes
with the tensors of the next copy of the same layers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness.declare import short_hash


@dataclass(frozen=True, kw_only=True)
class CompiledCopies:
    """By runtime, number format and layers: a module whose tensors are exchanged, and its compiled form."""

    _kept: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    def compiled(self, module: Any, name: str, compile_: Callable[[Any], Any]) -> tuple[Any, Callable[[], None]]:
        """The compiled form of a quantized module, and what must be called before it is used again after another one. `name` says
        runtime and number format."""
        layers = _layers(module)
        if layers is None:
            return compile_(module), lambda: None
        key = short_hash([name, layers])
        if key not in self._kept:
            shell = _shell(module)
            self._kept[key] = shell, compile_(shell)
        shell, compiled = self._kept[key]
        _exchange(shell, module)
        return compiled, lambda: _exchange(shell, module)

    def empty(self) -> None:
        """Lets go of the tensors of the copies."""
        for shell, _ in self._kept.values():
            for layer in shell.modules():
                for tensors in (layer._parameters, layer._buffers):
                    tensors.update(dict.fromkeys(tensors))


def _layers(module: Any) -> list[list[Any]] | None:
    """The path, class and tensor names of every layer; None if a layer has more than its tensors: an adapter on it, or a hook."""
    listed = []
    for path, layer in module.named_modules():
        if hasattr(layer, "base_layer") or layer._forward_hooks or layer._forward_pre_hooks:
            return None
        shapes = [[name, list(tensor.shape), str(tensor.dtype)] for tensors in (layer._parameters, layer._buffers)
                  for name, tensor in tensors.items() if tensor is not None]
        listed.append([path, f"{type(layer).__module__}.{type(layer).__qualname__}", shapes])
    return listed


def _shell(module: Any) -> Any:
    """The same layers with the same tensors, as objects of their own."""
    tensors = [tensor for layer in module.modules() for held in (layer._parameters, layer._buffers)
               for tensor in held.values() if tensor is not None]
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})


def _exchange(shell: Any, module: Any) -> None:
    """Gives the shell the tensors of the module, without a copy. What was compiled takes tensors as its inputs."""
    for path, layer in shell.named_modules():
        other = module.get_submodule(path)
        layer._parameters.update(other._parameters)
        layer._buffers.update(other._buffers)
