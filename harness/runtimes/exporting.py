"""Exports components without weights: from the meta device, with every weight an input while the graph is optimised, so that none
can be folded into a constant."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

from harness.declare import short_hash
from harness.runtimes.entry import BATCH, TOKENS, Entry, Input, Size
from harness.runtimes.graph import OPSET, OUTPUT, PREFIX, Graph, read_graph
from harness.runtimes.unet_entry import UNET

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch

GRAPH_VERSION: Final = 1
"""Increases when the same architecture gives another graph."""
_PACKAGES: Final = ("torch", "diffusers", "onnx", "onnx-ir", "onnxscript")
"""Whose versions decide the graph."""
_OF_TEXTS: Final = "transformers"
"""Whose versions decide the graphs of text encoders, beside them."""
_OF_WRAPPER: Final = "module."


def architecture_of(module: torch.nn.Module, dtype: str, size: Size, entry: Entry = UNET) -> str:
    """The hash of everything that a component's graph depends on: its class, its config, the names and shapes of its weights, the
    dtype, what is called, the sizes that are fixed, and the versions of what exports it."""
    config: Any = module.config
    own = sorted((name, repr(value)) for name, value in _config(config).items() if not name.startswith("_"))
    shapes = [[name, list(shape)] for name, shape in shapes_of(module).items()]
    versions = versions_of_exporting(*([] if hasattr(module, "from_config") else [_OF_TEXTS]))
    return short_hash([versions, type(module).__name__, own, shapes, dtype, list(size), *([entry.name] if entry.name else [])])


def shapes_of(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """The shapes of a module's weights, as they are called without the layers of adapters, which may still be on it."""
    return {name.replace(".base_layer.", "."): tuple(tensor.shape) for name, tensor in module.state_dict().items()
            if ".lora_" not in name}


def _config(config: Any) -> dict[str, Any]:
    """diffusers' configs are mappings, and those of transformers become one."""
    return dict(config.to_dict() if hasattr(config, "to_dict") else config)


def versions_of_exporting(*more: str) -> str:
    """The hash of what a graph depends on besides its architecture, with the versions of `more` packages; empty where nothing can
    be exported here."""
    try:
        versions = [metadata.version(package) for package in (*_PACKAGES, *more)]
    except metadata.PackageNotFoundError:
        return ""
    return short_hash([GRAPH_VERSION, OPSET, versions])


def export(module: torch.nn.Module, dtype: str, size: Size, entry: Entry = UNET) -> Graph:
    """The graph of a component for one `size`, and any number of images and, where a U-Net reads them, tokens. (To leave the size
    open takes half as long again, and most runs have one.) Nothing is read of `module` but its class and its config."""
    import torch

    bare = _on_meta(module, dtype)
    inputs = entry.inputs(bare.config, size)
    example = tuple(torch.empty(one.sizes(), dtype=getattr(torch, one.dtype or dtype), device="meta") for one in inputs)
    with _quietly():
        program: Any = torch.onnx.export(entry.wrap(bare).eval(), example, input_names=[one.name for one in inputs],
                                         output_names=[OUTPUT], dynamo=True, optimize=False, dynamic_shapes=_dynamic(inputs),
                                         external_data=True, opset_version=OPSET, verbose=False)
        return read_graph(_without_weights(program.model), architecture_of(module, dtype, size, entry))


def _on_meta(module: Any, dtype: str) -> Any:
    """The same component on the meta device, with no hook and no adapter."""
    import torch
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=True):
        if hasattr(module, "from_config"):  # of diffusers
            bare = type(module).from_config({name: value for name, value in dict(module.config).items()
                                             if not name.startswith("_")})
        else:
            bare = type(module)(module.config)
    return torch.nn.Module.to(bare, "meta", getattr(torch, dtype)).eval().requires_grad_(False)


def _dynamic(inputs: Sequence[Input]) -> tuple[Any, ...]:
    """Which sizes of the inputs vary."""
    from torch.export import Dim

    varying = {BATCH: Dim(BATCH, min=1, max=1024), TOKENS: Dim(TOKENS, min=2, max=1 << 14)}
    return tuple({axis: varying[size] for axis, size in enumerate(one.shape) if isinstance(size, str)} or None for one in inputs)


def _without_weights(model: Any) -> bytes:
    """The exported model with its weights as inputs, optimised, without a trace of where it came from."""
    import onnx_ir as ir
    from onnxscript.optimizer import optimize_ir

    for name in list(model.graph.initializers):
        if not name.startswith(_OF_WRAPPER):
            continue  # a constant of the graph
        value = model.graph.initializers.pop(name)
        if not value.uses():
            continue  # a buffer that was given as an input
        value.const_value, value.name = None, PREFIX + name.removeprefix(_OF_WRAPPER)
        model.graph.inputs.append(value)
    optimize_ir(model)
    proto = ir.to_proto(model)
    del proto.metadata_props[:], proto.graph.metadata_props[:], proto.graph.value_info[:]
    for part in (*proto.graph.node, *proto.graph.input, *proto.graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    data: bytes = proto.SerializeToString()
    return data


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the warnings of the exporter, which concern its own code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
