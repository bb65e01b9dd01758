"""One architecture on the device: the live pipeline that candidates are written into one after the other, with the adapters
that are on its layers. The workbench keeps one for each frame checkpoint.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.adapters import AdapterError, AdapterPlan, activate, attach, detach, set_weight
from harness.adapters.hypernetwork import Hooked, Hypernetwork, hook
from harness.declare import short_hash
from harness.merge import Expression
from harness.weights import Pipeline

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Working:
    """An adapter at work: what live layers take of it at which weight by module, or the hypernetwork that it is."""

    path: str
    weights: Mapping[tuple[str, str], float] | float
    plan: AdapterPlan | None = None
    net: Hypernetwork | None = None


@dataclass(kw_only=True)
class Frame:
    """The pipeline whose parameters are rewritten in place, and what stands in them."""

    pipeline: Pipeline
    live: Mapping[str, Mapping[str, torch.Tensor]]
    holds: dict[str, dict[str, tuple[Expression, str]]] = field(default_factory=dict)
    """By component and key, the expression that stands in the live tensor, and the dtype it was rounded to."""
    entered: str = ""
    """Hash of the candidate, or the phase of one, that is live; empty where that is not known."""
    attached: dict[str, AdapterPlan] = field(default_factory=dict)
    """Adapters that are on the layers by their paths, whether they work or not."""
    hooked: dict[str, Hooked] = field(default_factory=dict)
    executed: dict[str, Any] = field(default_factory=dict)
    """The denoiser as other runtimes execute it, by their names."""
    idle: dict[str, frozenset[str]] = field(default_factory=dict)
    """By path of a hypernetwork that has been hooked, the widths of its file that no attention of this model has."""

    @property
    def denoiser(self) -> str:
        """The component that denoises."""
        return "unet" if "unet" in self.pipeline.parts else "transformer"

    def detach(self, attached: Collection[str]) -> None:
        """Takes off the adapters that the next candidate has in no phase."""
        for path in [p for p in self.attached if p not in attached]:
            if self.attached[path].factors:
                detach(self._adapted(), _name(path))
            del self.attached[path]
        for path in [p for p in self.hooked if p not in attached]:
            self.hooked.pop(path).remove()

    def work(self, adapters: Sequence[Working]) -> None:
        """Attaches and hooks what is not there yet, and lets exactly these adapters work, in this order."""
        active = [adapter.path for adapter in adapters if adapter.plan is not None and self._attach(adapter, adapter.plan)]
        activate(self._adapted(), [_name(path) for path in active])
        for path in [p for p in self.hooked if p not in {adapter.path for adapter in adapters}]:
            self.hooked.pop(path).remove()
        for adapter in adapters:
            if adapter.net is not None and not isinstance(adapter.weights, Mapping):
                # Hooked anew where the order could have changed: several change the context one after the other.
                if adapter.path in self.hooked:
                    self.hooked.pop(adapter.path).remove()
                self.hooked[adapter.path] = hook(adapter.net, self.pipeline.parts[self.denoiser], adapter.weights)
                self.idle[adapter.path] = frozenset(map(str, self.hooked[adapter.path].idle))

    def statuses(self, path: str, plan: AdapterPlan) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
        """What becomes of the tensors of an adapter, by component: of a hypernetwork, those for widths that no attention of
        this model has do nothing."""
        # Not asked of what is hooked now: one that begins in the middle of the steps is not.
        idle = self.idle.get(path)
        if idle is None:
            return plan.keys
        return {component: {
            "applied": tuple(key for key in keys.get("applied", ()) if key.partition(".")[0] not in idle),
            "absent_component": tuple(key for key in keys.get("applied", ()) if key.partition(".")[0] in idle),
            **{status: held for status, held in keys.items() if status != "applied"}} for component, keys in plan.keys.items()}

    def _attach(self, adapter: Working, plan: AdapterPlan) -> bool:
        """Puts an adapter on the layers at its weights; whether there is anything of it for them."""
        modules, name = self._adapted(), _name(adapter.path)
        if plan.factors and adapter.path not in self.attached:
            try:
                attach(plan, modules, name, 1.0)
            except BaseException:
                with suppress(AdapterError):
                    detach(modules, name)
                raise
        self.attached[adapter.path] = plan
        if plan.factors:
            set_weight(modules, name, adapter.weights)
        return bool(plan.factors)

    def _adapted(self) -> dict[str, Any]:
        """The modules that adapters change at run time, by component."""
        return {part: module for part, module in self.pipeline.parts.items() if part != "vae"}


def _name(path: str) -> str:
    """PEFT keeps adapters by a name without dots."""
    return f"adapter_{short_hash(path)}"
