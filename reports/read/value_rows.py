"""The rows of the values of a run, from its run.json. One that was written before rows had a title is filled up from EARLIER."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from harness.records.values import FIELDS, PLACES, RUN_VALUES, ValueSpec

EARLIER: Final[Mapping[str, Mapping[str, Any]]] = {
    "clip_score": {"title": "CLIP score", "low": -100.0, "high": 100.0, "shown": PLACES},
    "tokens_dropped": {"title": "Tokens dropped", "low": 0.0, "shown": (),
                       "undefined": "the tokenizer does not tell how long a text is"},
    "psnr_db": {"title": "PSNR", "low": 0.0, "paired": True, "symbol": " dB", "shown": ("figure",),
                "undefined": "identical to the reference: PSNR has no finite value"},
    "exact_match": {"title": "Exact matches", "kind": "flag", "paired": True, "display": "percent", "shown": ()},
    "ssim": {"title": "SSIM", "kind": "share", "paired": True, "shown": ()},
    "palette_drift": {"title": "Palette drift", "low": 0.0, "paired": True, "symbol": " dE00", "shown": ("caption",)},
    "chroma": {"title": "Chroma", "low": 0.0, "shown": ()},
    "overexposed_share": {"title": "Over-exposed pixels", "kind": "share", "display": "percent", "shown": ()},
    "underexposed_share": {"title": "Under-exposed pixels", "kind": "share", "display": "percent", "shown": ()},
    "clipped_share": {"title": "Clipped pixels", "kind": "share", "display": "percent",
                      "shown": PLACES},
    "saturation": {"title": "Saturation", "kind": "share", "digits": 3, "shown": ("column", "figure", "caption")},
    "edge_jaggedness": {"title": "Edge jaggedness", "kind": "share", "shown": (),
                        "undefined": "no pixel has a gradient of 10 levels or more"},
    "luma_sd": {"title": "Contrast (SD of luma)", "low": 0.0, "high": 127.5, "shown": ()},
    "style_certainty": {"title": "Certainty of the look", "kind": "share", "shown": ()},
}
"""What run.json did not say of a value in version 0.1.0, whose rows held metric, unit, better, definition and version alone. It
is history: a new metric needs no line here, because its rows are in run.json as a whole."""
FIELD_TYPES: Final[Mapping[str, Any]] = {
    "metric": str, "unit": str, "better": str, "definition": str, "version": int | str, "title": str, "kind": str,
    "low": float | int | None, "high": float | int | None, "paired": bool, "pooled": bool, "display": str, "digits": int,
    "symbol": str, "shown": list, "origin": str, "paper": str, "undefined": str}


def rows_of(head: Mapping[str, Any]) -> dict[str, ValueSpec]:
    """By name the rows of the values that the metrics of a run give, in the order of run.json.

    A field that run.json lacks has the value of EARLIER. Of a value that is not there either, a unit "share" means a share from
    0 to 1, "baseline" in the definition means paired, the title is the name, and the rest are the defaults of ValueSpec.
    Raises ValueError for a row that contradicts itself.
    """
    return {str(name): _row(str(name), fields) for name, fields in head.get("metrics", {}).items()}


def row_of(values: Mapping[str, ValueSpec], name: str) -> ValueSpec:
    """The row of a value of a file that holds no rows: one of `values`, or of RUN_VALUES, else what EARLIER knows of its name."""
    return values.get(name) or RUN_VALUES.get(name) or _row(name, {})


def _row(name: str, fields: Mapping[str, Any]) -> ValueSpec:
    given = {field: fields[field] for field in FIELDS if field in fields}
    if "title" not in fields:
        guessed = {"title": name.replace("_", " "), "kind": "share" if fields.get("unit") == "share" else "number",
                   "paired": "baseline" in str(fields.get("definition", "")), "shown": ()}
        given = {**guessed, **EARLIER.get(name, {}), **given}
    given = {"unit": "", "definition": "", **given, "better": fields.get("better") or "nearer", "name": name,
             "shown": tuple(map(str, given.get("shown", ())))}
    return ValueSpec(**given)
