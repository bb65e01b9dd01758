"""TensorRT's plans: a graph is parsed with weights from memory, and built into a plan that has none of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from harness.declare.listing import first_of
from harness.runtimes.graph import PREFIX, Graph

if TYPE_CHECKING:
    import torch

PLAN_VERSION: Final = 1
"""Increases when the same graph gives another plan."""
BATCHES: Final = (1, 2, 32)
"""Images in one call: the least, those that kernels are chosen for, the most."""
TOKENS: Final = (2, 77, 1024)
"""Of a text, likewise."""


class TensorRtError(RuntimeError):
    """TensorRT refused a graph, a plan, weights or a call; the text says which."""


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """A network, and what must live as long as it: the parser reads the weights where they lie."""

    builder: Any
    network: Any
    parser: Any
    weights: Mapping[str, torch.Tensor]


def parsed(trt: Any, log: Any, graph: Graph, weights: Mapping[str, torch.Tensor]) -> Parsed:
    """The network of a graph with these weights, which lie in the host's memory. Each is marked as one that a refit replaces.
    Raises TensorRtError with the names of those that the parser lacks or does not know."""
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    if not parser.load_model_proto(graph.with_initializers()):
        raise TensorRtError(f"TensorRT's parser does not read the graph: {_errors(parser)}")
    unknown = [name for name, tensor in weights.items()
               if not parser.load_initializer(PREFIX + name, tensor.data_ptr(), tensor.numel() * tensor.element_size())]
    _refuse(unknown, "TensorRT's parser does not take {}")
    if not parser.parse_model_proto():
        raise TensorRtError(f"TensorRT's parser refuses the graph: {_errors(parser)}")
    fixed = [name for name in weights if not network.mark_weights_refittable(PREFIX + name)]
    _refuse(fixed, "TensorRT's network cannot be refitted with {}")
    return Parsed(builder=builder, network=network, parser=parser, weights=weights)


def build_plan(trt: Any, log: Any, graph: Graph, weights: Mapping[str, torch.Tensor], *, refit: bool = True) -> bytes:
    """A plan of a graph. It has none of the weights and must be refitted before it is used; with `refit=False` it keeps them."""
    made = parsed(trt, log, graph, weights)
    config = made.builder.create_builder_config()
    if refit:
        # The graph's own constants stay in the plan. REFIT would take these out too, and REFIT_IDENTICAL is undefined for the
        # weights of another candidate.
        config.set_flag(trt.BuilderFlag.REFIT_INDIVIDUAL)
        config.set_flag(trt.BuilderFlag.STRIP_PLAN)
    config.clear_flag(trt.BuilderFlag.TF32)  # set by default: a float32 graph would multiply in 19 bits
    if config.add_optimization_profile(_profile(made)) < 0:
        raise TensorRtError(f"TensorRT refuses batches of {BATCHES[0]} to {BATCHES[-1]} images for this graph")
    plan = made.builder.build_serialized_network(made.network, config)
    if plan is None:
        raise TensorRtError("TensorRT built no plan of the graph; its messages above say why")
    return bytes(plan)


def refit_engine(trt: Any, log: Any, engine: Any, graph: Graph, weights: Mapping[str, torch.Tensor]) -> None:
    """Gives an engine all weights, which lie in the host's memory. After a TensorRtError some may have arrived and others not:
    the engine must not be used any more."""
    refitter = trt.Refitter(engine, log)
    names = set(refitter.get_all_weights())
    _refuse([name for name in weights if PREFIX + name not in names], "TensorRT's engine does not take {}")
    _refuse(sorted(names - {PREFIX + name for name in weights}), "TensorRT's engine expects {}, which the graph does not have")
    number_format = getattr(trt, graph.dtype)
    refused = [name for name, tensor in weights.items() if not refitter.set_named_weights(
        PREFIX + name, trt.Weights(number_format, tensor.data_ptr(), tensor.numel()))]
    _refuse(refused, "TensorRT's engine refuses {}")
    _refuse([name.removeprefix(PREFIX) for name in refitter.get_missing_weights()], "TensorRT's engine still lacks {}")
    if not refitter.refit_cuda_engine():
        raise TensorRtError(f"TensorRT did not refit its engine with the {len(weights)} weights; its messages above say why")


def _profile(made: Parsed) -> Any:
    """The sizes that the plan serves: the first of each input is that of the batch, and the only other one that of the texts."""
    profile = made.builder.create_optimization_profile()
    for index in range(made.network.num_inputs):
        given = made.network.get_input(index)
        if -1 in (shape := tuple(given.shape)):
            profile.set_shape(given.name, *(tuple(_size(size, axis, which) for axis, size in enumerate(shape))
                                            for which in range(3)))
    return profile


def _size(size: int, axis: int, which: int) -> int:
    return size if size != -1 else (BATCHES if axis == 0 else TOKENS)[which]


def _errors(parser: Any) -> str:
    return "; ".join(parser.get_error(index).desc() for index in range(parser.num_errors)) or "it gives no reason"


def _refuse(names: list[str], sentence: str) -> None:
    """Raises TensorRtError if there are names."""
    if names:
        quoted = [repr(name) for name in names]
        raise TensorRtError(sentence.format(f"{len(names)} of the weights: {first_of(quoted)}"))
