"""The names of a diffusers U-Net's layers in Stable Diffusion's original code.

kohya's SDXL files and ComfyUI's use them.
"""

from __future__ import annotations

from collections.abc import Collection

from harness.weights.ldm import unet_to_ldm
from harness.weights.numbering import Numbering, numbering_of


def original_names(paths: Collection[str], family: str = "", numbering: Numbering | None = None) -> dict[str, str]:
    """Module path to original name, for the modules of a U-Net that the original code has too.

    `family` tells what the paths of a part of a model leave open, and `numbering` how its blocks are counted where the
    paths are not all of its modules; a path whose name none of them decides is left out.
    """
    known = (numbering or numbering_of(unet=paths)).of_family(family)
    names = {}
    for path in paths:
        try:
            names[path] = unet_to_ldm([f"{path}.weight"], known)[f"{path}.weight"].removesuffix(".weight")
        except KeyError:
            continue
    return names
