"""One file of every format: a model as shapes, its family, the canonical changes, the file's tensors and its header."""

import json

import pytest

from harness.adapters.original_names import original_names
from tests.adapters import fixtures as fx

LINEAR = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


def attention_only(model):
    return {place: change for place, change in fx.loras(model, baked=True).items()
            if ".attn" in place[1] or "self_attn" in place[1]}


def case(model, family, changes, tensors, metadata=None):
    return model, family, changes, tensors, metadata


def kohya_sd1():
    model, changes = fx.sd1(), fx.loras(fx.sd1())
    return case(model, "sd1", changes, fx.kohya(changes))


def kohya_sd1_te():
    model, changes = fx.sd1(), fx.loras(fx.sd1())
    return case(model, "sd2", changes, fx.kohya(changes, fx.FLAT | {"text_encoder": "lora_te_"}))


def kohya_sdxl_sgm():
    model, changes = fx.sdxl(), fx.loras(fx.sdxl())
    return case(model, "sdxl", changes, fx.kohya(changes, rename=original_names(model["unet"])))


def kohya_sdxl_diffusers():
    model, changes = fx.sdxl(), fx.loras(fx.sdxl())
    return case(model, "sdxl", changes, fx.kohya(changes))


def kohya_flux():
    model, changes = fx.flux(), fx.loras(fx.flux())
    return case(model, "flux", changes, fx.kohya(changes, fx.FLAT | {"text_encoder_2": "lora_te3_"}))


def kohya_sd3():
    model, changes = fx.sd3(), fx.loras(fx.sd3())
    return case(model, "sd3", changes, fx.kohya(changes))


def lycoris_wrapper():
    model, changes = fx.flux(fx.flux_diffusers), fx.loras(fx.flux(fx.flux_diffusers), only=("transformer",))
    return case(model, "flux", changes, fx.kohya(changes, {"transformer": "lycoris_"}))


def onetrainer():
    model, changes = fx.flux(fx.flux_diffusers), fx.loras(fx.flux(fx.flux_diffusers))
    return case(model, "flux", changes, fx.kohya(changes, fx.FLAT | {"transformer": "lora_transformer_"}))


def diffusers_header():
    model, changes = fx.sdxl(), fx.loras(fx.sdxl())
    return case(model, "sdxl", changes, fx.dotted(changes, alpha=""), fx.header(changes))


def diffusers_without_header():
    model, changes = fx.flux(fx.flux_diffusers), fx.loras(fx.flux(fx.flux_diffusers), baked=True)
    return case(model, "flux", changes, fx.dotted(changes))


def legacy_with_unet():
    model = fx.sd1()
    changes = attention_only(model)
    return case(model, "sd1", changes, fx.legacy(changes))


def legacy_without_unet():
    model = fx.sd1()
    changes = {place: change for place, change in attention_only(model).items() if place[0] == "unet"}
    return case(model, "sd1", changes, fx.legacy(changes, prefix=False))


def legacy_middle():
    model, changes = fx.sd1(), fx.loras(fx.sd1(), baked=True)
    roles = {"down": "lora.down.weight", "up": "lora.up.weight"}
    return case(model, "sd1", changes, fx.spelt(changes, lambda change: f"{change.component}.{change.path}", roles))


def ai_toolkit_new():
    model, changes = fx.flux(), fx.loras(fx.flux(), only=("transformer",))
    return case(model, "flux", changes, fx.dotted(changes, "diffusion_model."))


def bare_original():
    model, changes = fx.flux(), fx.loras(fx.flux(), only=("transformer",))
    return case(model, "flux", changes, {
        key.removeprefix("transformer."): value for key, value in fx.dotted(changes).items()})


def omi():
    model, changes = fx.sd1(), fx.loras(fx.sd1(), only=("unet",))
    return case(model, "sd1", changes, fx.spelt(changes, lambda change: f"unet.{change.path}",
                                                {"down": "lora_down", "up": "lora_up"}))


def xlabs():
    model = fx.flux()
    names = {f"double_blocks.{n}.{side}_attn.{part}": f"double_blocks.{n}.processor.{part}_lora{number}"
             for n in (0, 1) for side, number in (("img", 1), ("txt", 2)) for part in ("qkv", "proj")}
    names |= {f"single_blocks.{n}.linear2": f"single_blocks.{n}.processor.proj_lora" for n in (0, 1)}
    changes = {place: change for place, change in fx.loras(model, baked=True).items() if place[1] in names}
    roles = {"down": "down.weight", "up": "up.weight"}
    return case(model, "flux", changes, fx.spelt(changes, lambda change: names[change.path], roles))


def cloneofsimo():
    model = fx.sd1()
    inner = [f"attn{n}.to_{part}" for n in (1, 2) for part in ("q", "k", "v", "out.0")]
    stems = [f"{block}.transformer_blocks.0" for block in ("down_blocks.0.attentions.0", "up_blocks.1.attentions.0",
                                                          "up_blocks.1.attentions.1", "mid_block.attentions.0")]
    paths = [("unet", f"{stem}.{part}") for stem in stems for part in inner]
    words = [("text_encoder", f"text_model.encoder.layers.{n}.self_attn.{part}_proj") for n in (0, 1)
             for part in ("k", "v", "q", "out")]
    every = fx.loras(model, baked=True)
    changes, tensors = {}, {}
    for places in (paths, words):
        for number, place in enumerate(places):
            changes[place] = every[place]
            tensors |= {f"{place[0]}:{number}:{role}": every[place].tensors[role] for role in ("up", "down")}
    return case(model, "sd1", changes, tensors, {"unet": json.dumps(["CrossAttention", "Attention", "GEGLU"])})


CASES = (kohya_sd1, kohya_sd1_te, kohya_sdxl_sgm, kohya_sdxl_diffusers, kohya_flux, kohya_sd3, lycoris_wrapper, onetrainer,
         diffusers_header, diffusers_without_header, legacy_with_unet, legacy_without_unet, legacy_middle, ai_toolkit_new,
         bare_original, omi, xlabs, cloneofsimo)
by_case = pytest.mark.parametrize("made", CASES, ids=lambda made: made.__name__)
