"""diffusers' step caches for transformers: what the hooks of a copied denoiser are, which steps they leave out, and their state,
which a picture begins without."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from harness.declare import FirstBlock, MagCache, TaylorSeer
from harness.savers.contract import SaverError, SaverReport, Use

if TYPE_CHECKING:
    import torch

TransformerCache = FirstBlock | TaylorSeer | MagCache
FAMILIES: Final = {FirstBlock: ("flux",), TaylorSeer: ("flux", "sd3"), MagCache: ("flux", "sd3")}
_OTHERS: Final = "TaylorSeer(interval=3) is for Flux and Stable Diffusion 3"
_CONTEXT: Final = "picture"


def no_transformer_cache(cache: TransformerCache, use: Use) -> str:
    """Why one of diffusers' caches cannot act on this, or would leave out nothing at its steps; empty if it acts."""
    name, family = type(cache).__name__, use.pipeline.family
    if "unet" in use.pipeline.parts:
        return f"{name} is for transformers, and this model has a U-Net; give DeepCache(interval=2)"
    if family not in FAMILIES[type(cache)]:
        if isinstance(cache, FirstBlock) and family == "sd3":
            return ("diffusers' first block cache cannot run the last block of models of the family sd3, which gives no text "
                    f"states; {_OTHERS}")
        return f"{name} does not know the blocks of models of the family {family}; remove it"
    if isinstance(cache, MagCache) and not cache.ratios and family != "flux":
        return ("the ratios that diffusers has for MagCache are those of Flux; give ratios=(...) that were measured on this "
                "model (diffusers' MagCacheConfig(calibrate=True) prints them)")
    if use.steps and not _left_out(cache, use.steps):
        return f"{name} would leave out nothing in {use.steps} steps: {_why_idle(cache, use.steps)}"
    return ""


def _left_out(cache: TransformerCache, steps: int) -> bool:
    """Whether any step may be left out."""
    if isinstance(cache, TaylorSeer):
        return any(map(cache.predicts, range(steps)))
    return any(_skipped(cache, steps)) if isinstance(cache, MagCache) else steps > 1


def _why_idle(cache: TransformerCache, steps: int) -> str:
    if isinstance(cache, TaylorSeer):
        return ("every step is whole with interval=1; give 2 or more" if cache.interval == 1 else
                f"the first {cache.warm_up} are whole; give a lower warm_up, or more steps")
    if isinstance(cache, MagCache):
        return (f"the first {round(cache.retention_ratio * steps)} are whole, and after them the error is never within threshold="
                f"{cache.threshold:g}; give a lower retention_ratio, a higher threshold, or more steps")
    return "give more steps, or remove it"


def _skipped(cache: MagCache, steps: int) -> Iterator[bool]:
    """Whether MagCache leaves out each step. Its decisions depend on the ratios alone, in the arithmetic of diffusers' hook."""
    ratios, whole = _ratios_at(cache, steps), int(cache.retention_ratio * steps + 0.5)
    product, error, run = 1.0, 0.0, 0
    for step in range(steps):
        skips = False
        if step >= whole:
            product, run = product * float(ratios[step]), run + 1
            error += abs(1 - product)
            skips = step > 0 and error <= cache.threshold and run <= cache.max_skip_steps
            if not skips:
                product, error, run = 1.0, 0.0, 0
        yield skips


def _ratios_at(cache: MagCache, steps: int) -> Any:
    """The ratios of a run of so many steps."""
    import torch
    from diffusers.hooks.mag_cache import FLUX_MAG_RATIOS, nearest_interp

    return nearest_interp(torch.tensor(cache.ratios) if cache.ratios else FLUX_MAG_RATIOS, steps)


def hook_transformer(module: torch.nn.Module, cache: TransformerCache) -> SaverReport:
    """Gives a transformer, which is a copy with layers of its own, one of diffusers' caches. Raises SaverError where its hooks
    find no layers."""
    import torch
    from diffusers import hooks

    if isinstance(cache, FirstBlock):
        hooks.apply_first_block_cache(module, hooks.FirstBlockCacheConfig(threshold=cache.threshold))
        note = (f"first block cache of diffusers, threshold {cache.threshold:g}: all blocks after the first are left out at "
                "steps that change little")
    elif isinstance(cache, TaylorSeer):
        hooks.apply_taylorseer_cache(module, hooks.TaylorSeerCacheConfig(
            cache_interval=cache.interval, disable_cache_before_step=cache.warm_up, max_order=cache.order,
            taylor_factors_dtype=torch.float32))
        note = (f"TaylorSeer of diffusers: attention is extrapolated by a series of order {cache.order}, except in the first "
                f"{cache.warm_up} steps and every {cache.interval} steps after them")
    else:
        # The number of steps is set for each picture.
        config = hooks.MagCacheConfig(threshold=cache.threshold, max_skip_steps=cache.max_skip_steps, num_inference_steps=1,
                                      retention_ratio=cache.retention_ratio, mag_ratios=_ratios_at(cache, 1))
        hooks.apply_mag_cache(module, config)
        config.declared = cache
        note = (f"MagCache of diffusers, threshold {cache.threshold:g}: all blocks are left out at steps that its "
                f"{'own' if cache.ratios else 'Flux'} ratios say change little, at most {cache.max_skip_steps} in a row")
    # A pipeline that ran before listed the layers with hooks: none. The copy has that list.
    hooks.HookRegistry.check_if_exists_or_initialize(module).invalidate_child_registries_cache()
    hooked = tuple(name for name, layer in module.named_modules() if name and hasattr(layer, "_diffusers_hook"))
    if not hooked:
        raise SaverError(f"{type(cache).__name__} knows no layer of this transformer")
    return SaverReport(changed=hooked, notes=(note,))


def begin_anew(denoiser: Any, steps: int) -> None:
    """Lets a transformer with a step cache forget the picture before, whose last step would pass for the one before its
    first."""
    from diffusers.hooks import HookRegistry
    from diffusers.hooks.hooks import CacheContext

    hooks = []
    for layer in denoiser.modules():
        if hasattr(layer, "_diffusers_hook"):
            registry = layer._diffusers_hook
            assert isinstance(registry, HookRegistry)
            registry.reset_stateful_hooks(recurse=False)
            hooks += registry.hooks.values()
    for hook in hooks:
        # The pipeline of Flux names the branches of guidance, each of which then has a state of its own. That of Stable
        # Diffusion 3 runs them as one batch, and names none.
        if (manager := getattr(hook, "state_manager", None)) is not None and not hasattr(denoiser, "cache_context"):
            manager.set_context(CacheContext(name=_CONTEXT))
        config: Any = getattr(hook, "config", None)
        if (declared := getattr(config, "declared", None)) is not None:
            config.num_inference_steps, config.mag_ratios = steps, _ratios_at(declared, steps)
