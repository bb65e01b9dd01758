"""Attaches a plan to live modules through PEFT's layers, and changes its strength without reloading.

A candidate's adapters are attached once; a sweep then uses `set_weight`, a style switch `activate`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from harness.adapters.change import Reading, Shapes
from harness.adapters.kinds import additive_factors, bias_delta
from harness.adapters.live_plan import AdapterError, AdapterPlan, Factors

if TYPE_CHECKING:
    import torch

_EMBEDDINGS: Final = frozenset({"token_embedding", "position_embedding", "embed_tokens", "shared", "relative_attention_bias"})
"""Last names of embedding tables in text encoders: matrices by shape, but not layers that multiply."""
_UNCALLED: Final = re.compile(r"time_extra_emb\.pooler\.[kqvc]_proj$")
"""Of HunyuanDiT: diffusers reads the weights of these layers and never calls them, so what wraps them has no effect."""


def can_be_live(path: str) -> bool:
    """Whether the layer at this path of a module multiplies when it is called, as a live layer must."""
    return path.rpartition(".")[2] not in _EMBEDDINGS and not _UNCALLED.search(path)


def live_plan(reading: Reading, shapes: Shapes) -> AdapterPlan:
    """The part of a reading that live layers support: plain low-rank factors, without a bias, of linear layers and
    convolutions. All other changes must be fused into the weights."""
    factors = {}
    for (component, path), change in reading.changes.items():
        found = additive_factors(change, shapes[component][path])
        if found is not None and bias_delta(change) is None and can_be_live(path):
            factors[component, path] = found
    notes = (*reading.notes, *reading.warnings, *(f"{name}: {said}" for name, said in reading.facts.items()))
    return AdapterPlan(source=reading.source, format=reading.format, factors=factors, keys=reading.keys,
                       reasons=reading.reasons, notes=notes)


def attach(plan: AdapterPlan, modules: Mapping[str, torch.nn.Module], name: str,
           weight: float | Mapping[tuple[str, str], float]) -> None:
    """Makes every planned layer compute W x + weight * scale * up (down x), in addition to adapters attached before.

    PEFT's layers are built one by one, each with its own rank and scale, because a LoraConfig for a whole model selects
    ranks and alphas by patterns and silently falls back to a common value if none matches.
    """
    if not name or "." in name:
        raise AdapterError(f"adapter name {name!r}: expected a name without dots")
    for module in modules.values():
        if any(name in layer.lora_A for _, layer in _wrapped(module)):
            raise AdapterError(f"adapter name {name!r} is attached already; detach it or use another name")
    if absent := {component for component, _ in plan.factors} - set(modules):
        raise AdapterError(f"{plan.source} changes {', '.join(sorted(absent))}, but no such module was given")
    for (component, path), factors in plan.factors.items():
        _refuse_misfit(plan.source, modules[component], path, factors)
    for (component, path), factors in plan.factors.items():
        _attach_one(modules[component], path, name, factors)
    set_weight(modules, name, weight)


def set_weight(modules: Mapping[str, torch.nn.Module], name: str, weight: float | Mapping[tuple[str, str], float]) -> None:
    """Sets the strength of an attached adapter in place; 1.0 is the trained strength, 0 gives the model without it.

    A mapping gives a strength for each layer by component and module path; it must name every layer.
    """
    attached = False
    for component, module in modules.items():
        for path, layer in _wrapped(module):
            if name in layer.lora_A:
                attached = True
                own = weight[component, path] if isinstance(weight, Mapping) else weight
                layer.scaling[name] = layer.lora_alpha[name] / layer.r[name] * own
    if not attached:
        raise AdapterError(f"no adapter named {name!r} is attached")


def activate(modules: Mapping[str, torch.nn.Module], names: Sequence[str]) -> None:
    """Makes exactly these attached adapters active, summed in this order; the others stay attached and cost only memory.
    Switches styles without attaching anything again."""
    for module in modules.values():
        for _, layer in _wrapped(module):
            layer.set_adapter([name for name in names if name in layer.lora_A], inference_mode=True)


def detach(modules: Mapping[str, torch.nn.Module], name: str) -> None:
    """Removes the adapter; layers without another adapter are the original objects again, bit for bit."""
    attached = False
    for module in modules.values():
        for path, layer in list(_wrapped(module)):
            if name not in layer.lora_A:
                continue
            attached = True
            # PEFT warns if an active adapter is deleted, and activates another one.
            layer.set_adapter([other for other in layer.active_adapters if other != name], inference_mode=True)
            layer.delete_adapter(name)
            if not layer.lora_A:
                module.set_submodule(path, layer.base_layer)
    if not attached:
        raise AdapterError(f"no adapter named {name!r} is attached")


def _refuse_misfit(source: str, module: torch.nn.Module, path: str, factors: Factors) -> None:
    """Raises AdapterError for a layer that PEFT's layers cannot wrap, and for factors of the wrong shape, which copying
    could silently broadcast."""
    from torch import nn

    try:
        layer: Any = module.get_submodule(path)
    except AttributeError:
        raise AdapterError(f"{source} changes {path}, which the live model does not have") from None
    layer = getattr(layer, "base_layer", layer)
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        raise AdapterError(f"{source}: {path} is a {type(layer).__name__}; only linear layers and convolutions take low-rank "
                           "factors")
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        raise AdapterError(f"{source}: {path} is a grouped convolution, which LoRA files do not define")
    given = factors.up.shape[0], *factors.down.shape[1:]
    if given != tuple(layer.weight.shape):
        raise AdapterError(f"{source}: its change of {path} has shape {given}, the layer {tuple(layer.weight.shape)}")


def _attach_one(module: torch.nn.Module, path: str, name: str, factors: Factors) -> None:
    import torch
    from peft import LoraConfig
    from peft.tuners.lora.layer import Conv2d, Linear, LoraLayer

    config = LoraConfig(r=factors.rank, init_lora_weights=False, inference_mode=True)
    # PEFT divides alpha by the rank, so alpha = scale * rank gives exactly the scale.
    settings: dict[str, Any] = {"config": config, "r": factors.rank, "lora_alpha": factors.scale * factors.rank}
    layer: Any = module.get_submodule(path)
    if isinstance(layer, LoraLayer):
        layer.update_layer(name, **settings)
    else:
        kind = Conv2d if isinstance(layer, torch.nn.Conv2d) else Linear
        layer = kind(layer, name, **settings)
        module.set_submodule(path, layer)
    with torch.no_grad():
        for half, values in ((layer.lora_A[name], factors.down), (layer.lora_B[name], factors.up)):
            half.weight.copy_(values)
    layer.set_adapter(list(layer.lora_A), inference_mode=True)
    layer.train(module.training)


def _wrapped(module: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    from peft.tuners.lora.layer import LoraLayer

    for path, layer in module.named_modules():
        if isinstance(layer, LoraLayer):
            yield path, layer
