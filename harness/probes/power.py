"""Energy, clocks, temperature and throttling of the clocks over the timed images of one candidate.

`during` is wrapped around each timed image, and reads before and after it alone; `watched` is wrapped around untimed ones, and
polls.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from harness.probes.nvml import GpuPower, answer
from harness.probes.polling import Poller
from harness.records import Power, Reading

POLLS_PER_SECOND: Final = 20.0

CLOCK_LIMITS: Final[dict[int, str]] = {
    0x001: "idle: nothing to do",
    0x002: "clocks set by a user or an application",
    0x004: "power cap: the software limit of the board's power",
    0x008: "hardware slowdown: heat, power brake or power supply",
    0x010: "sync boost: tied to the slowest GPU of a group",
    0x020: "heat: the driver's thermal slowdown",
    0x040: "heat: the hardware's thermal slowdown",
    0x080: "power brake: the system's power supply asked for it",
    0x100: "clocks set for a display",
    0x200: "board limit",
    0x400: "reliability limit of the voltage",
}
"""NVML's bits of nvmlClocksEventReasons in words; 0 means that nothing throttled the clocks."""


def limits_in_words(bits: int) -> tuple[str, ...]:
    """The words of every set bit, lowest first; an unknown bit is named by its number."""
    return tuple(CLOCK_LIMITS.get(1 << n, f"reason {1 << n:#x} of the driver") for n in range(bits.bit_length()) if bits >> n & 1)


class PowerProbe:
    """Adds up the energy of all stretches; `gpu` is the driver's view or, as a string, why there is none.

    Clocks and temperature are those before the first stretch and after the last one. The lowest SM clock, and `limits`, the union
    of what throttled the clocks, are those before and after every stretch, and of all polls of `watched`. The energy is the whole
    board's, including its idle power.
    """

    def __init__(self, gpu: GpuPower | str, *, polls_per_second: float = POLLS_PER_SECOND,
                 now: Callable[[], float] = time.perf_counter) -> None:
        self._gpu, self._rate, self._now = gpu, polls_per_second, now
        self._images, self._seconds, self._millijoules = 0, 0.0, 0
        self._limits = 0
        self._values: dict[str, float] = {}
        self._why: dict[str, str] = {}

    @contextmanager
    def during(self, images: int = 1) -> Iterator[None]:
        """One stretch in which `images` images are made. A stretch that raises is not counted."""
        if isinstance(self._gpu, str):
            yield
            return
        self._state(self._gpu, "start", keep=True)
        self._poll()
        start, before = self._now(), self._energy(self._gpu)
        yield
        after, seconds = self._energy(self._gpu), self._now() - start
        self._poll()
        self._state(self._gpu, "end", keep=False)
        self._add(images, seconds, before, after)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Polls the clocks and what throttles them while an untimed image is made. A thread beside a timed image would take the
        interpreter's lock from what launches its work."""
        if isinstance(self._gpu, str):
            yield
            return
        with Poller({}, watchers=(self._poll,), samples_per_second=self._rate, now=self._now):
            yield

    def record(self, candidate: str, setting: str = "") -> Power:
        """Everything measured so far; a missing figure has its reason."""
        why = self._gpu if isinstance(self._gpu, str) else "nothing was measured yet" if not self._images else ""
        energy = why or self._why.get("energy", "")
        if not energy and not self._millijoules:
            energy = f"the driver's counter did not advance in {self._seconds:.3f} s; it moves in steps"
        joules = self._millijoules / 1000
        readings = [_figure("energy_joules", "J", joules, energy),
                    _figure("joules_per_image", "J", joules / max(self._images, 1), energy),
                    _figure("mean_watts", "W", joules / self._seconds if self._seconds else 0.0,
                            energy or ("" if self._seconds else "the stretch took 0 s"))]
        for name, unit in (("sm_clock", "MHz"), ("memory_clock", "MHz"), ("temperature", "celsius")):
            readings += [self._reading(f"{name}_{when}", unit, why) for when in ("start", "end")]
        readings.append(self._reading("sm_clock_lowest", "MHz", why))
        why_no_limits = why or self._why.get("limits", "")
        return Power(candidate=candidate, images=self._images, readings=tuple(readings), setting=setting,
                     limits=() if why_no_limits else limits_in_words(self._limits), why_no_limits=why_no_limits)

    def _reading(self, name: str, unit: str, why: str) -> Reading:
        return _figure(name, unit, self._values.get(name), why or self._why.get(name, ""))

    def _add(self, images: int, seconds: float, before: int | None, after: int | None) -> None:
        self._images, self._seconds = self._images + images, self._seconds + seconds
        if before is None or after is None:
            return
        if after < before:
            self._why["energy"] = "the driver's energy counter decreased: the driver was reloaded"
        self._millijoules += after - before

    def _energy(self, gpu: GpuPower) -> int | None:
        return self._ask("energy", gpu.energy_millijoules)

    def _state(self, gpu: GpuPower, when: str, *, keep: bool) -> None:
        for name, read in (("sm_clock", gpu.sm_clock_mhz), ("memory_clock", gpu.memory_clock_mhz),
                           ("temperature", gpu.temperature_celsius)):
            place = f"{name}_{when}"
            if keep and place in self._values:
                continue
            if (value := self._ask(place, read)) is not None:
                self._values[place] = value

    def _poll(self) -> None:
        assert not isinstance(self._gpu, str)
        if "limits" not in self._why and (bits := self._ask("limits", self._gpu.clock_limits)) is not None:
            self._limits |= bits
        if (clock := self._ask("sm_clock_lowest", self._gpu.sm_clock_mhz)) is not None:
            self._values["sm_clock_lowest"] = min(self._values.get("sm_clock_lowest", clock), clock)

    def _ask(self, name: str, read: Callable[[], int]) -> int | None:
        """A figure, or None with its first reason recorded. A figure that failed once stays missing, because a part of the total
        is not the total."""
        value = answer(read)
        if isinstance(value, str):
            self._why.setdefault(name, value)
            return None
        return value


def _figure(name: str, unit: str, value: float | None, why: str) -> Reading:
    why = why or ("" if value is not None else "it was never read")
    return Reading(name=name, unit=unit, value=None if why else value, why_missing=why)
