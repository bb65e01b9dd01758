"""A scripted GPU and a clock turned by hand."""

from __future__ import annotations

from harness.probes import NotMeasuredError


class FakeClock:
    """Moves only when told, or by `step` with every reading."""

    def __init__(self, step: float = 0.0) -> None:
        self.time, self.step = 0.0, step

    def __call__(self) -> float:
        self.time += self.step
        return self.time


class FakeGpu:
    """Every figure is what the script says: a number, or a list that is worked off to its last; a string is the reason why
    there is none."""

    name, uuid, driver = "fake", "GPU-0", "1"

    def __init__(self, **script: object) -> None:
        self.script: dict[str, object] = {"used": 100, "process": 50, "reserved": 7, "energy": 0, "sm": 1500, "memory": 2600,
                                          "celsius": 40, "limits": 0, **script}

    def _next(self, figure: str) -> int:
        value = self.script[figure]
        if isinstance(value, list):
            value = value.pop(0) if len(value) > 1 else value[0]
        if isinstance(value, str):
            raise NotMeasuredError(value)
        assert isinstance(value, int)
        return value

    def device_used_bytes(self) -> int:
        return self._next("used")

    def process_used_bytes(self) -> int:
        return self._next("process")

    def reserved_bytes(self) -> int:
        return self._next("reserved")

    def energy_millijoules(self) -> int:
        return self._next("energy")

    def sm_clock_mhz(self) -> int:
        return self._next("sm")

    def memory_clock_mhz(self) -> int:
        return self._next("memory")

    def temperature_celsius(self) -> int:
        return self._next("celsius")

    def clock_limits(self) -> int:
        return self._next("limits")
