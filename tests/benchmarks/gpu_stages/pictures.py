"""Does a device compute what the CPU computes, and the same each time?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from harness.merge import MERGE_METHODS, merge_tensor
from harness.quantize import QUANTIZATION_MODES
from harness.samplers import SAMPLERS
from tests.benchmarks.gpu_stages.subject import NEEDS_CUDA, Facts, Subject, cells_of, difference, failure

if TYPE_CHECKING:
    import torch

_MODES: Final = ("fp32", "fp16", "bf16")
_WORDS: Final = {"float16": "int16", "float32": "int32"}


def bits(subject: Subject) -> Iterator[Facts]:
    """Every merge method on the CPU and on the device: how many values differ, and by how many units in the last place."""
    import torch

    from tests.merge.test_methods import call, inputs

    for dtype in (torch.float16, torch.float32):
        for name, method in MERGE_METHODS.items():
            facts: Facts = {"what": f"{name} {str(dtype).removeprefix('torch.')}"}
            try:
                tensors = inputs(method, dtype, (320, 320))
                numbers = call(method, tensors, 0.3, 0.4)
                here, there = (merge_tensor(method, numbers, [t.to(place) for t in tensors],
                                            generator=torch.Generator().manual_seed(0)) for place in ("cpu", subject.device))
                apart = units_apart(here, there.cpu())
                facts |= {"values": apart.numel(), "differing": int((apart > 0).sum()), "largest_units": int(apart.max())}
            except Exception as error:
                facts["failed"] = failure(error)
            yield facts


def units_apart(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """How many floating-point numbers of their dtype lie between the values of two tensors; both zeros are one number."""
    import torch

    word = getattr(torch, _WORDS[str(one.dtype).removeprefix("torch.")])

    def ranks(tensor: torch.Tensor) -> torch.Tensor:
        pattern = tensor.contiguous().view(word).to(torch.int64)
        return torch.where(pattern < 0, torch.iinfo(word).min - pattern, pattern)

    return (ranks(one) - ranks(other)).abs()


def images(subject: Subject) -> Iterator[Facts]:
    """The pictures of each sampler on the CPU, in fp32, against those of the device in each number format."""
    host = subject.on("cpu", subject.size)
    usual = subject.grid(batch_size=4)
    cells = cells_of(usual, 4)
    exact = host.live(host.merged("fp32"), usual)
    for mode in _MODES:
        if reason := QUANTIZATION_MODES[mode].why_not(subject.device):
            yield {"what": f"{usual.sampler} {mode}", "not_measured": reason}
            continue
        live = subject.live(subject.merged(mode), usual)  # one for all samplers: loading takes longer than a picture
        for sampler in (name for name, row in SAMPLERS.items() if not row.flow and (
                mode == "fp32" or name == usual.sampler)):
            made, expected = (replace(of, grid=replace(usual, sampler=sampler)).pictures(cells) for of in (live, exact))
            yield {"what": f"{sampler} {mode}"} | difference(made, expected)


def determinism(subject: Subject) -> Iterator[Facts]:
    """What may not change a picture: making it again, its place in the batch, its neighbours; and what a batch of another size
    changes."""
    grid = subject.grid(batch_size=4)
    four, neighbours = cells_of(grid, 4), cells_of(grid, 8)[4:7]
    for mode in _MODES:
        if reason := QUANTIZATION_MODES[mode].why_not(subject.device):
            yield {"what": mode, "not_measured": reason}
            continue
        live = subject.live(subject.merged(mode), grid)
        first = live.pictures(four)
        yield {"what": f"{mode}, again"} | difference(live.pictures(four), first)
        yield {"what": f"{mode}, another place in the batch"} | difference(live.pictures(four[::-1])[::-1], first)
        yield {"what": f"{mode}, other neighbours"} | difference(live.pictures((four[0], *neighbours))[:1], first[:1])
        yield {"what": f"{mode}, alone instead of in a batch of 4"} | difference(
            replace(live, grid=replace(grid, batch_size=1)).pictures(four[:1]), first[:1])
        again = subject.live(subject.merged(mode), grid).pictures(four)
        yield {"what": f"{mode}, loaded again"} | difference(again, first)
    if not subject.cuda:
        yield {"what": "a GPU", "not_measured": NEEDS_CUDA}
