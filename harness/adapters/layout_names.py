"""What the tool of each layout calls the modules of a model, and changes in the tool's own modules where the model's are cut
otherwise: three layers for query, key and value, or one. What a tool would not load is refused by name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from harness.adapters.change import Change, Shapes
from harness.adapters.fused_rows import InseparableError, join_rows, select_places
from harness.adapters.live_plan import AdapterError
from harness.adapters.module_names import TEXT_MODEL, in_other_layout, is_t5, tables
from harness.adapters.original_names import original_names
from harness.weights.transformer_names import is_original

Key: TypeAlias = tuple[str, str]
LayoutName: TypeAlias = Literal["kohya", "peft", "comfyui"]

_KOHYA: Final = {"unet": "lora_unet_", "transformer": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_",
                 "text_encoder_3": "lora_te3_"}
_COMFYUI: Final = {"unet": "diffusion_model.", "transformer": "diffusion_model.",
                   "text_encoder": "text_encoders.clip_l.transformer.", "text_encoder_2": "text_encoders.clip_g.transformer.",
                   "text_encoder_3": "text_encoders.t5xxl.transformer."}
_PEFT: Final = {component: f"{component}." for component in ("unet", "transformer", "text_encoder", "text_encoder_2")}
_OF_FAMILY: Final[Mapping[str, Mapping[str, Mapping[str, str]]]] = {
    "kohya": {"sd1": {"text_encoder": "lora_te_"}, "sd2": {"text_encoder": "lora_te_"}, "": {"text_encoder": "lora_te_"},
              "flux": {"text_encoder_2": "lora_te3_"}},
    "comfyui": {"sd2": {"text_encoder": "text_encoders.clip_h.transformer."},
                "flux": {"text_encoder_2": "text_encoders.t5xxl.transformer."}},
    # Of Flux' two text encoders diffusers loads the first alone, of Stable Diffusion 3's three the first two.
    "peft": {"flux": {"text_encoder_2": ""}},
}
_PREFIXES: Final = {"kohya": _KOHYA, "comfyui": _COMFYUI, "peft": _PEFT}
_OTHERS: Final = {"kohya": "comfyui", "comfyui": "kohya", "peft": "kohya or comfyui"}
_TOOLS: Final = {"kohya": "kohya's and LyCORIS' tools load", "comfyui": "ComfyUI loads", "peft": "diffusers loads"}


@dataclass(frozen=True, kw_only=True)
class Spelled:
    """Changes in the modules of a layout's tool, and what the file calls each module, without the ending of a tensor."""

    changes: Mapping[Key, Change]
    names: Mapping[Key, str]


def spelled(changes: Mapping[Key, Change], shapes: Shapes, family: str, layout: LayoutName) -> Spelled:
    """Changes of a model with these weights, as the tool of the layout names them.

    kohya and ComfyUI have transformers, and for XL models U-Nets, in the original code's names, diffusers and PEFT have its
    own. AdapterError names the module that the tool would not load, or that has no exact form there.
    """
    # First of all, since what the tool does not load is not worth cutting.
    for component, path in changes:
        _prefix(component, path, family, layout)
    original = layout != "peft"
    ours = dict(changes)
    if "transformer" in shapes and is_original(shapes["transformer"]) != original:
        ours = {key: change for key, change in changes.items() if key[0] != "transformer"}
        ours |= _relaid({key[1]: change for key, change in changes.items() if key[0] == "transformer"},
                        shapes["transformer"], family, layout)
    return Spelled(changes=ours, names=names_of(ours, shapes, family, layout))


def spelled_as_stored(changes: Mapping[Key, Change], layout: LayoutName, *, folder: bool) -> Spelled:
    """Changes of a model whose architecture is not known by name, under the names that it has itself. ComfyUI loads these for the
    names of a single file, diffusers for those of its own folders; AdapterError for the other way round."""
    if (layout == "peft") != folder:
        have = "a diffusers folder, whose names only layout 'peft' uses" if folder else (
            "a single file, whose names only the layouts 'kohya' and 'comfyui' use")
        raise AdapterError(f"layout {layout!r}: the model's architecture is not known by name, and it is {have}. Choose that "
                           "layout")
    if beside := next((component for component, _ in changes if component != "transformer"), ""):
        raise AdapterError(f"{beside}: the model's architecture is not known by name, so no adapter has names for its {beside}. "
                           "Compare the transformer alone")
    prefix = _PREFIXES[layout].get("transformer", "transformer.")
    return Spelled(changes=dict(changes), names={
        (component, path): prefix + (path.replace(".", "_") if layout == "kohya" else path) for component, path in changes})


def names_of(places: Iterable[Key], shapes: Shapes, family: str, layout: LayoutName) -> dict[Key, str]:
    """What a file of the layout calls these modules (component, path), without the ending of a tensor. `shapes` are those of
    the model. Raises AdapterError for a module that the layout's tool would not load."""
    unet = original_names(shapes.get("unet", ()), family) if _original_unet(layout, family) else None
    names = {}
    for component, path in places:
        name = _module_name(component, path, unet, layout)
        prefix = _prefix(component, path, family, layout)
        names[component, path] = prefix + (name.replace(".", "_") if layout == "kohya" else name)
    return names


def _original_unet(layout: str, family: str) -> bool:
    return layout == "comfyui" or (layout == "kohya" and family.startswith("sdxl"))


def _module_name(component: str, path: str, unet: Mapping[str, str] | None, layout: str) -> str:
    if component == "unet" and unet is not None:
        if path not in unet:
            raise AdapterError(f"unet {path}: has no name in the original code, which layout {layout!r} uses; give a model with "
                               "the whole U-Net, or use layout 'peft'")
        return unet[path]
    plain = path.removeprefix(TEXT_MODEL)
    # transformers 5 dropped this from one of its two classes for CLIP. Files have it for both, and so reads every version.
    return TEXT_MODEL + plain if component.startswith("text_encoder") and plain.startswith(
        ("encoder.layers.", "embeddings.", "final_layer_norm")) else path


def _prefix(component: str, path: str, family: str, layout: str) -> str:
    """What stands before the names of a component. Raises AdapterError if the layout's tool loads nothing for it."""
    prefixes = {**_PREFIXES[layout], **_OF_FAMILY[layout].get(family, {})}
    if is_t5([path]) and component == "text_encoder_2":
        # The T5 of Flux, and one alone, of which no family is known.
        prefixes |= _OF_FAMILY[layout]["flux"]
    if prefix := prefixes.get(component, ""):
        return prefix
    loaded = ", ".join(name for name, prefix in prefixes.items() if prefix)
    if component == "vae":
        raise AdapterError(f"vae {path}: no adapter layout has names for a VAE; {_TOOLS[layout]} changes of {loaded}. Leave vae "
                           "out, and take the tuned model's whole VAE instead: sweetspot merge --take vae=FILE")
    of_family = f"for models of the family {family} " if family else ""
    raise AdapterError(f"{component} {path}: {of_family}{_TOOLS[layout]} changes of {loaded} only, so "
                       f"layout {layout!r} cannot hold it; use layout {_OTHERS[layout]}, or leave {component} out")


def _relaid(changes: Mapping[str, Change], modules: Mapping[str, tuple[int, ...]], family: str, layout: str) -> dict[Key, Change]:
    """The changes of a transformer in the modules of the layout that the model does not have."""
    other = in_other_layout(modules, family)
    table = tables({"transformer": other}, family)["transformer"]
    relaid: dict[Key, Change] = {}
    parts: dict[str, list[tuple[Change, tuple[int, int]]]] = defaultdict(list)
    for path, change in changes.items():
        if path not in table:
            raise AdapterError(f"transformer {path}: has no module in the names that layout {layout!r} uses; give a whole model")
        target = table[path]
        try:
            if (at := target.places[0].at) is not None:
                parts[target.places[0].path].append((change, at))
            else:
                relaid |= {("transformer", name): part for name, part in select_places(
                    change, target.places, target.shape[0]).items()}
        except InseparableError as error:
            raise _inexact(path, change, layout, error) from error
    for path, joined in parts.items():
        try:
            whole = replace(join_rows(joined, other[path][0]), path=path)
        except InseparableError as error:
            raise _inexact(path, joined[0][0], layout, error) from error
        relaid["transformer", path] = whole
    return relaid


def _inexact(path: str, change: Change, layout: str, error: InseparableError) -> AdapterError:
    return AdapterError(f"transformer {path}: layout {layout!r} cannot hold this {change.kind}, since its tool cuts the weight "
                        f"otherwise: {error}. Merge it into the model and extract the difference")
