"""References to CLIP models, "ARCHITECTURE:file", "ARCHITECTURE/TAG", "ARCHITECTURE/TAG:file" and "hub:OWNER/NAME", and what
open_clip's tables say of them. Neither torch nor open_clip is imported."""

from __future__ import annotations

import ast
import copy
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from harness.declare.hub_names import CLIP_FILE
from harness.declare.listing import first_of
from harness.declare.nearest import did_you_mean
from harness.hub import PREFIX, address_of, cached, repository_of

EMBEDDED: Final = "zoo:clip"
QUICK: Final = "-quickgelu"
"""What an architecture with QuickGELU is called behind the name of the one with GELU."""
_PICKLED: Final = "open_clip_pytorch_model.bin"
_CONFIG: Final = "open_clip_config.json"
_LARGEST_CONFIG: Final = 1 << 20
_NO_TAGS: Final = "it has none of this architecture"

Table = Mapping[str, Mapping[str, Mapping[str, Any]]]


class ClipReferenceError(ValueError):
    """A reference to a CLIP model that names no weights, or whose weights are not there."""


@dataclass(frozen=True, kw_only=True)
class ClipReference:
    """A reference as it is written. `file` is empty where the tag alone names the weights."""

    architecture: str
    tag: str = ""
    file: str = ""

    @property
    def model(self) -> str:
        """The architecture that the weights are of: that with QuickGELU where the tag was trained with it."""
        with_quick = self.architecture + QUICK
        return with_quick if self.row.get("quick_gelu", False) and with_quick in architectures() else self.architecture

    @property
    def weights(self) -> str:
        """The reference without the file: "ARCHITECTURE" or "ARCHITECTURE/TAG"."""
        return f"{self.architecture}/{self.tag}" if self.tag else self.architecture

    @property
    def row(self) -> Mapping[str, Any]:
        """open_clip's row of the tag; empty without one."""
        return pretrained().get(self.architecture, {}).get(_cleaned(self.tag), {}) if self.tag else {}


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """What a CLIP model wants done to a picture, besides its size."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    resize_mode: str


USUAL: Final = Pixels(mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711), interpolation="bicubic",
                      resize_mode="shortest")
"""What OpenAI's models want, and most others."""


def parsed(reference: str) -> ClipReference | None:
    """The reference in its parts; None for a text of another form, and for a repository of which nothing says which architecture
    of open_clip it holds."""
    if reference.startswith(PREFIX):
        return _of_repository(reference)
    name, colon, file = reference.partition(":")
    architecture, slash, tag = name.partition("/")
    if not architecture or (slash and not tag) or not (tag or colon) or (colon and not file) or "/" in tag:
        return None
    return ClipReference(architecture=architecture, tag=tag, file=file)


def _of_repository(reference: str) -> ClipReference | None:
    """The reference to a repository of open_clip, by open_clip's own table or by the config that the repository has."""
    address = address_of(reference)
    if address is None or address.file.endswith("/"):
        return None
    rows = [ClipReference(architecture=architecture, tag=tag) for architecture, tags in pretrained().items() for tag, row in
            tags.items() if str(row.get("hf_hub", "")).rpartition("/")[0] == address.repository]
    # Of an architecture and the same with QuickGELU, the plain name with the tag means either; see ClipReference.model.
    for given in sorted(rows, key=lambda row: len(row.architecture)):
        if not address.file or address.file == repository_and_file(given)[1]:
            return replace(given, file=str(replace(address, file=address.file or repository_and_file(given)[1])))
    beside = f"{address.file.rpartition('/')[0]}/{_CONFIG}".lstrip("/")
    config = cached(address.repository, beside, address.revision)
    described = _described(config.path) if config is not None else None
    name = next((name for name in architectures() if described and config_of(name) == described), "")
    return ClipReference(architecture=name, file=str(replace(address, file=address.file or CLIP_FILE))) if name else None


def _described(config: Path) -> Any:
    """The description of the architecture in a repository's config; None where it cannot be read."""
    try:
        if config.stat().st_size > _LARGEST_CONFIG:
            return None
        return json.loads(config.read_text(encoding="utf-8"))["model_cfg"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def is_tagged(reference: str) -> bool:
    """Whether it is "ARCHITECTURE/TAG" with an architecture of open_clip."""
    given = None if ":" in reference else parsed(reference)
    return given is not None and config_of(given.architecture) is not None


def tag_problem(given: ClipReference) -> str:
    """Why open_clip has no such weights of the architecture; empty if it has, and without a tag."""
    if not given.tag or given.row:
        return ""
    tags = pretrained().get(given.architecture, {})
    base = given.architecture.removesuffix(QUICK)
    if _cleaned(given.tag) in pretrained().get(base, {}):
        return (f"{given.architecture} has no weights {given.tag!r}, because they were trained with GELU; write "
                f"'{base}/{given.tag}'")
    return (f"open_clip has no weights {given.tag!r} of {given.architecture}; "
            f"{did_you_mean(given.tag, tags, list_known=False) or (f'it has {first_of(list(tags))}' if tags else _NO_TAGS)}")


def repository_and_file(given: ClipReference) -> tuple[str, str]:
    """The repository of the tag's weights, and the name of their safetensors file in it."""
    repository, _, name = str(given.row.get("hf_hub", "")).rpartition("/")
    return repository, CLIP_FILE if name in ("", _PICKLED) else str(Path(name).with_suffix(".safetensors"))


def fetch_command(given: ClipReference) -> str:
    """The command that fetches the weights of a tag into the local cache."""
    return f"sweetspot fetch clip {given.architecture}/{given.tag}"


def weights_of(reference: str) -> str:
    """The file of the weights: the given one, that of the tag in the local cache, or the `zoo:` name itself. Raises
    ClipReferenceError."""
    if reference.startswith("zoo:"):
        return reference
    given = parsed(reference)
    if given is None:
        raise ClipReferenceError(f"{reference!r} names no CLIP model")
    if given.file:
        return given.file
    if wrong := tag_problem(given):
        raise ClipReferenceError(wrong)
    repository, file = repository_and_file(given)
    at = cached(repository, file) if repository else None
    if at is None:
        raise ClipReferenceError(f"the weights of {reference} are not in the cache of Hugging Face ({file} of {repository}). "
                                 f"Fetch them once: {fetch_command(given)}")
    return str(at.path)


def pixels_of(given: ClipReference, path: Path) -> Pixels:
    """What the weights at `path` want done to a picture: as their tag says, the config that lies beside them, or all weights of
    their architecture. Raises ClipReferenceError where these differ and nothing says which ones they are."""
    tag = given.tag or tag_of_file(given.architecture, path)
    if tag and (row := pretrained().get(given.architecture, {}).get(_cleaned(tag))):
        return _pixels(row)
    if beside := _config_beside(path):
        return beside
    rows = _fitting(given.architecture)
    kinds = {_pixels(row): tag for tag, row in rows.items()}
    if len(kinds) > 1:
        tags = ", ".join(f"'{given.architecture}/{tag}:{given.file or path}'" for tag in kinds.values())
        raise ClipReferenceError(f"the weights of {given.architecture} were trained on pictures that were prepared in different "
                                 f"ways, and {path.name} does not say which ones it holds. Name them, for example {tags}")
    return next(iter(kinds), USUAL)


def tag_of_file(architecture: str, path: Path) -> str:
    """The published tag of the weights in a file, by its name or by the repository in whose cache it lies; else empty."""
    base = architecture.removesuffix(QUICK)
    rows = {**pretrained().get(base, {}), **pretrained().get(architecture, {})}
    words = set(re.split(r"[^a-z0-9_]+", path.stem.lower()))
    repository = repository_of(path)
    return next((tag for tag, row in rows.items()
                 if tag.lower() in words or (repository and str(row.get("hf_hub", "")).rpartition("/")[0] == repository)), "")


def other_activation(architecture: str, tag: str) -> str:
    """The architecture with which weights were trained, if it is not the given one: its other activation; else empty."""
    base = architecture.removesuffix(QUICK)
    row = pretrained().get(base, {}).get(_cleaned(tag)) or pretrained().get(architecture, {}).get(_cleaned(tag), {})
    wanted = bool(row.get("quick_gelu", False))
    if not row or wanted == bool((config_of(architecture) or {}).get("quick_gelu", False)):
        return ""
    return base + QUICK if wanted else base


def config_of(architecture: str) -> Mapping[str, Any] | None:
    """open_clip's description of an architecture, None for an unknown one."""
    if (own := _imported()) is not None:
        config: Mapping[str, Any] | None = own.get_model_config(architecture)
        return config
    file = architectures().get(architecture)
    return None if file is None else json.loads(file.read_text(encoding="utf-8"))


@cache
def architectures() -> Mapping[str, Path]:
    """The descriptions that open_clip brings, by name."""
    folder = _folder()
    return {} if folder is None else {file.stem: file for file in sorted((folder / "model_configs").glob("*.json"))}


def pretrained() -> Table:
    """open_clip's table of published weights: by architecture and tag where they are and what they were trained with."""
    if (own := _imported()) is not None:
        return {name: {tag: own.get_pretrained_cfg(name, tag) for tag in own.list_pretrained_tags_by_model(name)}
                for name in dict.fromkeys(name for name, _ in own.list_pretrained())}
    return _table_on_disk()


@cache
def _table_on_disk() -> Table:
    """The table, from the assignments of open_clip's module: importing it would import torch, which takes seconds."""
    folder = _folder()
    if folder is None:
        return {}
    try:
        names: dict[str, Any] = {"copy": copy}
        exec((folder / "constants.py").read_text(encoding="utf-8"), names)
        module = ast.parse((folder / "pretrained.py").read_text(encoding="utf-8"))
        module.body = [node for node in module.body if isinstance(node, ast.Assign | ast.For | ast.Expr)
                       or (isinstance(node, ast.FunctionDef) and re.fullmatch(r"_\w*cfg", node.name))]
        exec(compile(module, str(folder / "pretrained.py"), "exec"), names)
        table: Table = names["_PRETRAINED"]
    except Exception:  # a version that is built otherwise
        from open_clip import pretrained as own

        table = own._PRETRAINED
    return table


def _imported() -> Any:
    """open_clip if it is imported as a whole; another thread may be importing it."""
    own: Any = sys.modules.get("open_clip")
    whole = own is not None and not getattr(own.__spec__, "_initializing", False)
    return own if whole else None


def _folder() -> Path | None:
    spec = find_spec("open_clip")
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def _fitting(architecture: str) -> Mapping[str, Mapping[str, Any]]:
    """The published weights of an architecture that were trained with its activation."""
    quick = bool((config_of(architecture) or {}).get("quick_gelu", False))
    return {tag: row for tag, row in pretrained().get(architecture, {}).items() if bool(row.get("quick_gelu", False)) == quick}


def _config_beside(path: Path) -> Pixels | None:
    """What the config of open_clip beside a file says of pictures; None without one, and where it cannot be read."""
    file = path.parent / _CONFIG
    try:
        if not file.is_file() or file.stat().st_size > _LARGEST_CONFIG:
            return None
        return _pixels(asdict(USUAL) | json.loads(file.read_text(encoding="utf-8")).get("preprocess_cfg", {}))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None


def _pixels(row: Mapping[str, Any]) -> Pixels:
    three = {name: tuple(float(value) for value in row[name]) for name in ("mean", "std")}
    if any(len(values) != 3 for values in three.values()) or 0.0 in three["std"]:
        raise ValueError("expected three numbers for mean and std")
    return Pixels(**three, interpolation=str(row["interpolation"]), resize_mode=str(row["resize_mode"]))


def _cleaned(tag: str) -> str:
    """A tag as open_clip reads it."""
    return tag.lower().replace("-", "_")
