"""Merge recipes read from TOML or JSON, and how any file of declarations is read."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Final

from harness.declare import Adapter, Alphas, Blocks, Checkpoint, Ensemble, Fused, Gradient, Merge, Recipe, Relay, plain
from harness.declare.models import DENOISER
from harness.declare.nearest import did_you_mean
from harness.declare.to_plain import OLD_DENOISER


def read_recipe(path: Path | str) -> Recipe:
    """The model that a `.toml` or `.json` file declares. Its tables are the fields of Merge; paths stay as written.

    A model is text (a path), a table with `path` (Checkpoint) or with `a` and `b` (Merge). Alpha and beta are a number, a
    table with `values` or `preset` (Blocks), with `gradient` (Gradient), or with `default` (Alphas). The output of
    `recipe_text` is read back unchanged. ValueError names the file, the field and the known ones.
    """
    file = Path(path)
    if file.suffix.lower() not in (".toml", ".json"):
        raise ValueError(f"{file.name}: expected a recipe file, .toml or .json")
    try:
        return _recipe(parsed(file), file.name)
    except RecursionError as error:
        raise ValueError(f"{file.name}: merges are nested too deeply to be read") from error


def recipe_text(model: Recipe) -> str:
    """The model as JSON on one line: fields in the order of their declaration, mappings by name, so equal models have equal
    texts. Raises ValueError for NaN and infinity."""
    return json.dumps(_ordered(plain(model)), separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def parsed(file: Path) -> dict[str, Any]:
    """What a `.toml` or `.json` file holds; for JSON it may be other than a table. ValueError names the file."""
    readers: dict[str, Callable[[str], Any]] = {".toml": tomllib.loads, ".json": json.loads}
    text = text_of(file)
    try:
        data: dict[str, Any] = readers[file.suffix.lower()](text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file.name}: not valid {file.suffix[1:].upper()}: {error}") from error
    return data


def text_of(file: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 with its mark, as Windows editors write it. ValueError names the file."""
    data = file.read_bytes()
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except ValueError as error:
        raise ValueError(f"{file.name}: not a text in UTF-8 or UTF-16 ({error}); save it as UTF-8") from error
    if "\0" in text:  # UTF-32, UTF-16 without its mark, or no text at all
        raise ValueError(f"{file.name}: not a text in UTF-8 or UTF-16 (it holds zero bytes); save it as UTF-8")
    return text


_ALPHAS: Final = ("Alphas", "Blocks", "Gradient")


def _ordered(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _ordered(data[key]) for key in (data if "is" in data else sorted(data))}
    return [_ordered(item) for item in data] if isinstance(data, list) else data


def _recipe(data: Any, place: str) -> Recipe:
    if isinstance(data, str):
        return data
    table = _recipe_table(data, place, "a path, or a table with path, with a and b, or with model and adapters")
    _refuse_several_models(table, place)
    if _recipe_is(table, Checkpoint, place, "path" in table and "a" not in table):
        return Checkpoint(**_recipe_fields(table, Checkpoint, place))
    if _recipe_is(table, Fused, place, "adapters" in table and "a" not in table):
        given = _recipe_fields(table, Fused, place)
        given["model"] = _recipe(given["model"], f"{place}: model")
        if isinstance(given["adapters"], list):
            given["adapters"] = tuple(_recipe_adapter(item, f"{place}: adapters[{number}]")
                                      for number, item in enumerate(given["adapters"]))
        return Fused(**given)
    given = _recipe_fields(table, Merge, place)
    if "is" in table and given.get("parts") == OLD_DENOISER:  # as `recipe_text` spells the default
        given["parts"] = (DENOISER,)
    for name in ("a", "b", "c"):
        if given.get(name) is not None:
            given[name] = _recipe(given[name], f"{place}: {name}")
    for name in ("alpha", "beta"):
        if name in given:
            given[name] = _recipe_alpha(given[name], f"{place}: {name}")
    if isinstance(given.get("more"), list):
        given["more"] = tuple(_recipe(item, f"{place}: more[{number}]") for number, item in enumerate(given["more"]))
    if isinstance(given.get("take"), dict):
        given["take"] = {part: _recipe(item, f"{place}: take.{part}") for part, item in given["take"].items()}
    return Merge(**given)


def _refuse_several_models(table: Mapping[str, Any], place: str) -> None:
    """Raises ValueError for the table of a relay or an ensemble, whose models no single file holds."""
    names = {*table, str(table.get("is") or table.get("type"))}
    if not names & {"models", Relay.__name__, Ensemble.__name__} or "a" in table:
        return
    if "at" in table or Relay.__name__ in names:
        raise ValueError(f"{place}: it declares a relay, whose models take turns while a picture is made, so no single file "
                         "holds it. Measure it in a suite, Candidate(model=Relay(...))")
    raise ValueError(f"{place}: it declares an ensemble, whose models all predict at every step, so no single file holds it. "
                     "Measure it in a suite, Candidate(model=Ensemble(...)), or merge the same models by the same weights: for "
                     "two, a, b and alpha, which is the weight of the second")


def _recipe_adapter(data: Any, place: str) -> Adapter:
    """Text is a path at full strength."""
    if isinstance(data, str):
        return Adapter(path=data)
    given = _recipe_fields(_recipe_table(data, place, "a path, or a table with path and weight"), Adapter, place)
    if "blocks" in given:
        given["blocks"] = _recipe_alpha(given["blocks"], f"{place}.blocks")
    return Adapter(**given)


def _recipe_alpha(data: Any, place: str) -> Any:
    """A number or None is unchanged, and so is a value of the wrong type: the check reports it."""
    if not isinstance(data, dict):
        return data
    if _recipe_is(data, Alphas, place, "default" in data):
        given = _recipe_fields(data, Alphas, place)
        given["default"] = _recipe_alpha(given["default"], f"{place}.default")
        if isinstance(given.get("parts"), dict):
            given["parts"] = {part: _recipe_alpha(item, f"{place}.parts.{part}") for part, item in given["parts"].items()}
        return Alphas(**given)
    if "gradient" in data:
        if len(data) > 1:
            others = ", ".join(sorted(set(data) - {"gradient"}))
            raise ValueError(f"{place}: gradient cannot be combined with {others}. Remove one or the other")
        return Gradient(values=data["gradient"])
    if data.get("is") == Gradient.__name__:
        return Gradient(**_recipe_fields(data, Gradient, place))
    if _recipe_is(data, Blocks, place, True):
        return Blocks(**_recipe_fields(data, Blocks, place))
    raise ValueError(f"{place}: is {data['is']!r}; expected one of {', '.join(_ALPHAS)}")


def _recipe_is(table: Mapping[str, Any], kind: type, place: str, looks: bool) -> bool:
    """Whether a table declares `kind`: by its name under "is", else by its fields (`looks`)."""
    if "is" not in table:
        return looks
    known = ("Checkpoint", "Merge", "Fused", *_ALPHAS)
    if table["is"] not in known:
        raise ValueError(f"{place}: is {table['is']!r}; expected one of {', '.join(known)}")
    return bool(table["is"] == kind.__name__)


def _recipe_table(data: Any, place: str, expected: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ValueError(f"{place} is {data!r}; expected {expected}")  # noqa: TRY004  # the content of a file, not a call
    return data


def _recipe_fields(table: Mapping[str, Any], kind: Any, place: str) -> dict[str, Any]:
    """The table's fields. Raises ValueError for a field that `kind` does not have, and for a missing one that it needs."""
    known = [spec.name for spec in fields(kind)]
    if table.get("is", kind.__name__) != kind.__name__:
        raise ValueError(f"{place}: is {table['is']!r}; expected {kind.__name__}")
    for name in table:
        if name not in (*known, "is"):
            raise ValueError(f"{place}: unknown field {name!r}; {did_you_mean(name, known)}")
    for spec in fields(kind):
        if spec.name not in table and spec.default is MISSING and spec.default_factory is MISSING:
            raise ValueError(f"{place}: field {spec.name!r} is missing. {kind.__name__} has the fields {', '.join(known)}")
    return {name: value for name, value in table.items() if name != "is"}
