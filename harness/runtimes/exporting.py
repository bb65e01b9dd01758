"""Exports a U-Net without weights: from the meta device, with every weight an input while the graph is optimised, so that none
can be folded into a constant."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from harness.declare import short_hash
from harness.runtimes.graph import OUTPUT, PREFIX, SAMPLE, Graph, read_graph

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

Size: TypeAlias = tuple[int, int]
"""Height and width of latents."""
OPSET: Final = 20
GRAPH_VERSION: Final = 1
"""Increases when the same architecture gives another graph."""
_PACKAGES: Final = ("torch", "diffusers", "onnx", "onnx-ir", "onnxscript")
"""Whose versions decide the graph."""
_OF_WRAPPER: Final = "module."
_REFINER_POOLED: Final = 1280
_TOKENS: Final = 7
"""Of the example's texts: no other size of it, so that the exporter takes no two for one."""


def architecture_of(module: torch.nn.Module, dtype: str, size: Size) -> str:
    """The hash of everything that a module's graph depends on: its class, its config, the names and shapes of its weights, the
    dtype, the size of the latents, and the versions of what exports it."""
    config: Any = module.config
    own = sorted((name, repr(value)) for name, value in dict(config).items() if not name.startswith("_"))
    shapes = [[name, list(tensor.shape)] for name, tensor in module.state_dict().items()]
    return short_hash([versions_of_exporting(), type(module).__name__, own, shapes, dtype, list(size)])


def versions_of_exporting() -> str:
    """The hash of what a graph depends on besides its architecture; empty where nothing can be exported here."""
    try:
        versions = [metadata.version(package) for package in _PACKAGES]
    except metadata.PackageNotFoundError:
        return ""
    return short_hash([GRAPH_VERSION, OPSET, versions])


def export(module: torch.nn.Module, dtype: str, size: Size) -> Graph:
    """The graph of a U-Net for latents of one `size`, and any number of images and length of texts. (To leave the size open takes
    half as long again, and most runs have one.) Nothing is read of `module` but its class and its config."""
    import torch

    bare = _on_meta(module, dtype)
    names, example, dynamic = _example(bare, getattr(torch, dtype), size)
    with _quietly():
        program: Any = torch.onnx.export(_wrapped(bare), tuple(example), input_names=names, output_names=[OUTPUT], dynamo=True,
                                         optimize=False, dynamic_shapes=tuple(dynamic), external_data=True, opset_version=OPSET,
                                         verbose=False)
        return read_graph(_without_weights(program.model), architecture_of(module, dtype, size))


def _on_meta(module: Any, dtype: str) -> Any:
    """The same U-Net on the meta device, with no hook and no adapter."""
    import torch
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=True):
        bare = type(module).from_config({name: value for name, value in dict(module.config).items() if not name.startswith("_")})
    return torch.nn.Module.to(bare, "meta", getattr(torch, dtype)).eval().requires_grad_(False)


def _wrapped(bare: Any) -> Any:
    import torch

    class Wrapped(torch.nn.Module):
        """A U-Net whose inputs have names of their own, and whose output is a tensor in float32."""

        def __init__(self) -> None:
            super().__init__()
            self.module = bare

        def forward(self, sample: torch.Tensor, timestep: torch.Tensor, encoder_hidden_states: torch.Tensor,
                    text_embeds: torch.Tensor | None = None, time_ids: torch.Tensor | None = None) -> torch.Tensor:
            added = {} if text_embeds is None else {"added_cond_kwargs": {"text_embeds": text_embeds, "time_ids": time_ids}}
            predicted: torch.Tensor = self.module(sample, timestep, encoder_hidden_states, return_dict=False, **added)[0]
            return predicted.float()

    return Wrapped().eval()


def _example(bare: Any, dtype: torch.dtype, size: Size) -> tuple[list[str], list[torch.Tensor], list[Any]]:
    """The names of a U-Net's inputs, an example of each without values, and which of its sizes vary."""
    import torch
    from torch.export import Dim

    config = bare.config
    count, tokens = Dim("batch", min=1, max=1024), Dim("tokens", min=2, max=1 << 14)
    rows: list[tuple[str, tuple[int, ...], torch.dtype, Any]] = [
        (SAMPLE, (2, config.in_channels, *size), dtype, {0: count}),
        ("timestep", (), torch.float32, None),
        ("encoder_hidden_states", (2, _TOKENS, _width(config.cross_attention_dim)), dtype, {0: count, 1: tokens})]
    if getattr(config, "addition_embed_type", None) == "text_time":
        pooled, ids = _added_widths(int(config.projection_class_embeddings_input_dim), int(config.addition_time_embed_dim))
        rows += [("text_embeds", (2, pooled), dtype, {0: count}), ("time_ids", (2, ids), torch.float32, {0: count})]
    example = [torch.empty(shape, dtype=of, device="meta") for _, shape, of, _ in rows]
    return [name for name, *_ in rows], example, [sizes for *_, sizes in rows]


def _width(declared: Any) -> int:
    return int(declared[0] if isinstance(declared, list | tuple) else declared)


def _added_widths(inputs: int, each: int) -> tuple[int, int]:
    """The width of the pooled text embedding, and how many sizes are embedded beside it: five of a refiner, which are
    recognised by the width of its one text encoder, otherwise six."""
    ids = 5 if inputs - 5 * each == _REFINER_POOLED else 6
    return inputs - ids * each, ids


def _without_weights(model: Any) -> bytes:
    """The exported model with its weights as inputs, optimised, without a trace of where it came from."""
    import onnx_ir as ir
    from onnxscript.optimizer import optimize_ir

    for name in list(model.graph.initializers):
        value = model.graph.initializers.pop(name)
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
