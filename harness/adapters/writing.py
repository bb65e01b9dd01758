"""Writes changes as an adapter file with the names of kohya's tools, of diffusers and PEFT, or of ComfyUI. A change that
the layout cannot express exactly is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from harness.adapters.change import Change
from harness.adapters.kinds import KINDS, bias_delta, kind_of
from harness.adapters.kinds.kind import ones
from harness.adapters.live_plan import AdapterError
from harness.adapters.module_names import TEXT_MODEL

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Key: TypeAlias = tuple[str, str]
Save: TypeAlias = Callable[[Path, Mapping[str, "Tensor"], Mapping[str, str]], object]
LAYOUTS: Final = ("kohya", "peft", "comfyui")
DTYPES: Final = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}
HEADER: Final = "lora_adapter_metadata"

_SUFFIXES: Final[Mapping[str, Mapping[str, str]]] = {
    "lora": {"down": "lora_down.weight", "up": "lora_up.weight", "mid": "lora_mid.weight"},
    "loha": {role: f"hada_{role}" for role in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")},
    "lokr": {role: f"lokr_{role}" for role in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")},
    "full": {"diff": "diff"},
    "norm": {"w_norm": "w_norm", "b_norm": "b_norm"},
    "glora": {role: f"{role}.weight" for role in ("a1", "a2", "b1", "b2")},
    "ia3": {"weight": "weight", "on_input": "on_input"},
    "oft": {"oft_blocks": "oft_blocks", "rescale": "rescale"},
    "boft": {"oft_blocks": "oft_blocks", "rescale": "rescale"},
}
"""By kind: {role: ending of its key}, as LyCORIS writes them and ComfyUI reads them."""
_SCALED_IN: Final = {"full": ("diff",), "norm": ("w_norm", "b_norm"), "ia3": ("weight",), "lokr": ("w1",)}
"""By kind: the role that the scale is multiplied into if the kind has no alpha."""
_CLIP_EMBEDDINGS: Final = ("token_embedding", "position_embedding")
_EMBEDDINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "peft": (*_CLIP_EMBEDDINGS, "shared", "relative_attention_bias"), "kohya": _CLIP_EMBEDDINGS, "comfyui": ()}
"""By layout: the ends of the names of tables that its tools load no change of. kohya's and LyCORIS' networks have linear layers,
convolutions and norms, and of kohya's names for CLIP ComfyUI's key map (comfy/lora.py, model_lora_keys_clip) has the layers'
alone, but for a T5 those of every weight, as for all text encoders under its own names."""
_EXACT: Final = (".alpha", ".on_input")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How to write: a name from LAYOUTS, a dtype from DTYPES (alphas are always float32), and the file's name of each module,
    without suffix, by (component, path): see `layout_names`. "peft" writes component and path where no name is given."""

    name: Literal["kohya", "peft", "comfyui"]
    dtype: Literal["fp16", "bf16", "fp32"] = "fp16"
    names: Mapping[Key, str] = field(default_factory=dict)


def write_adapter(path: Path, changes: Mapping[Key, Change], layout: Layout, metadata: Mapping[str, str], save: Save) -> None:
    """Writes the changes to `path` through `save(path, tensors, header strings)`: the same tensors, names and header in the
    same order every time. `metadata` goes into the header, for "peft" together with PEFT's settings.

    Raises AdapterError, before anything is written, for changes that the layout cannot express, modules without a name or
    with the same name, and values outside the dtype's range.
    """
    tensors, header = adapter_tensors(changes, layout)
    if twice := set(header) & set(metadata):
        raise AdapterError(f"{path}: header string {min(twice)!r} was given, but the layout writes it")
    save(path, tensors, dict(sorted({**metadata, **header}.items())))


def adapter_tensors(changes: Mapping[Key, Change], layout: Layout) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The file's tensors by key, sorted, in the layout's dtype, and the layout's own header strings."""
    if layout.name not in LAYOUTS or layout.dtype not in DTYPES:
        raise AdapterError(f"layout {layout.name!r} in {layout.dtype!r}; known are {', '.join(LAYOUTS)} in {', '.join(DTYPES)}")
    if not changes:
        raise AdapterError("an adapter without changes cannot be written")
    ordered = [changes[key] for key in sorted(changes)]
    stems = _stems(ordered, layout)
    tensors: dict[str, Tensor] = {}
    for change, stem in zip(ordered, stems, strict=True):
        ends = _peft_module(change) if layout.name == "peft" else _module(change, layout.name)
        tensors |= {f"{stem}.{suffix}": tensor for suffix, tensor in ends.items()}
    header = {HEADER: _peft_header(ordered)} if layout.name == "peft" else {}
    return {key: _cast(key, tensors[key], layout.dtype) for key in sorted(tensors)}, header


def without_unheld(changes: Mapping[Key, Change], layout: str) -> tuple[dict[Key, Change], dict[str, float]]:
    """The changes that the layout can hold, of those that an extraction makes, and the largest value of each tensor that it
    cannot: PEFT and diffusers read LoRA alone, without the changes of norms, biases and embeddings, kohya's tools none of CLIP's
    embeddings."""
    held, left = {}, {}
    for key, change in changes.items():
        if change.path.endswith(_EMBEDDINGS[layout]):
            product = change.tensors["up"].flatten(1) @ change.tensors["down"].flatten(1)
            left[f"{change.component} {change.path} (weight)"] = float(product.abs().max())
            continue
        if layout != "peft":
            held[key] = change
            continue
        factors = {role: tensor for role, tensor in change.tensors.items() if change.kind == "lora" and role in ("down", "up")}
        if factors:
            held[key] = replace(change, tensors=factors)
        left.update({f"{change.component} {change.path} ({role})": float(tensor.abs().max())
                     for role, tensor in change.tensors.items() if role not in factors and bool(tensor.any())})
    return held, left


def rounded_away(changes: Mapping[Key, Change], layout: Layout, at_least: float = 0.01) -> dict[str, float]:
    """{key: relative Frobenius error} of the tensors that rounding to the layout's dtype changes by more than `at_least`.
    In fp16, values below about 6e-5 lose digits, and values below 3e-8 become 0."""
    if layout.dtype == "fp32":
        return {}
    exact, _ = adapter_tensors(changes, replace(layout, dtype="fp32"))
    written, _ = adapter_tensors(changes, layout)
    errors = {key: float((written[key].double() - tensor.double()).norm() / norm) for key, tensor in exact.items()
              if (norm := float(tensor.double().norm())) > 0}
    return {key: error for key, error in errors.items() if error > at_least}


def _stems(ordered: Iterable[Change], layout: Layout) -> list[str]:
    place_by_stem: dict[str, str] = {}
    for change in ordered:
        key = (change.component, change.path)
        where = f"{change.component} {change.path}"
        name = layout.names.get(key, f"{change.component}.{change.path}" if layout.name == "peft" else None)
        if name is None:
            raise AdapterError(f"{where}: no name for layout {layout.name!r} was given")
        if name in place_by_stem:
            raise AdapterError(f"{where} and {place_by_stem[name]} are both called {name!r} in layout {layout.name!r}")
        place_by_stem[name] = where
    return list(place_by_stem)


def _module(change: Change, layout: str) -> dict[str, Tensor]:
    """The tensors of one module by LyCORIS' suffixes, with the scale as alpha = scale * rank, or multiplied in."""
    import torch

    if change.path.endswith(_EMBEDDINGS[layout]):
        raise _refused(change, layout, "kohya's and LyCORIS' tools and ComfyUI load no change of an embedding under such a name. "
                       "Use layout 'comfyui'")
    if layout == "comfyui" and change.kind in ("ia3", "oft", "boft"):
        raise _refused(change, layout, "ComfyUI computes it differently, or does not support it")
    kind_of(change)
    suffixes = _SUFFIXES[change.kind]
    rank = KINDS[change.kind].rank(change.tensors)
    # alpha has no effect on a Kronecker product of full factors, but LyCORIS cannot load a module without one.
    without_rank = {"oft": change.alpha or 0.0, "boft": change.alpha or 0.0, "lokr": 1.0}
    alpha = change.scale * rank if rank else without_rank.get(change.kind)
    inside = _SCALED_IN.get(change.kind, ()) if not rank and change.scale != 1 else ()
    if change.scale != 1 and change.kind in ("oft", "boft"):
        raise _refused(change, layout, f"its scale of {change.scale:g} cannot be stored")
    tensors = {suffixes[role]: tensor.double() * change.scale if role in inside else tensor
            for role, tensor in change.tensors.items() if role in suffixes}
    if change.kind != "norm" and (bias := bias_delta(change)) is not None:
        tensors["diff_b"] = bias
    if change.kind == "ia3":
        tensors.setdefault("on_input", torch.tensor(0))
    if change.magnitude is not None:
        tensors["dora_scale"] = _by_axis(change, layout)
    return tensors if alpha is None else {**tensors, "alpha": torch.tensor(alpha, dtype=torch.float32)}


def _by_axis(change: Change, layout: str) -> Tensor:
    """The magnitude as (out, 1, ...) or (1, in, ...): other tools broadcast a single axis along the wrong side."""
    assert change.magnitude is not None
    if change.magnitude.ndim > 1:
        return change.magnitude
    if change.kind != "lora":
        raise _refused(change, layout, "its magnitude has one axis, and its tensors do not show how many the weight has")
    return change.magnitude.reshape(-1, 1, *(1,) * (max(tensor.ndim for tensor in change.tensors.values()) - 2))


def _peft_module(change: Change) -> dict[str, Tensor]:
    extra = sorted(set(change.tensors) - {"down", "up"})
    if change.kind != "lora":
        way = "" if change.kind == "norm" else ". `sweetspot adapter resize --rank N` with the same layout makes a LoRA of it"
        raise _refused(change, "peft", f"it supports only LoRA, not {change.kind}{way}")
    if extra:
        raise _refused(change, "peft", f"it has no place for {extra[0]} in single modules"
                       + ("; combining the adapter alone turns the core into factors" if "mid" in extra else ""))
    if change.path.endswith(_EMBEDDINGS["peft"]):
        raise _refused(change, "peft", "PEFT changes embeddings in tensors of another form. Use layout 'comfyui'")
    tensors = {"lora_A.weight": change.tensors["down"], "lora_B.weight": change.tensors["up"]}
    if change.magnitude is None:
        return tensors
    out = change.tensors["up"].shape[0]
    if tuple(change.magnitude.shape) not in ((out,), (out, 1, *ones(tuple(change.tensors["down"].shape)))):
        raise _refused(change, "peft", f"PEFT's DoRA has a magnitude per output, this one is {tuple(change.magnitude.shape)}")
    flat = change.magnitude.reshape(-1)
    return {**tensors, "lora_magnitude_vector": flat if change.tensors["down"].ndim == 2 else
            flat.reshape(1, -1, *ones(tuple(change.tensors["down"].shape)))}


def _peft_header(ordered: Iterable[Change]) -> str:
    """The JSON of LoraConfig's settings by component ("unet.r", ...): the commonest rank and alpha, and every module with
    other values by its full name. Patterns start with ^, so that they do not match the end of another module's name."""
    settings: dict[str, Any] = {}
    by_component: dict[str, list[Change]] = {}
    for change in ordered:
        by_component.setdefault(change.component, []).append(change)
    for component, own in by_component.items():
        dora = {change.magnitude is not None for change in own}
        if len(dora) > 1:
            plain = next(change for change in own if change.magnitude is None)
            raise _refused(plain, "peft", "the header's use_dora applies to all modules, and others are DoRA")
        ranks = {_bare(change): int(change.tensors["down"].shape[0]) for change in own}
        alphas = {_bare(change): change.scale * ranks[_bare(change)] for change in own}
        rank, alpha = _commonest(ranks.values()), _commonest(alphas.values())
        settings |= {f"{component}.{name}": value for name, value in {
            "r": rank, "lora_alpha": alpha, "target_modules": sorted(ranks), "use_dora": dora == {True},
            "rank_pattern": {_pattern(component, path): one for path, one in ranks.items() if one != rank},
            "alpha_pattern": {_pattern(component, path): one for path, one in alphas.items() if one != alpha}}.items()}
    return json.dumps(settings, sort_keys=True)


def _bare(change: Change) -> str:
    """The module's name in the header, which must fit text encoders with and without `text_model.`: transformers 5 dropped it
    from one of its two classes for CLIP. As the end of a name it fits both."""
    return change.path.removeprefix(TEXT_MODEL) if change.component.startswith("text_encoder") else change.path


def _pattern(component: str, path: str) -> str:
    return ("^(text_model\\.)?" if component.startswith("text_encoder") else "^") + path.replace(".", r"\.")


def _commonest(values: Collection[Any]) -> Any:
    counted = list(values)
    return max(sorted(set(counted)), key=counted.count)


def _cast(key: str, tensor: Tensor, dtype: str) -> Tensor:
    import torch

    if key.endswith(_EXACT):
        return tensor
    target: torch.dtype = getattr(torch, DTYPES[dtype])
    given = tensor.detach()
    cast = given.to(target).contiguous()
    if not bool(cast.isfinite().all()):
        raise AdapterError(f"{key}: its largest value {float(given.abs().max()):.4g} does not fit {dtype}; write bf16 or fp32")
    return cast


def _refused(change: Change, layout: str, why: str) -> AdapterError:
    return AdapterError(f"{change.component} {change.path}: layout {layout!r} cannot hold this {change.kind}: {why}")
