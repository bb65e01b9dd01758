"""Model folders of full size that take no space: sparse files, whose values are all zero."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

from harness.weights.live_module import KINDS, empty
from harness.weights.live_pipeline import CONFIGS


def sparse_file(path: Path, shapes: dict[str, tuple[int, ...]], dtype: str = "F16") -> None:
    """A safetensors file of 16-bit zeros; its values are a hole."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        count = 2
        for size in shape:
            count *= size
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + count]}
        end += count
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


def sparse_folder(folder: Path, family: str, configs: Path | None = None, dtype: str = "F16") -> Path:
    """A diffusers folder of a family's full size, with the configs in `configs`, by default those built in."""
    configs = configs or CONFIGS / family
    shutil.copytree(configs, folder, dirs_exist_ok=True)
    for component in KINDS[family]:
        module = empty(component, configs / component / "config.json", family)
        shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
        if (family == "flux" and component == "text_encoder_2") or component == "text_encoder_3":
            shapes.pop("encoder.embed_tokens.weight", None)
        stem = "model" if component.startswith("text_encoder") else "diffusion_pytorch_model"
        sparse_file(folder / component / f"{stem}.safetensors", shapes, dtype)
    (folder / "model_index.json").write_text("{}")
    return folder
