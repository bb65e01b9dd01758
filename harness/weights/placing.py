"""Where the modules of a live pipeline are kept, and how one that is kept on the host is lent to a device for a while."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from harness.weights.upload import Uploads, sent

if TYPE_CHECKING:
    import torch

    from harness.weights.pipeline import Pipeline


TILE_PIXELS: Final = 512


@dataclass(frozen=True, kw_only=True)
class Home:
    """Where a component's parameters are kept, and their dtype ("float16")."""

    device: str
    dtype: str = "float32"


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One live tensor: an attribute of a layer. It is read anew each time, as moving a module may replace its tensors; a layer
    that an adapter wraps stays the same object."""

    layer: Any
    name: str

    @property
    def tensor(self) -> torch.Tensor:
        """The tensor that is live now."""
        tensor: torch.Tensor = getattr(self.layer, self.name)
        return tensor


def slots(module: Any, names: Iterable[str]) -> Mapping[str, Slot]:
    """The slots of `module` by their names in a file. Call it before any layer is wrapped."""
    return {name: Slot(layer=module.get_submodule(name.rpartition(".")[0]), name=name.rpartition(".")[2]) for name in names}


@contextmanager
def lent(modules: Iterable[Any], device: torch.device) -> Iterator[None]:
    """Within the block the parameters and buffers of `modules` are copies on `device`; afterwards they are the tensors of before,
    so that nothing is copied back. Modules that are on the device already are left alone. Do not write to them meanwhile."""
    restore = _lend([layer for module in modules for layer in module.modules()], device, Uploads())
    try:
        yield
    finally:
        restore()


def lend_layers(module: Any, device: torch.device) -> None:
    """Lends each layer of `module`, which is kept on the host, to `device` for the time of its own forward. Layers that adapters
    added since an earlier call are included."""
    import torch

    uploads = Uploads()
    for layer in module.modules():
        own = [*layer._parameters.values(), *layer._buffers.values()]
        if any(tensor is not None for tensor in own) and not any(
                isinstance(hook, _Lending) for hook in layer._forward_pre_hooks.values()):
            # It computes with the weights of a layer within it, without calling that.
            lending = _Lending(device, uploads, whole=isinstance(layer, torch.nn.MultiheadAttention))
            layer.register_forward_pre_hook(lending)
            layer.register_forward_hook(lending.end, always_call=True)


def lends_layers(module: Any) -> bool:
    """Whether the layers of a module are lent to a device by `lend_layers`."""
    return any(isinstance(hook, _Lending) for layer in module.modules() for hook in layer._forward_pre_hooks.values())


@contextmanager
def lent_in_turn(modules: Iterable[Any], device: torch.device) -> Iterator[None]:
    """Within the block each of `modules`, which are kept on the host, is on `device` as a whole while its forward runs."""
    hooks, uploads = [], Uploads()
    for module in modules:
        lending = _Lending(device, uploads, whole=True)
        hooks += [module.register_forward_pre_hook(lending.with_inputs, with_kwargs=True),
                  module.register_forward_hook(lending.end, always_call=True)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Lending:
    """The hooks of one layer, or of a `whole` module, that is lent while it runs."""

    def __init__(self, device: torch.device, uploads: Uploads, *, whole: bool = False) -> None:
        self._device, self._uploads, self._whole = device, uploads, whole
        self._restore: Callable[[], None] | None = None

    def __call__(self, layer: Any, _: Any) -> None:
        self._restore = _lend(layer.modules() if self._whole else [layer], self._device, self._uploads)

    def with_inputs(self, layer: Any, args: Any, kwargs: Any) -> Any:
        """The hook that brings the inputs along: diffusers sends token ids to where it finds the module, which is the host."""
        from torch.utils._pytree import tree_map

        self(layer, args)
        return tree_map(lambda value: sent(value, self._device) if hasattr(value, "is_floating_point") else value, (args, kwargs))

    def end(self, *_: Any) -> None:
        """Gives the layer its own tensors back."""
        if self._restore is not None:
            self._restore()
            self._restore = None


def _lend(layers: Iterable[Any], device: torch.device, uploads: Uploads) -> Callable[[], None]:
    """Puts copies on `device` in place of the layers' own tensors; returns what undoes it."""
    replaced: list[tuple[dict[str, Any], str, Any]] = []
    copies: dict[object, Any] = {}

    def restore() -> None:
        for tensors, name, tensor in reversed(replaced):
            tensors[name] = tensor

    try:
        for layer in layers:
            for tensors in (layer._parameters, layer._buffers):
                for name, tensor in list(tensors.items()):
                    if tensor is not None and tensor.device.type != device.type:
                        if (place := _place(tensor)) not in copies:  # tied tensors stay tied
                            copies[place] = _copied(tensor, device, uploads)
                        tensors[name] = copies[place]
                        replaced.append((tensors, name, tensor))
    except BaseException:
        restore()
        raise
    return restore


def _place(tensor: torch.Tensor) -> object:
    """Equal for tensors that are views of the same numbers."""
    import torch

    plain = type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.device.type != "meta" and tensor.numel()
    return (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, type(tensor)) if plain else id(tensor)


def _copied(tensor: torch.Tensor, device: torch.device, uploads: Uploads) -> torch.Tensor:
    """A parameter or buffer on another device."""
    import torch

    there = uploads.send(tensor.detach(), device)
    return torch.nn.Parameter(there, requires_grad=False) if isinstance(tensor, torch.nn.Parameter) else there


def tile(vae: Any) -> None:
    """Makes the VAE decode images above 512 x 512 in tiles of 512 x 512, which overlap by a quarter and are blended there."""
    vae.enable_tiling()
    vae.tile_sample_min_size = TILE_PIXELS
    vae.tile_latent_min_size = TILE_PIXELS // 2 ** (len(vae.config.block_out_channels) - 1)


@contextmanager
def denoiser_away(pipeline: Pipeline) -> Iterator[None]:
    """Within the block the denoiser is on the host, and what shares its memory."""
    import torch

    leaving = any(p.device.type != "cpu" for p in pipeline.denoiser.parameters())
    try:
        if leaving:
            move(torch.device("cpu"), pipeline.denoiser, *pipeline.shared)
        yield
    finally:
        if leaving:
            gc.collect()  # what a failed embedding left must not keep the denoiser from coming back
            torch.cuda.empty_cache()
            move(pipeline.device, pipeline.denoiser, *pipeline.shared)


def move(device: torch.device, *modules: Any) -> None:
    """Moves the parameters and buffers of modules, as new tensors; what shares memory goes on sharing it. The host does not wait
    for copies to a GPU. What executes a module as a graph lets go of the tensors of before."""
    for module in modules:
        if forget := getattr(module, "let_go", None):
            forget()
    _lend([layer for module in modules for layer in module.modules()], device, Uploads())


def sharing_copy(module: Any) -> Any:
    """A copy of `module` whose parameters share the memory of the original's; its buffers are its own. For changes that replace
    parameters and never write into them."""
    import torch

    shared = {id(p): torch.nn.Parameter(p.detach(), requires_grad=False) for p in module.parameters()}
    return copy.deepcopy(module, shared)


def layers_copied(module: Any) -> Any:
    """A copy of `module` whose layers are its own and whose parameters and buffers share the memory of the original's. For
    changes to layers, and for those that replace parameters and never write into them."""
    import torch

    shared: dict[int, Any] = {id(p): torch.nn.Parameter(p.detach(), requires_grad=False) for p in module.parameters()}
    shared |= {id(buffer): buffer for buffer in module.buffers()}
    # What lends a layer lends that of the copy as well.
    shared |= {id(hook): hook for layer in module.modules() for hook in layer._forward_pre_hooks.values()
               if isinstance(hook, _Lending)}
    return copy.deepcopy(module, shared)


def share_again(copy_of: Any, module: Any) -> Callable[[], None]:
    """What gives a copy by `layers_copied` the tensors that the original has then, wherever it shares them now: what moves a
    module puts other tensors in place of its own."""
    layers = dict(copy_of.named_modules())
    pairs = [(mine._parameters, other._parameters, name) for path, other in module.named_modules()
             for mine in filter(None, [layers.get(path)])
             for name in mine._parameters.keys() & other._parameters.keys()
             if mine._parameters[name] is not None and _place(mine._parameters[name]) == _place(other._parameters[name])]

    def share() -> None:
        import torch

        for mine, other, name in pairs:
            if _place(mine[name]) != _place(other[name]):
                mine[name] = torch.nn.Parameter(other[name].detach(), requires_grad=False)

    return share


def own_tensors(module: Any, names: Iterable[str]) -> Any:
    """`module`, after the named parameters have been given memory of their own."""
    for name in names:
        parameter = module.get_parameter(name)
        parameter.data = parameter.data.clone()
    return module
