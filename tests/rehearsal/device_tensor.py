"""Tensors that say they lie on a CUDA device and compute on the CPU, or on shapes alone. They refuse what CUDA refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, Final

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import return_and_correct_aliasing

from tests.rehearsal.gpu import Gpu, Machine

aten = torch.ops.aten

WAITING: Final = {aten.nonzero.default: "nonzero", aten.masked_select.default: "masked_select", aten.equal.default: "equal",
                  aten._unique2.default: "unique", aten.unique_dim.default: "unique", aten.bincount.default: "bincount",
                  aten.unique_consecutive.default: "unique", aten.repeat_interleave.Tensor: "repeat_interleave",
                  aten._linalg_check_errors.default: "linalg errors"}
"""Operations whose result has a size, or is a number, that the host must know."""
NUMBER, TO_COPY, COPY = aten._local_scalar_dense.default, aten._to_copy.default, aten.copy_.default
INDEXING: Final = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}
ROUNDED: Final = {aten.mm.default: aten.mm.default, aten.mm.out: aten.mm.default, aten.addmm.default: aten.addmm.default,
                  aten.addmm.out: aten.addmm.default, aten.bmm.default: aten.bmm.default,
                  aten.pow.Tensor_Scalar: aten.pow.Tensor_Scalar}
"""Operations whose last bits differ between devices, with the forms without `out`."""


class DeviceTensor(torch.Tensor):
    """A tensor on `gpu`; `inner` has its values, or only its shape."""

    inner: torch.Tensor
    gpu: Gpu
    machine: Machine

    @staticmethod
    def __new__(cls, inner: torch.Tensor, gpu: Gpu, machine: Machine) -> DeviceTensor:
        gpu.hold(inner)
        tensor = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            layout=inner.layout, device=gpu.device)
        tensor.inner, tensor.gpu, tensor.machine = inner, gpu, machine
        return tensor

    def __repr__(self, **_: object) -> str:  # type: ignore[override]
        self.gpu.wait("repr")
        return f"tensor(..., shape={tuple(self.shape)}, dtype={self.dtype}, device='{self.device}')"

    def __deepcopy__(self, memo: dict[int, Any]) -> DeviceTensor:
        if id(self) not in memo:
            copied = self.detach().clone().requires_grad_(self.requires_grad)
            if isinstance(self, torch.nn.Parameter):
                copied._is_param = True
            memo[id(self)] = copied
        return memo[id(self)]

    @classmethod
    def __torch_function__(cls, func: Any, types: Iterable[type], args: tuple[Any, ...] = (),
                           kwargs: Mapping[str, Any] | None = None) -> Any:
        for kind in types:
            if kind is not cls and _foreign(kind):
                return NotImplemented
        func = SPECIAL.get(func, func)
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs) if kwargs else func(*args)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Iterable[type], args: tuple[Any, ...] = (),
                           kwargs: Mapping[str, Any] | None = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [*tensors_in(args), *tensors_in(kwargs.values())]
        return execute(func, args, kwargs, next(t for t in tensors if isinstance(t, DeviceTensor)).machine, tensors)


@cache
def _foreign(kind: type) -> bool:
    """Whether tensors of this class have ways of their own, as torchao's have."""
    return issubclass(kind, torch.Tensor) and not issubclass(kind, DeviceTensor) and (
        kind not in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer))


def tensors_in(values: Iterable[object]) -> list[torch.Tensor]:
    """All tensors among the arguments of an operation, which are at most lists of tensors."""
    tensors: list[torch.Tensor] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            tensors.append(value)
        elif isinstance(value, list | tuple):
            tensors += tensors_in(value)
    return tensors


def with_foreign(tensors: Iterable[torch.Tensor]) -> bool:
    """Whether one of the tensors has ways of its own."""
    for tensor in tensors:  # noqa: SIM110 - as fast as can be, for every operation
        if (kind := type(tensor)) is not torch.Tensor and kind is not DeviceTensor and _foreign(kind):
            return True
    return False


def on_a_device(tensors: Iterable[torch.Tensor]) -> bool:
    """Whether one of the tensors lies on a simulated device."""
    for tensor in tensors:  # noqa: SIM110 - as fast as can be, for every operation
        if isinstance(tensor, DeviceTensor):
            return True
    return False


def _mapped(change: Callable[[torch.Tensor], Any], value: Any) -> Any:
    """The argument or result of an operation with its tensors changed."""
    if isinstance(value, torch.Tensor):
        return change(value)
    kind = type(value)
    return kind([_mapped(change, one) for one in value]) if kind is list or kind is tuple else value


def _inner(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.inner if isinstance(tensor, DeviceTensor) else tensor


def opened(args: Any) -> Any:
    """The arguments with the tensors that really hold the values."""
    return _mapped(_inner, args)


def on_gpu(results: Any, gpu: Gpu, machine: Machine) -> Any:
    """The results as tensors on `gpu`."""
    return _mapped(lambda x: x if isinstance(x, DeviceTensor) else DeviceTensor(x, gpu, machine), results)


def refuse_mixed_devices(func: object, given: Iterable[torch.Tensor]) -> None:
    """Raises RuntimeError, as CUDA does, where tensors of several devices meet. A CPU tensor that is one number may join."""
    gpus = {tensor.gpu if isinstance(tensor, DeviceTensor) else None for tensor in given
            if isinstance(tensor, DeviceTensor) or tensor.ndim}
    if len(gpus) > 1:
        tensors = [t for t in given if t.ndim or t.device.type == "cuda"]
        devices = sorted({str(t.device) for t in tensors}, reverse=True)
        raise RuntimeError(f"Expected all tensors to be on the same device, but found at least two devices, {devices[0]} and "
                           f"{devices[1]}! ({func}; shapes {[tuple(t.shape) for t in tensors]})")


def execute(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], machine: Machine, tensors: list[torch.Tensor]) -> Any:
    """Runs one operation on tensors of a device, or one that makes such a tensor. `tensors` are those among its arguments."""
    if func is NUMBER:
        return _number(args[0])
    if func is TO_COPY:
        return moved(args[0], kwargs, machine)
    if func.overloadpacket is aten.to:
        return _moved_if_elsewhere(func, args, kwargs, machine)
    if func is COPY:
        return _copied(*args[:2], non_blocking=bool(args[2:] and args[2]) or kwargs.get("non_blocking", False))
    wanted = kwargs.get("device")
    stays = wanted is None or torch.device(wanted).type == "cuda"
    if wanted is not None and stays:
        gpu = machine.gpu(wanted)
    else:
        gpu = next(tensor.gpu for tensor in tensors if isinstance(tensor, DeviceTensor))
    if func in INDEXING:
        _note_indices(args, gpu)
    else:
        refuse_mixed_devices(func, tensors)
    if func in WAITING:
        gpu.wait(WAITING[func])
    gpu.operations[func] += 1
    inner_args, inner_kwargs = opened(args), {name: opened(value) for name, value in kwargs.items()}
    if wanted is not None:
        inner_kwargs["device"] = machine.place if stays else wanted
        inner_kwargs.pop("pin_memory", None)
    results = _computed(func, inner_args, inner_kwargs, machine)
    if not stays:
        return results
    results = on_gpu(results, gpu, machine)
    return return_and_correct_aliasing(func, args, kwargs, results) if func._schema.is_mutable else results


def _computed(func: Any, args: Any, kwargs: dict[str, Any], machine: Machine) -> Any:
    if machine.shapes_only:
        if func is aten.nonzero.default:
            return torch.zeros((1, args[0].ndim), dtype=torch.int64, device="meta")
        if func is aten.equal.default:
            return False
        kwargs = {name: value for name, value in kwargs.items() if not isinstance(value, torch.Generator)}
        args, kwargs = _mapped(_shape, args), {name: _mapped(_shape, value) for name, value in kwargs.items()}
    elif machine.other_rounding and func in ROUNDED and args[0].dtype == torch.float32:
        out = kwargs.pop("out", None)
        wide = [x.double() if isinstance(x, torch.Tensor) else x for x in args]
        result = ROUNDED[func](*wide, **kwargs).float()
        return result if out is None else out.copy_(result)
    if func is aten._int_mm.default:
        _refuse_int_mm(*args)
    return func(*args, **kwargs)


def _shape(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to("meta")


def _refuse_int_mm(left: torch.Tensor, right: torch.Tensor) -> None:
    """The limits of CUDA's integer product."""
    if left.shape[0] <= 16:
        raise RuntimeError(f"self.size(0) needs to be greater than 16, but got {left.shape[0]}")
    if left.shape[1] % 8 or right.shape[1] % 8:
        raise RuntimeError(f"self.size(1) and mat2.size(1) need to be multiples of 8, but got {left.shape[1]}, {right.shape[1]}")


def _number(tensor: DeviceTensor) -> Any:
    tensor.gpu.wait("item")
    if not tensor.machine.shapes_only:
        return aten._local_scalar_dense.default(tensor.inner)
    return True if tensor.dtype is torch.bool else 1.0 if tensor.dtype.is_floating_point else 0


def _note_indices(args: tuple[Any, ...], gpu: Gpu) -> None:
    """Refuses indices on another device, and notes the waits: for masks, and for indices that must be copied."""
    indices = [index for index in args[1] if index is not None]
    if not isinstance(args[0], DeviceTensor) and any(isinstance(index, DeviceTensor) for index in indices):
        raise RuntimeError(f"indices should be either on cpu or on the same device as the indexed tensor ({args[0].device})")
    refuse_mixed_devices("index", tensors_in([args[0], *args[2:3]]))
    for index in indices:
        if index.dtype is torch.bool:
            gpu.wait("boolean index")
        if not isinstance(index, DeviceTensor):
            gpu.copied("to device", index.nbytes)
            gpu.wait("index from the host")


def _note_arrival(source: torch.Tensor, gpu: Gpu, dtype: torch.dtype, *, non_blocking: bool) -> None:
    """A copy from the host. torch converts before it sends, and waits unless told otherwise."""
    gpu.copied("to device", source.numel() * dtype.itemsize)
    if not non_blocking:
        gpu.wait("copy to device")


def _note_departure(source: DeviceTensor, *, pinned_target: bool) -> None:
    source.gpu.copied("to host", source.nbytes)
    if not pinned_target:
        source.gpu.wait("copy to host")


def moved(source: torch.Tensor, kwargs: dict[str, Any], machine: Machine) -> torch.Tensor:
    """`aten._to_copy`: another dtype, another device, or both."""
    device = source.device if kwargs.get("device") is None else torch.device(kwargs["device"])
    dtype = kwargs.get("dtype") or source.dtype
    non_blocking = bool(kwargs.get("non_blocking", False))
    layout = {"memory_format": kwargs["memory_format"]} if kwargs.get("memory_format") is not None else {}
    inner = source.inner if isinstance(source, DeviceTensor) else source
    if device.type == "cuda":
        gpu = machine.gpu(device)
        if not isinstance(source, DeviceTensor):
            _note_arrival(source, gpu, dtype, non_blocking=non_blocking)
        elif source.gpu is not gpu:
            source.gpu.copied("to another device", source.nbytes)
        return DeviceTensor(aten._to_copy.default(inner, dtype=dtype, device=machine.place, **layout), gpu, machine)
    if isinstance(source, DeviceTensor):
        _note_departure(source, pinned_target=False)
        if machine.shapes_only and device.type == "cpu":
            return torch.full(source.shape, dtype.is_floating_point or dtype is torch.bool, dtype=dtype)  # as `_number` reads it
    return aten._to_copy.default(inner, dtype=dtype, device=device, **layout)


def _moved_if_elsewhere(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], machine: Machine) -> torch.Tensor:
    """`aten.to`, which arrives whole for the parts of torchao's tensors. To its own place and dtype a tensor is itself; what
    leaves the device is a copy, though both really lie in the same place: the device's bytes go with the tensor."""
    given = {argument.name: value for argument, value in zip(func._schema.arguments, args, strict=False)} | kwargs
    source = given.pop("self")
    if (other := given.pop("other", None)) is not None:
        given |= {"device": other.device, "dtype": other.dtype}
    device = source.device if given.get("device") is None else torch.device(given["device"])
    there = device.type == source.device.type and device.index in (None, source.device.index)
    if there and given.get("dtype") in (None, source.dtype) and not given.get("copy") and given.get("memory_format") is None:
        return source
    return moved(source, given, machine)


def _copied(target: torch.Tensor, source: torch.Tensor, *, non_blocking: bool) -> torch.Tensor:
    """`aten.copy_` between any two places."""
    if isinstance(target, DeviceTensor):
        if not isinstance(source, DeviceTensor):
            _note_arrival(source, target.gpu, target.dtype, non_blocking=non_blocking)
        else:
            target.gpu.copied("on device", source.nbytes)
    elif isinstance(source, DeviceTensor):
        _note_departure(source, pinned_target=non_blocking and target in source.machine.pinned)
    to, values = opened((target, source))
    if to.device == values.device:
        to.copy_(values)
    elif to.device.type == "cpu":
        to.fill_(1)  # shapes alone: every number that is read is 1, and every truth True
    return target


def _no_array(tensor: DeviceTensor, *_: object, **__: object) -> Any:
    raise TypeError(f"can't convert {tensor.device} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host "
                    "memory first.")


def _as_list(tensor: DeviceTensor) -> Any:
    return tensor.cpu().tolist()


def _address(tensor: DeviceTensor) -> int:
    return tensor.inner.data_ptr() or id(tensor.inner)


def _attention(query: DeviceTensor, key: torch.Tensor, value: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """In one piece, as fused kernels do: no attention matrix takes memory."""
    refuse_mixed_devices("scaled_dot_product_attention", tensors_in([query, key, value, *args, *kwargs.values()]))
    query.gpu.operations["attention"] += 1
    if query.machine.shapes_only:
        inner = torch.empty((*query.shape[:-1], value.shape[-1]), dtype=query.dtype, device="meta")
    else:
        inner = scaled_dot_product_attention(*opened((query, key, value, *args)), **{k: opened(v) for k, v in kwargs.items()})
    return DeviceTensor(inner, query.gpu, query.machine)


SPECIAL: Final[Mapping[Any, Callable[..., Any]]] = {
    torch.Tensor.numpy: _no_array, torch.Tensor.__array__: _no_array, torch.Tensor.tolist: _as_list,
    torch.Tensor.data_ptr: _address, scaled_dot_product_attention: _attention,
}
"""What needs more than its operations one by one."""
