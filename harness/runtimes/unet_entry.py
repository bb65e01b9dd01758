"""A U-Net as a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from harness.runtimes.entry import BATCH, TOKENS, Entry, Input, Size

if TYPE_CHECKING:
    import torch

_REFINER_POOLED: Final = 1280
_TEXT_TOKENS: Final = 77
_TIMESTEP: Final = 500.0


def _inputs(config: Any, size: Size) -> tuple[Input, ...]:
    rows = [Input(name="sample", shape=(BATCH, config.in_channels, *size)), Input(name="timestep", shape=(), dtype="float32"),
            Input(name="encoder_hidden_states", shape=(BATCH, TOKENS, _width(config.cross_attention_dim)))]
    if getattr(config, "addition_embed_type", None) == "text_time":
        pooled, ids = _added_widths(config)
        rows += [Input(name="text_embeds", shape=(BATCH, pooled)), Input(name="time_ids", shape=(BATCH, ids), dtype="float32")]
    return tuple(rows)


def _width(declared: Any) -> int:
    return int(declared[0] if isinstance(declared, list | tuple) else declared)


def _added_widths(config: Any) -> tuple[int, int]:
    """The width of the pooled text embedding, and how many sizes are embedded beside it: five of a refiner, which are
    recognised by the width of its one text encoder, otherwise six."""
    inputs, each = int(config.projection_class_embeddings_input_dim), int(config.addition_time_embed_dim)
    ids = 5 if inputs - 5 * each == _REFINER_POOLED else 6
    return inputs - ids * each, ids


def _wrap(bare: Any) -> torch.nn.Module:
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

    return Wrapped()


def _guard(config: Any, size: Size) -> dict[str, torch.Tensor]:
    """Two fixed images' inputs."""
    import torch

    generator = torch.Generator().manual_seed(0)
    inputs = {"sample": torch.randn((2, config.in_channels, *size), generator=generator), "timestep": torch.tensor(_TIMESTEP),
              "encoder_hidden_states": torch.randn((2, _TEXT_TOKENS, _width(config.cross_attention_dim)), generator=generator)}
    if getattr(config, "addition_embed_type", None) == "text_time":
        pooled, ids = _added_widths(config)
        inputs |= {"text_embeds": torch.randn((2, pooled), generator=generator),
                   "time_ids": torch.tensor([512.0, 512.0, 0.0, 0.0, 512.0, 512.0][:ids]).repeat(2, 1)}
    return inputs


UNET: Final = Entry(name="", inputs=_inputs, wrap=_wrap, guard=_guard)
