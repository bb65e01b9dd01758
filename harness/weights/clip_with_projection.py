"""CLIP's text model plus the projection of its pooled state, with the tensor names of model files. Importing it imports
transformers."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel
from transformers.models.clip.modeling_clip import CLIPTextModelOutput


class ProjectedClip(CLIPTextModel):  # type: ignore[misc]  # transformers is not typed here
    """What transformers' CLIPTextModelWithProjection computes, without its `text_model.` before every name.

    Merges and adapters find a tensor by its name in a file, where both kinds of encoder use the same names.
    """

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__(config)
        self.text_projection = nn.Linear(config.hidden_size, config.projection_dim, bias=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, output_hidden_states: bool = False,
                return_dict: bool = True) -> Any:
        """`text_embeds` (n, projection), `last_hidden_state` (n, tokens, width) and, if requested, `hidden_states`. Without
        `return_dict`, a tuple in this order."""
        encoded = super().forward(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=output_hidden_states)
        outputs = CLIPTextModelOutput(text_embeds=self.text_projection(encoded.pooler_output),
                                      last_hidden_state=encoded.last_hidden_state, hidden_states=encoded.hidden_states)
        return outputs if return_dict else outputs.to_tuple()
