"""A live model: its modules, its text encoders, and the shape of its latents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from harness.declare import DeepCache, Prompt
    from harness.own_pipelines.live import Own
    from harness.reference.live import LiveReference


@dataclass(frozen=True, kw_only=True)
class TextEncoder:
    """`module` is a transformers text model, `tokenizer` its tokenizer, `component` its name ("text_encoder_2").

    `layer` names the hidden states that condition the denoiser: "last" is the encoder's final output with its final norm
    (Stable Diffusion 1, and 2 with its configs of 23 layers), "penultimate" the output of the last but one layer without
    the final norm (SDXL). `pooled` says whether the projected embedding of the whole text conditions it too. For families
    that diffusers samples, diffusers chooses the states itself. `positions` is how many tokens a T5 encoder is given, as neither
    it nor its tokenizer has a limit; None for CLIP, which has one.

    An empty negative text is embedded as "", as A1111 and ComfyUI do, and diffusers if it is given "". (For SDXL's base
    model, diffusers uses zeros if it is given no negative text.)
    """

    component: str
    module: Any
    tokenizer: Any
    layer: Literal["last", "penultimate"] = "last"
    pooled: bool = False
    positions: int | None = None
    executed: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor] | None = None
    """What executes the encoder in place of `module`: it is given token ids (1, tokens), vectors (1, tokens, width), and where
    these replace tokens (1, tokens, 1), and gives the states of all layers (see `harness.runtimes.text_entry`)."""


@dataclass(frozen=True, kw_only=True)
class LiveControl:
    """A control network beside a live U-Net. `picture` tells its maps from those of others, and `read` gives the map (h, w, 3) of
    a prompt, uint8 RGB; where it is None the map is `drawn` of the picture of the stage before. `weight` multiplies what it
    adds; at 0 there is no `network`. With `guess` only the positive half is controlled. A `t2i` network (a T2I-Adapter) sees the
    map alone, so that it is run once for each picture. `kind` is the place of the kind of pictures in a union network, and None
    for other networks."""

    picture: str
    network: Any
    weight: float
    guess: bool
    read: Callable[[Prompt], NDArray[np.uint8]] | None
    drawn: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None
    t2i: bool = False
    kind: int | None = None


@dataclass(frozen=True, kw_only=True)
class LiveInpaint:
    """The pictures that a pipeline changes: `read` gives the picture (h, w, 3) of a prompt, uint8 RGB, and its mask (h, w), which
    is true where the picture is changed. The steps that are run are the last of `of_steps`."""

    read: Callable[[Prompt], tuple[NDArray[np.uint8], NDArray[np.bool_]]]
    of_steps: int


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """The live modules of a model, in evaluation mode and without gradients. They compute on `device`; text encoders may be kept
    on the host (`placing.lent`).

    `parts` are the modules by component: "unet" or "transformer", "vae", "text_encoder", "text_encoder_2",
    "text_encoder_3". `encoders` are the text encoders in the order in which their states are joined. `scheduler_config` is
    the config for diffusers' schedulers; `notes` say where the model's own markers overrode it. `called` is a diffusers
    pipeline of these very modules for a family that is sampled by calling it (`called.call_pipeline`), None for one whose
    U-Net our own loop samples.
    """

    parts: Mapping[str, Any]
    encoders: tuple[TextEncoder, ...]
    scheduler_config: dict[str, Any]
    device: torch.device
    family: str = "sd1"
    notes: tuple[str, ...] = ()
    called: Any | None = None
    own: Own | None = None
    """How `called` is made and called, where it is the pipeline that the model's folder names."""
    controls: tuple[LiveControl, ...] = ()
    """The control networks that act on the U-Net."""
    references: tuple[LiveReference, ...] = ()
    """The IP-Adapters whose pictures the U-Net's cross attention sees."""
    inpaint: LiveInpaint | None = None
    """The pictures that are changed; None where images are made of noise alone."""

    shared: tuple[Any, ...] = ()
    """Modules that share memory with the denoiser, which is a copy of their layers."""
    step_cache: DeepCache | None = None
    """How often the whole U-Net is run; None for every step."""

    computes_in: torch.dtype | None = None
    """What the U-Net computes in, where its first layer does not say it: its weights are stored in another format, or are not
    torch's."""

    @property
    def dtype(self) -> torch.dtype:
        """The dtype in which the U-Net computes; KeyError for a family that has a transformer."""
        dtype: torch.dtype = self.unet.conv_in.weight.dtype if self.computes_in is None else self.computes_in
        return dtype

    @property
    def unet(self) -> Any:
        """The U-Net; KeyError for a family that has a transformer."""
        return self.parts["unet"]

    @property
    def denoiser(self) -> Any:
        """The U-Net or the transformer."""
        return self.parts["unet"] if "unet" in self.parts else self.parts["transformer"]

    @property
    def vae(self) -> Any:
        """The autoencoder."""
        return self.parts["vae"]

    @property
    def text_encoder(self) -> Any:
        """The first text encoder."""
        return self.parts["text_encoder"]

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the first text encoder."""
        return self.encoders[0].tokenizer


def reads_mask(pipeline: Pipeline) -> bool:
    """Whether the U-Net is one of an inpainting model, which reads a mask and the masked picture's latents beside its own."""
    config = pipeline.denoiser.config
    return "unet" in pipeline.parts and int(config.in_channels) == 2 * int(config.out_channels) + 1


def latent_shape(pipeline: Pipeline, width: int, height: int) -> tuple[int, int, int]:
    """(channels, height / f, width / f) of one image's latents, where f is the VAE's factor, 8 at full size.

    Raises ValueError unless both sizes are multiples of f, or for transformers of f times the patch size.
    """
    factor = 2 ** (len(pipeline.vae.config.block_out_channels) - 1)
    multiple, channels = factor, int(pipeline.denoiser.config.in_channels)
    if reads_mask(pipeline):
        channels //= 2
    if pipeline.family == "flux":
        # Flux reads squares of 2 x 2 latents as one vector, which its config counts as channels.
        multiple, channels = factor * 2, channels // 4
    elif pipeline.family == "sd3":
        multiple = factor * int(pipeline.denoiser.config.patch_size)
    if width % multiple or height % multiple:
        raise ValueError(f"{width} x {height} is not a valid size for models of the family {pipeline.family}; expected "
                         f"multiples of {multiple}. Change width and height.")
    return channels, height // factor, width // factor
