"""Pictures with the texts that tools write into them, in the formats of their sources: A1111 and Forge (`create_infotext`, and
piexif's UserComment in JPEG and WebP), ComfyUI (`SaveImage`, `SaveAnimatedWEBP`), InvokeAI."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

A1111 = """girl with a hat, (blue eyes:1.2), [blurry],
desert <lora:ink:0.8>
Negative prompt: ugly, (extra limb)
second line
Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 965400086, Size: 512x768, Model hash: 6ce0161689, \
Model: v1-5-pruned-emaonly, Clip skip: 2, Lora hashes: "ink: 0123456789ab, line: ba9876543210", Version: v1.10.1"""
FORGE = """a cat
Steps: 4, Sampler: Euler, Schedule type: Simple, CFG scale: 1, Distilled CFG Scale: 3.5, Seed: 3, Size: 896x1152, Model hash: \
c161224931, Model: flux1-dev-bnb-nf4, Version: f2.0.1v1.10.1-previous-665-gae278f79, Module 1: ae"""
INVOKE = {"app_version": "3.3.0", "generation_mode": "txt2img", "positive_prompt": "landscape", "negative_prompt": "low quality",
          "width": 768, "height": 432, "seed": 356120443, "rand_device": "cpu", "cfg_scale": 7.5, "steps": 50,
          "scheduler": "dpmpp_2m_sde_k", "clip_skip": 0, "loras": [],
          "model": {"model_name": "mix", "base_model": "sd-1", "model_type": "main"}}
OLD_INVOKE = {"model": "stable diffusion", "model_weights": "sd-1.5", "model_hash": "cc6cb27", "app_version": "2.3.5",
              "image": {"prompt": [{"prompt": "a dog [blurry] in rain", "weight": 1.0}], "steps": 30, "cfg_scale": 7,
                        "height": 512, "width": 640, "seed": 42, "type": "txt2img", "sampler": "k_lms"}}
DREAM = '"a dog [blurry] in rain" -s 30 -S 42 -W 640 -H 512 -C 7.0 -A k_lms'


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def graph(**others: dict[str, Any]) -> dict[str, Any]:
    """ComfyUI's default graph with a LoRA and a clip skip; `others` replace or add nodes by their ids, as n6=..."""
    nodes = {
        "3": node("KSampler", seed=156680208700286, steps=20, cfg=8, sampler_name="dpmpp_2m", scheduler="karras", denoise=1,
                  model=["10", 0], positive=["6", 0], negative=["7", 0], latent_image=["5", 0]),
        "4": node("CheckpointLoaderSimple", ckpt_name="v1-5.safetensors"),
        "5": node("EmptyLatentImage", width=512, height=768, batch_size=1),
        "6": node("CLIPTextEncode", text="a (glass:1.2) bottle", clip=["11", 0]),
        "7": node("CLIPTextEncode", text="text, watermark", clip=["11", 0]),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", filename_prefix="ComfyUI", images=["8", 0]),
        "10": node("LoraLoader", lora_name="ink.safetensors", strength_model=0.8, strength_clip=1, model=["4", 0], clip=["4", 1]),
        "11": node("CLIPSetLastLayer", stop_at_clip_layer=-2, clip=["10", 1]),
    }
    return nodes | {name.removeprefix("n"): one for name, one in others.items()}


WORKFLOW = {
    "nodes": [
        {"id": 1, "type": "CheckpointLoaderSimple", "mode": 0, "inputs": [], "widgets_values": ["v1-5.safetensors"]},
        {"id": 2, "type": "CLIPTextEncode", "mode": 0, "inputs": [{"name": "clip", "link": 1}], "widgets_values": ["a pear"]},
        {"id": 3, "type": "CLIPTextEncode", "mode": 0, "widgets_values": ["unused"],
         "inputs": [{"name": "clip", "link": 2}, {"name": "text", "link": 7, "widget": {"name": "text"}}]},
        {"id": 4, "type": "Reroute", "mode": 0, "inputs": [{"name": "", "link": 3}]},
        {"id": 5, "type": "EmptyLatentImage", "mode": 0, "inputs": [], "widgets_values": [640, 384, 1]},
        {"id": 6, "type": "KSampler", "mode": 0, "widgets_values": [7, "randomize", 12, 6.5, "euler", "normal", 1],
         "inputs": [{"name": "model", "link": 8}, {"name": "positive", "link": 4}, {"name": "negative", "link": 5},
                    {"name": "latent_image", "link": 6}]},
        {"id": 7, "type": "PrimitiveNode", "mode": 0, "inputs": [], "widgets_values": ["bad"]},
        {"id": 8, "type": "KSampler", "mode": 2, "inputs": [], "widgets_values": [1, "fixed", 99, 1, "ddim", "normal", 1]},
    ],
    "links": [[1, 1, 1, 2, 0, "CLIP"], [2, 1, 1, 3, 0, "CLIP"], [3, 2, 0, 4, 0, "*"], [4, 4, 0, 6, 1, "CONDITIONING"],
              [5, 3, 0, 6, 2, "CONDITIONING"], [6, 5, 0, 6, 3, "LATENT"], [7, 7, 0, 3, 1, "STRING"], [8, 1, 0, 6, 0, "MODEL"]],
}


def png(path: Path, texts: Mapping[str, str], *, packed: bool = False) -> Path:
    """A PNG with texts as Pillow writes them: tEXt for Latin-1, else iTXt."""
    info = PngInfo()
    for name, text in texts.items():
        info.add_text(name, text, zip=packed)
    Image.new("RGB", (8, 8), (90, 120, 30)).save(path, pnginfo=info)
    return path


def tiff(order: str, comment: bytes, tags: Mapping[int, str] | None = None) -> bytes:
    """An EXIF block with a UserComment in "<" or ">" order, and texts of the first directory by their tags."""
    first = sorted((tags or {}).items())
    count = len(first) + 1
    data_at = 8 + 2 + 12 * count + 4
    entries, data = b"", b""
    for tag, text in first:
        body = text.encode() + b"\0"
        body += b"\0" * (4 - len(body))
        entries += struct.pack(f"{order}HHII", tag, 2, len(body), data_at + len(data)) if len(body) > 4 else (
            struct.pack(f"{order}HHI", tag, 2, len(body)) + body)
        data += (body + b"\0" * (len(body) % 2)) if len(body) > 4 else b""
    exif_at = data_at + len(data)
    entries += struct.pack(f"{order}HHII", 0x8769, 4, 1, exif_at)
    inner = struct.pack(f"{order}H", 1) + struct.pack(f"{order}HHII", 0x9286, 7, len(comment), exif_at + 18) + b"\0\0\0\0"
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}I", 8) + struct.pack(f"{order}H", count) + entries + b"\0\0\0\0" + data + inner + comment


def exif_picture(path: Path, block: bytes) -> Path:
    """A JPEG or WebP file with this EXIF block."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "WEBP" if path.suffix == ".webp" else "JPEG", exif=b"Exif\0\0" + block)
    path.write_bytes(buffer.getvalue())
    return path


def comfy(path: Path, nodes: object) -> Path:
    """A PNG as ComfyUI's SaveImage writes it."""
    return png(path, {"prompt": json.dumps(nodes), "workflow": json.dumps({"nodes": [], "links": []})})
