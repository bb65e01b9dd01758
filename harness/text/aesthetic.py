"""Aesthetic gradients: a text encoder steered for a few steps towards the look of some images, for one text at a time."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.text.encoder_forward import pass_through, row_hooks, token_ids
from harness.text.hooked_copy import twin
from harness.text.tokens import Layout
from harness.text.treatment import Aesthetic
from harness.weights.content import GGUF, PICKLE, content_of, trouble_of
from harness.weights.pickle_opcodes import PickleError
from harness.weights.safe_pickle import read_pickle

if TYPE_CHECKING:
    from torch import Tensor

    from harness.weights.pipeline import TextEncoder

_WIDEST: Final = 8192


def active(aesthetic: Aesthetic, encoder: TextEncoder) -> bool:
    """Whether the aesthetic changes anything. Raises ValueError for invalid numbers, or one made for another encoder."""
    width = encoder.module.get_input_embeddings().weight.shape[1]
    if "CLIP" not in type(encoder.module).__name__:
        raise ValueError(f"aesthetic: {encoder.component} is a {type(encoder.module).__name__}; expected a text encoder of CLIP, "
                         "whose embeddings can be compared with images'")
    dim, projection = tuple(aesthetic.embedding.shape), tuple(aesthetic.projection.shape)
    if len(dim) != 1 or projection != (width, *dim):
        raise ValueError(f"aesthetic: embedding of shape {dim}, projection of shape {projection}, for {encoder.component} "
                         f"of width {width}; expected (dim,) and ({width}, dim), the text projection of the encoder's own CLIP")
    if not bool(aesthetic.embedding.isfinite().all()) or not bool(aesthetic.projection.isfinite().all()):
        raise ValueError("aesthetic: its embedding or projection contains NaN or infinity")
    if not bool(aesthetic.embedding.any()):
        raise ValueError("aesthetic: its embedding is zero, which has no direction")
    if not 0 <= aesthetic.weight <= 1 or not math.isfinite(aesthetic.rate) or aesthetic.rate < 0 or aesthetic.steps < 0:
        raise ValueError(f"aesthetic: weight {aesthetic.weight}, steps {aesthetic.steps}, rate {aesthetic.rate}; expected "
                         "a weight from 0 to 1, and steps and rate from 0")
    return aesthetic.weight > 0 and aesthetic.steps > 0 and aesthetic.rate > 0


def steered(encoder: TextEncoder, layout: Layout, aesthetic: Aesthetic, clip_skip: int | None = None) -> Tensor:
    """States (tokens, width), float32, of a copy of the encoder after `steps` of Adam on all its parameters (betas 0.9 and
    0.999, no decay) against minus the cosine of the text's projected pooled state and the embedding.

    The copy is float32, as Adam's squares vanish in half precision. Adapters on it are first merged into its weights, so that
    the steps do not depend on how they were attached. The vectors of words stay as they are. It draws no random numbers, and
    the encoder is not touched. The copy takes the encoder's memory once in float32, and its gradients and Adam three times.
    """
    import torch

    with torch.inference_mode(False), torch.enable_grad():
        changed = _copied(encoder.module)
        inner = getattr(changed, "text_model", changed)
        target = torch.nn.functional.normalize(_own(aesthetic.embedding, inner), dim=0)
        projection = _own(aesthetic.projection, inner)
        ids = token_ids(layout, inner)
        used = twin(inner, {}, row_hooks(inner, layout.rows))
        optimiser = torch.optim.Adam(inner.parameters(), lr=aesthetic.rate)
        for _ in range(aesthetic.steps):
            pooled = used(ids, return_dict=True, output_hidden_states=False).pooler_output[0]  # the state of the end token
            cosine = torch.nn.functional.normalize(pooled @ projection, dim=0) @ target
            optimiser.zero_grad()
            torch.autograd.backward(-cosine)
            optimiser.step()
    with torch.inference_mode():
        return pass_through(encoder, changed, layout, clip_skip).states


def _own(tensor: Tensor, module: Any) -> Tensor:
    """A float32 copy on the module's device that can be used in training, even if the tensor was made in inference mode."""
    import torch

    return tensor.detach().to(device=module.get_input_embeddings().weight.device, dtype=torch.float32, copy=True)


def _copied(module: Any) -> Any:
    changed = copy.deepcopy(module)
    for path, layer in list(changed.named_modules()):
        if hasattr(layer, "base_layer") and hasattr(layer, "merge"):
            layer.merge()
            changed.set_submodule(path, layer.base_layer)
    return changed.float().requires_grad_(True)


def read_aesthetic(path: Path) -> Tensor:
    """The image embedding (dim,), float32, of a file that holds one tensor of shape (dim,) or (1, dim) and nothing else, a
    bare one in torch's format or one of any name in safetensors. ValueError names the file."""
    path = Path(path)
    if wrong := trouble_of(content_of(path)):
        raise ValueError(f"{path}: {wrong}")
    tensor = _one_tensor(path)
    shape = tuple(tensor.shape)
    if not tensor.is_floating_point() or len(shape) not in (1, 2) or (len(shape) == 2 and shape[0] != 1):
        raise ValueError(f"{path}: a tensor of shape {shape} and {tensor.dtype}; expected (dim,) or (1, dim) floating-point "
                         "numbers, the mean CLIP embedding of some images")
    if not 1 <= shape[-1] <= _WIDEST:
        raise ValueError(f"{path}: an embedding of {shape[-1]} numbers; expected as many as CLIP's embeddings have, such as 768")
    vector = tensor.reshape(-1).float().clone()
    if not bool(vector.isfinite().all()):
        raise ValueError(f"{path}: contains NaN or infinity; download it again")
    if not bool(vector.any()):
        raise ValueError(f"{path}: all its numbers are zero, which has no direction; download it again")
    return vector


def _one_tensor(path: Path) -> Tensor:
    import torch

    kind = content_of(path).kind
    if kind == GGUF:
        raise ValueError(f"{path}: a GGUF file; expected an aesthetic embedding, a pickle or a safetensors file")
    if kind == PICKLE:
        try:
            content = read_pickle(path)
        except (OSError, PickleError) as error:
            raise ValueError(f"{path}: could not be read as a plain tensor ({_short(error)}); expected an aesthetic embedding. "
                             "Convert it to .safetensors if you trust its source.") from None
    else:
        from safetensors.torch import load_file

        try:
            tensors = load_file(path)
        except Exception as error:  # safetensors raises its own and Python's
            raise ValueError(f"{path}: not a complete safetensors file ({_short(error)}); download it again") from None
        content = next(iter(tensors.values())) if len(tensors) == 1 else tensors
    if not isinstance(content, torch.Tensor):
        what = f"{len(content)} entries" if hasattr(content, "__len__") else f"a {type(content).__name__}"
        # ValueError like every other fault of a file: the caller did nothing wrong.
        raise ValueError(f"{path}: holds {what}; expected one tensor, the mean CLIP embedding of some images")  # noqa: TRY004
    return content


def _short(error: Exception) -> str:
    return ascii(" ".join(f"{type(error).__name__}: {error}".split())[:160])
