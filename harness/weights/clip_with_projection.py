"""CLIP's text model with the projection of its pooled state beside it, all under the names that model files have. It imports
transformers, so import it late."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel
from transformers.models.clip.modeling_clip import CLIPTextModelOutput


class ProjectedClip(CLIPTextModel):  # type: ignore[misc]  # transformers is not typed here
    """What transformers' CLIPTextModelWithProjection computes, without its `text_model.` before every name.

    Merges and adapters find a tensor by its name in a file, and there the two kinds of encoders are spelt alike.
    """

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__(config)
        self.text_projection = nn.Linear(config.hidden_size, config.projection_dim, bias=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, output_hidden_states: bool = False,
                return_dict: bool = True) -> Any:
        """`text_embeds` (n, projection), `last_hidden_state` (n, tokens, width) and, if asked for, `hidden_states`; as a
        tuple in this order unless `return_dict`."""
        encoded = super().forward(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=output_hidden_states)
        outputs = CLIPTextModelOutput(text_embeds=self.text_projection(encoded.pooler_output),
                                      last_hidden_state=encoded.last_hidden_state, hidden_states=encoded.hidden_states)
        return outputs if return_dict else outputs.to_tuple()
