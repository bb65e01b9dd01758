"""One architecture on the device: the live pipeline that candidates are written into in turn, with the adapters on its
layers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from harness.adapters import AdapterError, AdapterPlan, activate, attach, detach, set_weight
from harness.adapters.hypernetwork import Hooked, Hypernetwork, hook
from harness.declare import short_hash
from harness.merge import Expression
from harness.quantize import QuantizeReport
from harness.weights import Pipeline
from harness.weights.placing import Slot


@dataclass(frozen=True, kw_only=True)
class Working:
    """An active adapter: the part that live layers apply, with its weight by module, or a hypernetwork."""

    path: str
    weights: Mapping[tuple[str, str], float] | float
    plan: AdapterPlan | None = None
    net: Hypernetwork | None = None


@dataclass(kw_only=True)
class Frame:
    """The pipeline whose parameters are rewritten in place, and what they currently hold."""

    pipeline: Pipeline
    live: Mapping[str, Mapping[str, Slot]]
    cast: QuantizeReport
    """Of the number format of the denoiser, as reported when its casts were set."""
    holds: dict[str, dict[str, tuple[Expression, str]]] = field(default_factory=dict)
    """By component and key: the expression in the live tensor, and the dtype it was rounded to."""
    entered: str = ""
    """Hash of the live candidate, or of its phase; empty if unknown."""
    attached: dict[str, AdapterPlan] = field(default_factory=dict)
    """Adapters on the layers by path, active or not."""
    hooked: dict[str, Hooked] = field(default_factory=dict)
    executed: dict[str, Any] = field(default_factory=dict)
    """The denoiser as other runtimes execute it, by runtime."""
    idle: dict[str, frozenset[str]] = field(default_factory=dict)
    """By path of a hypernetwork that was hooked in: the widths in its file that no attention layer of this model has."""

    @property
    def denoiser(self) -> str:
        """The name of the component that denoises."""
        return "unet" if "unet" in self.pipeline.parts else "transformer"

    def number_format(self) -> QuantizeReport:
        """The report of the number format, with the parameters that the denoiser has now, those of adapters included."""
        names = tuple(name for name, _ in self.pipeline.denoiser.named_parameters())
        return replace(self.cast, quantized=names, kept=()) if self.cast.quantized else replace(self.cast, kept=names)

    def detach(self, attached: Collection[str]) -> None:
        """Removes the adapters that are in no phase of the next candidate. `attached` are the paths to keep."""
        for path in [p for p in self.attached if p not in attached]:
            if self.attached[path].factors:
                detach(self._adapted(), _name(path))
            del self.attached[path]
        for path in [p for p in self.hooked if p not in attached]:
            self.hooked.pop(path).remove()

    def work(self, adapters: Sequence[Working]) -> None:
        """Attaches and hooks in what is missing, and activates exactly these adapters, in this order."""
        active = [adapter.path for adapter in adapters if adapter.plan is not None and self._attach(adapter, adapter.plan)]
        activate(self._adapted(), [_name(path) for path in active])
        for path in [p for p in self.hooked if p not in {adapter.path for adapter in adapters}]:
            self.hooked.pop(path).remove()
        for adapter in adapters:
            if adapter.net is not None and not isinstance(adapter.weights, Mapping):
                # Hooked in again if the order could have changed: hypernetworks change the context in sequence.
                if adapter.path in self.hooked:
                    self.hooked.pop(adapter.path).remove()
                self.hooked[adapter.path] = hook(adapter.net, self.pipeline.parts[self.denoiser], adapter.weights)
                self.idle[adapter.path] = frozenset(map(str, self.hooked[adapter.path].idle))

    def statuses(self, path: str, plan: AdapterPlan) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
        """{component: {status: tensors}} of an adapter. In a hypernetwork, tensors for widths that no attention layer of this
        model has are without effect."""
        # Not read from the current hooks: a hypernetwork that starts at a later step is not hooked in yet.
        idle = self.idle.get(path)
        if idle is None:
            return plan.keys
        return {component: {
            "applied": tuple(key for key in keys.get("applied", ()) if key.partition(".")[0] not in idle),
            "absent_component": tuple(key for key in keys.get("applied", ()) if key.partition(".")[0] in idle),
            **{status: names for status, names in keys.items() if status != "applied"}} for component, keys in plan.keys.items()}

    def _attach(self, adapter: Working, plan: AdapterPlan) -> bool:
        """Puts an adapter on the layers with its weights. Returns whether it has a part for live layers."""
        modules, name = self._adapted(), _name(adapter.path)
        before = self.attached.get(adapter.path)
        if before is not None and before.factors.keys() != plan.factors.keys():  # other components are graphs now
            self.detach(self.attached.keys() - {adapter.path})
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
        """The modules that adapters change at run time, by component name."""
        return {part: module for part, module in self.pipeline.parts.items() if part != "vae"}


def _name(path: str) -> str:
    """The name of an adapter for PEFT, which allows no dots."""
    return f"adapter_{short_hash(path)}"
