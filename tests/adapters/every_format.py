"""ROWS: a file of every format that is read, as its tool writes it, on tiny models, with what it must do worked out beside it.
The files' names are spelt out by hand. A row that is added here is tested by test_every_format.py as all others are.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from tests.adapters import fixtures as fx
from tests.adapters import worked_out as wo

MID = "mid_block.attentions.0.transformer_blocks.0"
TE = "encoder.layers.0"
UNET = {  # path: (the original code's name, in underscores)
    f"{MID}.attn1.to_q": "middle_block_1_transformer_blocks_0_attn1_to_q",
    f"{MID}.attn2.to_out.0": "middle_block_1_transformer_blocks_0_attn2_to_out_0",
    f"{MID}.ff.net.0.proj": "middle_block_1_transformer_blocks_0_ff_net_0_proj",
    "mid_block.attentions.0.proj_in": "middle_block_1_proj_in",
}
CONVS = {"mid_block.resnets.0.conv1": "middle_block_0_in_layers_2", "down_blocks.0.downsamplers.0.conv": "input_blocks_3_0_op",
         "down_blocks.0.resnets.0.conv2": "input_blocks_1_0_out_layers_3"}
BESIDE = {"conv_in": "input_blocks_0_0", "mid_block.resnets.0.time_emb_proj": "middle_block_0_emb_layers_1",
          "time_embedding.linear_1": "time_embed_0", "down_blocks.0.downsamplers.0.conv": "input_blocks_3_0_op"}
XL = {"add_embedding.linear_1": "label_emb_0_0", "add_embedding.linear_2": "label_emb_0_2",
      "down_blocks.1.attentions.1.transformer_blocks.1.attn2.to_v": "input_blocks_5_1_transformer_blocks_1_attn2_to_v"}
WORDS = (f"{TE}.self_attn.q_proj", f"{TE}.mlp.fc1")
DOUBLE, SINGLE = "double_blocks.0", "single_blocks.1"
FLUX = (f"{DOUBLE}.img_attn.proj", f"{DOUBLE}.txt_mlp.0", f"{DOUBLE}.img_mod.lin", f"{DOUBLE}.img_attn.qkv", f"{SINGLE}.linear1",
        f"{SINGLE}.linear2", "img_in", "vector_in.in_layer")
LORA = {"down": "lora_down.weight", "up": "lora_up.weight", "mid": "lora_mid.weight"}
PEFT = {"down": "lora_A.weight", "up": "lora_B.weight"}
Place = tuple[str, str]


@dataclass(kw_only=True)
class Written:
    """A file's tensors and what stands beside them, and by place what it must add to a weight."""

    base: str
    tensors: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] | None = None
    effects: dict[Place, Callable[[np.ndarray], np.ndarray]] = field(default_factory=dict)
    biases: dict[Place, np.ndarray] = field(default_factory=dict)
    words: dict[Place, np.ndarray] = field(default_factory=dict)
    as_list: bool = False

    def save(self, folder):
        import torch

        tensors = {key: torch.from_numpy(np.asarray(value).copy()) for key, value in self.tensors.items()}
        if self.as_list:
            torch.save(list(tensors.values()), folder / "a.pt")
            return folder / "a.pt"
        if self.config is None:
            return fx.save(folder / "a.safetensors", tensors, self.metadata or None)
        fx.save(folder / "adapter_model.safetensors", tensors)
        (folder / "adapter_config.json").write_text(json.dumps(self.config))
        return folder


@cache
def model(base):
    """({component: {path: shape}}, family) of a tiny model."""
    from tests.weights.tiny_families import states

    if base == "flux":
        return {"transformer": fx.flux_bfl()}, "flux"
    if base == "flux-diffusers":
        return {"transformer": fx.flux_diffusers()}, "flux"
    if base == "sd3":
        return fx.sd3(), "sd3"
    return {part: {key.removesuffix(".weight"): tuple(value.shape) for key, value in state.items() if key.endswith(".weight")}
            for part, state in states(base).items() if part != "vae"}, base


class Draft:
    """A file being made: modules are added one by one, each with factors of its own rank and scale."""

    def __init__(self, base, seed=0):
        self.made, self.rng = Written(base=base), np.random.default_rng(seed)
        self.shapes = model(base)[0]

    def add(self, place, stem, formula=wo.lora, *, ends=LORA, alpha="alpha", prefix="", dora=None):
        """`alpha`: the ending of its tensor, or "" for strength in the factors; `dora`: (ending, axis, shape of magnitude)."""
        shape, number = self.shapes[place[0]][place[1]], len(self.made.effects)
        rank, scale = 1 + number % 3, (0.5, 1.0, 3.0, 2.0)[number % 4] if alpha else 1.0
        tensors, effect = formula(self.rng, shape, rank, scale)
        for role, tensor in tensors.items():
            self.made.tensors[f"{stem}.{prefix if role != 'alpha' else ''}{ends.get(role, role)}"] = tensor
        if alpha and formula in RANKED:
            self.made.tensors[f"{stem}.{alpha}"] = np.array(rank * scale, np.float32)
        if formula is wo.lokr_whole:
            self.made.tensors[f"{stem}.alpha"] = np.array(1e10, np.float32)
        if dora:
            ending, axis, form = dora
            magnitude = np.abs(wo.new(self.rng, shape[axis])) + 0.5
            ones = [1 for _ in shape[2:]]
            self.made.tensors[f"{stem}.{ending}"] = magnitude.reshape(
                {"flat": [-1], "rows": [-1, 1, *ones], "columns": [1, -1, *ones]}[form])
            effect = wo.with_dora(effect, magnitude, axis)
        self.made.effects[place] = effect
        return {"rank": rank, "alpha": rank * scale}

    def bias(self, place, stem, ending="diff_b"):
        self.made.biases[place] = self.made.tensors[f"{stem}.{ending}"] = wo.new(
            self.rng, self.shapes[place[0]][place[1]][0])


RANKED = (wo.lora, wo.tucker, wo.loha, wo.loha_tucker, wo.lokr, wo.lokr_both_products, wo.lokr_tucker, wo.glora)


def flat(path):
    return path.replace(".", "_")


def kohya(base, te="lora_te1_", paths=(*UNET, *CONVS, *BESIDE), names=None, seed=0, **how):
    """kohya's sd-scripts: the U-Net in diffusers' names, or in those given; text encoders with `text_model`."""
    draft = Draft(base, seed)
    for path in dict.fromkeys(paths):
        if path in draft.shapes["unet"]:
            draft.add(("unet", path), f"lora_unet_{(names or {}).get(path, flat(path))}", **how)
    for path in WORDS if te else ():
        draft.add(("text_encoder", path), f"{te}text_model_{flat(path)}", **how)
        if "text_encoder_2" in draft.shapes:
            draft.add(("text_encoder_2", path), f"lora_te2_text_model_{flat(path)}", **how)
    return draft.made


def sdxl(seed=0, original=False):
    names = {**UNET, **CONVS, **BESIDE, **XL}
    return kohya("sdxl", paths=names, names=names if original else None, seed=seed)


def kohya_sd3(seed=0):
    draft = Draft("sd3", seed)
    for path in ("joint_blocks.0.x_block.attn.qkv", "joint_blocks.0.context_block.mlp.fc1", "joint_blocks.1.x_block.attn.proj"):
        draft.add(("transformer", path), f"lora_unet_{flat(path)}")
    for number, part in ((1, "text_encoder"), (2, "text_encoder_2")):
        draft.add((part, f"text_model.{WORDS[0]}"), f"lora_te{number}_text_model_{flat(WORDS[0])}")
    path = "encoder.block.0.layer.0.SelfAttention.q"
    draft.add(("text_encoder_3", path), f"lora_te3_{flat(path)}")
    return draft.made


def flux(spell, paths=FLUX, base="flux", seed=0, **how):
    draft = Draft(base, seed)
    for path in paths:
        draft.add(("transformer", path), spell(path), **how)
    return draft.made


def split_qkv(seed=0):
    """kohya's split_qkv: three layers' factors in one module, block-diagonal, and the alpha of one of them."""
    made = flux(lambda path: f"lora_unet_{flat(path)}", paths=FLUX[:2], seed=seed)
    rng, rank, alpha, place = np.random.default_rng(seed + 9), 2, 3.0, ("transformer", f"{DOUBLE}.txt_attn.qkv")
    ups, downs = [wo.new(rng, fx.H, rank) for _ in range(3)], [wo.new(rng, rank, fx.H) for _ in range(3)]
    up = np.zeros((3 * fx.H, 3 * rank), np.float32)
    for n in range(3):
        up[n * fx.H:(n + 1) * fx.H, n * rank:(n + 1) * rank] = ups[n]
    stem = f"lora_unet_{flat(place[1])}"
    made.tensors |= {f"{stem}.lora_up.weight": up, f"{stem}.lora_down.weight": np.concatenate(downs),
                     f"{stem}.alpha": np.array(alpha, np.float32)}
    delta = np.concatenate([alpha / rank * wo.wide(ups[n]) @ wo.wide(downs[n]) for n in range(3)])
    made.effects[place] = lambda w0: delta
    return made


DIFFUSERS_FLUX = ("transformer_blocks.0.attn.to_q", "transformer_blocks.0.attn.add_k_proj",
                  "transformer_blocks.1.ff_context.net.0.proj",
                  "transformer_blocks.1.ff.net.2", "single_transformer_blocks.0.proj_mlp", "single_transformer_blocks.0.proj_out",
                  "single_transformer_blocks.0.norm.linear", "time_text_embed.text_embedder.linear_1", "x_embedder")


def onto_original(made, seed=0):
    """A file in diffusers' names for the model in the original ones: rows of fused weights."""
    rows = {"transformer_blocks.0.attn.to_q": (f"{DOUBLE}.img_attn.qkv", 0), "transformer_blocks.0.attn.add_k_proj": (
        f"{DOUBLE}.txt_attn.qkv", fx.H), "single_transformer_blocks.0.proj_mlp": ("single_blocks.0.linear1", 3 * fx.H)}
    same = {"transformer_blocks.1.ff_context.net.0.proj": "double_blocks.1.txt_mlp.0", "transformer_blocks.1.ff.net.2":
            "double_blocks.1.img_mlp.2", "single_transformer_blocks.0.proj_out": "single_blocks.0.linear2",
            "single_transformer_blocks.0.norm.linear": "single_blocks.0.modulation.lin",
            "time_text_embed.text_embedder.linear_1": "vector_in.in_layer", "x_embedder": "img_in"}
    effects = {}
    for (_, path), effect in made.effects.items():
        if path in same:
            effects["transformer", same[path]] = effect
            continue
        name, top = rows[path]
        whole = np.zeros(fx.flux_bfl()[name])
        part = effect(None)
        whole[top:top + len(part)] = part
        effects["transformer", name] = lambda w0, whole=whole: whole
    made.base, made.effects = "flux", effects
    return made


def ai_toolkit_old(seed=0):
    made = flux(lambda path: f"transformer.{path}", DIFFUSERS_FLUX, "flux-diffusers", seed, ends=PEFT, alpha="")
    made.metadata = {"software": json.dumps({"name": "ai-toolkit"}), "format": "pt"}
    return onto_original(made)


def onetrainer(seed=0, **how):
    return onto_original(flux(lambda path: f"lora_transformer_{flat(path)}", DIFFUSERS_FLUX, "flux-diffusers", seed, **how))


def xlabs(seed=0):
    names = {f"{DOUBLE}.{side}_attn.{part}": f"{DOUBLE}.processor.{part}_lora{n}" for n, side in ((1, "img"), (2, "txt"))
             for part in ("qkv", "proj")} | {f"{SINGLE}.linear2": f"{SINGLE}.processor.proj_lora"}
    draft = Draft("flux", seed)
    for path, name in names.items():
        draft.add(("transformer", path), name, ends={"down": "down.weight", "up": "up.weight"}, alpha="")
    # linear1 is changed in its first three quarters alone.
    rank, name = 2, f"{SINGLE}.processor.qkv_lora"
    down, up = wo.new(draft.rng, rank, fx.H), wo.new(draft.rng, 3 * fx.H, rank)
    draft.made.tensors |= {f"{name}.down.weight": down, f"{name}.up.weight": up}
    delta = np.concatenate([wo.wide(up) @ wo.wide(down), np.zeros((fx.MLP, fx.H))])
    draft.made.effects["transformer", f"{SINGLE}.linear1"] = lambda w0: delta
    return draft.made


def legacy(form, seed=0):
    """diffusers in 2023: attention processors with and without `unet.`, then plain layers."""
    draft = Draft("sdxl", seed)
    for path in UNET if form == "layers" else list(UNET)[:2]:
        stem, _, last = path.rpartition(".to_")
        name = (f"unet.{path}.lora" if form == "layers" else
                f"{'unet.' if form == 'prefix' else ''}{stem}.processor.to_{last.removesuffix('.0')}_lora")
        draft.add(("unet", path), name, ends={"down": "down.weight", "up": "up.weight"}, alpha="")
    if form != "bare":
        words = {"layers": f"text_model.{WORDS[0]}.lora_linear_layer",
                 "prefix": "text_model.encoder.layers.0.self_attn.to_q_lora"}[form]
        draft.add(("text_encoder", WORDS[0]), f"text_encoder.{words}", ends={"down": "down.weight", "up": "up.weight"}, alpha="")
    return draft.made


def peft(seed=0, folder=False, dora=None, rooted=False):
    """diffusers with PEFT, strengths by patterns in the header, or a PEFT folder with them in its config."""
    draft, said = Draft("sdxl", seed), {}
    places = [("unet", path) for path in (*UNET, *CONVS, *(() if folder else XL))]
    places += [] if folder else [(part, path) for part in ("text_encoder", "text_encoder_2") for path in WORDS]
    for part, path in places:
        stem = "base_model.model." if folder else f"{part}." + ("text_model." if "encoder" in part else "")
        said[part, path] = draft.add((part, path), stem + path, ends=PEFT, alpha="dropped", dora=dora)
        del draft.made.tensors[f"{stem}{path}.dropped"]
    config = {}
    for part in dict.fromkeys(part for part, _ in places):
        prefix = "text_model." if "encoder" in part else ""
        own = {prefix + path: numbers for (component, path), numbers in said.items() if component == part}
        root = {path: math.sqrt(numbers["rank"]) if rooted else 1.0 for path, numbers in own.items()}
        settings = {"r": 8, "lora_alpha": 16, "rank_pattern": {path: numbers["rank"] for path, numbers in own.items()},
                    "alpha_pattern": {path: numbers["alpha"] / root[path] for path, numbers in own.items()},
                    "use_rslora": rooted, "use_dora": dora is not None}
        config |= settings if folder else {f"{part}.{name}": value for name, value in settings.items()}
    if folder:
        draft.made.config = {"peft_type": "LORA", **config}
    else:
        draft.made.metadata = {"lora_adapter_metadata": json.dumps(config)}
    return draft.made


def omi(seed=0):
    draft = Draft("sdxl", seed)
    for path in (*UNET, *CONVS):
        draft.add(("unet", path), f"unet.{path}", ends={"down": "lora_down", "up": "lora_up"})
    return draft.made


def other(*formulas, seed=0, prefix="", paths=None, dora=None):
    """LyCORIS behind kohya's names, a formula after another."""
    draft = Draft("sdxl", seed)
    for number, path in enumerate(paths or (*UNET, "mid_block.resnets.0.conv1")):
        formula = formulas[number % len(formulas)]
        draft.add(("unet", path), f"lora_unet_{flat(path)}", formula, ends=ENDS, prefix=prefix, dora=dora)
    return draft.made


ENDS = {**LORA, **{role: f"{role}.weight" for role in ("a1", "a2", "b1", "b2")}}
CONV3 = ("mid_block.resnets.0.conv1", "down_blocks.0.resnets.0.conv2")


def lokr(seed=0):
    made = other(wo.lokr, wo.lokr_whole, wo.lokr_both_products, wo.lokr_whole, wo.lokr, prefix="lokr_", seed=seed)
    more = other(wo.lokr_tucker, paths=CONV3[1:], prefix="lokr_", seed=seed + 7)
    made.tensors |= more.tensors
    made.effects |= more.effects
    return made


def whole_differences(seed=0):
    draft = Draft("sdxl", seed)
    for path in (*UNET, "mid_block.resnets.0.conv1", "mid_block.attentions.0.norm"):
        draft.add(("unet", path), f"lora_unet_{flat(path)}", wo.full)
    for path in ("mid_block.resnets.0.conv1", "mid_block.attentions.0.norm"):
        draft.bias(("unet", path), f"lora_unet_{flat(path)}")
    return draft.made


def norms(seed=0):
    draft = Draft("sdxl", seed)
    for part, path, stem in (("unet", "mid_block.attentions.0.norm", "lora_unet_mid_block_attentions_0_norm"),
                             ("unet", "conv_norm_out", "lora_unet_out_0"),
                             ("text_encoder", f"{TE}.layer_norm1", f"lora_te1_text_model_{flat(TE)}_layer_norm1")):
        draft.add((part, path), stem, wo.norm)
        draft.bias((part, path), stem, "b_norm")
    return draft.made


def ai_toolkit_dora(seed=0):
    return flux(lambda path: f"diffusion_model.{path}", ends=PEFT, alpha="", dora=("magnitude", 0, "flat"), seed=seed)


def cloneofsimo(as_list=False, seed=0):
    """Every attention of the U-Net in the order of its trainer, down, up, middle; text encoders k, v, q, out."""
    draft = Draft("sd1", seed)
    stems = [f"down_blocks.0.attentions.{n}" for n in (0, 1)] + [f"up_blocks.1.attentions.{n}" for n in (0, 1, 2)] + [
        "mid_block.attentions.0"]
    inner = [f"attn{n}.to_{part}" for n in (1, 2) for part in ("q", "k", "v", "out.0")]
    places = [("unet", f"{stem}.transformer_blocks.0.{part}") for stem in stems for part in inner]
    words = [("text_encoder", f"encoder.layers.{n}.self_attn.{part}_proj") for n in (0, 1) for part in ("k", "v", "q", "out")]
    for number, place in enumerate(places):
        draft.add(place, str(number) if as_list else f"unet:{number}", alpha="", ends={"up": "up", "down": "down"})
    for number, place in enumerate([] if as_list else words):
        draft.add(place, f"text_encoder:{number}", alpha="", ends={"up": "up", "down": "down"})
    if as_list:
        order = sorted(draft.made.tensors, key=lambda key: (int(key.partition(".")[0]), key.endswith("down")))
        draft.made.tensors = {str(n): draft.made.tensors[key] for n, key in enumerate(order)}
        draft.made.as_list = True
    else:
        draft.made.tensors = {key.replace(".", ":"): value for key, value in draft.made.tensors.items()}
        draft.made.metadata = {"unet": json.dumps(["CrossAttention", "Attention", "GEGLU"])}
    return draft.made


def openclip(seed=0):
    """The names of OpenCLIP's layers, with the three projections in one module, for an encoder in transformers' names."""
    draft = Draft("sdxl", seed)
    width, parts = 20, ("q", "k", "v")
    for stem, path in (("mlp_c_fc", f"{TE}.mlp.fc1"), ("mlp_c_proj", f"{TE}.mlp.fc2"),
                       ("attn_out_proj", f"{TE}.self_attn.out_proj")):
        draft.add(("text_encoder_2", path), f"lora_te2_transformer_resblocks_0_{stem}")
    tensors, effect = wo.lora(draft.rng, (3 * width, width), 2, 0.5)
    stem = "lora_te2_transformer_resblocks_0_attn_in_proj"
    draft.made.tensors |= {f"{stem}.lora_down.weight": tensors["down"], f"{stem}.lora_up.weight": tensors["up"],
                           f"{stem}.alpha": np.array(1.0, np.float32)}
    for n, part in enumerate(parts):
        draft.made.effects["text_encoder_2", f"{TE}.self_attn.{part}_proj"] = lambda w0, n=n: np.split(effect(w0), 3)[n]
    return draft.made


def bundled(seed=0):
    made = sdxl(seed)
    rng = np.random.default_rng(seed)
    for part, name, width in (("text_encoder", "clip_l", 12), ("text_encoder_2", "clip_g", 20)):
        made.tensors[f"bundle_emb.my.style.{name}"] = made.words[part, "my.style"] = wo.new(rng, 2, width)
    return made


TIER_1: dict[str, Callable[..., Written]] = {
    "kohya SD1": lambda seed=0: kohya("sd1", "lora_te_", seed=seed),
    "kohya SD2": lambda seed=0: kohya("sd2", "lora_te_", seed=seed),
    "kohya SDXL, diffusers names": sdxl,
    "kohya SDXL, original names": lambda seed=0: sdxl(seed, original=True),
    "kohya SD3": kohya_sd3,
    "kohya Flux": lambda seed=0: flux(lambda path: f"lora_unet_{flat(path)}", seed=seed),
    "kohya Flux, split qkv": split_qkv,
    "LoCon": lambda seed=0: kohya("sdxl", paths=CONVS, seed=seed),
    "LoCon, Tucker": lambda seed=0: kohya("sdxl", te="", paths=CONV3, formula=wo.tucker, seed=seed),
    "diffusers 2023, processors": lambda seed=0: legacy("prefix", seed),
    "diffusers 2023, without unet.": lambda seed=0: legacy("bare", seed),
    "diffusers 2023, layers": lambda seed=0: legacy("layers", seed),
    "diffusers with PEFT's header": peft,
    "diffusers with PEFT's header, rslora": lambda seed=0: peft(seed, rooted=True),
    "PEFT folder": lambda seed=0: peft(seed, folder=True),
    "AI-Toolkit, old": ai_toolkit_old,
    "AI-Toolkit, new": lambda seed=0: flux(lambda path: f"diffusion_model.{path}", ends=PEFT, alpha="", seed=seed),
    "XLabs": xlabs,
    "OneTrainer": onetrainer,
    "OneTrainer, original names": lambda seed=0: flux(lambda path: path, ends=PEFT, seed=seed),
    "OMI": omi,
    "LoHa": lambda seed=0: other(wo.loha, prefix="hada_", seed=seed),
    "LoHa, Tucker": lambda seed=0: other(wo.loha_tucker, paths=CONV3, prefix="hada_", seed=seed),
    "LoKr": lokr,
    "LyCORIS wrapper": lambda seed=0: flux(lambda path: f"lycoris_{flat(path)}", FLUX[:4], formula=wo.lokr, prefix="lokr_",
                                           seed=seed),
    "whole differences": whole_differences,
    "norms": norms,
    "DoRA over rows": lambda seed=0: other(wo.lora, dora=("dora_scale", 0, "rows"), seed=seed),
    "DoRA over columns": lambda seed=0: other(wo.lora, dora=("dora_scale", 1, "columns"), seed=seed),
    "DoRA on LoHa": lambda seed=0: other(wo.loha, prefix="hada_", dora=("dora_scale", 0, "rows"), seed=seed),
    "DoRA of PEFT": lambda seed=0: peft(seed, dora=("lora_magnitude_vector", 0, "flat")),
    "DoRA of AI-Toolkit": ai_toolkit_dora,
}
TIER_2: dict[str, Callable[..., Written]] = {
    "GLoRA": lambda seed=0: other(wo.glora, seed=seed),
    "(IA)^3": lambda seed=0: other(wo.ia3, wo.ia3_on_input, seed=seed),
    "OFT": lambda seed=0: other(wo.oft, seed=seed),
    "BOFT": lambda seed=0: other(wo.boft, seed=seed),
    "cloneofsimo": lambda seed=0: cloneofsimo(seed=seed),
    "cloneofsimo, list": lambda seed=0: cloneofsimo(as_list=True, seed=seed),
    "bundled embeddings": bundled,
    "OpenCLIP names": openclip,
}
ROWS = {**TIER_1, **TIER_2}
NOT_ADDITIVE = ("DoRA", "GLoRA", "(IA)", "OFT", "BOFT")
