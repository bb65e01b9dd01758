"""The modes that only cast: fp32, bf16 and fp16, with casts at the module's inputs and outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from harness.quantize.contract import QuantizeError, QuantizeReport

if TYPE_CHECKING:
    import torch

FP16_ON_CPU: Final = ("fp16 is refused on the CPU: its convolutions have no fast kernel there and ran about 20 times "
                      "slower than fp32; use bf16, or a GPU")

NUMBERS: Final = ("timestep", "guidance", "time_ids", "img_ids", "txt_ids")
"""Inputs of denoisers, by name, that are numbers rather than features and keep their precision."""


def to_fp32(module: torch.nn.Module) -> QuantizeReport:
    """Float32 everywhere: the reference of all other modes."""
    import torch

    torch.nn.Module.to(module, torch.float32)  # avoids a warning of diffusers' own `to`, which concerns other models
    return QuantizeReport(quantized=(), kept=tuple(name for name, _ in module.named_parameters()),
                          notes=("float32 weights and arithmetic",))


def to_bf16(module: torch.nn.Module) -> QuantizeReport:
    """bfloat16 weights and arithmetic: 8 exponent and 7 fraction bits, relative error <= 2^-8 per weight."""
    import torch

    return _cast(module, torch.bfloat16)


def bf16_emulated(device: str) -> str:
    """Why bf16 is not offered on a GPU that only emulates it (Turing and older), or an empty string: its convolutions have no
    kernel there."""
    if not device.startswith("cuda"):
        return ""
    import torch

    if not torch.cuda.is_available():
        return ""
    with torch.cuda.device(device):
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    return "" if native else "this GPU computes bfloat16 by emulation only, and has no convolutions for it; use fp16 or fp32"


FP8_ON_CPU: Final = ("fp8 products need a GPU of compute capability 8.9 or higher; use fp8_weight_only, which stores such "
                     "weights too")


def below_fp8(device: str) -> str:
    """Why a GPU has no fp8 products, or an empty string."""
    if not device.startswith("cuda"):
        return ""
    import torch

    if not torch.cuda.is_available():
        return ""
    major, minor = torch.cuda.get_device_capability(device)
    return "" if (major, minor) >= (8, 9) else f"this GPU has compute capability {major}.{minor}; {FP8_ON_CPU}"


def to_fp16(module: torch.nn.Module) -> QuantizeReport:
    """float16 weights and arithmetic: 5 exponent and 10 fraction bits, relative error <= 2^-11 between 6e-5 and 65504.

    Raises QuantizeError on the CPU.
    """
    import torch

    if any(parameter.device.type == "cpu" for parameter in module.parameters()):
        raise QuantizeError(FP16_ON_CPU)
    return _cast(module, torch.float16)


def live_in(module: torch.nn.Module, dtype_name: str) -> QuantizeReport:
    """As the mode of this dtype ("float16"), for live weights. Unlike a mode it accepts float16 on the CPU: weights may be kept
    there and run elsewhere."""
    import torch

    return to_fp32(module) if dtype_name == "float32" else _cast(module, getattr(torch, dtype_name))


class Border:
    """The hooks at a module's border: inputs are cast to `dtype`, but for numbers such as time steps and sizes, and outputs to
    float32."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype

    def enter(self, _: torch.nn.Module, args: Any, kwargs: Any) -> Any:
        """The hook before a forward."""
        from torch.utils._pytree import tree_map_with_path

        return tree_map_with_path(self._entering, (args, kwargs))

    def leave(self, _: torch.nn.Module, __: Any, output: Any) -> Any:
        """The hook after a forward."""
        import torch
        from torch.utils._pytree import tree_map

        return tree_map(lambda value: _cast_value(value, torch.float32), output)

    def _entering(self, path: Any, value: Any) -> Any:
        # Embeddings are computed from time steps, guidance and sizes, which must stay exact: 751.3 is 752 in bfloat16.
        number = getattr(value, "ndim", 0) < 2 or any(getattr(part, "key", "") in NUMBERS for part in path)
        return value if number else _cast_value(value, self._dtype)


def cast_at_border(module: torch.nn.Module, dtype: torch.dtype) -> None:
    """Gives a module that computes in `dtype` the border of one that takes and returns float32."""
    border = Border(dtype)
    module.register_forward_pre_hook(border.enter, with_kwargs=True)
    module.register_forward_hook(border.leave)


def _cast_value(value: Any, dtype: torch.dtype) -> Any:
    import torch

    return value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def _cast(module: torch.nn.Module, dtype: torch.dtype) -> QuantizeReport:
    import torch

    torch.nn.Module.to(module, dtype)
    cast_at_border(module, dtype)
    names = tuple(name for name, _ in module.named_parameters())
    word = str(dtype).removeprefix("torch.")
    return QuantizeReport(quantized=names, kept=(), notes=(
        f"{word} weights and arithmetic; inputs are cast at the module's border, but for time steps and sizes, and outputs "
        "returned as float32",))
