"""A runtime computes what the eager module does, with the very same parameters."""

import pytest
import torch

from harness.runtimes import RUNTIMES

LACKS = RUNTIMES["compiled"].why_not("cpu")


def test_every_runtime_says_what_it_is_and_whether_a_device_lacks_it() -> None:
    for row in RUNTIMES.values():
        assert row.said
        assert isinstance(row.why_not("cpu"), str)
    assert RUNTIMES["eager"].why_not("cpu") == ""


def test_compiling_without_a_compiler_is_refused_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.runtimes.shutil.which", lambda _: None)
    assert "C++ compiler" in RUNTIMES["compiled"].why_not("cpu")


@pytest.mark.slow
@pytest.mark.skipif(bool(LACKS), reason=LACKS or "torch.compile can be used here")
def test_a_compiled_module_follows_parameters_that_change_in_place() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.SiLU(), torch.nn.Linear(16, 4)).eval().requires_grad_(False)
    compiled = RUNTIMES["compiled"].apply(module)
    given = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(compiled(given), module(given), atol=1e-6)
        before = compiled(given).clone()
    with torch.no_grad():
        module[0].weight.mul_(0.5)
    with torch.inference_mode():
        assert torch.allclose(compiled(given), module(given), atol=1e-6)
        assert not torch.allclose(compiled(given), before)
