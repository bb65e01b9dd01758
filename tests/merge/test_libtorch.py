"""Weighted sums without importing torch: the same bits as with it, and the same refusals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from harness.merge import MERGE_METHODS, Call, Merged, Source, evaluate
from harness.merge.libtorch import AT_ONCE, WIDENED, Kernels, finite_bytes, plain_sum
from harness.merge.libtorch import _loaded as loaded

NAMES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
ODD = [0.0, -0.0, 1.0, -1.0, 5.9604645e-08, -5.9604645e-08, 6e-5, 9.2e-41, -1e-45, 65504.0, -65504.0, 0.1, 1 / 3, 2 ** -14]
ALPHAS = [2 ** -10, 0.1, 0.3, 0.49999, 0.5, 0.7, 0.999, 1.5, -0.75]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    if (library := loaded()) is None:
        pytest.skip("libtorch's C interface is not here")
    return Kernels(library)


def drawn(dtype: str, seed: int, count: int = 999) -> torch.Tensor:
    values = torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    values = torch.cat([values * 0.03, values * 1e-6, torch.tensor(ODD[seed:] + ODD[:seed], dtype=torch.float64)])
    return values.to(NAMES[dtype])


def memory(tensor: torch.Tensor) -> memoryview:
    return memoryview(tensor.view(torch.uint8).numpy())


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))


def merged(alpha: float, a: str, b: str) -> Merged:
    sources = tuple(Source(model=name, component="unet", key="k", dtype=dtype) for name, dtype in (("a", a), ("b", b)))
    return Merged(name="weighted_sum", method=MERGE_METHODS["weighted_sum"], call=Call(alpha=alpha), inputs=sources)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize(("a", "b", "dtype"), [
    *((one, one, one) for one in NAMES), ("F16", "BF16", "F16"), ("BF16", "F16", "BF16"), ("F16", "F32", "F16"),
    ("F32", "F16", "BF16"), ("F16", "F16", "F32"), ("BF16", "F64", "F32")])
def test_a_sum_has_the_bits_of_torch(kernels, a, b, dtype, alpha):
    expression, tensors = merged(alpha, a, b), {"a": drawn(a, 1), "b": drawn(b, 2)}
    for precision in ("auto", "fp64"):
        plan = plain_sum(expression, dtype, precision)
        assert plan is not None
        wanted = evaluate(expression, lambda source: tensors[source.model], dtype=dtype, precision=precision)
        out = torch.empty_like(wanted)
        kernels.weighted_sum(plan, memory(tensors[plan.first.model]), memory(tensors[plan.second.model]), memory(out), dtype)
        assert same_bits(out, wanted)


def test_many_values_are_summed_in_pieces(kernels):
    count = 2 * AT_ONCE + 7
    a, b = (torch.randn(count, generator=torch.Generator().manual_seed(seed)).half() for seed in (1, 2))
    out, plan = torch.empty_like(a), plain_sum(merged(0.7, "F16", "F16"), "F16", "auto")
    assert plan is not None
    kernels.weighted_sum(plan, memory(a), memory(b), memory(out), "F16")
    assert torch.equal(out, a.lerp(b, 0.7))


@pytest.mark.parametrize("alpha", [0.0, 1.0, 1e-4, -0.2])
def test_what_is_not_one_interpolation_is_left_to_torch(alpha):
    assert plain_sum(merged(alpha, "F16", "F16"), "F16", "auto") is None


def test_other_merges_and_dtypes_are_left_to_torch():
    plain = merged(0.3, "F16", "F16")
    assert plain_sum(plain, "F8_E4M3", "auto") is None
    assert plain_sum(merged(0.3, "F8_E4M3", "F16"), "F16", "auto") is None
    assert plain_sum(plain.inputs[0], "F16", "auto") is None
    nested = Merged(name="weighted_sum", method=plain.method, call=plain.call, inputs=(plain, plain.inputs[1]))
    assert plain_sum(nested, "F16", "auto") is None


@pytest.mark.parametrize("dtype", [*WIDENED, "F8_E4M3", "F8_E5M2"])
def test_every_nan_and_infinity_is_found(dtype):
    kind = NAMES.get(dtype) or {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}[dtype]
    values = torch.tensor([0.0, -1.0, torch.finfo(kind).max, torch.finfo(kind).min], dtype=torch.float64).to(kind)
    assert finite_bytes(memory(values), dtype)
    assert finite_bytes(memoryview(b""), dtype)
    for wrong in (torch.nan, -torch.nan, *([torch.inf, -torch.inf] if dtype != "F8_E4M3" else [])):
        broken = torch.cat([values.double(), torch.tensor([wrong], dtype=torch.float64)]).to(kind)
        assert not finite_bytes(memory(broken), dtype)


def test_values_are_widened_as_torch_widens_them(kernels):
    for dtype in WIDENED:
        values = drawn(dtype, 3)
        wide = values if dtype == "F64" else values.float()
        assert kernels.widened(memory(values), dtype) == wide.numpy().tobytes()
    assert kernels.widened(memoryview(b""), "F16") == np.empty(0, np.float32).tobytes()


MERGE = """
import sys
from harness.cli import main
code = main(["merge", "--a", "a.safetensors", "--b", "b.safetensors", "--alpha", "0.3", "-o", "out.safetensors", *sys.argv[1:]])
print("torch" in sys.modules)
sys.exit(code)
"""


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", MERGE, *words], cwd=folder, capture_output=True, text=True, check=False,
                          env={"PYTHONPATH": str(ROOT), "PATH": ""})


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_the_command_merges_two_files_without_torch_and_writes_the_same_bytes(kernels, dtype, tmp_path):
    from harness.declare import Merge
    from tests.materialise.models import made_file, parent, write

    for seed, name in ((1, "a"), (2, "b")):
        write(tmp_path / f"{name}.safetensors", parent(seed, dtype))
    done = command(tmp_path, "--parts", "unet,vae,text_encoder")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False"
    alone = load_file(tmp_path / "out.safetensors")
    wanted = made_file(tmp_path, Merge(a="a.safetensors", b="b.safetensors", alpha=0.3, parts=("unet", "vae", "text_encoder")))
    assert alone.keys() == wanted.keys()
    assert all(same_bits(alone[name], wanted[name]) for name in wanted)


def test_the_command_names_broken_tensors_and_overflow_without_torch_too(kernels, tmp_path):
    from tests.materialise.models import CONV_IN, parent, write

    a, b = parent(1), parent(2)
    b[CONV_IN].view(-1)[3] = torch.nan
    copied = "cond_stage_model.transformer.text_model.final_layer_norm.bias"
    a[copied][0] = torch.inf
    write(tmp_path / "a.safetensors", a)
    write(tmp_path / "b.safetensors", b)
    done = command(tmp_path)
    assert done.returncode == 1
    assert "2 tensors have unusable values" in done.stderr
    assert f"'{CONV_IN}' holds NaN or infinite values in b.safetensors" in done.stderr
    assert f"'{copied}' holds NaN or infinite values" in done.stderr
    assert not (tmp_path / "out.safetensors").exists()


def test_a_merge_that_changes_nothing_is_refused_without_torch(kernels, tmp_path):
    from tests.materialise.models import parent, write

    for name in ("a", "b"):
        write(tmp_path / f"{name}.safetensors", parent(1))
    done = command(tmp_path)
    assert done.returncode == 1
    assert "nothing changes" in done.stderr


def test_the_files_of_a_plain_merge_are_hashed_from_the_start_and_not_after_a_refusal(tmp_path, monkeypatch):
    """Which takes a process where the files are large."""
    from harness.cli import main
    from harness.weights import hashing
    from tests.materialise.models import parent, write

    started: list[subprocess.Popen[str]] = []
    real = subprocess.Popen
    monkeypatch.setattr(hashing, "_WORTH_A_PROCESS", 1)
    monkeypatch.setattr(hashing.subprocess, "Popen", lambda *words, **_: started.append(real(*words, **_)) or started[-1])
    for name, seed in (("a", 1), ("b", 2)):
        write(tmp_path / f"{name}.safetensors", parent(seed))
    line = f"merge --a {tmp_path}/a.safetensors --b {tmp_path}/b.safetensors -o {tmp_path}/out.safetensors --alpha".split()
    assert main([*line, "0.3"]) == 0
    assert [process.returncode for process in started] == [0]
    hashing._known.clear()
    assert main([*line, "2"]) == 1
    assert started[1].poll() is not None
