"""What a file of tensors most probably is that belongs to the trade and is neither a model nor a change of one, by its names:
upscalers, the state of an optimizer, previews of a VAE, image encoders. What it is for, and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

_DEPTH: Final = 4
_MOST: Final = 20_000
_VISION: Final = r"^(vision_model\.|visual\.|image_encoder\.vision_model\.|vision_model\.vision_model\.)"


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a file is, with an article; what to do with it, in a sentence; and regular expressions, each of which must be found in
    some name."""

    what: str
    advice: str
    marks: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The same for a message, after "x is " or "this is "."""
        return f"most probably {self.what}. {self.advice}"


_TOOL: Final = "Use it in the tool that samples or finishes pictures"
KNOWN_FILES: Final = (
    Known(what="the state of an optimizer, which training saves beside the weights", advice="Give the file of weights that was "
          "saved with it", marks=(
        r"(^|\.)(exp_avg(_sq)?|momentum_buffer|exp_inf|max_exp_avg_sq)$|^(optimizer(_states)?|param_groups)(\.|$)",)),
    Known(what="an upscaler (ESRGAN, Real-ESRGAN), which enlarges finished pictures and does not belong to a model", advice=_TOOL,
          marks=(r"\b(rdb|RDB)[1-3]\.conv[1-5]\.|^(params(_ema)?\.)?(conv_up[12]|upconv[12]|HRconv)\.|^RRDB_trunk\.",)),
    Known(what="an upscaler (SwinIR, HAT, DAT), which enlarges finished pictures and does not belong to a model", advice=_TOOL,
          marks=(r"^(params(_ema)?\.)?(layers\.\d+\.residual_group\.|conv_after_body\.)",)),
    Known(what="a network that restores faces (GFPGAN, CodeFormer), which works on finished pictures", advice=_TOOL,
          marks=(r"\b(stylegan_decoder|style_convs|fuse_convs_dict|ft_layers)\.",)),
    Known(what="a small approximate VAE for previews (TAESD)", advice="It cannot stand for the model's own VAE: give that",
          marks=(r"^((encoder|decoder)\.(layers\.)?)?\d+\.(conv\.\d+\.)?(weight|bias)$|^taesd_(encoder|decoder)\.",
                 r"\.?\d+\.conv\.\d+\.(weight|bias)$")),
    Known(what="an approximate VAE for previews (VAE approx)", advice="It cannot stand for the model's own VAE: give that",
          marks=(r"^conv1\.weight$", r"^conv8\.weight$")),
    Known(what="a safety checker, which judges finished pictures", advice="It is not merged: leave it out",
          marks=(r"^(concept_embeds|special_care_embeds)(_weights)?$",)),
    Known(what="a whole CLIP model, for texts and images", advice="Give it as a model: its text encoder is read, the rest is not "
          "needed", marks=(_VISION, r"^(text_model\.|transformer\.resblocks\.|text\.)")),
    Known(what="an image encoder (CLIP vision), which IP-Adapters use", advice="A model has text encoders alone: give one",
          marks=(_VISION,)),
    Known(what="a T5 text encoder in llama.cpp's names", advice="Give the encoder in transformers' names, as its safetensors "
          "file has them", marks=(r"^enc\.blk\.\d+\.(attn_q|ffn_up)\.weight$",)),
    Known(what="a language model or text encoder in llama.cpp's names", advice="Give the text encoder in transformers' names, as "
          "its safetensors file has them", marks=(r"^(t\.)?blk\.\d+\.(attn_q|attn_qkv|ffn_up)\.weight$",
                                                 r"^(t\.)?token_embd\.weight$")),
    Known(what="a motion module (AnimateDiff), which is inserted into a model for videos", advice=_TOOL,
          marks=(r"\bmotion_modules\.",)),
    Known(what="a detector or segmenter (SAM, YOLO), which works on finished pictures", advice=_TOOL,
          marks=(r"^(mask_decoder|prompt_encoder)\.|^model\.\d+\.(cv[123]|m\.\d+\.cv[12])\.",)),
)


def most_probably(names: Iterable[str]) -> Known | None:
    """What a file with these names most probably is; None for everything that is not in the table."""
    text = "\n".join(name for name in names if len(name) < 1000)
    return next((row for row in KNOWN_FILES if all(re.search(mark, text, re.MULTILINE) for mark in row.marks)), None)


def nested_names(content: Any, prefix: str = "", depth: int = _DEPTH) -> list[str]:
    """The names in nested dictionaries, joined by dots, of any values."""
    names: list[str] = []
    for key, value in content.items() if isinstance(content, Mapping) else ():
        name = f"{prefix}{str(key)[:1000]}"
        inner = nested_names(value, f"{name}.", depth - 1) if depth and isinstance(value, Mapping) else []
        names += inner or [name]
        if len(names) > _MOST:
            break
    return names
