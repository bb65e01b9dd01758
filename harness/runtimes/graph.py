"""A component as a graph of ONNX without weights: they are given to it when it is opened, so that it cannot hold those of another
candidate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from harness.declare.listing import first_of

if TYPE_CHECKING:
    from torch import Tensor

PREFIX: Final = "weight:"
"""Begins the names of weights among a graph's inputs. What follows is the weight's name in the module's state_dict."""
OUTPUT: Final = "out"
OPSET: Final = 20
ELEMENT_TYPES: Final = {1: "float32", 10: "float16", 16: "bfloat16"}
"""By ONNX's number of an element type, torch's name."""


class WeightsError(ValueError):
    """Weights that do not fit a graph; the text names the first differences."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """`data` is an ONNX model whose weights are inputs, and holds the value of none. `weights` are their shapes by their names in
    the module's state_dict, `inputs` the shapes of the other inputs, in order; a word in them is a size that varies, and `output`
    is the shape of the output, "out", in the same words. Weights, texts and latents are given in `dtype` ("float32"); time
    steps and sizes are always float32, and so is the output. `architecture` is the hash of everything that the graph depends
    on."""

    data: bytes
    weights: Mapping[str, tuple[int, ...]]
    inputs: Mapping[str, tuple[int | str, ...]]
    output: tuple[int | str, ...]
    dtype: str
    architecture: str

    def made(self, inputs: Mapping[str, Tensor]) -> tuple[int, ...]:
        """The shape of the output for these inputs."""
        sizes = {size: inputs[name].shape[axis] for name, shape in self.inputs.items() for axis, size in enumerate(shape)
                 if isinstance(size, str)}
        return tuple(sizes[size] if isinstance(size, str) else size for size in self.output)

    def with_initializers(self) -> bytes:
        """The model with its weights as external initializers of a file that does not exist. What opens it must be given each."""
        import onnx

        model = onnx.load_from_string(self.data)
        inputs = list(model.graph.input)
        del model.graph.input[:]
        model.graph.input.extend(value for value in inputs if not value.name.startswith(PREFIX))
        for value in inputs:
            if value.name.startswith(PREFIX):
                tensor = model.graph.initializer.add()
                tensor.name, tensor.data_type = value.name, value.type.tensor_type.elem_type
                tensor.dims.extend(size.dim_value for size in value.type.tensor_type.shape.dim)
                tensor.data_location = onnx.TensorProto.EXTERNAL
                place = tensor.external_data.add()
                place.key, place.value = "location", "no-such-file"
        serialized: bytes = model.SerializeToString()
        return serialized


def read_graph(data: bytes, architecture: str) -> Graph:
    """The graph of a model whose weights are inputs."""
    import onnx

    model = onnx.load_from_string(data)
    types = {value.name: value.type.tensor_type for value in model.graph.input}
    weights = {name: of for name, of in types.items() if name.startswith(PREFIX)}
    return Graph(data=data, architecture=architecture, dtype=ELEMENT_TYPES[next(iter(weights.values())).elem_type],
                 weights={name.removeprefix(PREFIX): tuple(size.dim_value for size in of.shape.dim)
                          for name, of in weights.items()},
                 inputs={name: _sizes(of) for name, of in types.items() if name not in weights},
                 output=_sizes(model.graph.output[0].type.tensor_type))


def _sizes(of: Any) -> tuple[int | str, ...]:
    return tuple(size.dim_param or size.dim_value for size in of.shape.dim)


def fitting(graph: Graph, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights in the order of the graph. Raises WeightsError, naming the first differences, unless these are exactly the
    graph's weights, in its shapes and dtype, each in one piece of memory."""
    wrong = [f"{name!r} is missing" for name in graph.weights if name not in weights]
    wrong += [f"{name!r} is unknown" for name in weights if name not in graph.weights]
    for name, shape in graph.weights.items():
        if name in weights:
            wrong += _misfits(name, weights[name].detach(), shape, graph.dtype)
    if wrong:
        raise WeightsError(f"{len(wrong)} of the weights given do not fit the graph: {first_of(wrong, between='; ')}. Expected "
                           f"exactly its {len(graph.weights)} weights")
    return {name: weights[name].detach() for name in graph.weights}


def _misfits(name: str, tensor: Any, shape: tuple[int, ...], dtype: str) -> list[str]:
    if tuple(tensor.shape) != shape:
        return [f"{name!r} is {list(tensor.shape)}, expected {list(shape)}"]
    if str(tensor.dtype) != f"torch.{dtype}":
        return [f"{name!r} is {str(tensor.dtype).removeprefix('torch.')}, expected {dtype}"]
    return [] if tensor.is_contiguous() else [f"{name!r} is not contiguous in memory"]
