"""Hypernetworks on a live U-Net: what attention makes its keys and values from goes through their networks first.
They change no weight, so nothing is merged; the harness hooks them on, sets their weight and takes them off.
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
"""Taken only when hooks move to another layer, which two threads that sample with one U-Net may both notice. It holds no
state, and there is one for all, because a lock in a U-Net's hooks could not be copied with it."""


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
    """A hypernetwork in use on a U-Net. `applies`: width to the paths of the attention modules whose context has it;
    `idle`: widths of the file that no attention has; `bare`: widths of attention that the file lacks."""

    net: Hypernetwork
    weight: float | Callable[[], float]
    applies: Mapping[int, tuple[str, ...]]
    idle: tuple[int, ...]
    bare: tuple[int, ...]
    _modules: tuple[nn.Module, ...] = field(default=(), repr=False)
    _placed: dict[tuple[Any, ...], MLP] = field(default_factory=dict, repr=False)

    def set_weight(self, weight: float | Callable[[], float]) -> None:
        """Sets m, or what gives m at every call; 0 computes the bare model."""
        if not callable(weight) and not math.isfinite(weight):
            raise AdapterError(f"{self.net.source}: weight {weight}; expected a finite number")
        self.weight = weight

    def remove(self) -> None:
        """Takes it off every attention module, whatever else has been hooked or attached since. Again: does nothing."""
        for module in self._modules:
            feed = _feed_of(module)
            if feed is not None and self in feed.nets:
                feed.nets.remove(self)
                if not feed.nets:
                    feed.leave()
        self._modules = ()

    def fed(self, half: int, context: Tensor) -> Tensor:
        """c + m MLP(c) by the networks of keys (half 0) or values (1); c itself where m is 0 or the file lacks the width."""
        width = context.shape[-1]
        weight = self.weight() if callable(self.weight) else self.weight
        if weight == 0 or width not in self.net.layers:
            return context
        place = (width, half, context.device, context.dtype)
        if place not in self._placed:
            # Cast and moved once; a thread that comes at the same time makes the same.
            self._placed[place] = tuple(_placed(layer, context) for layer in self.net.layers[width][half])
        return context + weight * run_network(self._placed[place], context)


def hook(net: Hypernetwork, unet: nn.Module, weight: float | Callable[[], float]) -> Hooked:
    """Makes every attention module, self and cross, whose context has a width of the file compute its keys from
    c + m MLP_k(c) and its values from c + m MLP_v(c); m = 1 is what its trainer saw. Several apply one after the other in the
    order in which they were hooked. AdapterError if no attention module has any of the widths.
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
    """What stands before an attention module and feeds its to_k and to_v.

    The hooks that change the context sit on these two layers; but PEFT may put a layer of its own around them later, or take
    it away again, and a hook on the inner one would leave the LoRA with the unchanged context. So before each forward of the
    attention module it is made sure that they sit on what is to_k and to_v now.
    """

    def __init__(self, module: nn.Module) -> None:
        self.nets: list[Hooked] = []
        self._homes: dict[str, tuple[nn.Module, Any]] = {}
        self._own = module.register_forward_pre_hook(self)

    def __call__(self, module: nn.Module, _: Any) -> None:
        if getattr(module, "fused_projections", False):
            raise AdapterError("a hypernetwork needs keys and values to be projected apart; do not fuse the projections")
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
        """Takes all hooks off again."""
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
