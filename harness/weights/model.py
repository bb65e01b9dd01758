"""Opens a model, a single file or a diffusers folder, as components with diffusers names and shapes.
Checking and materialising a candidate call `open_model`; no weights are read before `tensors` asks for them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.weights import ldm
from harness.weights.families import SUPPORTED, unsupported_family
from harness.weights.files import ModelFileError, StoredTensor, TensorFile, open_tensors

if TYPE_CHECKING:
    from torch import Tensor

COMPONENTS: Final[tuple[str, ...]] = ("unet", "vae", "text_encoder")
MARKERS: Final = ("v_pred", "ztsnr", "edm_vpred.sigma_max", "edm_vpred.sigma_min", "edm_mean", "edm_std")
"""Tensors at the top of a file that say how the model was trained; they are never merged."""
EMA_PREFIX: Final = "model_ema."

_NO_WEIGHTS: Final = (ldm.POSITION_IDS, "transformer.text_projection.weight", "transformer.logit_scale")
"""A constant, and the parts of CLIP that no image depends on; together with the loss network of a VAE's training."""
_KNOWN_EXTRA: Final = re.compile(
    r"model_ema\.|(.*/)?(.*\.)?(betas|alphas_cumprod\w*|sqrt_\w+|log_one_minus_\w+|posterior_\w+|logvar|lvlb_weights|scale_factor"
    r"|position_ids|text_projection(\.weight)?|logit_scale)$|(first_stage_model\.)?loss\.")
"""Left over from training, constants, and the parts of CLIP that no image depends on: their absence changes nothing."""
_STEMS: Final = {"unet": ("diffusion_pytorch_model",), "vae": ("diffusion_pytorch_model",),
                 "text_encoder": ("model", "pytorch_model")}
_TO_DIFFUSERS: Final[Mapping[str, Callable[[Iterable[str]], dict[str, str]]]] = {
    "unet": ldm.unet_to_diffusers, "vae": ldm.vae_to_diffusers, "text_encoder": ldm.text_to_diffusers}
_CHECKS: Final[Mapping[str, Callable[[Iterable[str]], dict[str, str]]]] = {
    "unet": lambda keys: {key: key for key in ldm.unet_to_ldm(keys)},
    "vae": lambda keys: {key: ldm.vae_modern([key])[key] for key in ldm.vae_to_ldm(keys)},
    "text_encoder": ldm.text_to_diffusers}


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """Where one tensor lies, its stored dtype ("F16"), and the shape it has in diffusers."""

    source: str
    file: Path
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """An opened model. `components` holds the weights by component and diffusers name, `other` all tensors that are
    no weights of a component (schedule buffers, EMA copies, position_ids, markers, unknown keys) by source name."""

    path: Path
    layout: str
    metadata: Mapping[str, str]
    markers: tuple[str, ...]
    ema: bool
    components: Mapping[str, Mapping[str, TensorInfo]]
    other: Mapping[str, TensorInfo]
    files: Mapping[Path, TensorFile] = field(repr=False)

    @property
    def known_extras(self) -> tuple[str, ...]:
        """The tensors of `other` whose purpose is known: EMA copies, schedule buffers, markers, losses, constants."""
        return tuple(name for name in self.other if name in MARKERS or _KNOWN_EXTRA.match(name))

    @property
    def strays(self) -> tuple[str, ...]:
        """The tensors of `other` that nobody knows: no image uses them, and whoever reads a coverage should know."""
        known = set(self.known_extras)
        return tuple(name for name in self.other if name not in known)

    def tensors(self, component: str) -> dict[str, Tensor]:
        """The tensors of a component by diffusers name, on the CPU, in stored dtypes and diffusers shapes.

        They may be views of the mapped file: change copies, not these. ModelFileError when the model lacks it.
        """
        if component not in self.components:
            raise ModelFileError(f"{self.path}: has no {component}, only {', '.join(self.components)}. "
                                 "Give a model with all parts, or merge only the parts it has.")
        infos = self.components[component]
        read: dict[str, Tensor] = {}
        for path, file in self.files.items():
            mine = {name: info for name, info in infos.items() if info.file == path}
            found = file.read({info.source for info in mine.values()})
            read.update({name: found[info.source].reshape(info.shape) for name, info in mine.items()})
        return {name: read[name] for name in infos}


def open_model(path: Path) -> ModelFile:
    """Opens a Stable Diffusion 1 model and checks every name in it.

    Raises ModelFileError for a file that is not one, for other families (by name), and for a tensor that lies among a
    component's weights under a name the component does not have.
    """
    return _open_folder(path) if path.is_dir() else _open_single(path)


def _open_single(path: Path) -> ModelFile:
    file = open_tensors(path)
    _refuse_family(path, file.stored)
    sources, rest = _by_component(file.stored)
    if not sources:
        raise ModelFileError(f"{path}: none of its {len(file.stored)} tensors is a part of a Stable Diffusion 1 model "
                             f"(first: {', '.join(map(repr, sorted(file.stored)[:3]))}). Supported today: {SUPPORTED}.")
    components = {}
    for component in (c for c in COMPONENTS if c in sources):
        names = _mapped(path, component, _TO_DIFFUSERS[component], sources[component])
        infos = {names[below]: _info(file, source) for below, source in sources[component].items()}
        components[component] = _as_linear(infos) if component == "vae" else infos
    return ModelFile(
        path=path, layout="ldm", metadata=file.metadata, files={path: file}, components=components,
        markers=tuple(name for name in MARKERS if name in rest), other={name: _info(file, name) for name in rest},
        ema=any(name.startswith(EMA_PREFIX) for name in rest))


def _open_folder(path: Path) -> ModelFile:
    present = [component for component in COMPONENTS if (path / component).is_dir()]
    foreign = [name for name in ("transformer", "text_encoder_2", "prior") if (path / name).is_dir()]
    if foreign or "unet" not in present:
        found = f"found {foreign[0]}/" if foreign else "found no unet/ folder"
        raise ModelFileError(f"{path}: {found}; expected a diffusers folder of a Stable Diffusion 1 model. "
                             f"Supported today: {SUPPORTED}.")
    files: dict[Path, TensorFile] = {}
    components: dict[str, dict[str, TensorInfo]] = {}
    other: dict[str, TensorInfo] = {}
    for component in present:
        parts = {file: open_tensors(file) for file in _part_files(path / component, _STEMS[component])}
        files.update(parts)
        found_here: dict[str, TensorInfo] = {}
        for file in parts.values():
            if twice := sorted(found_here.keys() & file.stored.keys()):
                raise ModelFileError(f"{file.path}: {twice[0]!r} is in more than one shard. Download the folder again.")
            found_here.update({source: _info(file, source) for source in file.stored})
        _refuse_family(path, {source: StoredTensor(dtype=i.dtype, shape=i.shape) for source, i in found_here.items()})
        ids = [source for source in found_here if source.endswith(ldm.POSITION_IDS)]
        other.update({f"{component}/{source}": found_here.pop(source) for source in ids})
        names = _mapped(path, component, _CHECKS[component], {source: source for source in found_here})
        infos = {names[source]: info for source, info in found_here.items()}
        components[component] = _as_linear(infos) if component == "vae" else infos
    return ModelFile(path=path, layout="diffusers", metadata=_metadata(path), files=files, components=components,
                     markers=(), other=other, ema=False)


def _by_component(stored: Iterable[str]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """{component: {name below its prefix: source name}}, and the names of everything else."""
    sources: dict[str, dict[str, str]] = {}
    rest = []
    prefixes = (("unet", ldm.UNET_PREFIX), ("vae", ldm.VAE_PREFIX), ("text_encoder", ldm.TEXT_PREFIX),
                ("text_encoder", ldm.NAI_TEXT_PREFIX))
    for source in stored:
        component, prefix = next(((c, p) for c, p in prefixes if source.startswith(p)), ("", ""))
        if not component or source.startswith(f"{ldm.VAE_PREFIX}loss.") or source.endswith(_NO_WEIGHTS):
            rest.append(source)
        elif (below := source.removeprefix(prefix)) in sources.get(component, {}):
            raise ModelFileError(f"{source!r} and {sources[component][below]!r} are the same tensor of the "
                                 f"{component}. Keep one of them.")
        else:
            sources.setdefault(component, {})[below] = source
    return sources, rest


def _mapped(path: Path, component: str, rename: Callable[[Iterable[str]], dict[str, str]],
            sources: Mapping[str, str]) -> dict[str, str]:
    try:
        names = rename(sources)
    except KeyError as error:
        raise ModelFileError(f"{path}: {component}: {error.args[0]}. Supported today: {SUPPORTED}.") from error
    if len(set(names.values())) != len(names):
        twice = next(n for n in names.values() if list(names.values()).count(n) > 1)
        raise ModelFileError(f"{path}: {component}: two tensors are called {twice!r}. Keep one of them.")
    return names


def _as_linear(infos: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
    """The VAE's attention projections as (out, in), which LDM files and early folders store as (out, in, 1, 1)."""
    linear = ldm.vae_conv_as_linear(infos)
    return {name: replace(info, shape=info.shape[:2]) if name in linear and info.shape[2:] == (1, 1) else info
            for name, info in infos.items()}


def _info(file: TensorFile, source: str) -> TensorInfo:
    return TensorInfo(source=source, file=file.path, dtype=file.stored[source].dtype, shape=file.stored[source].shape)


def _part_files(folder: Path, stems: tuple[str, ...]) -> list[Path]:
    """The weight files of one component: sharded or whole, safetensors before pickles, full before fp16 variants."""
    for suffix in ("safetensors", "bin"):
        for variant in ("", ".fp16"):
            for stem in stems:
                for index in (folder / f"{stem}.{suffix}.index{variant}.json",
                              folder / f"{stem}{variant}.{suffix}.index.json"):
                    if index.is_file():
                        shards = read_json(index).get("weight_map")
                        if not isinstance(shards, dict):
                            raise ModelFileError(f"{index}: has no weight_map. Download the folder again.")
                        return [folder / Path(str(name)).name for name in sorted(set(shards.values()))]
                if (whole := folder / f"{stem}{variant}.{suffix}").is_file():
                    return [whole]
    found = ", ".join(sorted(file.name for file in folder.iterdir())) or "nothing"
    raise ModelFileError(f"{folder}: found {found}; expected {stems[0]}.safetensors. Download the folder again.")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; ModelFileError when there is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path}: could not be read as JSON ({error}). Download it again.") from error
    if not isinstance(data, dict):
        raise ModelFileError(f"{path}: holds a {type(data).__name__}; expected an object. Download it again.")
    return data


def _metadata(path: Path) -> dict[str, str]:
    index = path / "model_index.json"
    return {k: str(v) for k, v in read_json(index).items() if k.startswith("_")} if index.is_file() else {}


def _refuse_family(path: Path, stored: Mapping[str, StoredTensor]) -> None:
    if family := unsupported_family(stored):
        raise ModelFileError(f"{path}: this is {family}. Supported today: {SUPPORTED}.")
