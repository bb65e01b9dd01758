"""What a graph that was kept on the disk may be: the folder is anybody's to write, and a graph from elsewhere must neither load
files nor run code nor take all memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any, Final

from harness.runtimes.entry import BATCH, TOKENS, Input
from harness.runtimes.graph import ELEMENT_TYPES, OPSET, OUTPUT, PREFIX

MOST_NODES: Final = 100_000
MOST_BYTES: Final = 1 << 36
"""Of one value, for two images; the largest is an attention of the VAE at 1024 pixels."""
_SIZES: Final[Mapping[str, int]] = {BATCH: 2, TOKENS: 77}
_LOOPS: Final = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_NUMBERS: Final = {**{name: number for number, name in ELEMENT_TYPES.items()}, "int64": 7}
_WIDEST: Final = 4


def trouble_of(data: bytes, inputs: Sequence[Input], weights: Mapping[str, tuple[int, ...]], dtype: str) -> str:
    """Why data is not a graph with these inputs and weights that can be opened without harm; empty if it is. Whether it computes
    what it should is for the guard to say."""
    import onnx

    try:
        model = onnx.load_from_string(data)
        return next(_troubles(model, inputs, weights, dtype), "")
    except Exception as error:  # parsers and shape inference raise errors of many types
        return f"it cannot be read ({type(error).__name__})"


def _troubles(model: Any, inputs: Sequence[Input], weights: Mapping[str, tuple[int, ...]],
              dtype: str) -> Iterator[str]:
    graph = model.graph
    if [(one.domain, one.version) for one in model.opset_import] != [("", OPSET)] or model.functions or model.training_info:
        yield "it has operators or functions of its own"
    if len(graph.node) > MOST_NODES:
        yield f"it has {len(graph.node)} nodes"
    for node in graph.node:
        if node.domain or node.op_type in _LOOPS:
            yield f"it has the operator {node.domain}.{node.op_type}"
        for attribute in node.attribute:
            if attribute.HasField("g") or attribute.graphs or attribute.sparse_tensors or attribute.HasField("sparse_tensor"):
                yield f"{node.op_type} has a graph of its own"
            yield from _files([attribute.t] if attribute.HasField("t") else attribute.tensors)
    if graph.sparse_initializer:
        yield "it has sparse constants"
    yield from _files(graph.initializer)
    expected = {one.name: (_NUMBERS[one.dtype or dtype], one.shape) for one in inputs}
    expected |= {PREFIX + name: (_NUMBERS[dtype], shape) for name, shape in weights.items()}
    if {value.name: _declared(value) for value in graph.input} != expected or len(graph.input) != len(expected):
        yield "its inputs are other ones"
    if [value.name for value in graph.output] != [OUTPUT] or graph.output[0].type.tensor_type.elem_type != _NUMBERS["float32"]:
        yield "its output is another one"
    yield from _sizes(model)


def _files(tensors: Sequence[Any]) -> Iterator[str]:
    if any(tensor.external_data or tensor.data_location for tensor in tensors):
        yield "it reads another file"


def _declared(value: Any) -> tuple[int, tuple[int | str, ...]]:
    of = value.type.tensor_type
    return of.elem_type, tuple(size.dim_param or size.dim_value for size in of.shape.dim)


def _sizes(model: Any) -> Iterator[str]:
    """What of the values is too large, or has a size that only running would show."""
    from onnx.shape_inference import infer_shapes

    for value in (*model.graph.input, *model.graph.output):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_value = _SIZES[size.dim_param]
    known = {value.name: value for value in infer_shapes(model, strict_mode=True, data_prop=True).graph.value_info}
    for name in (name for node in model.graph.node for name in node.output if name and name != OUTPUT):
        of = known[name].type.tensor_type if name in known else None
        if of is None or not of.HasField("shape") or any(not size.HasField("dim_value") for size in of.shape.dim):
            yield f"the size of {name!r} is not known"
        elif prod(size.dim_value for size in of.shape.dim) * _WIDEST > MOST_BYTES:
            yield f"{name!r} takes more than {MOST_BYTES >> 30} GiB"
