"""A tiny U-Net, its exported graph, and the executors of graphs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from harness.runtimes import RUNTIMES, Graph
from harness.runtimes.graph_cache import Graphs

SIZE = (4, 6)
EXPORTED = tuple(name for name, row in RUNTIMES.items() if row.exported)


def offered(name: str) -> str:
    """The name of an exported runtime; the test is skipped where the machine does not offer it."""
    if reason := RUNTIMES[name].why_not("cpu"):
        pytest.skip(f"{name}: {reason}")
    return name


def small_unet(seed: int = 0) -> Any:
    """A U-Net of one level, with an attention and every kind of layer."""
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        block_out_channels=(8,), down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",),
        mid_block_type=None, layers_per_block=1, cross_attention_dim=12, attention_head_dim=2, norm_num_groups=4, sample_size=8)
    for parameter in unet.parameters():  # norms and biases begin as ones and zeros
        torch.nn.init.normal_(parameter, std=0.3)
    return unet.eval().requires_grad_(False)


def inputs(count: int = 2, seed: int = 1, tokens: int = 5) -> dict[str, torch.Tensor]:
    """Inputs of the small U-Net."""
    generator = torch.Generator().manual_seed(seed)
    return {"sample": torch.randn(count, 4, *SIZE, generator=generator), "timestep": torch.tensor(333.5),
            "encoder_hidden_states": torch.randn(count, tokens, 12, generator=generator)}


def eager(unet: Any, given: dict[str, torch.Tensor]) -> torch.Tensor:
    """What PyTorch computes."""
    with torch.inference_mode():
        output: torch.Tensor = unet(**given).sample
        return output


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Graphs:
    return Graphs(folder=tmp_path_factory.mktemp("graphs"))


@pytest.fixture(scope="session")
def graph(graphs: Graphs) -> Graph:
    """The graph of the small U-Net."""
    pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")
    return graphs.of(small_unet(), "float32", SIZE)


@pytest.fixture(params=EXPORTED)
def runtime(request: pytest.FixtureRequest) -> Iterator[str]:
    yield offered(request.param)


@pytest.fixture
def executor(runtime: str, graph: Graph) -> Any:
    """An executor of the graph, without weights."""
    open_ = RUNTIMES[runtime].open
    assert open_ is not None
    return open_(graph, "cpu")
