"""The detector of persons: torchvision's Keypoint R-CNN with the weights of a local file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.declare.listing import first_of
from harness.metrics.oks import KEYPOINTS
from harness.records.harmless_text import visible
from harness.weights.files import open_tensors
from harness.weights.safetensors_header import ModelFileError

if TYPE_CHECKING:
    import torch

LEAST_SCORE: Final = 0.5
"""From which score on a detection counts as a person."""
ADDRESS: Final = "https://download.pytorch.org/models/keypointrcnn_resnet50_fpn_coco-fc266e95.pth"
WHERE_FROM: Final = f"give the file of torchvision's keypointrcnn_resnet50_fpn for COCO, {ADDRESS}"
_FLOATS: Final = ("F16", "BF16", "F32", "F64")
_COUNTERS: Final = ".num_batches_tracked"
"""Of batch norms that were trained on; the frozen ones that are run have none."""


class PoseDetector(Protocol):
    """Finds the persons in an image."""

    def persons(self, image: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
        """The keypoints (17, 2) in pixels of each person in an RGB image (h, w, 3)."""
        ...


@dataclass(frozen=True, kw_only=True)
class KeypointRCNN:
    """The network, run on the CPU on one image at a time, so that the persons never depend on device or neighbours."""

    model: Any
    _running: Lock = field(default_factory=Lock, repr=False, compare=False)

    def persons(self, image: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
        """As of `PoseDetector`: the detections of at least `LEAST_SCORE`. Raises ModelFileError for keypoints that are not
        finite."""
        import torch

        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255
        with torch.inference_mode(), self._running:  # the network notes the size of what it is given
            (output,) = self.model([pixels])
        found: NDArray[np.float64] = output["keypoints"][output["scores"] >= LEAST_SCORE][..., :2].double().numpy()
        if not np.isfinite(found).all():
            raise ModelFileError(f"the pose detector gave keypoints that are not finite; {WHERE_FROM}")
        return list(found)


def load_detector(path: Path) -> KeypointRCNN:
    """The detector of a file, a pickle that is read as data alone or a .safetensors. Raises ModelFileError, which names the file
    and the first tensors, for one that does not hold exactly the weights of the network."""
    import torch

    file, model = open_tensors(path), _without_values()
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    stored = {name: one for name, one in file.stored.items() if not name.endswith(_COUNTERS)}
    wrong = [*(f"{name!r} is missing" for name in expected if name not in stored),
             *(f"{visible(name)!r} has no place in it" for name in stored if name not in expected),
             *(f"{name!r} is {list(stored[name].shape)}, not {list(shape)}" for name, shape in expected.items()
               if name in stored and stored[name].shape != shape),
             *(f"{name!r} is {one.dtype}, not floating-point numbers" for name, one in stored.items()
               if name in expected and one.dtype not in _FLOATS)]
    if wrong:
        raise ModelFileError(f"{path}: this is not torchvision's keypointrcnn_resnet50_fpn: {len(wrong)} tensors differ: "
                             f"{first_of(wrong, between=', ')}; {WHERE_FROM}")
    values: Mapping[str, torch.Tensor] = {name: tensor.float().clone() for name, tensor in file.read(stored).items()}
    if broken := [name for name, tensor in values.items() if not bool(torch.isfinite(tensor).all())]:
        raise ModelFileError(f"{path}: {len(broken)} tensors hold NaN or infinite values: {broken[0]!r}; {WHERE_FROM}")
    model.load_state_dict(values, strict=True, assign=True)
    return KeypointRCNN(model=model.eval().requires_grad_(False))


def _without_values() -> Any:
    """The network as torchvision builds it for its COCO_V1 weights: frozen batch norms, whose epsilon is 0."""
    from accelerate import init_empty_weights
    from torchvision.models.detection import KeypointRCNN as Network
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops import FrozenBatchNorm2d

    from harness.weights.undrawn import Undrawn

    with Undrawn(), init_empty_weights(include_buffers=False):
        backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=5)
        model = Network(backbone, num_classes=2, num_keypoints=len(KEYPOINTS))
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.eps = 0.0
    return model
