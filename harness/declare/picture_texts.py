"""Reads from an image file how it was made: the texts of A1111, Forge, ComfyUI, InvokeAI and Sweetspot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from harness.declare.listing import first_of
from harness.declare.picture_chunks import USER_COMMENT, texts_of
from harness.declare.picture_graph import from_graph
from harness.declare.picture_invokeai import DREAM, METADATA, OLD_METADATA, from_dream, from_metadata, from_old_metadata
from harness.declare.picture_parameters import from_parameters
from harness.declare.picture_text import PictureText
from harness.declare.picture_workflow import as_graph

PARAMETERS: Final = "parameters"
OWN: Final = "sweetspot"
"""The chunk of our own exports: the fields of PictureText as JSON, and where the image comes from."""
_GRAPH, _WORKFLOW = "prompt", "workflow"


def picture_text(path: Path | str) -> PictureText:
    """How the picture in a .png, .webp or .jpg file was made, by the text that the tool wrote into it.

    Nothing of the file is executed, and no pixel is decoded. ValueError names the file, and what is missing or cannot be
    followed.
    """
    file = Path(path)
    try:
        return _read(texts_of(file))
    except ValueError as error:
        raise ValueError(f"{file.name}: {error}") from error
    except RecursionError as error:
        raise ValueError(f"{file.name}: its text is nested too deeply") from error


def _read(texts: Mapping[str, str]) -> PictureText:
    if OWN in texts and (own := _own(texts[OWN])) is not None:
        return own
    for name, read in ((METADATA, from_metadata), (OLD_METADATA, from_old_metadata)):
        if name in texts:
            return read(_table(name, texts[name]))
    if DREAM in texts:
        return from_dream(texts[DREAM])
    for name in (PARAMETERS, USER_COMMENT):
        if texts.get(name, "").strip():
            return _parameters(name, texts[name])
    if (graph := _of_comfyui(texts, _GRAPH)) is not None:
        return _nodes(_GRAPH, _json(_GRAPH, graph))
    if (workflow := _of_comfyui(texts, _WORKFLOW)) is not None:
        return from_graph(as_graph(_json(_WORKFLOW, workflow)))
    has = f"it has the texts {first_of([repr(name) for name in texts])}" if texts else "it has no texts at all"
    raise ValueError(f"holds no text of A1111, Forge, ComfyUI or InvokeAI ({has}). Many sites and editors remove it: take the "
                     "file that the tool wrote, or copy the prompt into a .txt file")


def _parameters(name: str, text: str) -> PictureText:
    """A1111's text; a UserComment may also hold ComfyUI's graph. Other tools write tables of their own under these names."""
    if not text.lstrip().startswith("{"):
        return from_parameters(text)
    try:
        data = _table(name, text)
    except ValueError:
        return from_parameters(text)  # a prompt may begin with a brace
    if _GRAPH in data or _WORKFLOW in data:
        graph, workflow = data.get(_GRAPH), data.get(_WORKFLOW)
        return from_graph(graph if graph is not None else as_graph(workflow))
    return _nodes(name, data)


def _nodes(name: str, data: object) -> PictureText:
    """A graph of ComfyUI. Raises ValueError for a text of another tool of this name."""
    if isinstance(data, dict) and not any(isinstance(node, Mapping) and "class_type" in node for node in data.values()):
        raise ValueError(f"its text {name!r} is a table of another tool, with the fields {first_of([repr(key) for key in data])}"
                         "; expected that of A1111, Forge, ComfyUI or InvokeAI. Copy the prompt into a .txt file")
    return from_graph(data)


def _of_comfyui(texts: Mapping[str, str], name: str) -> str | None:
    """ComfyUI's text of a name: a chunk of a PNG, or in EXIF any tag whose text begins with the name."""
    if name in texts:
        return texts[name]
    return next((text.removeprefix(f"{name}:") for text in texts.values() if text.startswith(f"{name}:")), None)


def _own(text: str) -> PictureText | None:
    """The fields in our own chunk; None where it is not whole, and the other texts count."""
    try:
        given = json.loads(text)["picture"]
        known = {spec.name for spec in fields(PictureText)}
        picture = PictureText(**{name: value for name, value in given.items() if name in known})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return picture if all(_typed(getattr(picture, spec.name), str(spec.type)) for spec in fields(PictureText)) else None


def _typed(value: object, kind: str) -> bool:
    kinds: Mapping[str, tuple[type, ...]] = {"str": (str,), "int | None": (int, type(None)),
                                             "float | None": (float, int, type(None))}
    if kind in kinds:
        return isinstance(value, kinds[kind]) and not isinstance(value, bool)
    return isinstance(value, Mapping) and all(isinstance(word, str) for word in value.values())


def _table(name: str, text: str) -> dict[str, Any]:
    data = _json(name, text)
    if not isinstance(data, dict):
        raise ValueError(f"its text {name!r} is not a table")  # noqa: TRY004  the content of a file, not a call
    return data


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text, strict=False)
    except ValueError as error:
        raise ValueError(f"its text {name!r} is not valid JSON ({error})") from error
