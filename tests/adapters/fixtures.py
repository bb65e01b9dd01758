"""Tiny models as shapes, canonical changes of them, and writers of these changes in every file format."""

import json
from functools import cache

import torch

from harness.adapters.change import Change

H, MLP, CONTEXT = 8, 20, 12
"""Flux's hidden width, the width of its feed-forward and of its text: different numbers, so that no shape fits by chance."""


@cache
def unet_shapes(xl=False):
    from diffusers import UNet2DConditionModel

    more = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 72,
            "transformer_layers_per_block": (1, 2)} if xl else {}
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 32), layers_per_block=1, cross_attention_dim=2048 if xl else 24,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D") if not xl else ("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D") if not xl else ("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4, norm_num_groups=8, use_linear_projection=xl, **more)
    return {path.removesuffix(".weight"): tuple(value.shape) for path, value in unet.state_dict().items()
            if path.endswith(".weight")}


def clip_shapes(width, layers=2, prefix="text_model."):
    shapes = {f"{prefix}embeddings.token_embedding": (50, width), f"{prefix}final_layer_norm": (width,)}
    for layer in range(layers):
        stem = f"{prefix}encoder.layers.{layer}"
        shapes |= {f"{stem}.self_attn.{name}_proj": (width, width) for name in ("k", "v", "q", "out")}
        shapes |= {f"{stem}.mlp.fc1": (2 * width, width), f"{stem}.mlp.fc2": (width, 2 * width), f"{stem}.layer_norm1": (width,)}
    return shapes


def t5_shapes(width=14):
    return {"shared": (60, width)} | {f"encoder.block.0.layer.0.SelfAttention.{name}": (width, width) for name in "qkvo"} | {
        "encoder.block.0.layer.1.DenseReluDense.wi_0": (20, width)}


def flux_bfl(double=2, single=2):
    shapes = {"img_in": (H, 5), "txt_in": (H, CONTEXT), "final_layer.linear": (5, H),
              "final_layer.adaLN_modulation.1": (2 * H, H)}
    shapes |= {f"{name}.{layer}": (H, 6 if layer == "in_layer" else H) for name in ("time_in", "vector_in", "guidance_in")
               for layer in ("in_layer", "out_layer")}
    for block in range(double):
        for side in ("img", "txt"):
            stem = f"double_blocks.{block}.{side}"
            shapes |= {f"{stem}_mod.lin": (6 * H, H), f"{stem}_attn.qkv": (3 * H, H), f"{stem}_attn.proj": (H, H),
                       f"{stem}_mlp.0": (MLP, H), f"{stem}_mlp.2": (H, MLP), f"{stem}_attn.norm.query_norm": (4,)}
    for block in range(single):
        stem = f"single_blocks.{block}"
        shapes |= {f"{stem}.linear1": (3 * H + MLP, H), f"{stem}.linear2": (H, H + MLP), f"{stem}.modulation.lin": (3 * H, H)}
    return shapes


def flux_diffusers(double=2, single=2):
    shapes = {"x_embedder": (H, 5), "context_embedder": (H, CONTEXT), "proj_out": (5, H), "norm_out.linear": (2 * H, H)}
    for name in ("timestep", "text", "guidance"):
        shapes |= {f"time_text_embed.{name}_embedder.linear_1": (H, 6), f"time_text_embed.{name}_embedder.linear_2": (H, H)}
    for block in range(double):
        stem = f"transformer_blocks.{block}"
        parts = ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj", "to_out.0", "to_add_out")
        shapes |= {f"{stem}.attn.{part}": (H, H) for part in parts} | {f"{stem}.attn.norm_q": (4,)}
        for side in ("", "_context"):
            shapes |= {f"{stem}.norm1{side}.linear": (6 * H, H), f"{stem}.ff{side}.net.0.proj": (MLP, H),
                       f"{stem}.ff{side}.net.2": (H, MLP)}
    for block in range(single):
        stem = f"single_transformer_blocks.{block}"
        shapes |= {f"{stem}.attn.to_{part}": (H, H) for part in "qkv"} | {
            f"{stem}.proj_mlp": (MLP, H), f"{stem}.proj_out": (H, H + MLP), f"{stem}.norm.linear": (3 * H, H)}
    return shapes


def sd3_sai(blocks=2):
    shapes = {"x_embedder.proj": (H, 4, 2, 2), "context_embedder": (H, CONTEXT), "final_layer.linear": (16, H),
              "final_layer.adaLN_modulation.1": (2 * H, H), "t_embedder.mlp.0": (H, 6), "y_embedder.mlp.2": (H, H)}
    for block in range(blocks):
        for side in ("x_block", "context_block"):
            last = block == blocks - 1 and side == "context_block"
            stem = f"joint_blocks.{block}.{side}"
            shapes |= {f"{stem}.attn.qkv": (3 * H, H), f"{stem}.adaLN_modulation.1": ((2 if last else 6) * H, H)}
            if not last:
                shapes |= {f"{stem}.attn.proj": (H, H), f"{stem}.mlp.fc1": (MLP, H), f"{stem}.mlp.fc2": (H, MLP)}
    return shapes


def sd1():
    return {"unet": unet_shapes(), "text_encoder": clip_shapes(24)}


def sdxl():
    return {"unet": unet_shapes(True), "text_encoder": clip_shapes(24), "text_encoder_2": clip_shapes(40, 3)}


def flux(layout=flux_bfl):
    return {"transformer": layout(), "text_encoder": clip_shapes(24, prefix=""), "text_encoder_2": t5_shapes()}


def sd3():
    return {"transformer": sd3_sai(), "text_encoder": clip_shapes(24), "text_encoder_2": clip_shapes(40),
            "text_encoder_3": t5_shapes()}


def lora(component, path, shape, number, with_alpha=True, baked=False):
    """A LoRA of rank 1, 2 or 3 by turns, and alpha from half to three times the rank."""
    made = torch.Generator().manual_seed(number)
    rank = 1 + number % 3
    down = torch.randn(rank, *shape[1:], generator=made)
    up = torch.randn(shape[0], rank, *([1, 1] if len(shape) == 4 else []), generator=made)
    scale = 1.0 if baked or not with_alpha else (0.5, 1.0, 3.0, 2.0)[number % 4]
    return Change(component=component, path=path, kind="lora", tensors={"down": down, "up": up}, scale=scale, rank=rank,
                  alpha=rank * scale if with_alpha and not baked else None)


def loras(model, baked=False, every=1, only=None):
    """{(component, path): Change} for every layer that takes low-rank factors."""
    places = [(component, path, shape) for component, shapes in model.items() for path, shape in shapes.items()
              if len(shape) > 1 and "token_embedding" not in path and path != "shared" and (only is None or component in only)]
    return {(component, path): lora(component, path, shape, number, baked=baked)
            for number, (component, path, shape) in enumerate(places) if number % every == 0}


def other_kinds(component, path, shape, alpha=2.0):
    """One change of each of the other kinds for a linear layer."""
    made = torch.Generator().manual_seed(5)
    out, width = shape

    def new(*size):
        return torch.randn(*size, generator=made)

    def change(kind, scale=1.0, rank=0, alpha=None, magnitude=None, **tensors):
        return Change(component=component, path=path, kind=kind, tensors=tensors, scale=scale, rank=rank, alpha=alpha,
                      magnitude=magnitude)

    loha = {"w1_a": new(out, 2), "w1_b": new(2, width), "w2_a": new(out, 2), "w2_b": new(2, width)}
    factors = {"down": new(4, width), "up": new(out, 4)}
    return {
        "loha": change("loha", 1.0, 2, alpha, **loha),
        "lokr": change("lokr", 2.0, 1, alpha, w1=new(2, 4), w2_a=new(out // 2, 1), w2_b=new(1, width // 4)),
        "lokr-whole": change("lokr", 1.0, 0, 1e10, w1=new(2, 4), w2=new(out // 2, width // 4)),
        "full": change("full", diff=new(*shape), diff_b=new(out)),
        "bias": change("full", diff_b=new(out)),
        "glora": change("glora", 1.0, 2, alpha, a1=new(width, 2), a2=new(2, width), b1=new(out, 2), b2=new(2, width)),
        "ia3": change("ia3", weight=new(out), on_input=torch.tensor(False)),
        "oft": change("oft", alpha=0.25, oft_blocks=new(2, out // 2, out // 2)),
        "boft": change("boft", alpha=0.25, oft_blocks=new(1, 2, out // 2, out // 2), rescale=new(out, 1)),
        "dora-rows": change("lora", 0.5, 4, alpha, magnitude=new(out, 1).abs(), **factors),
        "dora-columns": change("lora", 0.5, 4, alpha, magnitude=new(1, width).abs(), **factors),
        "lora-bias": change("lora", 0.5, 4, alpha, **factors, diff_b=new(out)),
    }


FLAT = {"unet": "lora_unet_", "transformer": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_",
        "text_encoder_3": "lora_te3_"}
ROLES = {"down": "lora_down.weight", "up": "lora_up.weight", "mid": "lora_mid.weight", "diff": "diff", "diff_b": "diff_b",
         "weight": "weight", **{role: f"{role}.weight" for role in ("a1", "a2", "b1", "b2")}}
PREFIXED = {"loha": "hada_", "lokr": "lokr_"}
PEFT_ROLES = {"down": "lora_A.weight", "up": "lora_B.weight"}


def spelt(changes, name, roles=None, alpha="alpha", dora="dora_scale"):
    """Tensors with `name(change)` and an ending for each."""
    made = {}
    for change in changes.values():
        for role, tensor in change.tensors.items():
            ending = (roles or {}).get(role) or PREFIXED.get(change.kind, "") + (
                role if change.kind in PREFIXED else ROLES.get(role, role))
            made[f"{name(change)}.{ending}"] = tensor
        if alpha and change.alpha is not None:
            made[f"{name(change)}.{alpha}"] = torch.tensor(change.alpha)
        if change.magnitude is not None:
            made[f"{name(change)}.{dora}"] = change.magnitude
    return made


def kohya(changes, prefixes=None, rename=None):
    return spelt(changes, lambda change: (prefixes or FLAT)[change.component] + (rename or {}).get(
        change.path, change.path).replace(".", "_"))


def dotted(changes, prefix="", alpha="alpha", rename=None):
    return spelt(changes, lambda change: f"{prefix or change.component + '.'}{(rename or {}).get(change.path, change.path)}",
                 PEFT_ROLES, alpha, "magnitude")


def legacy(changes, prefix=True):
    """Attention processors with or without `unet.`, other layers in the form in between."""
    made = {}
    for change in changes.values():
        stem, _, last = change.path.rpartition(".to_")
        start = f"{change.component}." if prefix or change.component != "unet" else ""
        name = (f"{start}{stem}.processor.to_{last.removesuffix('.0')}_lora" if stem and ".attn" in stem else
                f"{start}{change.path}.lora_linear_layer" if change.component != "unet" else f"{start}{change.path}.lora")
        made |= {f"{name}.down.weight": change.tensors["down"], f"{name}.up.weight": change.tensors["up"]}
    return made


def header(changes, **more):
    """diffusers' header with the ranks and alphas of these changes as patterns."""
    config = {}
    for component in {change.component for change in changes.values()}:
        own = [change for change in changes.values() if change.component == component]
        config |= {f"{component}.{name}": value for name, value in {
            "r": 2, "lora_alpha": 4, "rank_pattern": {change.path: change.rank for change in own},
            "alpha_pattern": {change.path: change.alpha for change in own}, **more}.items()}
    return {"lora_adapter_metadata": json.dumps(config)}


def save(path, tensors, metadata=None):
    from safetensors.torch import save_file

    save_file({key: tensor.clone().contiguous() for key, tensor in tensors.items()}, path, metadata=metadata)
    return path


def same(reading, changes):
    """That a reading has exactly these changes: places, kinds, numbers, scales, alphas, magnitudes."""
    assert set(reading.changes) == set(changes)
    for place, wanted in changes.items():
        found = reading.changes[place]
        assert (found.kind, found.component, found.path) == (wanted.kind, *place)
        assert set(found.tensors) == set(wanted.tensors), place
        assert all(torch.equal(found.tensors[role], wanted.tensors[role]) for role in wanted.tensors), place
        assert abs(found.scale - wanted.scale) < 1e-6, place
        assert found.rank == wanted.rank
        assert (found.magnitude is None) == (wanted.magnitude is None)
        assert wanted.magnitude is None or torch.equal(found.magnitude, wanted.magnitude)


def closes(reading, tensors):
    """That the account has every tensor of the file once."""
    listed = [key for by_status in reading.keys.values() for keys in by_status.values() for key in keys]
    assert sorted(listed) == sorted(tensors)
