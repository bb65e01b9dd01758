"""Savers of attention: computed in slices, or by one named kernel of PyTorch."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final

from harness.declare.candidate import NOT_QUANTIZED
from harness.declare.mixed import of_denoiser
from harness.savers.contract import SaverError, SaverReport, Use

if TYPE_CHECKING:
    import torch

OF_UNETS: Final = "it acts on U-Nets, and models of the family {family} have a transformer"


def slice_attention(module: torch.nn.Module) -> SaverReport:
    """Half of the heads at a time, as diffusers' `set_attention_slice("auto")`: softmax(q k^T) v of a slice is computed after
    that of the one before. The fused kernels, which keep no matrix of all pairs, are then not used."""
    from diffusers.models.attention_processor import Attention

    # Not by the U-Net's own method, which asks layers of one head for slices of none.
    layers = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, Attention) and layer.heads > 1]
    if not layers:
        raise SaverError("no attention layer has more than one head, so that there is nothing to slice")
    for _, layer in layers:
        layer.set_attention_slice(layer.heads // 2)
    return SaverReport(changed=tuple(name for name, _ in layers), notes=(
        "attention is computed for half of the heads at a time, and no longer by a fused kernel",))


def no_slices(use: Use) -> str:
    """Why attention cannot be sliced."""
    if "unet" not in use.pipeline.parts:
        return f"{OF_UNETS.format(family=use.pipeline.family)}; remove it"
    if use.candidate.references:
        return "sliced attention cannot see the pictures of references; remove it, or the references"
    return ""


def nothing_to_slice(use: Use) -> str:
    """Why slices would change nothing."""
    from diffusers.models.attention_processor import Attention

    heads = [layer.heads for layer in use.pipeline.denoiser.modules() if isinstance(layer, Attention)]
    return "" if max(heads, default=0) > 1 else "no attention layer of this model has more than one head"


class ChosenKernel:
    """PyTorch's choice of attention kernels while a denoiser runs. The choice holds for the whole process, so that denoisers of
    several threads make it together: the first that begins makes it, and the last that ends restores what was before."""

    def __init__(self, backend: str) -> None:
        """`backend` is a name of `torch.nn.attention.SDPBackend`."""
        self.backend = backend
        self._lock, self._running = threading.Lock(), 0
        self._choice: AbstractContextManager[Any] | None = None

    def choose(self, module: torch.nn.Module) -> SaverReport:
        """Lets every forward of the module use this kernel alone. Where the kernel cannot compute an attention, PyTorch raises an
        error and takes no other."""
        from diffusers.models.attention import AttentionModuleMixin
        from diffusers.models.attention_processor import Attention

        layers = [name for name, layer in module.named_modules() if isinstance(layer, Attention | AttentionModuleMixin)]
        if not layers:
            raise SaverError("the model has no attention layers")
        module.register_forward_pre_hook(self._begin, prepend=True)
        module.register_forward_hook(self._end, always_call=True)
        return SaverReport(changed=tuple(layers), notes=(f"attention by the kernel {self.backend} alone",))

    def _begin(self, *_: object) -> None:
        from torch.nn.attention import SDPBackend, sdpa_kernel

        with self._lock:
            if self._running == 0:
                self._choice = sdpa_kernel(getattr(SDPBackend, self.backend))
                self._choice.__enter__()
            self._running += 1

    def _end(self, *_: object) -> None:
        with self._lock:
            self._running -= 1
            if self._running == 0 and self._choice is not None:
                self._choice.__exit__(None, None, None)
                self._choice = None


def chooses_kernel(module: Any) -> bool:
    """Whether a module chooses the attention kernels of the whole process while it runs, so that nothing may be computed beside
    it in another thread."""
    hooks = getattr(module, "_forward_pre_hooks", {}).values()
    return any(isinstance(getattr(hook, "__self__", None), ChosenKernel) for hook in hooks)


def flash_is_usual(device: str) -> str:
    """Why the flash kernel need not be chosen."""
    return "" if device.startswith("cuda") else "PyTorch takes this kernel by itself there, so that it changes nothing"


def needs_cuda(device: str) -> str:
    """Why a kernel of CUDA is not offered."""
    return "" if device.startswith("cuda") else "PyTorch has this kernel for CUDA alone"


def no_flash(use: Use) -> str:
    """Why the flash kernel cannot compute a denoiser's attention."""
    if of_denoiser(use.candidate.quantization) == NOT_QUANTIZED and use.device.startswith("cuda"):
        return "flash attention computes in 16 bits, and this denoiser in float32; give precision='fp16', or 'sdpa_efficient'"
    return other_dispatch(use)


def other_dispatch(use: Use) -> str:
    """Why PyTorch's choice of kernels would not count: diffusers lets transformers compute attention by other packages."""
    if "unet" in use.pipeline.parts:
        return ""
    from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry

    active = _AttentionBackendRegistry.get_active_backend()[0]
    if active == AttentionBackendName.NATIVE:
        return ""
    return (f"diffusers computes the attention of transformers by its backend {active.value!r} in this process, and PyTorch's "
            "choice of kernels has no effect on it; unset DIFFUSERS_ATTN_BACKEND")
