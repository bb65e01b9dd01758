"""Hypernetworks on a live U-Net: hooks pass the context of attention through their networks before keys and values are
computed. No weight is changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from harness.adapters.hypernetwork.reading import MLP, Hypernetwork, Layer
from harness.adapters.live_plan import AdapterError

if TYPE_CHECKING:
    from torch import Tensor, nn

_TURN: Final = Lock()
"""Held only while hooks move to another layer, which two threads that sample with one U-Net may do at once. It is global,
because a lock in a U-Net's hooks would prevent copying the U-Net."""


def run_network(network: MLP, context: Tensor) -> Tensor:
    """MLP(c) for a context (..., width), in the context's dtype, without dropout."""
    from torch.nn import functional

    for layer in network:
        context = functional.linear(context, layer.weight.to(context), layer.bias.to(context))
        if layer.activation:
            context = getattr(functional, layer.activation)(context)
        if layer.norm is not None:
            context = functional.layer_norm(context, context.shape[-1:], layer.norm[0].to(context), layer.norm[1].to(context))
    return context


@dataclass(kw_only=True, eq=False)
class Hooked:
    """A hypernetwork in use on a U-Net. `applies` maps a context width to the paths of the attention modules that have it;
    `idle` are widths of the file that no attention module has, `bare` widths of attention that the file lacks."""

    net: Hypernetwork
    weight: float | Callable[[], float]
    applies: Mapping[int, tuple[str, ...]]
    idle: tuple[int, ...]
    bare: tuple[int, ...]
    _modules: tuple[nn.Module, ...] = field(default=(), repr=False)
    _placed: dict[tuple[Any, ...], MLP] = field(default_factory=dict, repr=False)

    def set_weight(self, weight: float | Callable[[], float]) -> None:
        """Sets the strength m, or a function that returns m at every call; 0 gives the model without the hypernetwork.
        Raises AdapterError for a number that is not finite."""
        if not callable(weight) and not math.isfinite(weight):
            raise AdapterError(f"{self.net.source}: weight {weight}; expected a finite number")
        self.weight = weight

    def remove(self) -> None:
        """Removes it from every attention module, whatever has been hooked or attached since. A second call does
        nothing."""
        for module in self._modules:
            feed = _feed_of(module)
            if feed is not None and self in feed.nets:
                feed.nets.remove(self)
                if not feed.nets:
                    feed.leave()
        self._modules = ()

    def fed(self, half: int, context: Tensor) -> Tensor:
        """c + m MLP(c) by the networks of keys (half 0) or values (1); c itself if m is 0 or the file lacks the width."""
        width = context.shape[-1]
        weight = self.weight() if callable(self.weight) else self.weight
        if weight == 0 or width not in self.net.layers:
            return context
        place = (width, half, context.device, context.dtype)
        if place not in self._placed:
            # Cast and moved once; a second thread at the same time computes the same values.
            self._placed[place] = tuple(_placed(layer, context) for layer in self.net.layers[width][half])
        return context + weight * run_network(self._placed[place], context)


def hook(net: Hypernetwork, unet: nn.Module, weight: float | Callable[[], float]) -> Hooked:
    """Makes every self- and cross-attention module whose context has a width of the file compute its keys from c + m
    MLP_k(c) and its values from c + m MLP_v(c); m = 1 is the trained strength. Several hypernetworks apply in the order in
    which they were hooked. Raises AdapterError if no attention module has any of the widths.
    """
    layers_by_width: dict[int, dict[str, nn.Module]] = {}
    for path, module in unet.named_modules():
        if all(hasattr(module, name) for name in ("to_q", "to_k", "to_v")):
            layers_by_width.setdefault(_width(module.to_k), {})[path] = module
    applies = {width: tuple(layers_by_width[width]) for width in net.layers if width in layers_by_width}
    if not applies:
        raise AdapterError(f"{net.source}: a hypernetwork for contexts of width {_listed(net.layers)}, but the model's attention "
                           f"has {_listed(layers_by_width) or 'none'}; it is for another model")
    hooked = Hooked(net=net, weight=0.0, applies=applies, idle=tuple(sorted(set(net.layers) - set(layers_by_width))),
                    bare=tuple(sorted(set(layers_by_width) - set(net.layers))),
                    _modules=tuple(module for width in applies for module in layers_by_width[width].values()))
    hooked.set_weight(weight)
    for module in hooked._modules:
        feed = _feed_of(module) or _Feed(module)
        feed.nets.append(hooked)
    return hooked


class _Feed:
    """A hook before an attention module that changes the inputs of its to_k and to_v.

    Hooks on these two layers change the context. PEFT may wrap the layers later, or unwrap them, and a hook on the inner
    layer would leave the LoRA with the unchanged context. So each forward of the attention module first checks that the
    hooks are on the current to_k and to_v.
    """

    def __init__(self, module: nn.Module) -> None:
        self.nets: list[Hooked] = []
        self._homes: dict[str, tuple[nn.Module, Any]] = {}
        self._own = module.register_forward_pre_hook(self)

    def __call__(self, module: nn.Module, _: Any) -> None:
        if getattr(module, "fused_projections", False):
            raise AdapterError("a hypernetwork needs separate projections for keys and values; do not fuse the projections")
        if self._settled(module):
            return
        with _TURN:
            for half, name in enumerate(("to_k", "to_v")):
                layer = getattr(module, name)
                home, handle = self._homes.get(name, (None, None))
                if home is layer:
                    continue
                if handle is not None:
                    handle.remove()
                self._homes[name] = (layer, layer.register_forward_pre_hook(partial(self._change, half)))

    def _settled(self, module: nn.Module) -> bool:
        return all(name in self._homes and self._homes[name][0] is getattr(module, name) for name in ("to_k", "to_v"))

    def _change(self, half: int, _: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        context = given[0]
        for net in self.nets:
            context = net.fed(half, context)
        return context, *given[1:]

    def leave(self) -> None:
        """Removes all hooks."""
        self._own.remove()
        for _, handle in self._homes.values():
            handle.remove()


def _feed_of(module: nn.Module) -> _Feed | None:
    return next((hooked for hooked in module._forward_pre_hooks.values() if isinstance(hooked, _Feed)), None)


def _placed(layer: Layer, like: Tensor) -> Layer:
    return Layer(weight=layer.weight.to(like), bias=layer.bias.to(like), activation=layer.activation,
                 norm=None if layer.norm is None else (layer.norm[0].to(like), layer.norm[1].to(like)))


def _width(layer: Any) -> int:
    return int(layer.in_features if hasattr(layer, "in_features") else layer.weight.shape[1])


def _listed(widths: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(widths)))
