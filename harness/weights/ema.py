"""The EMA copy of a U-Net that training stores in single files, under names without dots. The grammar of LDM names restores
the dots, so the plain copy is not needed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

EMA_PREFIX: Final = "model_ema."
_UNET: Final = "diffusion_model"

_NAME: Final = re.compile(
    r"(?P<top>time_embed|label_emb|out|middle_block|input_blocks|output_blocks)(?P<numbers>[0-9]{0,4})"
    r"(?P<module>in_layers|emb_layers|out_layers|skip_connection|op|conv|norm|proj_in|proj_out|transformer_blocks)?"
    r"(?P<step>[0-9]{0,3})(?P<inside>attn[12]to_(?:[qkv]|out0)|ffnet0proj|ffnet2|norm[123])?(?P<leaf>weight|bias)")
_INSIDE: Final = {"ffnet0proj": "ff.net.0.proj", "ffnet2": "ff.net.2", "norm1": "norm1", "norm2": "norm2", "norm3": "norm3",
                  **{f"attn{n}to_{p}": f"attn{n}.to_{p}" for n in (1, 2) for p in ("q", "k", "v")},
                  **{f"attn{n}to_out0": f"attn{n}.to_out.0" for n in (1, 2)}}


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """{LDM name below the U-Net's prefix: EMA name} for the EMA names (complete, with `model_ema.`) that belong to a U-Net.

    `model_ema.diffusion_modelinput_blocks10in_layers0weight` is `input_blocks.1.0.in_layers.0.weight`; names that match no
    tensor of a U-Net (`decay`, copies of other parts) are left out.
    """
    plain_by_ema_name: dict[str, str] = {}
    for name in names:
        flat = name.removeprefix(EMA_PREFIX)
        if flat != name and flat.startswith(_UNET) and (plain := _dotted(flat.removeprefix(_UNET))):
            plain_by_ema_name[plain] = name
    return plain_by_ema_name


def flat_name(ldm_name: str) -> str:
    """The EMA name of an LDM name below the U-Net's prefix."""
    return EMA_PREFIX + _UNET + ldm_name.replace(".", "")


def _dotted(flat: str) -> str:
    if not (m := _NAME.fullmatch(flat)):
        return ""
    top, numbers, step = m["top"], m["numbers"], m["step"]
    parts = [top]
    if top.endswith("_blocks"):
        # The last digit, 0 to 2, is the part of the block; all digits before it are the block's number.
        parts += [numbers[:-1], numbers[-1:]]
    elif top == "label_emb":
        parts += list(numbers)
    else:
        parts += [numbers]
    parts += [m["module"] or "", step, _INSIDE.get(m["inside"] or "", "")]
    dotted = ".".join(part for part in (*parts, m["leaf"]) if part)
    # If the grammar split the digits wrongly, the way back gives another name.
    return dotted if dotted.replace(".", "") == flat else ""
