"""OWN: the text-to-image pipelines of diffusers by which folders are sampled, and how each is called. Why the others are not.
Importing this imports neither torch nor diffusers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

SCALE: Final = "guidance_scale"
TRUE_SCALE: Final = "true_cfg_scale"


@dataclass(frozen=True, kw_only=True)
class OwnClass:
    """How a pipeline is called. `guidance` is its argument for the guidance scale, "" where it takes none. A `distilled` model
    takes the number as a condition; all others steer away from the negative text, which the call takes if `negative`. `off` is
    what is passed for guidance 1. `batches` says that several prompts go into one call. `alpha` says that the
    images are transparent in places; the transparency is left out. `settings` are arguments whose defaults would change the text
    or the size."""

    guidance: str = SCALE
    distilled: bool = False
    negative: bool = True
    off: float = 1.0
    batches: bool = True
    alpha: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


_IN_ITS_SIZE: Final = {"use_resolution_binning": False}
"""Otherwise images are made in the nearest size of a table, and scaled."""
_AS_WRITTEN: Final = {"clean_caption": False}
"""Otherwise texts are changed where a package is installed that it needs."""
_DISTILLED: Final = OwnClass(distilled=True, negative=False)
_ONE_BY_ONE: Final = OwnClass(batches=False)
"""A text or a negative text of another length in the batch would change the image."""

OWN: Final[Mapping[str, OwnClass]] = {
    "AuraFlowPipeline": OwnClass(),
    "BriaFibo2Pipeline": OwnClass(),
    "BriaFiboPipeline": _ONE_BY_ONE,
    "BriaPipeline": _ONE_BY_ONE,
    "ChromaPipeline": OwnClass(),
    "CogView3PlusPipeline": OwnClass(),
    "CogView4Pipeline": _ONE_BY_ONE,
    "DreamLiteMobilePipeline": OwnClass(guidance="", negative=False, batches=False),
    "DreamLitePipeline": OwnClass(batches=False),
    "ErnieImagePipeline": OwnClass(settings={"use_pe": False}),
    "Flux2KleinKVPipeline": OwnClass(guidance="", negative=False),
    "Flux2KleinPipeline": OwnClass(negative=False),
    "Flux2Pipeline": _DISTILLED,
    "GlmImagePipeline": OwnClass(negative=False, batches=False),
    "HiDreamImagePipeline": OwnClass(),
    "HunyuanDiTPipeline": OwnClass(settings=_IN_ITS_SIZE),
    "IFPipeline": OwnClass(settings=_AS_WRITTEN),
    "Ideogram4Pipeline": OwnClass(negative=False, settings={"guidance_schedule": None}),
    "Kandinsky3Pipeline": _ONE_BY_ONE,
    "Kandinsky5T2IPipeline": _ONE_BY_ONE,
    "Krea2Pipeline": OwnClass(off=0.0),
    "LatentConsistencyModelPipeline": _DISTILLED,
    "LongCatImagePipeline": OwnClass(settings={"enable_prompt_rewrite": False}),
    "Lumina2Pipeline": OwnClass(),
    "LuminaPipeline": OwnClass(settings=_AS_WRITTEN),
    "NucleusMoEImagePipeline": OwnClass(),
    "OmniGenPipeline": OwnClass(negative=False, batches=False),
    "OvisImagePipeline": OwnClass(),
    "PRXPipeline": OwnClass(batches=False, settings=_IN_ITS_SIZE),
    "PRXPixelPipeline": OwnClass(batches=False, settings=_IN_ITS_SIZE),
    "PixArtAlphaPipeline": OwnClass(settings={**_IN_ITS_SIZE, **_AS_WRITTEN}),
    "PixArtSigmaPipeline": OwnClass(settings={**_IN_ITS_SIZE, **_AS_WRITTEN}),
    "QwenImage21Pipeline": OwnClass(guidance=TRUE_SCALE, batches=False, alpha=True),
    "QwenImagePipeline": OwnClass(guidance=TRUE_SCALE),
    "SanaPipeline": OwnClass(settings={**_IN_ITS_SIZE, **_AS_WRITTEN}),
    "SanaSprintPipeline": OwnClass(distilled=True, negative=False, settings={**_IN_ITS_SIZE, **_AS_WRITTEN}),
    "ZImageOmniPipeline": OwnClass(off=0.0),
    "ZImagePipeline": OwnClass(off=0.0),
}
"""By class name. What a row says of arguments, a test compares with the signature of the installed class."""

BUILT_IN: Final = ("StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline", "FluxPipeline")
"""The classes whose models are sampled by this project itself, or with embeddings that it makes."""
AS_BUILT_IN: Final[Mapping[str, str]] = {
    "FluxKontextPipeline": "FluxPipeline",
    "StableDiffusionPAGPipeline": "StableDiffusionPipeline",
    "StableDiffusionXLPAGPipeline": "StableDiffusionXLPipeline",
    "StableDiffusion3PAGPipeline": "StableDiffusion3Pipeline",
}
"""Other calls of the same models: {class: the one whose images its folder gives}. Pictures and perturbed guidance are options of
these calls that no suite declares."""

_VIDEO: Final = "it makes videos"
_TWO: Final = "it joins two models, a prior and a decoder; only one denoiser can be merged and sampled here"
_OLD: Final = "diffusers no longer supports it"
_PICTURE: Final = "it needs a picture to begin from"
REFUSED: Final[Mapping[str, str]] = {
    "Cosmos2TextToImagePipeline": "it cannot be built without its safety checker, and no safety checker is loaded here",
    "DiTPipeline": "it draws classes of ImageNet, not texts",
    "FluxControlPipeline": _PICTURE,
    "FluxFillPipeline": _PICTURE,
    "HunyuanImagePipeline": "its guidance is a component of the folder (guider) and no option of its call",
    "HunyuanImageRefinerPipeline": _PICTURE,
    **dict.fromkeys(("KandinskyPipeline", "KandinskyCombinedPipeline", "KandinskyImg2ImgCombinedPipeline",
                     "KandinskyInpaintCombinedPipeline", "KandinskyV22Pipeline", "KandinskyV22CombinedPipeline",
                     "KandinskyV22Img2ImgCombinedPipeline", "KandinskyV22InpaintCombinedPipeline"), _TWO),
    "KolorsPipeline": "diffusers brings it with the package sentencepiece alone, which is not installed here",
    "LDMTextToImagePipeline": "its text encoder is a class of the pipeline's own file, and only those that diffusers and "
                              "transformers offer are loaded",
    "StableCascadeCombinedPipeline": _TWO, "StableCascadeDecoderPipeline": _TWO,
    "StableUnCLIPPipeline": _TWO,
    "StableUnCLIPImg2ImgPipeline": _PICTURE,
    "VisualClozePipeline": _PICTURE,
    "VisualClozeGenerationPipeline": _PICTURE,
    "RFD4ProteinaPipeline": "it designs proteins",
    "ShapEPipeline": "it makes three-dimensional objects",
    "ShapEImg2ImgPipeline": "it makes three-dimensional objects",
    "DiffusionGemmaPipeline": "it writes texts", "LLaDA2Pipeline": "it writes texts",
    **dict.fromkeys(("DDIMPipeline", "DDPMPipeline", "ConsistencyModelPipeline", "LDMPipeline", "PNDMPipeline"),
                    "it takes no text"),
}
"""By class name, why a pipeline of diffusers is not among them, where the name does not say it: see `reason`."""
_BY_NAME: Final = (
    (r"Video|AnimateDiff|^Wan|SkyReels|^LTX|^Allegro|^Mochi|^Latte|^CogVideoX|^EasyAnimate|^Helios|^Cosmos|^ConsisID|^I2VGen|PIA"
     r"|^AnyFlow|^ChronoEdit|^LucyEdit|^SanaWM|T2V|I2V|TI2VA|FramePack|Framepack|HunyuanSkyreels|TextToVideo", _VIDEO),
    (r"Audio|^AceStep|Music|Spectrogram|^DanceDiffusion", "it makes sounds"),
    (r"ModelEditing|Pix2PixZero", _OLD),
    (r"Inpaint|Fill|RePaint|PaintByExample", "it changes a part of a picture"),
    (r"Edit|Pix2Pix|Layered|DiffEdit|ImageVariation|CycleDiffusion", "it changes a picture"),
    (r"Img2Img|ImageToImage|Depth2Img|Emb2Emb|Redux|Marigold|I2I", _PICTURE),
    (r"ControlNet|Controlnet|Control|Adapter", "it needs a control picture; give the model alone, without the control network"),
    (r"Upscale|SuperResolution|SR|Upsample", "it enlarges a picture"),
    (r"Combined|Prior|Decoder|UnCLIP|Cascade|Wuerstchen", _TWO),
    (r"PAG", "perturbed-attention guidance has options of its own; write the class without PAG into model_index.json"),
    (r"^AltDiff|PipelineSafe|^Amused|^BlipDiff|^KarrasVe|^ScoreSde|^Semantic|AttendAndExcite|GLIGEN|LDM3D|Panorama|Paradigms|SAG|^UniDiff"
     r"|^VQDiff|^Versatile", _OLD),
    (r"Onnx|ONNX", "its weights are ONNX graphs"),
    (r"Modular", "a modular pipeline has no call of its own; give the folder of the whole model"),
)


def reason(name: str) -> str:
    """Why models of this pipeline class are not sampled; "" for one that is."""
    if name in OWN or name in BUILT_IN or name in AS_BUILT_IN:
        return ""
    if name in REFUSED:
        return REFUSED[name]
    known = next((why for pattern, why in _BY_NAME if re.search(pattern, name)), "")
    return known or "it is not one of diffusers' text-to-image pipelines that are known here"
