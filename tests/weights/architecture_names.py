"""The tensors of every known architecture under their real names, with small shapes: in the names of its authors and in those of
diffusers. A word is a weight "module:8x4", with "+" it has a bias; "=name:8x4" is a tensor that is no module's. "[blocks 3]"
opens
layers, as many as its number says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, TypeAlias

Shapes: TypeAlias = dict[str, tuple[int, ...]]

_FLUX: Final = """
    {image}:8x{channels}+ txt_in:8x12+ time_in.in_layer:8x4+ time_in.out_layer:8x8+ {more}
    [double_blocks 2] {modulations} img_attn.qkv:24x8+ img_attn.proj:8x8+ =img_attn.norm.query_norm.scale:4
        =img_attn.norm.key_norm.scale:4 img_mlp.0:16x8+ img_mlp.2:8x16+ txt_attn.qkv:24x8+ txt_attn.proj:8x8+
        =txt_attn.norm.query_norm.scale:4 =txt_attn.norm.key_norm.scale:4 txt_mlp.0:16x8+ txt_mlp.2:8x16+
    [single_blocks 3] linear1:40x8+ linear2:8x24+ =norm.query_norm.scale:4 =norm.key_norm.scale:4 {single}
    [] {last}"""
_VECTOR: Final = "vector_in.in_layer:8x6+ vector_in.out_layer:8x8+"
_GUIDANCE: Final = "guidance_in.in_layer:8x4+ guidance_in.out_layer:8x8+"
_APPROXIMATOR: Final = """distilled_guidance_layer.in_proj:10x4+ distilled_guidance_layer.out_proj:8x10+
    [distilled_guidance_layer.layers 2] {0}:10x10+ {1}:10x10+ [distilled_guidance_layer.norms 2] ={2}:10 []"""
_FINAL: Final = "final_layer.linear:64x8+ final_layer.adaLN_modulation.1:16x8+"
_MODULATIONS: Final = {"modulations": "img_mod.lin:48x8+ txt_mod.lin:48x8+", "single": "modulation.lin:24x8+"}
_NONE: Final = {"modulations": "", "single": ""}


def _flux(channels: int, more: str, image: str = "img_in", last: str = _FINAL, blocks: Mapping[str, str] = _MODULATIONS) -> str:
    return _FLUX.format(image=image, channels=channels, more=more, last=last, **blocks)


_SPLIT: Final = """attn.to_q:8x8+ attn.to_k:8x8+ attn.to_v:8x8+ attn.norm_q:4 attn.norm_k:4"""
_JOINT: Final = f"""{_SPLIT} attn.to_out.0:8x8+ attn.norm_added_q:4 attn.norm_added_k:4 attn.add_q_proj:8x8+ attn.add_k_proj:8x8+
    attn.add_v_proj:8x8+ attn.to_add_out:8x8+"""
_FEED: Final = "ff.net.0.proj:16x8+ ff.net.2:8x16+ ff_context.net.0.proj:16x8+ ff_context.net.2:8x16+"
_EMBEDDER: Final = "{0}.linear_1:8x4+ {0}.linear_2:8x8+"
_FLUX_DIFFUSERS: Final = f"""
    x_embedder:8x{{channels}}+ context_embedder:8x12+ {{more}}
    [transformer_blocks 2] {{norms}} {_JOINT} {_FEED}
    [single_transformer_blocks 3] {_SPLIT} proj_mlp:16x8+ proj_out:8x24+ {{norm}}
    [] {{last}}"""
_NORMS: Final = {"norms": "norm1.linear:48x8+ norm1_context.linear:48x8+", "norm": "norm.linear:24x8+"}


def _embedders(inside: str, *names: str) -> str:
    return " ".join(_EMBEDDER.format(f"{inside}.{name}_embedder") for name in names)


def _flux_diffusers(channels: int, more: str, last: str = "norm_out.linear:16x8+ proj_out:64x8+",
                    norms: Mapping[str, str] = _NORMS) -> str:
    return _FLUX_DIFFUSERS.format(channels=channels, more=more, last=last, **norms)


_FLUX2: Final = """img_in:8x128 txt_in:8x12 time_in.in_layer:8x4 time_in.out_layer:8x8 {more}
double_stream_modulation_img.lin:48x8
    double_stream_modulation_txt.lin:48x8 single_stream_modulation.lin:24x8
    [double_blocks 2] img_attn.qkv:24x8 img_attn.proj:8x8 =img_attn.norm.query_norm.scale:4 =img_attn.norm.key_norm.scale:4
        img_mlp.0:48x8 img_mlp.2:8x24 txt_attn.qkv:24x8 txt_attn.proj:8x8 =txt_attn.norm.query_norm.scale:4
        =txt_attn.norm.key_norm.scale:4 txt_mlp.0:48x8 txt_mlp.2:8x24
    [single_blocks 3] linear1:72x8 linear2:8x32 =norm.query_norm.scale:4 =norm.key_norm.scale:4
    [] final_layer.linear:128x8 final_layer.adaLN_modulation.1:16x8"""
_FLUX2_DIFFUSERS: Final = """x_embedder:8x128 context_embedder:8x12 time_guidance_embed.timestep_embedder.linear_1:8x4
    time_guidance_embed.timestep_embedder.linear_2:8x8 {more} double_stream_modulation_img.linear:48x8
    double_stream_modulation_txt.linear:48x8 single_stream_modulation.linear:24x8
    [transformer_blocks 2] attn.to_q:8x8 attn.to_k:8x8 attn.to_v:8x8 attn.norm_q:4 attn.norm_k:4 attn.to_out.0:8x8
        attn.norm_added_q:4 attn.norm_added_k:4 attn.add_q_proj:8x8 attn.add_k_proj:8x8 attn.add_v_proj:8x8 attn.to_add_out:8x8
        ff.linear_in:48x8 ff.linear_out:8x24 ff_context.linear_in:48x8 ff_context.linear_out:8x24
    [single_transformer_blocks 3] attn.to_qkv_mlp_proj:72x8 attn.norm_q:4 attn.norm_k:4 attn.to_out:8x32
    [] norm_out.linear:16x8 proj_out:128x8"""
_FLUX2_GUIDANCE: Final = ("guidance_in.in_layer:8x4 guidance_in.out_layer:8x8",
                          "time_guidance_embed.guidance_embedder.linear_1:8x4 time_guidance_embed.guidance_embedder.linear_2:8x8")


def _sd3(norms: bool, dual: bool) -> str:
    ln = "=attn.ln_q.weight:4 =attn.ln_k.weight:4" if norms else ""
    second = f"attn2.qkv:24x8+ attn2.proj:8x8+ {ln.replace('attn.', 'attn2.')}" if dual else ""

    def block(side: str, words: str) -> str:
        return re.sub(r"(=?)(\S+)", rf"\1{side}_block.\2", words)
    x = f"adaLN_modulation.1:{72 if dual else 48}x8+ attn.qkv:24x8+ attn.proj:8x8+ {ln} mlp.fc1:16x8+ mlp.fc2:8x16+ {second}"
    context = f"adaLN_modulation.1:48x8+ attn.qkv:24x8+ attn.proj:8x8+ {ln} mlp.fc1:16x8+ mlp.fc2:8x16+"
    last = block("joint_blocks.2.context", f"adaLN_modulation.1:16x8+ attn.qkv:24x8+ {ln}")
    return (f"=pos_embed:1x16x8 x_embedder.proj:8x16x2x2+ context_embedder:8x12+ t_embedder.mlp.0:8x4+ t_embedder.mlp.2:8x8+ "
            f"y_embedder.mlp.0:8x6+ y_embedder.mlp.2:8x8+ [joint_blocks 2] {block('x', x)} {block('context', context)} [] "
            f"{block('joint_blocks.2.x', x)} {last} {_FINAL}")


def _sd3_diffusers(norms: bool, dual: bool) -> str:
    joint = _JOINT if norms else re.sub(r"attn\.norm_\w+:4", "", _JOINT)
    second = "attn2.to_q:8x8+ attn2.to_k:8x8+ attn2.to_v:8x8+ attn2.to_out.0:8x8+ attn2.norm_q:4 attn2.norm_k:4" if dual else ""
    block = f"norm1.linear:{72 if dual else 48}x8+ norm1_context.linear:48x8+ {joint} {_FEED} {second}"
    last = re.sub(r"\S*(?:to_add_out|ff_context)\S*", "", block).replace("norm1_context.linear:48", "norm1_context.linear:16")
    last = re.sub(r"(\S+)", r"transformer_blocks.2.\1", last)
    return (f"=pos_embed.pos_embed:1x16x8 pos_embed.proj:8x16x2x2+ context_embedder:8x12+ "
            f"{_embedders('time_text_embed', 'timestep', 'text')} [transformer_blocks 2] {block} [] {last} "
            "norm_out.linear:16x8+ proj_out:64x8+")


_QWEN: Final = f"""time_text_embed.timestep_embedder.linear_1:8x4+ time_text_embed.timestep_embedder.linear_2:8x8+ {{more}}
    txt_norm:12 img_in:8x64+ txt_in:8x12+ [transformer_blocks 3] img_mod.1:48x8+ txt_mod.1:48x8+ {_JOINT}
    img_mlp.net.0.proj:16x8+ img_mlp.net.2:8x16+ txt_mlp.net.0.proj:16x8+ txt_mlp.net.2:8x16+
    [] norm_out.linear:16x8+ proj_out:64x8+"""
_QWEN21: Final = """time_text_embed.timestep_embedder.linear_1:8x4 time_text_embed.timestep_embedder.linear_2:8x8
txt_in.text_norm:12
    txt_in.in_layer:8x12 txt_in.out_layer:8x8 img_in:8x64 modulation.1:32x8
    [transformer_blocks 3] attn.to_q:8x8 attn.to_k:8x8 attn.to_v:8x8 attn.to_out.0:8x8 attn.norm_q:4 attn.norm_k:4 {0}
        img_mlp.out:8x24 [] norm_out.linear:8x8 proj_out:64x8"""
_NORMED: Final = "attention_norm1:8 ffn_norm1:8 attention_norm2:8 ffn_norm2:8"
_SWIGLU: Final = "feed_forward.w1:16x8 feed_forward.w2:8x16 feed_forward.w3:16x8"


def _refined(attention: str, modulation: str, before: str, last: str) -> str:
    block = f"{attention} {_SWIGLU} {_NORMED}"
    return (f"{before} t_embedder.mlp.0:8x4+ t_embedder.mlp.2:8x8+ cap_embedder.0:12 cap_embedder.1:8x12+ "
            f"[noise_refiner 2] {block} {modulation} [context_refiner 2] {block} [layers 3] {block} {modulation} [] {last}")


_QKV: Final = "attention.qkv:24x8 attention.out:8x8 attention.q_norm:4 attention.k_norm:4"
_LUMINA_BLOCK: Final = """attn.norm_q:4 attn.norm_k:4 attn.to_q:8x8 attn.to_k:4x8 attn.to_v:4x8 attn.to_out.0:8x8
    feed_forward.linear_1:16x8 feed_forward.linear_2:8x16 feed_forward.linear_3:16x8 ffn_norm1:8 norm2:8 ffn_norm2:8"""
_SANA: Final = """=pos_embed:1x16x8 x_embedder.proj:8x32x1x1+ t_embedder.mlp.0:8x4+ t_embedder.mlp.2:8x8+ {more} t_block.1:48x8+
    =y_embedder.y_embedding:6x12 y_embedder.y_proj.fc1:8x12+ y_embedder.y_proj.fc2:8x8+ attention_y_norm:8
    [blocks 3] =scale_shift_table:6x8 attn.qkv:24x8 attn.proj:8x8+ cross_attn.q_linear:8x8+ cross_attn.kv_linear:16x8+
        cross_attn.proj:8x8+ mlp.inverted_conv.conv:40x8x1x1+ mlp.depth_conv.conv:40x1x3x3+ mlp.point_conv.conv:8x20x1x1
    [] final_layer.linear:32x8+ =final_layer.scale_shift_table:2x8"""
_SANA_DIFFUSERS: Final = """=scale_shift_table:2x8 patch_embed.proj:8x32x1x1+ {more} time_embed.linear:48x8+
    caption_projection.linear_1:8x12+ caption_projection.linear_2:8x8+ caption_norm:8
    [transformer_blocks 3] =scale_shift_table:6x8 attn1.to_q:8x8 attn1.to_k:8x8 attn1.to_v:8x8 attn1.to_out.0:8x8+ attn2.to_q:8x8+
        attn2.to_k:8x8+ attn2.to_v:8x8+ attn2.to_out.0:8x8+ ff.conv_inverted:40x8x1x1+ ff.conv_depth:40x1x3x3+
        ff.conv_point:8x20x1x1
    [] proj_out:32x8+"""
_PIXART: Final = """=pos_embed:1x16x8 x_embedder.proj:8x4x2x2+ t_embedder.mlp.0:8x4+ t_embedder.mlp.2:8x8+ {more} t_block.1:48x8+
    =y_embedder.y_embedding:6x12 y_embedder.y_proj.fc1:8x12+ y_embedder.y_proj.fc2:8x8+
    [blocks 3] =scale_shift_table:6x8 attn.qkv:24x8+ attn.proj:8x8+ cross_attn.q_linear:8x8+ cross_attn.kv_linear:16x8+
        cross_attn.proj:8x8+ mlp.fc1:32x8+ mlp.fc2:8x32+ [] final_layer.linear:32x8+ =final_layer.scale_shift_table:2x8"""
_TWO_ATTENTIONS: Final = " ".join(f"attn{n}.to_{part}:8x8+" for n in (1, 2) for part in ("q", "k", "v", "out.0"))
_PIXART_DIFFUSERS: Final = f"""=scale_shift_table:2x8 pos_embed.proj:8x4x2x2+ caption_projection.linear_1:8x12+
    caption_projection.linear_2:8x8+ {{more}} adaln_single.linear:48x8+
    [transformer_blocks 3] =scale_shift_table:6x8 {_TWO_ATTENTIONS} ff.net.0.proj:32x8+ ff.net.2:8x32+ [] proj_out:32x8+"""
_HIDREAM_FEED: Final = "block.{0}.w1:16x8 block.{0}.w2:8x16 block.{0}.w3:16x8"
_HIDREAM_EXPERTS: Final = " ".join(_HIDREAM_FEED.format(f"ff_i.{part}") for part in (
    "shared_experts", "experts.0", "experts.1")) + " block.ff_i.gate:2x8"
_HIDREAM_ATTENTION: Final = " ".join(f"block.attn1.to_{part}:8x8+" for part in ("q", "k", "v", "out")) + (
    " block.attn1.q_rms_norm:8 block.attn1.k_rms_norm:8")
_HIDREAM: Final = f"""x_embedder.proj:8x64+ t_embedder.timestep_embedder.linear_1:8x4+ t_embedder.timestep_embedder.linear_2:8x8+
    p_embedder.pooled_embedder.linear_1:8x4+ p_embedder.pooled_embedder.linear_2:8x8+ [caption_projection 6] linear:8x12
    [double_stream_blocks 2] block.adaLN_modulation.1:96x8+ {_HIDREAM_ATTENTION} {" ".join(
        f"block.attn1.to_{part}_t:8x8+" for part in ("q", "k", "v", "out"))} block.attn1.q_rms_norm_t:8 block.attn1.k_rms_norm_t:8
        {_HIDREAM_EXPERTS} {_HIDREAM_FEED.format("ff_t")}
    [single_stream_blocks 3] block.adaLN_modulation.1:48x8+ {_HIDREAM_ATTENTION} {_HIDREAM_EXPERTS} [] {_FINAL}"""
_WAN_BLOCK: Final = " ".join(f"{attention}.{part}:8x8+" for attention in ("self_attn", "cross_attn") for part in "qkvo") + (
    " self_attn.norm_q:8 self_attn.norm_k:8 cross_attn.norm_q:8 cross_attn.norm_k:8 norm3:8+ ffn.0:16x8+ ffn.2:8x16+ "
    "=modulation:1x6x8")
_WAN: Final = """patch_embedding:{width}x{channels}x1x2x2+ text_embedding.0:8x12+ text_embedding.2:8x8+ time_embedding.0:8x4+
    time_embedding.2:8x8+ time_projection.1:48x8+ {more} [blocks 3] {block} [] head.head:64x8+ =head.modulation:1x2x8"""
_WAN_DIFFUSERS_BLOCK: Final = f"""=scale_shift_table:1x6x8 {_TWO_ATTENTIONS} attn1.norm_q:8 attn1.norm_k:8 attn2.norm_q:8
    attn2.norm_k:8 norm2:8+ ffn.net.0.proj:16x8+ ffn.net.2:8x16+"""
_WAN_DIFFUSERS: Final = f"""=scale_shift_table:1x2x8 patch_embedding:{{width}}x{{channels}}x1x2x2+
    {_embedders("condition_embedder", "time", "text")} condition_embedder.time_proj:48x8+ {{more}}
    [blocks 3] {{block}} [] proj_out:64x8+"""


def _wan(width: int, channels: int = 16, more: str = "") -> str:
    return _WAN.format(width=width, channels=channels, block=_WAN_BLOCK, more=more)


def _wan_diffusers(width: int, channels: int = 16, more: str = "") -> str:
    return _WAN_DIFFUSERS.format(width=width, channels=channels, block=_WAN_DIFFUSERS_BLOCK, more=more)


_AURA_SIDE: Final = "{0}.c_fc1:16x8 {0}.c_fc2:16x8 {0}.c_proj:8x16"
_AURA_FEED: Final = "{0}.linear_1:16x8 {0}.linear_2:16x8 {0}.out_projection:8x16"
_COSMOS_BLOCK: Final = " ".join(
    f"{attention}.{part}_proj:8x8" for attention in ("self_attn", "cross_attn") for part in ("q", "k", "v", "output")) + (
    " self_attn.q_norm:4 self_attn.k_norm:4 cross_attn.q_norm:4 cross_attn.k_norm:4 mlp.layer1:32x8 mlp.layer2:8x32 ") + " ".join(
    f"adaln_modulation_{part}.1:4x8 adaln_modulation_{part}.2:24x4" for part in ("self_attn", "cross_attn", "mlp"))
_COSMOS: Final = f"""x_embedder.proj.1:8x68 t_embedder.1.linear_1:8x8 t_embedder.1.linear_2:24x8 t_embedding_norm:8 {{more}}
    [blocks 3] {_COSMOS_BLOCK} [] final_layer.linear:64x8 final_layer.adaln_modulation.1:4x8
    final_layer.adaln_modulation.2:16x4"""
_HUNYUAN_REFINER: Final = """txt_in.t_embedder.in_layer:8x4+ txt_in.t_embedder.out_layer:8x8+ txt_in.c_embedder.in_layer:8x12+
    txt_in.c_embedder.out_layer:8x8+ txt_in.input_embedder:8x12+ [txt_in.individual_token_refiner.blocks 2] norm1:8+
    self_attn.qkv:24x8+ self_attn.proj:8x8+ norm2:8+ mlp.0:16x8+ mlp.2:8x16+ adaLN_modulation.1:16x8+ []"""
_HUNYUAN: Final = (f"img_in.proj:8x16x1x2x2+ time_in.in_layer:8x4+ time_in.out_layer:8x8+ {_VECTOR} {_GUIDANCE} "
                   f"{_HUNYUAN_REFINER} "
                   + _FLUX[_FLUX.index("[double"):].format(last=_FINAL, **_MODULATIONS))
_HUNYUAN_DIFFUSERS: Final = f"""x_embedder.proj:8x16x1x2x2+ {_embedders("context_embedder.time_text_embed", "timestep", "text")}
    context_embedder.proj_in:8x12+ [context_embedder.token_refiner.refiner_blocks 2] norm1:8+ attn.to_q:8x8+ attn.to_k:8x8+
    attn.to_v:8x8+ attn.to_out.0:8x8+ norm2:8+ ff.net.0.proj:16x8+ ff.net.2:8x16+ norm_out.linear:16x8+
    [] {_embedders("time_text_embed", "timestep", "text", "guidance")} """ + _FLUX_DIFFUSERS[_FLUX_DIFFUSERS.index(
        "[transformer"):].format(last="norm_out.linear:16x8+ proj_out:64x8+", **_NORMS)
_LTX_BLOCK: Final = f"""=scale_shift_table:6x8 {_TWO_ATTENTIONS} attn1.{{0}}:8 attn1.{{1}}:8 attn2.{{0}}:8 attn2.{{1}}:8
    ff.net.0.proj:32x8+ ff.net.2:8x32+"""
_LTX: Final = f"""=scale_shift_table:2x8 {{0}}:8x12+ {{1}}.emb.timestep_embedder.linear_1:8x4+
    {{1}}.emb.timestep_embedder.linear_2:8x8+ {{1}}.linear:48x8+ caption_projection.linear_1:8x12+
    caption_projection.linear_2:8x8+
    {{more}} [transformer_blocks 3] {_LTX_BLOCK.format("{q}", "{k}")} [] proj_out:12x8+"""

AUTHORS: Final = "authors"
DIFFUSERS: Final = "diffusers"
_GUIDED: Final = (f"{_VECTOR} {_GUIDANCE}", _embedders("time_text_embed", "timestep", "text", "guidance"))
_CHROMA: Final = _APPROXIMATOR.format("in_layer", "out_layer", "norm_scale").replace("=norm_scale", "=scale")

MODELS: Final[Mapping[str, Mapping[str, str]]] = {
    "Flux.1 dev or Kontext": {AUTHORS: _flux(64, _GUIDED[0]), DIFFUSERS: _flux_diffusers(64, _GUIDED[1])},
    "Flux.1 schnell": {AUTHORS: _flux(64, _VECTOR),
                       DIFFUSERS: _flux_diffusers(64, _embedders("time_text_embed", "timestep", "text"))},
    "Flux.1 Fill": {AUTHORS: _flux(384, _GUIDED[0]), DIFFUSERS: _flux_diffusers(384, _GUIDED[1])},
    "Flux.1 Canny or Depth": {AUTHORS: _flux(128, _GUIDED[0]), DIFFUSERS: _flux_diffusers(128, _GUIDED[1])},
    "Chroma": {AUTHORS: f"{_CHROMA} " + _flux(64, "", last="final_layer.linear:64x8+", blocks=_NONE).replace(
                   "time_in.in_layer:8x4+ time_in.out_layer:8x8+", ""),
               DIFFUSERS: _APPROXIMATOR.format("linear_1", "linear_2", "weight") + " " + _flux_diffusers(
                   64, "", last="proj_out:64x8+", norms={"norms": "", "norm": ""})},
    "Chroma Radiance": {AUTHORS: f"{_CHROMA} nerf_image_embedder.embedder.0:6x67+ [nerf_blocks 2] param_generator:12x8+ "
                                 "=norm.scale:6 [] " + _flux(64, "", image="img_in_patch", blocks=_NONE, last=(
                                     "=nerf_final_layer_conv.norm.scale:6 nerf_final_layer_conv.conv:3x6x3x3+")).replace(
                                     "img_in_patch:8x64", "img_in_patch:8x3x16x16").replace(
                                     "time_in.in_layer:8x4+ time_in.out_layer:8x8+", "")},
    "Flux.2 dev": {AUTHORS: _FLUX2.format(more=_FLUX2_GUIDANCE[0]), DIFFUSERS: _FLUX2_DIFFUSERS.format(more=_FLUX2_GUIDANCE[1])},
    "Flux.2 klein": {AUTHORS: _FLUX2.format(more=""), DIFFUSERS: _FLUX2_DIFFUSERS.format(more="")},
    "Flux.2 klein 4B": {AUTHORS: _FLUX2.format(more="").replace("txt_in:8x12", "txt_in:8x7680"),
                        DIFFUSERS: _FLUX2_DIFFUSERS.format(more="").replace("context_embedder:8x12", "context_embedder:8x7680")},
    "Flux.2 klein 9B": {AUTHORS: _FLUX2.format(more="").replace("txt_in:8x12", "txt_in:8x12288"),
                        DIFFUSERS: _FLUX2_DIFFUSERS.format(more="").replace("context_embedder:8x12", "context_embedder:8x12288")},
    "HunyuanVideo or HunyuanImage": {AUTHORS: _HUNYUAN, DIFFUSERS: _HUNYUAN_DIFFUSERS},
    "Ovis-Image": {DIFFUSERS: _flux_diffusers(64, f"{_EMBEDDER.format('timestep_embedder')} context_embedder_norm:12")},
    "Bria or LongCat-Image": {DIFFUSERS: _flux_diffusers(64, _embedders("time_embed", "timestep"))},
    "Stable Diffusion 3 Medium": {AUTHORS: _sd3(norms=False, dual=False), DIFFUSERS: _sd3_diffusers(norms=False, dual=False)},
    "Stable Diffusion 3.5 Medium": {AUTHORS: _sd3(norms=True, dual=True), DIFFUSERS: _sd3_diffusers(norms=True, dual=True)},
    "Stable Diffusion 3.5 Large": {AUTHORS: _sd3(norms=True, dual=False), DIFFUSERS: _sd3_diffusers(norms=True, dual=False)},
    "Qwen-Image": {AUTHORS: _QWEN.format(more="")},
    "Qwen-Image Layered": {AUTHORS: _QWEN.format(more="time_text_embed.addition_t_embedding:2x8")},
    "Qwen-Image 2.1": {AUTHORS: _QWEN21.format("img_mlp.gate_up:48x8"),
                       DIFFUSERS: _QWEN21.format("img_mlp.proj:24x8 img_mlp.gate_layer:24x8")},
    "Z-Image": {AUTHORS: _refined(_QKV, "adaLN_modulation.0:32x8+", "=x_pad_token:1x8 =cap_pad_token:1x8 x_embedder:8x64+",
                                  _FINAL),
                DIFFUSERS: _refined("attention.norm_q:4 attention.norm_k:4 attention.to_q:8x8 attention.to_k:8x8 "
                                    "attention.to_v:8x8 "
                                    "attention.to_out.0:8x8", "adaLN_modulation.0:32x8+",
                                    "=x_pad_token:1x8 =cap_pad_token:1x8 all_x_embedder.2-1:8x64+",
                                    _FINAL.replace("final_layer", "all_final_layer.2-1"))},
    "Lumina 2": {AUTHORS: _refined(_QKV.replace("24x8", "16x8"), "adaLN_modulation.1:32x8+", "x_embedder:8x64+ norm_final:8",
                                   _FINAL),
                 DIFFUSERS: f"x_embedder:8x64+ {_embedders('time_caption_embed', 'timestep')} "
                            "time_caption_embed.caption_embedder.0:12 time_caption_embed.caption_embedder.1:8x12+ "
                            f"[noise_refiner 2] {_LUMINA_BLOCK} norm1.linear:32x8+ norm1.norm:8 [context_refiner 2] "
                            f"{_LUMINA_BLOCK} "
                            f"norm1:8 [layers 3] {_LUMINA_BLOCK} norm1.linear:32x8+ norm1.norm:8 [] norm_out.linear_1:8x8+ "
                            "norm_out.linear_2:64x8+"},
    "OmniGen 2": {AUTHORS: f"x_embedder:8x64+ ref_image_patch_embedder:8x64+ =image_index_embedding:5x8 "
                           f"{_embedders('time_caption_embed', 'timestep')} time_caption_embed.caption_embedder.0:12 "
                           f"time_caption_embed.caption_embedder.1:8x12+ [noise_refiner 2] {_LUMINA_BLOCK} norm1.linear:32x8+ "
                           f"norm1.norm:8 [ref_image_refiner 2] {_LUMINA_BLOCK} norm1.linear:32x8+ norm1.norm:8 "
                           f"[context_refiner 2] "
                           f"{_LUMINA_BLOCK} norm1:8 [layers 3] {_LUMINA_BLOCK} norm1.linear:32x8+ norm1.norm:8 [] "
                           "norm_out.linear_1:8x8+ norm_out.linear_2:64x8+"},
    "Sana": {AUTHORS: _SANA.format(more=""),
             DIFFUSERS: _SANA_DIFFUSERS.format(more=_EMBEDDER.format("time_embed.emb.timestep_embedder"))},
    "Sana Sprint": {AUTHORS: _SANA.format(more="cfg_embedder.mlp.0:8x4+ cfg_embedder.mlp.2:8x8+"),
                    DIFFUSERS: _SANA_DIFFUSERS.format(more=_embedders("time_embed", "timestep", "guidance"))},
    "LTX-Video": {AUTHORS: _LTX.format("patchify_proj", "adaln_single", q="q_norm", k="k_norm", more=""),
                  DIFFUSERS: _LTX.format("proj_in", "time_embed", q="norm_q", k="norm_k", more="")},
    "PixArt-alpha": {AUTHORS: _PIXART.format(more="csize_embedder.mlp.0:8x4+ csize_embedder.mlp.2:8x8+ ar_embedder.mlp.0:8x4+ "
                                                  "ar_embedder.mlp.2:8x8+"),
                     DIFFUSERS: _PIXART_DIFFUSERS.format(more=_embedders("adaln_single.emb", "timestep", "resolution",
                                                                         "aspect_ratio"))},
    "PixArt-Sigma or PixArt-alpha": {AUTHORS: _PIXART.format(more=""),
                                     DIFFUSERS: _PIXART_DIFFUSERS.format(more=_embedders("adaln_single.emb", "timestep"))},
    "AuraFlow": {AUTHORS: "=register_tokens:1x2x8 =positional_encoding:1x16x8 init_x_linear:8x16+ cond_seq_linear:8x12 "
                          f"t_embedder.mlp.0:8x4+ t_embedder.mlp.2:8x8+ [double_layers 2] {_AURA_SIDE.format('mlpX')} "
                          f"{_AURA_SIDE.format('mlpC')} modX.1:48x8 modC.1:48x8 "
                          f"{' '.join(f'attn.w{n}{part}:8x8' for n in (1, 2) for part in 'qkvo')} [single_layers 3] "
                          f"{_AURA_SIDE.format('mlp')} modCX.1:48x8 {' '.join(f'attn.w1{part}:8x8' for part in 'qkvo')} "
                          "[] modF.1:16x8 final_linear:16x8",
                 DIFFUSERS: "=register_tokens:1x2x8 =pos_embed.pos_embed:1x16x8 pos_embed.proj:8x16+ context_embedder:8x12 "
                            f"{_EMBEDDER.format('time_step_proj')} [joint_transformer_blocks 2] norm1.linear:48x8 "
                            "norm1_context.linear:48x8 attn.to_q:8x8 attn.to_k:8x8 attn.to_v:8x8 attn.add_q_proj:8x8 "
                            "attn.add_k_proj:8x8 attn.add_v_proj:8x8 attn.to_out.0:8x8 attn.to_add_out:8x8 "
                            f"{_AURA_FEED.format('ff')} {_AURA_FEED.format('ff_context')} [single_transformer_blocks 3] "
                            f"norm1.linear:48x8 attn.to_q:8x8 attn.to_k:8x8 attn.to_v:8x8 attn.to_out.0:8x8 "
                            f"{_AURA_FEED.format('ff')} [] norm_out.linear:16x8 proj_out:16x8"},
    "HiDream-I1": {AUTHORS: _HIDREAM},
    "Wan": {AUTHORS: _wan(8), DIFFUSERS: _wan_diffusers(8)},
    "Wan 1.3B": {AUTHORS: _wan(1536), DIFFUSERS: _wan_diffusers(1536)},
    "Wan 14B": {AUTHORS: _wan(5120, 1), DIFFUSERS: _wan_diffusers(5120, 1)},
    "Wan 14B image-to-video": {AUTHORS: _wan(5120, 36).replace("1x2x2", "1x1x1"),
                               DIFFUSERS: _wan_diffusers(5120, 36).replace("1x2x2", "1x1x1")},
    "Wan 2.2 5B": {AUTHORS: _wan(3072, 4), DIFFUSERS: _wan_diffusers(3072, 4)},
    "Wan VACE": {AUTHORS: _wan(8, more=f"vace_patch_embedding:8x96x1x2x2+ [vace_blocks 2] {_WAN_BLOCK} after_proj:8x8+ []"),
                 DIFFUSERS: _wan_diffusers(8, more=f"vace_patch_embedding:8x96x1x2x2+ [vace_blocks 2] {_WAN_DIFFUSERS_BLOCK} "
                                                   "proj_out:8x8+ []")},
    "Cosmos-Predict2": {AUTHORS: _COSMOS.format(more=""),
                        DIFFUSERS: "patch_embed.proj:8x68 time_embed.t_embedder.linear_1:8x8 time_embed.t_embedder.linear_2:24x8 "
                                   "time_embed.norm:8 [transformer_blocks 3] "
                                   + " ".join(f"norm{n}.linear_1:4x8 norm{n}.linear_2:24x4" for n in (1, 2, 3)) + " "
                                   + " ".join(f"attn{n}.to_{part}:8x8" for n in (1, 2) for part in ("q", "k", "v", "out.0"))
                                   + " attn1.norm_q:4 attn1.norm_k:4 attn2.norm_q:4 attn2.norm_k:4 ff.net.0.proj:32x8 "
                                   "ff.net.2:8x32 [] norm_out.linear_1:4x8 norm_out.linear_2:16x4 proj_out:64x8"},
    "Anima": {AUTHORS: _COSMOS.format(more="llm_adapter.embed:9x8 [llm_adapter.blocks 2] self_attn.q_proj:8x8 "
                                           "self_attn.o_proj:8x8 "
                                           "mlp.0:16x8+ mlp.2:8x16+ [] llm_adapter.out_proj:8x8+")},
    "HunyuanDiT": {AUTHORS: "mlp_t5.0:16x12+ mlp_t5.2:8x16+ =text_embedding_padding:3x8 x_embedder.proj:8x4x2x2+ "
                            "t_embedder.mlp.0:8x4+ t_embedder.mlp.2:8x8+ extra_embedder.0:16x8+ extra_embedder.2:8x16+ [blocks "
                            "3] "
                            "norm1:8+ attn1.Wqkv:24x8+ attn1.q_norm:4+ attn1.k_norm:4+ attn1.out_proj:8x8+ norm2:8+ "
                            "mlp.fc1:16x8+ "
                            "mlp.fc2:8x16+ default_modulation.1:8x8+ attn2.q_proj:8x8+ attn2.kv_proj:16x8+ attn2.out_proj:8x8+ "
                            "norm3:8+ [] final_layer.linear:32x8+ final_layer.adaLN_modulation.1:16x8+"},
    "Stable Cascade": {AUTHORS: "clip_txt_mapper:8x12+ clip_txt_pooled_mapper:16x12+ clip_img_mapper:16x8+ clip_norm:8+ "
                                "embedding.1:8x16x1x1+ [down_blocks.0 3] depthwise:8x1x3x3+ channelwise.0:32x8+ "
                                "channelwise.4:8x32+ "
                                "[up_blocks.0 3] depthwise:8x1x3x3+ channelwise.0:32x8+ channelwise.4:8x32+ [] clf.1:16x8x1x1+"},
    "AnimateDiff": {DIFFUSERS: "conv_in:8x4x3x3+ time_embedding.linear_1:8x4+ time_embedding.linear_2:8x8+ [down_blocks 2] "
                               "resnets.0.conv1:8x8x3x3+ motion_modules.0.proj_in:8x8+ "
                               "motion_modules.0.transformer_blocks.0.attn1.to_q:8x8 [] "
                               "mid_block.resnets.0.conv1:8x8x3x3+ mid_block.motion_modules.0.proj_in:8x8+ [up_blocks 2] "
                               "resnets.0.conv1:8x8x3x3+ motion_modules.0.proj_in:8x8+ [] conv_out:4x8x3x3+"},
    "Stable Video Diffusion": {
        AUTHORS: "time_embed.0:8x4+ time_embed.2:8x8+ input_blocks.0.0:8x8x3x3+ input_blocks.1.0.in_layers.2:8x8x3x3+ "
                 "input_blocks.1.0.time_stack.in_layers.2:8x8x3x1x1+ input_blocks.1.1.time_stack.0.attn1.to_q:8x8 "
                 "middle_block.1.time_stack.0.attn1.to_q:8x8 output_blocks.0.0.in_layers.2:8x16x3x3+ "
                 "output_blocks.1.1.time_stack.0.attn1.to_q:8x8 out.2:4x8x3x3+",
        DIFFUSERS: "conv_in:8x8x3x3+ time_embedding.linear_1:8x4+ [down_blocks 2] "
                   "attentions.0.temporal_transformer_blocks.0.attn1.to_q:8x8 resnets.0.spatial_res_block.conv1:8x8x3x3+ [] "
                   "mid_block.attentions.0.temporal_transformer_blocks.0.attn1.to_q:8x8 [up_blocks 2] "
                   "attentions.0.temporal_transformer_blocks.0.attn1.to_q:8x8 [] conv_out:4x8x3x3+"},
}


def shapes(text: str) -> Shapes:
    """The tensors of such a text, in its order."""
    tensors: Shapes = {}
    for title, count, words in re.findall(r"\[([\w.]*)(?: ([0-9]+))?\]([^\[]*)", f"[]{text}"):
        for number in range(int(count or 1)):
            for word in words.split():
                name, _, size = word.lstrip("=").rstrip("+").partition(":")
                path = f"{title}.{number}.{name}" if title else name
                shape = tuple(map(int, size.split("x")))
                tensors[path if word.startswith("=") else f"{path}.weight"] = shape
                if word.endswith("+"):
                    tensors[f"{path}.bias"] = shape[:1]
    return tensors


SPELLINGS: Final = tuple((name, by) for name, spellings in MODELS.items() for by in spellings)
"""Every model in each of its spellings. Where diffusers has the authors' names, there is one."""


def tensors_of(name: str, by: str = "") -> Shapes:
    """The tensors of a model in the spelling of `by`, the first one by default."""
    spellings = MODELS[name]
    return shapes(spellings[by or next(iter(spellings))])
