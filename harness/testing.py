"""The contracts of the open tables as checks for rows of one's own: call one in a test. It raises ContractError naming all that
is broken, needs no model file, and takes seconds on a CPU."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.merge import Call, MergeError, MergeMethod
from harness.merge.user_methods import adopt_method
from harness.metrics import ImageScore, ImageSet, Metric
from harness.metrics.user_metrics import MetricError, adopt_metric
from harness.quantize import QuantizationMode
from harness.quantize.user_modes import adopt_mode
from harness.runtimes import Runtime, adopt_runtime

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from harness.metrics.clip import ClipScorer

NAME: Final = "row under test"
SIDE: Final = 32
STYLES: Final = {"drawing": "a drawing", "photo": "a photograph"}


class ContractError(AssertionError):
    """A row that breaks its contract; `broken` holds a sentence for each property."""

    def __init__(self, broken: Sequence[str]) -> None:
        super().__init__("\n".join(broken))
        self.broken = tuple(broken)


def check_metric(metric: Metric, *, clip: ClipScorer | None = None, tolerance: float = 1e-6) -> None:
    """Every value is a finite number in its range or missing with a reason, and depends on its own image alone: not on how many
    others are measured with it, in which order, or when. Only paired values depend on the baseline's image, and they are
    missing without one. `tolerance` is relative; `clip` is the scorer for a metric that needs it."""
    _raise(_metric(adopt_metric(NAME, metric), metric, clip, tolerance))


def check_merge_method(method: MergeMethod) -> None:
    """The merge has the shape, dtype and finiteness of its models, leaves them as they are, is the same each time (a random
    method draws from its generator alone), is the model that `at_zero` and `at_one` name bit for bit, and with `elementwise`
    the same in pieces as whole."""
    _raise(_method(method))


def check_quantization_mode(mode: QuantizationMode) -> None:
    """On a small U-Net: the report names every parameter once, the module takes and returns finite float32, and the same weights
    give the same output."""
    _raise(_mode(adopt_mode(NAME, mode)))


def check_runtime(runtime: Runtime, *, tolerance: float = 1e-3) -> None:
    """On a small U-Net: `why_not` answers in words, and the module computes what the eager one does, within `tolerance` of the
    largest value, and twice the same."""
    _raise(_runtime(adopt_runtime(NAME, runtime), tolerance))


def _raise(broken: Iterator[str]) -> None:
    try:
        listed = list(broken)
    except (MetricError, MergeError, ValueError) as error:
        raise ContractError([str(error)]) from error
    if listed:
        raise ContractError(listed)


def _images(count: int, seed: int) -> NDArray[np.uint8]:
    """Coarse colours and fine noise, the first image flat."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, 4, 4, 3)).repeat(SIDE // 4, axis=1).repeat(SIDE // 4, axis=2)
    images: NDArray[np.uint8] = np.clip(coarse + random.integers(-8, 9, (count, SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
    images[0] = 128
    return images


def _metric(metric: Metric, written: Metric, clip: ClipScorer | None, tolerance: float) -> Iterator[str]:
    images, references = _images(6, 0), _images(6, 1)

    def measure(places: Sequence[int], paired: bool = True) -> list[ImageScore]:
        chosen = list(places)
        return metric.measure(ImageSet(
            images=images[chosen], references=references[chosen] if paired else None, clip=clip, styles=STYLES,
            texts=tuple(f"a red ball {place}" for place in chosen)))

    whole = measure(range(6))
    for word, places in (("alone", [3]), ("in another order", [5, 4, 3, 2, 1, 0]), ("a second time", range(6))):
        for place, score in zip(places, measure(places), strict=True):
            if not _alike(score, whole[place], tolerance):
                yield f"image {place} measured {word} gives {dict(score.values)}, among the others {dict(whole[place].values)}"
    if metric.measure(ImageSet(images=images[:0], texts=(), clip=clip, styles=STYLES)):
        yield "no images give scores; expected an empty list"
    for one, other in zip(measure(range(6), paired=False), whole, strict=True):
        for spec in written.values:
            if spec.paired and spec.name in one.values:
                yield f"{spec.name} is paired and has a value without a reference; expected it in missing"
            elif not spec.paired and one.values.get(spec.name) != other.values.get(spec.name):
                yield f"{spec.name} is not paired and changes with the reference; say paired=True in its ValueSpec"


def _alike(one: ImageScore, other: ImageScore, tolerance: float) -> bool:
    return (one.missing.keys() == other.missing.keys() and one.labels == other.labels and all(
        math.isclose(value, other.values[name], rel_tol=tolerance, abs_tol=tolerance) for name, value in one.values.items()))


def _method(method: MergeMethod) -> Iterator[str]:
    import torch

    guarded = adopt_method(NAME, method)
    for dtype in (torch.float32, torch.float64):
        for shape in ((40, 50), (7, 5, 3, 3), (9,), (1, 6), ()):
            models = _models(method, shape, dtype)
            before = [model.clone() for model in models]
            for alpha in _alphas(method):
                merged = _merged(guarded, models, alpha)
                if not torch.equal(merged, _merged(guarded, models, alpha)):
                    yield f"alpha={alpha:g}, shape {shape}: the merge is another one each time"
                _merged(method, models, alpha)
                if not all(map(torch.equal, models, before)):
                    yield f"alpha={alpha:g}, shape {shape}: a model was changed in place; work on a copy"
                    return
            for alpha, word, end in ((0.0, "at_zero", method.at_zero), (1.0, "at_one", method.at_one)):
                if end and not torch.equal(_merged(guarded, models, alpha), models[{"a": 0, "b": 1, "c": -1}[end]]):
                    yield f"{word} is {end!r}, but at alpha={alpha:g}, shape {shape}, the merge is not that model bit for bit"
    if method.elementwise:
        models, alpha = _models(method, (41, 50), torch.float32), _alphas(method)[-2]
        pieces = [_merged(guarded, [m.reshape(-1)[part] for m in models], alpha) for part in (slice(0, 1003), slice(1003, None))]
        if not torch.equal(torch.cat(pieces), _merged(guarded, models, alpha).reshape(-1)):
            yield "elementwise is True, but a tensor merged in two pieces is not the tensor merged whole"


def _alphas(method: MergeMethod) -> list[float]:
    """The ends of alpha and one between; one call for a method without alpha."""
    low, high = method.alpha_range or (0.0, 0.0)
    return [low, low + 0.35 * (high - low), high]


def _models(method: MergeMethod, shape: tuple[int, ...], dtype: torch.dtype) -> list[Tensor]:
    import torch

    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(method.models + method.many)]


def _merged(method: MergeMethod, models: Sequence[Tensor], alpha: float) -> Tensor:
    import torch

    weights = tuple(1.0 + 0.5 * place for place in range(len(models) - method.base)) if method.weighted else ()
    limits = method.limits_of(method.survey(*models)) if method.survey and method.limits_of else (0.0, 0.0)
    beta = sum(method.beta_range) / 2 if method.beta_range else 0.0
    call = Call(alpha=alpha, beta=beta, parameters=method.defaults(), weights=weights, limits=limits)
    return method.merge(list(models), call, torch.Generator().manual_seed(0) if method.random else None)


def _unet() -> Any:
    import torch
    from diffusers import UNet2DConditionModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet2DConditionModel(
            sample_size=8, in_channels=4, out_channels=4, block_out_channels=(32, 64), layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=32, attention_head_dim=4, norm_num_groups=8).eval().requires_grad_(False)


def _output(unet: Any) -> Tensor:
    import torch

    generator = torch.Generator().manual_seed(1)
    noise, context = (torch.randn(shape, generator=generator) for shape in ((2, 4, 8, 8), (2, 12, 32)))
    with torch.inference_mode():
        output: Tensor = unet(noise, 500, encoder_hidden_states=context).sample
        return output


def _executed(runtime: Runtime, unet: Any) -> Any:
    """The U-Net in the runtime; an exported one is given its weights."""
    import torch

    from harness.runtimes.exporting import export

    if runtime.open is None:
        return runtime.apply(unet) if runtime.apply is not None else unet
    executor = runtime.open(export(unet, "float32", (8, 8)), "cpu")
    executor.refresh(unet.state_dict(), "checked")

    def run(noise: Tensor, timestep: float, encoder_hidden_states: Tensor) -> Any:
        inputs = {"sample": noise, "timestep": torch.tensor(float(timestep)), "encoder_hidden_states": encoder_hidden_states}
        return SimpleNamespace(sample=executor(inputs))

    return run


def _mode(mode: QuantizationMode) -> Iterator[str]:
    import torch

    outputs = []
    for _ in range(2):
        unet = _unet()
        mode.apply(unet)
        outputs.append(_output(unet))
    if outputs[0].dtype != torch.float32:
        yield f"the quantized module returns {outputs[0].dtype}; expected torch.float32"
    if not bool(outputs[0].isfinite().all()):
        yield "the quantized module returns NaN or infinite values"
    elif not torch.equal(*outputs):
        yield "the same weights give another output each time they are quantized"


def _runtime(runtime: Runtime, tolerance: float) -> Iterator[str]:
    import torch

    if why_not := runtime.why_not("cpu"):
        yield f"it is not offered on the CPU, where this check runs: {why_not}"
        return
    eager, module = _output(_unet()), _executed(runtime, _unet())
    one, two = _output(module), _output(module)
    distance = float((one.double() - eager.double()).abs().max() / eager.double().abs().max())
    if not distance <= tolerance:
        yield f"the output is off by {distance:.2g} of its largest value; at most {tolerance:g} is allowed"
    if not torch.equal(one, two):
        yield "the same input gives another output each time"
