"""The tensors of tiny transformers in the names of their authors, made of those of diffusers' modules."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

import torch

from harness.weights.transformer_names import flux_pairs

State = dict[str, torch.Tensor]


def chroma(state: State) -> State:
    """As Flux.1, without modulations, with the layers that give them."""
    names = {"linear_1": "in_layer", "linear_2": "out_layer"}
    out = {re.sub("linear_[12]", lambda m: names[m[0]], name.replace(".weight", ".scale") if ".norms." in name else name): tensor
           for name, tensor in state.items() if name.startswith("distilled_guidance_layer.")}
    for pair in flux_pairs({name.rpartition(".")[0] + "." for name in state}):
        for leaf in ("weight", "bias"):
            if (keys := [f"{path}.{leaf}" for path in pair.diffusers])[0] in state:
                ours = "scale" if pair.original.endswith("_norm") else leaf
                out[f"{pair.original}.{ours}"] = torch.cat([state[key] for key in keys])
    return out


def z_image(state: State) -> State:
    """Queries, keys and values in one tensor, other names of norms and ends."""
    return _fused(state, ".attention.", {
        "all_final_layer.2-1.": "final_layer.", "all_x_embedder.2-1.": "x_embedder.", ".attention.to_out.0.": ".attention.out.",
        ".attention.norm_k.": ".attention.k_norm.", ".attention.norm_q.": ".attention.q_norm."})


def lumina2(state: State) -> State:
    """The same, with other names of feed-forwards, modulations and embedders."""
    refiners = re.compile(r"(context_refiner\.[0-9]+)\.norm([12])\.")
    plain = {refiners.sub(r"\1.attention_norm\2.", name): tensor for name, tensor in state.items()}
    return _fused(plain, ".attn.", {
        "norm_out.linear_1": "final_layer.adaLN_modulation.1", "norm_out.linear_2": "final_layer.linear",
        "norm1.norm": "attention_norm1", "norm1.linear": "adaLN_modulation.1", ".norm2.": ".attention_norm2.",
        "time_caption_embed.caption_embedder": "cap_embedder",
        "time_caption_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
        "time_caption_embed.timestep_embedder.linear_2": "t_embedder.mlp.2", ".to_out.0.": ".out.", "norm_k": "k_norm",
        "norm_q": "q_norm", "feed_forward.linear_": "feed_forward.w", ".attn.": ".attention."})


def _fused(state: State, attention: str, names: Mapping[str, str]) -> State:
    parts = [f"{attention}to_{part}.weight" for part in "qkv"]
    out = {key: tensor for key, tensor in state.items() if not key.endswith(tuple(parts))}
    for before in {key.removesuffix(parts[0]) for key in state if key.endswith(parts[0])}:
        out[f"{before}{attention}qkv.weight"] = torch.cat([state[before + part] for part in parts])
    for theirs, authors in names.items():
        out = {key.replace(theirs, authors): tensor for key, tensor in out.items()}
    return out


AUTHORS: Final[Mapping[str, Callable[[State], State]]] = {
    "ChromaPipeline": chroma, "ZImagePipeline": z_image, "Lumina2Pipeline": lumina2, "QwenImagePipeline": dict,
    "HiDreamImagePipeline": dict}
"""By the class of the pipeline."""
