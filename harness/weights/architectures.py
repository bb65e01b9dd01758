"""The known architectures as data: the names and shapes that tell each, in its authors' names and in diffusers', which of its
layers are numbered and in which order they are executed, and what is stored beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

PREFIXES: Final = ("model.diffusion_model.", "diffusion_model.", "transformer.", "net.")
"""What may stand before every name of a denoiser."""
DIFFUSERS: Final = "diffusers"
_AUTHORS: Final = "its authors, ComfyUI"
_STARTS: Final = re.compile(rf"^(?:{'|'.join(map(re.escape, PREFIXES))})+", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Names:
    """The names of one architecture as some tools write them. All of `marks` are parts of names, none of `lacks` is; a line break
    before one stands for the beginning of a name. `layers` is what precedes the numbers of the layers, as executed."""

    by: str
    marks: tuple[str, ...]
    lacks: tuple[str, ...] = ()
    layers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A model of an architecture that names or shapes tell from the others. One of `marks` is a part of a name, and none of
    `lacks` is. `lengths` is {axis: length} of the first of the tensors `of` that a file has. `unsampled` is why it alone of the
    row is not sampled."""

    name: str
    marks: tuple[str, ...] = ("",)
    lacks: tuple[str, ...] = ()
    of: tuple[str, ...] = ()
    lengths: Mapping[int, int] = field(default_factory=dict)
    unsampled: str = ""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A row. `family` is that of `families.FAMILIES` with block maps and a pipeline of its own, `paired_as` the one whose two
    spellings of a module pair those of this row too. The first variant that fits is meant. `encoders` and `vae` are what the
    model is used with, `note` what no key tells. `unsampled` is why no text-to-image pipeline of diffusers takes such a model."""

    name: str
    names: tuple[Names, ...]
    family: str = ""
    paired_as: str = ""
    variants: tuple[Variant, ...] = ()
    encoders: str = ""
    vae: str = ""
    note: str = ""
    unsampled: str = ""


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """What a file is: the row, the row's names that it has, and the name of the variant, or of the row where none is told."""

    row: Architecture
    names: Names
    name: str


_FLUX: Final = ("double_blocks", "single_blocks")
_FLUX_DIFFUSERS: Final = ("transformer_blocks", "single_transformer_blocks")
_REFINED: Final = ("noise_refiner", "context_refiner", "layers")
_IMAGE_IN: Final = ("img_in.weight", "x_embedder.weight")
_VIDEOS: Final = "it makes videos"
_PICTURE: Final = "it needs a picture to begin from"
_NO_PIPELINE: Final = "diffusers has no text-to-image pipeline of one denoiser for it"
_KL16: Final = "of 16 channels (Flux.1's)"

ARCHITECTURES: Final = (
    Architecture(
        name="Chroma Radiance", unsampled=_NO_PIPELINE, paired_as="flux", encoders="T5-XXL", vae="none: it works on pixels",
        names=(Names(by=_AUTHORS, marks=("\ndistilled_guidance_layer.", "\nnerf_blocks."), layers=(*_FLUX, "nerf_blocks")),)),
    Architecture(
        name="Chroma", paired_as="flux", encoders="T5-XXL", vae=_KL16, note="Chroma1 Base, HD and Flash have the same keys",
        names=(Names(by=_AUTHORS, marks=("\ndistilled_guidance_layer.", "\ndouble_blocks."), layers=_FLUX),
               Names(by=DIFFUSERS, marks=("\ndistilled_guidance_layer.", "\ntransformer_blocks."), layers=_FLUX_DIFFUSERS))),
    Architecture(
        name="Flux.2", paired_as="flux", encoders="Mistral Small 3 (dev) or Qwen3 (klein)", vae="of 32 channels (Flux.2's)",
        note="klein and klein Base have the same keys",
        names=(Names(by=_AUTHORS, marks=("\ndouble_stream_modulation_img.lin.",), layers=_FLUX),
               Names(by=DIFFUSERS, marks=("\ndouble_stream_modulation_img.linear.",), layers=_FLUX_DIFFUSERS)),
        variants=(Variant(name="Flux.2 dev", marks=("\nguidance_in.", ".guidance_embedder.")),
                  Variant(name="Flux.2 klein 4B", of=("txt_in.weight", "context_embedder.weight"), lengths={1: 7680}),
                  Variant(name="Flux.2 klein 9B", of=("txt_in.weight", "context_embedder.weight"), lengths={1: 12288}),
                  Variant(name="Flux.2 klein", marks=("\ntime_in.", ".timestep_embedder.")))),
    Architecture(
        name="HunyuanVideo or HunyuanImage", unsampled=_NO_PIPELINE, encoders="Llama or Qwen2.5-VL, and CLIP-L or ByT5",
        vae="of its own",
        names=(Names(by=_AUTHORS, marks=("\ntxt_in.individual_token_refiner.",), layers=_FLUX),
               Names(by=DIFFUSERS, marks=("\ncontext_embedder.token_refiner.",), layers=_FLUX_DIFFUSERS))),
    Architecture(
        name="Ovis-Image", encoders="Ovis (Qwen3)", vae=_KL16,
        names=(Names(by=DIFFUSERS, marks=("\ncontext_embedder_norm.", "\ntransformer_blocks."), layers=_FLUX_DIFFUSERS),)),
    Architecture(
        name="Bria or LongCat-Image", encoders="T5-XXL (Bria) or Qwen2.5-VL (LongCat-Image)", vae=_KL16,
        note="their keys are the same",
        names=(Names(by=DIFFUSERS, marks=("\ntime_embed.timestep_embedder.", "\nsingle_transformer_blocks."),
                     layers=_FLUX_DIFFUSERS),)),
    Architecture(
        name="Flux.1", family="flux", encoders="CLIP-L and T5-XXL", vae=_KL16,
        note="dev, Krea and Kontext have the same keys and shapes, and so have Canny and Depth",
        names=(Names(by=_AUTHORS, marks=("\ndouble_blocks.", "img_mod.lin."), layers=_FLUX),
               Names(by=DIFFUSERS, marks=("\nsingle_transformer_blocks.", "\ntime_text_embed."), layers=_FLUX_DIFFUSERS)),
        variants=(Variant(name="Flux.1 Fill", of=_IMAGE_IN, lengths={1: 384}, unsampled=_PICTURE),
                  Variant(name="Flux.1 Canny or Depth", of=_IMAGE_IN, lengths={1: 128}, unsampled=_PICTURE),
                  Variant(name="Flux.1 dev or Kontext", marks=("\nguidance_in.", ".guidance_embedder.")),
                  Variant(name="Flux.1 schnell", marks=("\ntime_in.", "\ntime_text_embed.")))),
    Architecture(
        name="Stable Diffusion 3", family="sd3", encoders="CLIP-L, CLIP-G and T5-XXL", vae="of 16 channels (SD3's)",
        note="Large and Large Turbo have the same keys",
        names=(Names(by=_AUTHORS, marks=("\njoint_blocks.",), layers=("joint_blocks",)),
               Names(by=DIFFUSERS, marks=("\npos_embed.pos_embed", "\ntransformer_blocks.", ".ff_context."),
                     layers=("transformer_blocks",))),
        variants=(Variant(name="Stable Diffusion 3.5 Medium", marks=(".attn2.",)),
                  Variant(name="Stable Diffusion 3.5 Large", marks=(".attn.ln_q.", ".attn.norm_q.")),
                  Variant(name="Stable Diffusion 3 Medium", marks=("\nx_embedder.", "\npos_embed.proj.")))),
    Architecture(
        name="Qwen-Image 2.1", encoders="Qwen3-VL", vae="of its own",
        names=(Names(by=_AUTHORS, marks=("\ntxt_in.text_norm.", ".img_mlp.gate_up."), layers=("transformer_blocks",)),
               Names(by=DIFFUSERS, marks=("\ntxt_in.text_norm.",), layers=("transformer_blocks",)))),
    Architecture(
        name="Qwen-Image", encoders="Qwen2.5-VL 7B", vae="of 16 channels (Qwen-Image's)",
        note="Qwen-Image and Qwen-Image-Edit have the same keys",
        names=(Names(by=f"{_AUTHORS} and {DIFFUSERS}", marks=("\ntransformer_blocks.", ".img_mod.", ".txt_mod."),
                     layers=("transformer_blocks",)),),
        variants=(Variant(name="Qwen-Image Layered", marks=(".addition_t_embedding.",), unsampled=_PICTURE),)),
    Architecture(
        name="OmniGen 2", unsampled=_NO_PIPELINE, encoders="Qwen2.5-VL 3B", vae=_KL16,
        names=(Names(by=f"{_AUTHORS} and {DIFFUSERS}", marks=("\nref_image_refiner.", "\nnoise_refiner."),
                     layers=("noise_refiner", "ref_image_refiner", "context_refiner", "layers")),)),
    Architecture(
        name="Z-Image", encoders="Qwen3 4B", vae=_KL16, note="Base, Turbo and Edit have the same keys",
        names=(Names(by=_AUTHORS, marks=("\nnoise_refiner.", ".attention.qkv.", ".adaLN_modulation.0."), layers=_REFINED),
               Names(by=DIFFUSERS, marks=("\nnoise_refiner.", ".attention.to_q."), lacks=("\nperceiver.",), layers=_REFINED))),
    Architecture(
        name="Lumina 2", encoders="Gemma 2 2B", vae=_KL16,
        names=(Names(by=_AUTHORS, marks=("\nnoise_refiner.", ".attention.qkv."), lacks=(".adaLN_modulation.0.",),
                     layers=_REFINED),
               Names(by=DIFFUSERS, marks=("\nnoise_refiner.", ".feed_forward.linear_1.", ".norm1.norm."),
                     lacks=("\nref_image_refiner.", "\nperceiver."), layers=_REFINED))),
    Architecture(
        name="Sana", encoders="Gemma 2 2B", vae="DC-AE of 32 channels",
        names=(Names(by=_AUTHORS, marks=("\nblocks.", ".mlp.inverted_conv."), layers=("blocks",)),
               Names(by=DIFFUSERS, marks=("\ntransformer_blocks.", ".ff.conv_inverted."), layers=("transformer_blocks",))),
        variants=(Variant(name="Sana Sprint", marks=("\ncfg_embedder.", "\ntime_embed.guidance_embedder.")),
                  Variant(name="Sana-Video", marks=("\npatch_embedding.",), unsampled=_VIDEOS))),
    Architecture(
        name="LTX-Video", unsampled=_VIDEOS, encoders="T5-XXL", vae="of its own",
        names=(Names(by=_AUTHORS, marks=("\npatchify_proj.", "\ntransformer_blocks."), layers=("transformer_blocks",)),
               Names(by=DIFFUSERS, marks=("\nproj_in.", "\ncaption_projection.", ".attn1.norm_q.", "\ntime_embed.emb."),
                     layers=("transformer_blocks",))),
        variants=(Variant(name="LTX-2", marks=("\naudio_patchify_proj.", "\naudio_proj_in.")),)),
    Architecture(
        name="PixArt", encoders="T5-XXL", vae="of 4 channels (SD1's for alpha, SDXL's for Sigma)",
        note="PixArt-alpha of 256 and 512 pixels and PixArt-Sigma have the same keys",
        names=(Names(by=_AUTHORS, marks=("\nblocks.", ".cross_attn.kv_linear.", ".mlp.fc1."), layers=("blocks",)),
               Names(by=DIFFUSERS, marks=("\nadaln_single.", "\ntransformer_blocks."), lacks=("\npatchify_proj.",),
                     layers=("transformer_blocks",))),
        variants=(Variant(name="PixArt-alpha", marks=("\ncsize_embedder.", ".resolution_embedder.")),
                  Variant(name="PixArt-Sigma or PixArt-alpha", marks=("\nt_block.", "\nadaln_single.")))),
    Architecture(
        name="AuraFlow", encoders="Pile-T5-XL", vae="of 4 channels (SDXL's)",
        names=(Names(by=_AUTHORS, marks=("\ndouble_layers.",), layers=("double_layers", "single_layers")),
               Names(by=DIFFUSERS, marks=("\njoint_transformer_blocks.",),
                     layers=("joint_transformer_blocks", "single_transformer_blocks")))),
    Architecture(
        name="HiDream-I1", encoders="CLIP-L, CLIP-G, T5-XXL and Llama 3.1 8B", vae=_KL16,
        note="Full, Dev, Fast and HiDream-E1 have the same keys",
        names=(Names(by=f"{_AUTHORS} and {DIFFUSERS}", marks=("\ndouble_stream_blocks.", ".block.adaLN_modulation."),
                     layers=("double_stream_blocks", "single_stream_blocks")),)),
    Architecture(
        name="Wan", unsampled=_VIDEOS, encoders="UMT5-XXL", vae="of 16 channels (Wan 2.1's), or of 48 (Wan 2.2 5B's)",
        note="Wan 2.1 14B and both experts of Wan 2.2 A14B have the same keys; so have the finetunes SkyReels 2 and ChronoEdit",
        names=(Names(by=_AUTHORS, marks=("\nblocks.", ".self_attn.q.", ".cross_attn."), layers=("vace_blocks", "blocks")),
               Names(by=DIFFUSERS, marks=("\nblocks.", ".attn1.to_q.", ".ffn.net."), layers=("vace_blocks", "blocks"))),
        variants=(Variant(name="Wan VACE", marks=("\nvace_blocks.",)),
                  Variant(name="Wan Animate", marks=("\nface_adapter.",)),
                  Variant(name="Wan 14B image-to-video", of=("patch_embedding.weight",), lengths={0: 5120, 1: 36}),
                  Variant(name="Wan 14B", of=("patch_embedding.weight",), lengths={0: 5120}),
                  Variant(name="Wan 2.2 5B", of=("patch_embedding.weight",), lengths={0: 3072}),
                  Variant(name="Wan 1.3B", of=("patch_embedding.weight",), lengths={0: 1536}))),
    Architecture(
        name="Cosmos-Predict2", unsampled=_NO_PIPELINE, encoders="T5 11B", vae="of 16 channels (Wan 2.1's)",
        names=(Names(by=_AUTHORS, marks=("\nblocks.", ".adaln_modulation_self_attn."), layers=("blocks",)),
               Names(by=DIFFUSERS, marks=("\ntransformer_blocks.", ".norm1.linear_1.", "\ntime_embed.t_embedder."),
                     layers=("transformer_blocks",))),
        variants=(Variant(name="Anima", marks=("\nllm_adapter.",)),)),
    Architecture(
        name="HunyuanDiT", encoders="CLIP (Chinese) and mT5-XL", vae="of 4 channels (SDXL's)",
        names=(Names(by=_AUTHORS, marks=("\nmlp_t5.", "\nblocks."), layers=("blocks",)),)),
    Architecture(
        name="Stable Cascade", unsampled=_NO_PIPELINE, encoders="CLIP-G", vae="its stages B and A",
        names=(Names(by=_AUTHORS, marks=("\nclip_txt_mapper.",), layers=("down_blocks", "up_blocks")),)),
    Architecture(
        name="AnimateDiff", unsampled=_VIDEOS, encoders="CLIP-L", vae="of 4 channels (SD1's)",
        names=(Names(by=DIFFUSERS, marks=("motion_modules.",), layers=("down_blocks", "mid_block", "up_blocks")),)),
    Architecture(
        name="Stable Video Diffusion", unsampled=_VIDEOS, encoders="CLIP-H, for images", vae="of 4 channels",
        names=(Names(by=_AUTHORS, marks=("time_stack.",), layers=("input_blocks", "middle_block", "output_blocks")),
               Names(by=DIFFUSERS, marks=("temporal_transformer_blocks.",), layers=("down_blocks", "mid_block", "up_blocks")))),
    Architecture(
        name="unCLIP", unsampled=_NO_PIPELINE, encoders="CLIP-H, for texts and images", vae="of 4 channels (SD1's)",
        names=(Names(by=_AUTHORS, marks=("embedder.model.visual.",),
                     layers=("input_blocks", "middle_block", "output_blocks")),)),
)
"""Rows that share most names with others come first."""


class Shaped(Protocol):
    """A tensor, of which only the shape is asked."""

    @property
    def shape(self) -> tuple[int, ...]: ...


def recognise(tensors: Mapping[str, Shaped], family: str = "") -> Recognised | None:
    """What a denoiser with these tensors is; `family` is one that names and shapes have already told. None for one that no row
    is for."""
    text = _text(tensors)
    row, names = _row(text, family)
    return Recognised(row=row, names=names, name=_variant(row, text, tensors)) if row and names else None


def recognised_name(names: Iterable[str]) -> str:
    """The name of the row without a family that these names are from; "" for all others."""
    row, _ = _row(_text(names), "")
    return row.name if row and not row.family else ""


def _text(names: Iterable[str]) -> str:
    return "\n" + _STARTS.sub("", "\n".join(names))


def _row(text: str, family: str) -> tuple[Architecture | None, Names | None]:
    for row in ARCHITECTURES:
        if family in ("", row.family) and (names := next((one for one in row.names if _has(text, one.marks, one.lacks)), None)):
            return row, names
    # A part of a model may have none of the names that tell.
    of_family = next((row for row in ARCHITECTURES if family and row.family == family), None)
    return of_family, of_family.names[0] if of_family else None


def _has(text: str, marks: Iterable[str], lacks: Iterable[str]) -> bool:
    return all(mark in text for mark in marks) and not any(mark in text for mark in lacks)


def _variant(row: Architecture, text: str, tensors: Mapping[str, Shaped]) -> str:
    of = {name for variant in row.variants for name in variant.of}
    shapes = {plain: tensor.shape for name, tensor in tensors.items() if (plain := _STARTS.sub("", name)) in of} if of else {}
    for variant in row.variants:
        shape = next((shapes[name] for name in variant.of if name in shapes), ())
        lengths = all(axis < len(shape) and shape[axis] == length for axis, length in variant.lengths.items())
        if lengths and any(mark in text for mark in variant.marks) and not any(mark in text for mark in variant.lacks):
            return variant.name
    return row.name


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What may be stored among the weights of a denoiser without being a part of it."""

    what: str
    name: re.Pattern[str]


BESIDE: Final = (
    Beside(what="a VAE", name=re.compile(
        r"(?:.*\.)?(?:vae|vae_model|first_stage_model|autoencoder|ae)\.|(?:.*\.)?(?:encoder|decoder)\.(?:(?:down|up|mid)\w*|conv_in"
        r"|conv_out|conv_norm_out|downsamples|upsamples)\.|(?:.*\.)?(?:post_)?quant_conv\.")),
    Beside(what="a text encoder", name=re.compile(
        r"(?:.*\.)?(?:text_encoders?(?:_[0-9])?|text_model|cond_stage_model|conditioner|clip_[lgh]|t5xxl|umt5\w*|qwen\w*|gemma\w*"
        r"|llama\w*|mistral\w*|language_model|llm)\.|(?:.*\.)?embed_tokens\.|(?:.*\.)?model\.layers\.[0-9]+\.(?:self_attn|mlp)\."
        r"|(?:.*\.)?(?:resblocks|block)\.[0-9]+\.(?:attn\.in_proj|layer\.[0-9]\.SelfAttention)")),
)


def beside(names: Iterable[str]) -> dict[str, list[str]]:
    """{what it could be: names} of the tensors that could be a VAE or a text encoder, by their names alone."""
    found: dict[str, list[str]] = {}
    for name in names:
        if row := next((row for row in BESIDE if row.name.match(name)), None):
            found.setdefault(row.what, []).append(name)
    return found
