"""What libraries log while they are imported."""

from __future__ import annotations

import logging

import pytest

from harness.executors.quiet import quiet_libraries


@pytest.mark.parametrize("name", ["bitsandbytes.backends.cpu.ops", "torch.utils._pytree"])
def test_what_a_library_lacks_that_nobody_asked_for_is_not_logged(name: str, caplog: pytest.LogCaptureFixture,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFUSERS_VERBOSITY", "error")
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "error")
    for logger in ("bitsandbytes", "torch.utils._pytree"):
        monkeypatch.setattr(logging.getLogger(logger), "level", logging.NOTSET)
    quiet_libraries()
    logging.getLogger(name).warning("an optional kernel is missing")
    assert not caplog.records
