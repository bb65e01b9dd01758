"""Computes the bytes of a planned file in buffers of fixed size. Reading, arithmetic and writing run in parallel, along with
hashing the inputs and importing torch. The output object decides what happens to the bytes."""

from __future__ import annotations

import bisect
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from harness.declare.listing import first_of
from harness.materialise.file_layout import FilePlan, Segment, Whole
from harness.materialise.library import MaterialiseError
from harness.materialise.recipe_plan import RecipePlan
from harness.materialise.similarity_ranges import needs_survey, surveyed
from harness.merge import Source, evaluate, finite, native, sources
from harness.merge.expression import torch_dtype
from harness.merge.libtorch import Kernels, finite_bytes, kernels, plain_sum
from harness.probes.collector import without_collector
from harness.weights.safetensors_header import DTYPE_BYTES
from harness.weights.stream import BLOCK, InputFiles, Output, aligned_buffer
from harness.weights.write import bytes_of

if TYPE_CHECKING:
    from torch import Tensor

WINDOW: Final = 2 * 1024 * 1024
"""Bytes of the result that one worker computes at a time."""
AT_ONCE: Final = 2 ** 18
"""Values merged at a time: inputs, intermediates and output fit the cache of a core."""
WORKERS: Final = 4
"""More than a small machine has cores, since some workers always wait for the disk."""
_BACKENDS: Final = "TORCH_DEVICE_BACKEND_AUTOLOAD"
_FLOATS: Final = ("F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2")

Advance = Callable[[int], None]


def make(plan: FilePlan, data_start: int, output: Output, advance: Advance = lambda _: None,
         limits: dict[str, tuple[float, float]] | None = None) -> None:
    """Writes all bytes of the data to `output`, at offsets relative to `data_start`. What surveys of whole models give is added
    to `limits`.

    `advance` is called with each number of bytes done. Raises MaterialiseError, after all tensors, naming those that hold NaN
    or infinite values or overflow their dtype, and ModelFileError for an input that changed.
    """
    with InputFiles() as files:
        maker = _Maker(plan, files, output, data_start, advance, kernels() if _is_plain(plan) else None)
        if maker.kernels is None:
            with _brisk_import():
                import torch  # noqa: F401  the long import: threads that hash meanwhile get their turn
        maker.windows()
        maker.wholes({} if limits is None else limits)
    if maker.bad:
        raise MaterialiseError(_damage(maker.bad))


def _is_plain(plan: FilePlan) -> bool:
    """Whether all that is computed are weighted sums of two stored tensors."""
    return not plan.wholes and all(
        segment.expression is None or plain_sum(segment.expression, segment.dtype, plan.recipe.precision)
        for segment in plan.segments)


@contextmanager
def _brisk_import() -> Iterator[None]:
    """A context in which torch is imported a little faster and other threads get their turn: a thread that needs the
    interpreter only between two long reads waits 0.2 ms for it, not 5."""
    switching = sys.getswitchinterval()
    # torch would search all installed packages for device backends, which a merge on the CPU does not need.
    unasked = "torch" not in sys.modules and _BACKENDS not in os.environ
    if unasked:
        os.environ[_BACKENDS] = "0"
    sys.setswitchinterval(0.0002)
    try:
        with without_collector():
            yield
    finally:
        sys.setswitchinterval(switching)
        if unasked:
            del os.environ[_BACKENDS]


class _Maker:
    def __init__(self, plan: FilePlan, files: InputFiles, output: Output, data_start: int, advance: Advance,
                 kernels: Callable[[], Kernels] | None) -> None:
        self.plan, self.files, self.output, self.advance, self.kernels = plan, files, output, advance, kernels
        self.data_start = data_start
        self.starts = [segment.begin for segment in plan.segments]
        self.bad: dict[str, str] = {}
        self.lock = threading.Lock()

    def windows(self) -> None:
        """Computes all segments, window by window, on up to WORKERS threads."""
        counter = iter(range(0, self.plan.total, WINDOW))
        errors: list[BaseException] = []

        def work() -> None:
            hands = _Hands(kernels=self.kernels().alone() if self.kernels else None)
            if hands.kernels is None:
                import torch

                torch.set_num_threads(1)
            try:
                while not errors:
                    with self.lock:
                        begin = next(counter, None)
                    if begin is None:
                        return
                    self._window(begin, min(begin + WINDOW, self.plan.total), hands)
            except BaseException as error:  # raised again in the caller's thread
                errors.append(error)

        if self.plan.segments:
            threads = [threading.Thread(target=work, name=f"merge {n}") for n in range(WORKERS)]
            for thread in threads:
                thread.start()
            try:
                for thread in threads:
                    thread.join()
            except BaseException as error:  # Ctrl-C: the files must stay open while workers still use them
                errors.append(error)
                for thread in threads:
                    thread.join()
        if errors:
            raise errors[0]

    def _window(self, begin: int, end: int, hands: _Hands) -> None:
        place = max(bisect.bisect_right(self.starts, begin) - 1, 0)
        filled: list[tuple[int, int]] = []
        while place < len(self.plan.segments) and self.plan.segments[place].begin < end:
            segment = self.plan.segments[place]
            first, last = max(segment.begin, begin), min(segment.end, end)
            if first < last:
                self._fill(segment, first, last, hands.window[first - begin:last - begin], hands)
                filled.append((first, last))
            place += 1
        for first, last in _runs(filled):
            # Direct writes are whole blocks; the file is truncated to its size at the end.
            stop = -(-last // BLOCK) * BLOCK if last == self.plan.total and not self.plan.wholes else last
            self.output.write(self.data_start + first, hands.window[first - begin:stop - begin])
            self.advance(last - first)

    def _fill(self, segment: Segment, first: int, last: int, out: memoryview, hands: _Hands) -> None:
        skipped = first - segment.begin
        if segment.constant:
            out[:] = segment.constant[skipped:skipped + len(out)]
        elif segment.expression is None:
            path, offset = segment.places[0]
            self.files.read_into(path, offset + skipped, out)
            if segment.dtype in _FLOATS and not segment.verbatim and not (
                    finite_bytes(out, segment.dtype) if hands.kernels else finite(_tensor(out, segment.dtype))):
                self._blame(first, last, {name: _tensor(out, segment.dtype) for name in ("copied",)}, segment)
        else:
            self._merge(segment, first, last, out, hands)

    def _merge(self, segment: Segment, first: int, last: int, out: memoryview, hands: _Hands) -> None:
        assert segment.expression is not None
        width = DTYPE_BYTES[segment.dtype]
        start, count = (first - segment.begin) // width, (last - first) // width
        buffers: dict[Source, memoryview] = {}
        for number, (source, (path, offset)) in enumerate(zip(sources(segment.expression), segment.places, strict=True)):
            if source in buffers:
                continue
            size = DTYPE_BYTES[source.dtype]
            buffers[source] = hands.scratch(number, count * size)
            self.files.read_into(path, offset + start * size, buffers[source])
        if hands.kernels is not None:
            plan = plain_sum(segment.expression, segment.dtype, self.plan.recipe.precision)
            assert plan is not None
            hands.kernels.weighted_sum(plan, buffers[plan.first], buffers[plan.second], out, segment.dtype)
            if not finite_bytes(out, segment.dtype):
                self._blame(first, last, {source: _tensor(data, source.dtype) for source, data in buffers.items()}, segment)
            return
        read = {source: _tensor(data, source.dtype) for source, data in buffers.items()}
        result, precision = _tensor(out, segment.dtype), self.plan.recipe.precision
        quick = native(segment.expression, segment.dtype, precision)
        # 16-bit values that are not widened need less memory, so larger chunks fit the cache.
        step = count if quick else AT_ONCE
        for begin in range(0, count, step):
            end = min(begin + step, count)
            parts = {source: tensor[begin:end] for source, tensor in read.items()}
            result[begin:end].copy_(evaluate(segment.expression, parts.__getitem__, dtype=segment.dtype, precision=precision))
        # In a weighted sum every NaN or infinity of an input shows in the result.
        if not finite(result) or not (quick or all(finite(tensor) for tensor in read.values())):
            self._blame(first, last, read, segment)

    def _blame(self, first: int, last: int, parts: Mapping[Any, Tensor], segment: Segment) -> None:
        """Records the tensors in the bytes `first` to `last` that have NaN, infinite or overflowing values."""
        width = DTYPE_BYTES[segment.dtype]
        for name in segment.names:
            span = self.plan.spans[name]
            begin, end = max(span.begin, first), min(span.end, last)
            if begin >= end:
                continue
            cut = slice((begin - first) // width, (end - first) // width)
            broken = [source for source, tensor in parts.items() if not finite(tensor[cut])]
            models = [source.model for source in broken if isinstance(source, Source)]
            if broken:
                self._note(name, f"holds NaN or infinite values{' in ' + ' and '.join(models) if models else ''}")
            elif segment.expression is not None and not self._sound(segment, parts, cut):
                self._note(name, f"overflows {segment.dtype}")

    def _sound(self, segment: Segment, parts: Mapping[Any, Tensor], cut: slice) -> bool:
        assert segment.expression is not None
        return finite(evaluate(segment.expression, lambda source: parts[source][cut], dtype=segment.dtype,
                               precision=self.plan.recipe.precision))

    def _note(self, name: str, note: str) -> None:
        with self.lock:
            self.bad.setdefault(name, note)

    def wholes(self, limits: dict[str, tuple[float, float]]) -> None:
        """Computes the tensors that cannot be split into pieces, a few at a time."""
        if not self.plan.wholes:
            return
        read = reader(self.plan.recipe, self.files)
        expressions = {(whole.name, whole.begin): whole.expression for whole in self.plan.wholes}
        if needs_survey(expressions.values()):
            filled = surveyed({f"{name}\n{begin}": e for (name, begin), e in expressions.items()}, read, limits)
            expressions = {(name, begin): filled[f"{name}\n{begin}"] for name, begin in expressions}
        import torch

        def do(whole: Whole) -> None:
            expression = expressions[whole.name, whole.begin]
            tensors = {source: read(source) for source in dict.fromkeys(sources(expression))}
            merged = evaluate(expression, tensors.__getitem__, dtype=whole.dtype, precision=self.plan.recipe.precision)
            broken = [source.model for source, tensor in tensors.items() if not finite(tensor)]
            if broken:
                self._note(whole.name, f"holds NaN or infinite values in {' and '.join(broken)}")
            elif not finite(merged):
                self._note(whole.name, f"overflows {whole.dtype}")
            rows = merged if whole.cut is None else merged[whole.cut[0]:whole.cut[1]]
            data = bytes_of(rows.T if whole.transposed and rows.ndim == 2 else rows)
            self.output.write(self.data_start + whole.begin, data)
            self.advance(len(data))

        workers = min(WORKERS, os.cpu_count() or 1)
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for done in pool.map(do, self.plan.wholes):
                assert done is None


def reader(recipe: RecipePlan, files: InputFiles) -> Callable[[Source], Tensor]:
    """A function that returns one tensor of an input in its stored dtype and canonical shape."""
    def read(source: Source) -> Tensor:
        file = recipe.files[source.model]
        info = file.components[source.component][source.key]
        if info.offset is None or info.scale:
            return file.tensor(source.component, source.key)
        size = math.prod(info.shape) * DTYPE_BYTES[info.dtype]
        buffer = memoryview(bytearray(size))
        files.read_into(info.file, info.offset, buffer)
        flat = _tensor(buffer, info.dtype)
        return flat.reshape(info.shape[::-1]).T if info.transposed else flat.reshape(info.shape)

    return read


@dataclass
class _Hands:
    """What one worker has: a window of the result, a buffer for each source, and the kernels that need no torch, if they do."""

    kernels: Kernels | None = None
    window: memoryview = field(default_factory=lambda: aligned_buffer(WINDOW))
    sources: dict[int, memoryview] = field(default_factory=dict)

    def scratch(self, number: int, size: int) -> memoryview:
        """The first `size` bytes of the buffer of source `number`."""
        if number not in self.sources or len(self.sources[number]) < size:
            self.sources[number] = aligned_buffer(size)
        return self.sources[number][:size]


def _tensor(buffer: memoryview, dtype: str) -> Tensor:
    """A 1-D tensor that shares the bytes of a buffer."""
    import torch

    if not len(buffer):
        return torch.empty(0, dtype=torch_dtype(dtype))
    return torch.frombuffer(buffer, dtype=torch_dtype(dtype))


def _runs(ranges: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yields the ranges, which are in order, with adjacent ones joined."""
    start = stop = -1
    for first, last in ranges:
        if first != stop:
            if stop > start:
                yield start, stop
            start = first
        stop = last
    if stop > start:
        yield start, stop


def _damage(bad: Mapping[str, str]) -> str:
    listed = first_of([f"{name!r} {problem}" for name, problem in sorted(bad.items())], 5, "; ")
    return (f"{len(bad)} tensors have unusable values: {listed}. Repair or replace that model, "
            "or use a smaller alpha or a wider dtype")
