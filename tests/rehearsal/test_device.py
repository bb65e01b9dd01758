"""The simulated device refuses, counts and runs out of memory as a CUDA device does, and leaves nothing behind."""

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from harness.quantize import MADE_ON_HOST, QUANTIZATION_MODES
from harness.sampling import set_determinism
from harness.weights.placing import move
from tests.rehearsal.simulated_cuda import simulated

MIB = 2 ** 20


def net() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.GroupNorm(2, 8), torch.nn.SiLU(), torch.nn.Flatten(),
                               torch.nn.Linear(8 * 6 * 6, 5), torch.nn.LayerNorm(5), torch.nn.GELU())


def test_a_module_computes_on_the_device_what_it_computes_on_the_cpu() -> None:
    x = torch.randn(2, 3, 8, 8)
    expected = net()(x)
    with simulated():
        module = net().to("cuda")
        assert {str(p.device) for p in module.parameters()} == {"cuda:0"}
        result = module(x.to("cuda"))
        assert result.device == torch.device("cuda:0")
        assert torch.equal(result.cpu(), expected)
        assert torch.equal(copy.deepcopy(module)(x.to("cuda")).cpu(), expected)


@pytest.mark.parametrize("factory", [
    lambda: torch.zeros(3, device="cuda"), lambda: torch.tensor([1.0, 2.0], device="cuda"),
    lambda: torch.arange(3, device="cuda"), lambda: torch.randn(3, device="cuda:0"), lambda: torch.ones(3).cuda(),
    lambda: torch.empty_like(torch.ones(3), device="cuda"),
    lambda: torch.ones(3).to("cuda", torch.float16).new_zeros(2), lambda: torch.ones(3).to(torch.zeros(1, device="cuda"))])
def test_what_asks_for_the_device_lies_on_it(factory: Callable[[], torch.Tensor]) -> None:
    with simulated():
        assert factory().device == torch.device("cuda:0")


def test_what_asks_for_the_cpu_beside_a_tensor_of_the_device_lies_on_the_cpu() -> None:
    with simulated():
        assert torch.zeros_like(torch.ones(2, device="cuda"), device="cpu").device.type == "cpu"


def on_device(*shape: int) -> torch.Tensor:
    return torch.ones(*shape, device="cuda")


@pytest.mark.parametrize(("wrong", "error"), [
    (lambda: on_device(3) + torch.ones(3), RuntimeError), (lambda: torch.ones(3, 3) @ on_device(3, 3), RuntimeError),
    (lambda: torch.cat([on_device(2), torch.ones(2)]), RuntimeError),
    (lambda: torch.nn.functional.linear(on_device(2, 3), torch.ones(4, 3)), RuntimeError),
    (lambda: torch.nn.functional.scaled_dot_product_attention(on_device(1, 1, 2, 8), torch.ones(1, 1, 2, 8),
                                                              on_device(1, 1, 2, 8)), RuntimeError),
    (lambda: torch.ones(4)[torch.arange(2, device="cuda")], RuntimeError),
    (lambda: on_device(3).index_put_((torch.tensor([0, 1]),), torch.ones(2)), RuntimeError),
    (lambda: torch.ones(3).add_(on_device(3)), RuntimeError),
    (lambda: on_device(3) + torch.ones(3, device="cuda:1"), RuntimeError),
    (lambda: torch.ones(3, device="cuda:2"), RuntimeError), (lambda: on_device(3).numpy(), TypeError),
    (lambda: np.asarray(on_device(3)), TypeError)])
def test_what_cuda_refuses_is_refused(wrong: Callable[[], object], error: type[Exception]) -> None:
    with simulated(devices=2), pytest.raises(error):
        wrong()


def test_a_number_on_the_cpu_may_meet_the_device() -> None:
    with simulated() as gpu:
        assert (on_device(3) * torch.tensor(2.0)).tolist() == [2, 2, 2]
        assert (torch.tensor(2.0) - on_device(3)).device == gpu.device


@pytest.mark.parametrize(("call", "kind"), [
    (lambda x: x.sum().item(), "item"), (lambda x: bool((x > 0).all()), "item"), (lambda x: x.nonzero(), "nonzero"),
    (lambda x: x[x > 0], "boolean index"), (lambda x: torch.masked_select(x, x > 0), "masked_select"),
    (lambda x: x.cpu(), "copy to host"), (lambda x: x.tolist(), "copy to host"),
    (lambda x: torch.zeros(3).copy_(x), "copy to host"),
    (lambda x: x.copy_(torch.zeros(3)), "copy to device"), (lambda x: torch.ones(2).to("cuda"), "copy to device"),
    (lambda x: x[torch.tensor([0])], "index from the host"), (repr, "repr"), (lambda x: torch.equal(x, x), "equal"),
    (lambda x: torch.linalg.solve(torch.diag(x), x), "linalg errors"),
    (lambda x: torch.cuda.synchronize(), "synchronize"), (lambda x: torch.cuda.current_stream().synchronize(), "stream"),
    (lambda x: torch.cuda.Event().synchronize(), "event"), (torch.unique, "unique")])
def test_each_wait_of_the_host_is_counted_once(call: Callable[[torch.Tensor], object], kind: str) -> None:
    with simulated() as gpu:
        x = on_device(3)
        gpu.forget_counts()
        call(x)
        assert gpu.waits == {kind: 1}
        assert sum(gpu.wait_sites.values()) == 1


def test_computing_and_asynchronous_copies_are_no_waits() -> None:
    with simulated() as gpu:
        x, host = on_device(4, 4), torch.ones(4, 4).pin_memory()
        gpu.forget_counts()
        (x @ x).softmax(-1).to(torch.float16)
        x.copy_(host, non_blocking=True)
        host.to("cuda", non_blocking=True)
        torch.empty(4, 4, pin_memory=True).copy_(x, non_blocking=True)
        assert not gpu.waits
        torch.empty(4, 4).copy_(x, non_blocking=True)  # CUDA waits: the target is not pinned
        assert gpu.waits == {"copy to host": 1}


def test_copies_over_the_bus_are_counted_in_the_bytes_that_travel() -> None:
    with simulated() as gpu:
        x = torch.ones(1000, dtype=torch.float16).to("cuda", torch.float32)  # torch widens before it sends
        assert gpu.copied_bytes == {"to device": 4000}
        x.half().cpu()
        assert gpu.copied_bytes == {"to device": 4000, "to host": 2000}
        assert gpu.copies == {"to device": 1, "to host": 1}
        x.clone().copy_(x)
        assert gpu.copied_bytes["on device"] == 4000


def test_pinned_memory_is_known_and_counted() -> None:
    with simulated() as gpu:
        pinned = [torch.empty(MIB, dtype=torch.uint8, pin_memory=True), torch.zeros(MIB, dtype=torch.uint8).pin_memory(),
                  torch.zeros(MIB, dtype=torch.uint8, pin_memory=True)]
        assert all(t.is_pinned() and t[1:].is_pinned() and t.device.type == "cpu" for t in pinned)
        assert not torch.zeros(3).is_pinned()
        assert gpu.live == 0


@pytest.mark.parametrize("shapes_only", [False, True])
def test_bytes_are_counted_in_blocks_and_each_storage_once(shapes_only: bool) -> None:
    with simulated(shapes_only=shapes_only) as gpu:
        x = torch.zeros(MIB, device="cuda")
        views = [x[1:], x.view(2, -1).T, x.detach(), torch.nn.Parameter(x)]
        assert gpu.live == torch.cuda.memory_allocated() == 4 * MIB
        one = torch.zeros(1, device="cuda")
        assert gpu.live == 4 * MIB + 512
        del x, views
        assert gpu.live == 512
        x = one.expand(1000).clone() + 1
        del x, one
        assert gpu.live == 0
        assert gpu.peak == torch.cuda.max_memory_allocated() == 4 * MIB + 512


def test_peaks_and_the_cache_are_those_of_the_allocator() -> None:
    with simulated(limit=64 * MIB) as gpu:
        x = torch.zeros(4 * MIB, device="cuda")
        y = x + 1
        del y
        assert (gpu.live, gpu.peak) == (16 * MIB, 32 * MIB)
        assert torch.cuda.memory_reserved() == 32 * MIB
        assert torch.cuda.mem_get_info() == (32 * MIB, 64 * MIB)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        assert torch.cuda.max_memory_allocated() == torch.cuda.max_memory_reserved() == 16 * MIB
        assert torch.cuda.mem_get_info() == (48 * MIB, 64 * MIB)
        x.add_(1)  # in place: nothing more
        assert gpu.peak == 16 * MIB


def test_memory_ends_at_the_limit_and_is_given_back() -> None:
    with simulated(limit=10 * MIB) as gpu:
        x = torch.zeros(2 * MIB, device="cuda")
        with pytest.raises(torch.OutOfMemoryError, match=r"CUDA out of memory. Tried to allocate 8.00 MiB. GPU 0 has"):
            x + 1
        assert gpu.live == 8 * MIB
        del x
        torch.zeros(2 * MIB, device="cuda")
        torch.cuda.set_per_process_memory_fraction(0.5)
        assert torch.cuda.get_per_process_memory_fraction() == 0.5
        with pytest.raises(torch.OutOfMemoryError):
            torch.zeros(2 * MIB, device="cuda")


def test_shapes_alone_take_no_memory_of_the_host() -> None:
    with simulated(shapes_only=True) as gpu:
        x = torch.zeros(2 ** 31, device="cuda", dtype=torch.float16)
        layer = torch.nn.Linear(4096, 4096, device="cuda")
        assert layer(x[:8192].view(2, 4096).float()).shape == (2, 4096)
        assert gpu.peak > 4 * 2 ** 30
        assert bool(torch.isfinite(x).all())
        assert x[:3].cpu().tolist() == [1, 1, 1]  # every number that is read of shapes is 1


def test_threads_have_the_device_too() -> None:
    results = []

    class Own(threading.Thread):
        def run(self) -> None:
            results.append(torch.tensor([1.0], device="cuda").device)

    with simulated() as gpu:
        thread = Own()
        thread.start()
        thread.join()
        with ThreadPoolExecutor(1) as pool:
            results.append(pool.submit(lambda: torch.ones(1).cuda().device).result())
        assert results == [gpu.device, gpu.device]


def test_a_second_device_counts_for_itself() -> None:
    with simulated(devices=2) as gpu:
        x = torch.zeros(1000, device="cuda:1")
        assert (gpu.live, torch.cuda.memory_allocated(1), torch.cuda.device_count()) == (0, 4096, 2)
        with torch.cuda.device(1):
            assert torch.cuda.current_device() == 1
            assert torch.zeros(1, device="cuda").device == torch.device("cuda:1")
        assert x.to("cuda:0").device == gpu.device


def test_other_rounding_changes_last_bits_only() -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 64)
    with simulated(other_rounding=True):
        there = (x.cuda() @ x.cuda()).cpu()
    assert not torch.equal(there, x @ x)
    assert torch.allclose(there, x @ x, atol=1e-4)


@pytest.mark.parametrize(("capability", "supported"), [((7, 5), False), ((8, 6), True)])
def test_an_older_device_only_emulates_bfloat16(capability: tuple[int, int], supported: bool) -> None:
    with simulated(capability=capability):
        assert torch.cuda.is_bf16_supported()
        assert torch.cuda.is_bf16_supported(including_emulation=False) is supported
        assert torch.cuda.get_device_capability() == capability


def test_events_take_times_as_cuda_events_do() -> None:
    with simulated():
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with pytest.raises(ValueError, match="recorded"):
            start.elapsed_time(end)
        start.record()
        end.record(torch.cuda.current_stream())
        assert 0 <= start.elapsed_time(end) < 1000


def state() -> list[object]:
    modes = torch.utils._python_dispatch._get_current_dispatch_mode_stack()
    return [{name: getattr(torch.cuda, name) for name in dir(torch.cuda)}, torch.inference_mode, threading.Thread.start, modes,
            torch.__future__.get_overwrite_module_params_on_conversion(), torch._C._only_lift_cpu_tensors(),
            torch.is_grad_enabled(), torch.get_default_device(), torch.backends.cuda.cudnn_sdp_enabled(),
            torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision(), torch.backends.cudnn.conv.fp32_precision,
            torch.backends.cuda.matmul.fp32_precision, torch.backends.fp32_precision]


def test_nothing_is_left_behind() -> None:
    before, available = state(), torch.cuda.is_available()
    with simulated(devices=2, limit=MIB), pytest.raises(RuntimeError, match="two devices"):
        on_device(3) + torch.ones(3)
    with pytest.raises(ZeroDivisionError), simulated():
        set_determinism("cuda")
        1 / 0  # noqa: B018
    assert state() == before
    assert torch.cuda.is_available() is available
    if not available:
        with pytest.raises((RuntimeError, AssertionError)):
            torch.zeros(1, device="cuda")
    with torch.inference_mode():
        assert torch.ones(2).is_inference()


@pytest.mark.parametrize("mode", [mode for mode in MADE_ON_HOST if not QUANTIZATION_MODES[mode].why_not("cpu")])
@pytest.mark.parametrize("shapes_only", [False, True])
def test_a_quantized_layer_that_leaves_the_device_takes_its_bytes_along(mode: str, shapes_only: bool) -> None:
    layer = torch.nn.Sequential(torch.nn.Linear(64, 64)).requires_grad_(False)
    MADE_ON_HOST[mode](layer, "bfloat16")
    with simulated(shapes_only=shapes_only) as gpu:
        move(gpu.device, layer)
        there = gpu.live
        assert there > 0
        for _ in range(2):
            move(torch.device("cpu"), layer)
            assert gpu.live == 0
            assert {p.device.type for p in layer.parameters()} == {"cpu"}
            move(gpu.device, layer)
            assert gpu.live == there


def test_of_shapes_alone_many_answers_are_what_each_one_is() -> None:
    with simulated(shapes_only=True):
        for dtype in (torch.bool, torch.float32, torch.int64):
            answers = torch.zeros(2, dtype=dtype, device="cuda")
            assert answers.tolist() == answers.cpu().tolist() == [answers[0].item()] * 2
