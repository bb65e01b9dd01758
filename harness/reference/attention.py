"""Cross attention that sees pictures beside the text: out = attention(q, K, V) + weight * attention(q, K_ip, V_ip), summed over
the references (Ye et al., "IP-Adapter", arXiv 2308.06721)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

Shown: TypeAlias = "tuple[tuple[Tensor, Tensor, Tensor] | None, ...]"
"""Of one reference, by cross attention: keys and values (n, tokens, inner width), and the weight, a scalar. None where the weight
is 0, so that nothing is computed."""


class PicturesBesideText:
    """An attention processor for the cross attention with this number, in the order of files. It is given the text, and what each
    reference shows, as `ip_hidden_states`: a name that diffusers lets pass to every processor without a warning. It holds nothing
    itself, so that several batches may run with it at once."""

    def __init__(self, number: int, plain: Any) -> None:
        """`plain` is the processor that was there before, for text alone."""
        self.number, self.plain = number, plain

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Any = None,
                 attention_mask: Tensor | None = None, temb: Tensor | None = None,
                 ip_hidden_states: tuple[Shown, ...] = ()) -> Tensor:
        """The attention of (n, positions, width)."""
        seen = [one for layers in ip_hidden_states if (one := layers[self.number]) is not None]
        if not seen:
            plain: Tensor = self.plain(attn, hidden_states, encoder_hidden_states=encoder_hidden_states,
                                       attention_mask=attention_mask, temb=temb)
            return plain
        query = _heads(attn, attn.to_q(hidden_states))
        total = _attended(query, *(_heads(attn, layer(encoder_hidden_states)) for layer in (attn.to_k, attn.to_v)))
        for key, value, weight in seen:
            total = total + weight * _attended(query, _heads(attn, key), _heads(attn, value))
        out: Tensor = attn.to_out[1](attn.to_out[0](total))
        return out


def _heads(attn: Any, tensor: Tensor) -> Tensor:
    """(n, positions, inner width) to (n, heads, positions, width of a head)."""
    return tensor.view(len(tensor), -1, attn.heads, tensor.shape[-1] // attn.heads).transpose(1, 2)


def _attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    from torch.nn.functional import scaled_dot_product_attention

    attended = scaled_dot_product_attention(query, key, value).transpose(1, 2)
    return attended.reshape(len(query), attended.shape[1], -1).to(query.dtype)


def show_pictures(unet: Any, paths: list[str]) -> None:
    """Lets the cross attentions at these paths, in the order of files, see pictures. Adapters and hypernetworks on their layers
    stay: the layers are called as before. A second call changes nothing."""
    for number, path in enumerate(paths):
        attention = unet.get_submodule(path)
        if not isinstance(attention.processor, PicturesBesideText):
            attention.set_processor(PicturesBesideText(number, attention.processor))


def hide_pictures(unet: Any) -> None:
    """Undoes `show_pictures`."""
    for module in unet.modules():
        if isinstance(getattr(module, "processor", None), PicturesBesideText):
            module.set_processor(module.processor.plain)
