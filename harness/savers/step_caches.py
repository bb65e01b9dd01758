"""Step caches: a denoiser that leaves out layers at some steps, and takes what they gave at an earlier one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from harness.declare import DeepCache, StepCache
from harness.savers.contract import SaverReport, Use
from harness.savers.transformer_caches import hook_transformer, no_transformer_cache

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class CachedSteps:
    """What one batch keeps of one denoiser from step to step: the hidden state of the last whole run, and how many steps there
    were since the first."""

    interval: int
    hidden: torch.Tensor | None = None
    count: int = 0

    @property
    def whole(self) -> bool:
        """Whether the whole denoiser is run at the next step."""
        return self.hidden is None or self.count % self.interval == 0


_STEPS: Final[ContextVar[CachedSteps | None]] = ContextVar("steps", default=None)
"""Of the batch that a thread runs: several threads run their batches on one denoiser."""


@contextmanager
def cached(steps: CachedSteps | None) -> Iterator[None]:
    """Within the block a denoiser with a step cache runs the next step of a batch; whole for None."""
    token = _STEPS.set(steps)
    try:
        yield
        if steps is not None:
            steps.count += 1
    finally:
        _STEPS.reset(token)


def cache_steps(module: torch.nn.Module, cache: StepCache) -> SaverReport:
    """Gives a denoiser, which is a copy with layers of its own, a step cache. Raises SaverError where it finds no layers."""
    return _deep(module, cache) if isinstance(cache, DeepCache) else hook_transformer(module, cache)


def no_cache(cache: StepCache, use: Use) -> str:
    """Why a step cache cannot act on this; empty if it can."""
    if not isinstance(cache, DeepCache):
        return no_transformer_cache(cache, use)
    unet = use.pipeline.parts.get("unet")
    if unet is None:
        return f"DeepCache is for U-Nets, and models of the family {use.pipeline.family} have a transformer; remove it"
    most = len(unet.down_blocks[0].resnets)
    if cache.branch > most:
        return f"branch is {cache.branch}, and the outermost blocks of this U-Net have those from 0 to {most}; give one of them"
    return ""


def _deep(module: torch.nn.Module, cache: DeepCache) -> SaverReport:
    unet: Any = module
    block, plain, width = unet.up_blocks[-1], unet.forward, unet.conv_in.out_channels
    first = block.resnets[-(cache.branch + 1)]

    def keep(_: object, args: tuple[Any, ...]) -> None:
        steps = _STEPS.get()
        if steps is not None:  # what comes over the skip connection is beside it, as the last channels
            steps.hidden = args[0][:, :-width].clone()

    def forward(sample: Any, timestep: Any, encoder_hidden_states: Any, **given: Any) -> Any:
        steps = _STEPS.get()
        if steps is None or steps.whole:
            return plain(sample, timestep, encoder_hidden_states, **given)
        return outermost(unet, cache.branch, steps.hidden, (sample, timestep, encoder_hidden_states), given)

    first.register_forward_pre_hook(keep)
    unet.forward = forward
    names = {id(layer): name for name, layer in module.named_modules()}
    layers = [unet.conv_in, *unet.down_blocks[0].resnets[:cache.branch], *block.resnets[-(cache.branch + 1):], unet.conv_out]
    often = ("every step is whole, so that nothing is saved" if cache.interval == 1 else
             f"every {_ordinal(cache.interval)} step is whole, from the first of a phase on")
    return SaverReport(changed=tuple(names[id(layer)] for layer in layers), notes=(
        f"DeepCache: {often}; these layers are run at every step",))


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


_TEXT_TIME: Final = "added_cond_kwargs"
_ATTENTION: Final = "cross_attention_kwargs"
_RESIDUALS: Final = ("down_block_additional_residuals", "mid_block_additional_residual")
_FEATURES: Final = "down_intrablock_additional_residuals"
_GIVEN: Final = frozenset({_TEXT_TIME, _ATTENTION, *_RESIDUALS, _FEATURES})
"""What the forward of diffusers' U-Net is given here beside its first three inputs."""


def outermost(unet: Any, branch: int, hidden: Any, inputs: tuple[Any, Any, Any], given: Mapping[str, Any]) -> Any:
    """The output of a U-Net's forward whose last `branch` + 1 layers are given this hidden state: with that of the same step,
    what the forward gives, to the last bit. `inputs` are latents, timestep and text states. The steps are those of diffusers'
    forward. Raises TypeError for an input that it would ignore."""
    import torch
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

    if foreign := given.keys() - _GIVEN:
        raise TypeError(f"a U-Net with a step cache is given {sorted(foreign)}; expected {sorted(_GIVEN)} alone")
    (sample, timestep, states), added_conditions = inputs, given.get(_TEXT_TIME)
    time = unet.time_embedding(unet.get_time_embed(sample=sample, timestep=timestep), None)
    added = unet.get_aug_embed(emb=time, encoder_hidden_states=states, added_cond_kwargs=added_conditions)
    time = time if added is None else time + added
    states = unet.process_encoder_hidden_states(encoder_hidden_states=states, added_cond_kwargs=added_conditions)

    def layer(block: Any, number: int, x: Any) -> Any:
        x = block.resnets[number](x, time)
        if not getattr(block, "has_cross_attention", False):
            return x
        return block.attentions[number](x, encoder_hidden_states=states, cross_attention_kwargs=given.get(_ATTENTION),
                                        attention_mask=None, encoder_attention_mask=None, return_dict=False)[0]

    x = unet.conv_in(sample)
    skipped, down, features = [x], unet.down_blocks[0], given.get(_FEATURES)
    for number in range(branch):
        x = layer(down, number, x)
        if number == len(down.resnets) - 1 and features and getattr(down, "has_cross_attention", False):
            x = x + features[0]
        skipped.append(x)
    if all(given.get(name) is not None for name in _RESIDUALS):
        skipped = [one + residual for one, residual in zip(skipped, given[_RESIDUALS[0]], strict=False)]
    x, up = hidden, unet.up_blocks[-1]
    for number, skip in zip(range(-branch - 1, 0), reversed(skipped), strict=True):
        x = layer(up, number, torch.cat([x, skip], dim=1))
    x = unet.conv_act(unet.conv_norm_out(x)) if unet.conv_norm_out else x
    return UNet2DConditionOutput(sample=unet.conv_out(x))
