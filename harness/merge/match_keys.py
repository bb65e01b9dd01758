"""Decides, before any weight is read, what a merge does with each key of a component, and lists what prevents it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from harness.declare.nearest import closest
from harness.declare.ways_out import KEEP_A
from harness.merge.expression import SMALL

MISSING_POLICIES: Final = ("error", "keep_a")
_COMPARED: Final = 20
"""Keys that are looked at for a counterpart under another name: a refusal names a few of them."""
_ABOUT_CHANNELS: Final = ("; the one with more channels must be A, and what the others have beyond the latent image must be the "
                          "same as in A, or nothing")
WIDE_INPUTS: Final[Mapping[str, int]] = {
    "conv_in.weight": 4, "img_in.weight": 2, "x_embedder.weight": 2, "x_embedder.proj.weight": 4, "pos_embed.proj.weight": 4}
"""The axes of the first layers, by name in each layout: the only weights whose input channels differ within a family. Inpainting
U-Nets take 9 channels instead of 4, Flux Fill, Depth and Canny 384 or 128 values of a patch instead of 64."""

_LATENT: Final = 4
"""Input channels of a U-Net that are the latent image. What an inpainting, depth or editing model has after them differs."""
_FILL_OVER_CONTROL: Final = 3
"""A patch of Flux Fill has 6 times the values of plain Flux', one of Depth and Canny twice as many. What follows the first is
another thing in each."""


class TensorLike(Protocol):
    """What a plan needs to know about a tensor: its safetensors dtype ("F16", "I64") and its shape."""

    @property
    def dtype(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...


@dataclass(frozen=True, kw_only=True)
class MergePlan:
    """The keys of one component by what happens to them. Each key of each input is in exactly one tuple.

    `integers` are integer and boolean buffers; they are taken from A, because an average of indices has no meaning. `kept`
    are keys that another model lacks; `missing="keep_a"` copies them from A. `left_out` are keys that A lacks;
    `missing="keep_a"` drops them. `missing_in_b` holds the keys that any model other than A lacks. `narrowed` maps keys to
    the number of input channels that are merged, since A has more of them than the other models.
    """

    component: str
    merged: tuple[str, ...] = ()
    integers: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    missing_in_a: tuple[str, ...] = ()
    missing_in_b: tuple[str, ...] = ()
    shape_mismatched: tuple[str, ...] = ()
    kind_mismatched: tuple[str, ...] = ()
    """Integers in one model, floating point in another: neither merging nor copying them makes sense."""
    narrowed: Mapping[str, int] = field(default_factory=dict)
    shapes: Mapping[str, str] = field(default_factory=dict)
    """What differs, by mismatched key: "[320, 9, 3, 3] in A, [320, 4, 3, 3] in B", or the dtypes."""
    lacking: Mapping[str, str] = field(default_factory=dict)
    """The models that lack a key, by key: "B and C"."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """By key that one side lacks: the most similar one of the same shape that only the other side has."""
    casts: Mapping[str, int] = field(default_factory=dict)
    """The number of merged keys by difference in dtype: {"stored as F16, the dtype of A; B has F32": 686}."""

    @property
    def copied(self) -> tuple[str, ...]:
        """All keys that are copied unchanged from A."""
        return tuple(sorted((*self.integers, *self.kept)))

    def coverage_keys(self) -> dict[str, tuple[str, ...]]:
        """{status: keys}, with the statuses of records.Coverage; a status without keys is omitted."""
        whole = tuple(key for key in self.merged if key not in self.narrowed)
        statuses = {"merged": whole, "merged_in_part": tuple(self.narrowed), "copied": self.copied, "left_out": self.left_out,
                    "missing_in_a": self.missing_in_a, "missing_in_b": self.missing_in_b,
                    "shape_mismatched": self.shape_mismatched, "kind_mismatched": self.kind_mismatched}
        return {status: keys for status, keys in statuses.items() if keys}

    def notes(self) -> tuple[str, ...]:
        """Notes for the coverage: keys kept or left out, channels kept, and dtypes cast."""
        where = self.component
        kept_note = f"{where}: kept from A, as others lack them: {_listed(self.kept)}"
        left_note = f"{where}: left out, as A has no place for them: {_listed(self.left_out)}"
        narrow = (f"{where}: {key!r} merged in its first {count} input channels, the others are A's"
                  for key, count in self.narrowed.items())
        casts = (f"{where}: merged in {cast} ({count} {'key' if count == 1 else 'keys'})"
                 for cast, count in self.casts.items())
        return (*([kept_note] if self.kept else []), *([left_note] if self.left_out else []), *narrow, *casts)

    def problems(self) -> list[str]:
        """One sentence for each key that prevents the merge; empty if there is none."""
        where = self.component
        return [
            *(f"{where}: {key!r} is missing in A and would be lost.{self._renamed(key)} Merge models of one family and layout, "
              f"or set {KEEP_A} to make the result without it." for key in self.missing_in_a),
            *(f"{where}: {key!r} is missing in {self.lacking[key]}.{self._renamed(key)} Give models with the same keys, or set "
              f"{KEEP_A} to keep A's as it is." for key in self.missing_in_b),
            *(f"{where}: {key!r} has different shapes ({self.shapes[key]}). Merge models of one family and kind"
              f"{_ABOUT_CHANNELS if key in WIDE_INPUTS else ''}." for key in self.shape_mismatched),
            *(f"{where}: {key!r} holds integers in one model and floating point in another ({self.shapes[key]}). Merge "
              "models that are stored in the same way; quantized files cannot be merged." for key in self.kind_mismatched),
        ]


    def _renamed(self, key: str) -> str:
        """A sentence on the key that may be the same tensor under another name, which no policy for missing keys would merge."""
        if key not in self.renamed:
            return ""
        return (f" {self.renamed[key]!r} has its shape and may be the same tensor under another name: rename it, since {KEEP_A} "
                "would not merge it.")


def model_names(count: int, base: bool) -> tuple[str, ...]:
    """The names of the models in messages, in the order that methods take them: A, B, then D, E ..., and C last if there is
    a third model or base."""
    others = count - 2 - base
    return ("A", "B", *(chr(ord("D") + n) for n in range(others)), *(["C"] if base else []))


def plan_merge(component: str, models: Sequence[Mapping[str, TensorLike]], names: Sequence[str] = "ABC",
               missing: str = "error") -> MergePlan:
    """The plan for one component of the models, A first. Keys are sorted, so a plan does not depend on the order of the
    inputs.

    `missing` is "error" or "keep_a", see declare.Merge; other values raise ValueError. With both, differing shapes are a
    problem, except that A may have more input channels: the additional channels then stay A's.
    """
    if missing not in MISSING_POLICIES:
        raise ValueError(f"missing={missing!r}: expected one of {MISSING_POLICIES}")
    a, others = models[0], dict(zip(names[1:], models[1:], strict=False))
    keys_by_status: dict[str, list[str]] = {"merged": [], "integers": [], "kept": [], "missing_in_b": [], "shape_mismatched": [],
                                   "kind_mismatched": []}
    shapes, lacking, narrowed = {}, {}, {}
    casts: Counter[str] = Counter()
    for key in sorted(a):
        lack = [name for name, model in others.items() if key not in model]
        if lack:
            keys_by_status["kept" if missing == "keep_a" else "missing_in_b"].append(key)
            lacking[key] = " and ".join(lack)
            continue
        infos = {names[0]: a[key], **{name: model[key] for name, model in others.items()}}
        status, narrow = _status(key, list(infos.values()))
        keys_by_status[status].append(key)
        if status.endswith("mismatched"):
            shapes[key] = ", ".join(f"{info.dtype if status[0] == 'k' else list(info.shape)} in {name}"
                                    for name, info in infos.items())
        if narrow:
            narrowed[key] = narrow
        if status == "merged" and (cast := _cast(infos)):
            casts[cast] += 1
    extra = tuple(sorted({key for model in others.values() for key in model if key not in a}))
    renamed = _renamed(a, others, [key for key in lacking if missing == "error"], extra)
    return MergePlan(component=component, shapes=shapes, lacking=lacking, narrowed=narrowed, casts=dict(casts), renamed=renamed,
                     **{"left_out" if missing == "keep_a" else "missing_in_a": extra},
                     **{status: tuple(keys) for status, keys in keys_by_status.items()})


def _renamed(a: Mapping[str, TensorLike], others: Mapping[str, Mapping[str, TensorLike]], absent: Sequence[str],
             extra: Sequence[str]) -> dict[str, str]:
    """{key: its counterpart under another name, by shape and similarity}, both ways, of the keys that are named in a refusal."""
    shapes = {key: tuple(model[key].shape) for model in others.values() for key in extra if key in model}
    pairs: dict[str, str] = {}
    for key in absent[:_COMPARED]:
        same = [other for other, shape in shapes.items() if shape == tuple(a[key].shape)]
        if similar := closest(key, same[:_COMPARED], cutoff=0.8):
            pairs |= {key: similar[0], similar[0]: key}
    return pairs


def _status(key: str, infos: Sequence[TensorLike]) -> tuple[str, int]:
    """The status of a key that all models have, and the number of merged input channels (0 for all)."""
    shapes = {tuple(info.shape) for info in infos}
    narrow = 0
    if len(shapes) > 1:
        narrow = _common_channels(key, [tuple(info.shape) for info in infos])
        if not narrow:
            return "shape_mismatched", 0
    if len({_integer(info.dtype) for info in infos}) > 1:
        return "kind_mismatched", 0
    return ("integers" if _integer(infos[0].dtype) else "merged"), narrow


def _common_channels(key: str, shapes: Sequence[tuple[int, ...]]) -> int:
    """The number of input channels that all models have and that are the same in all, if A has the most and nothing else
    differs; else 0.

    Padding the narrower ones with zeros instead would shrink A's mask channels by the share of B.
    """
    if key not in WIDE_INPUTS or any(len(shape) != WIDE_INPUTS[key] for shape in shapes):
        return 0
    alike = len({(shape[0], *shape[2:]) for shape in shapes}) == 1
    counts = [shape[1] for shape in shapes]
    common = min(counts)
    same = common == _LATENT if key == "conv_in.weight" else counts[0] != _FILL_OVER_CONTROL * common
    return common if alike and counts[0] == max(counts) and same else 0


def _cast(infos: Mapping[str, TensorLike]) -> str:
    """The formats in which a key of differing dtypes is computed and stored; empty if the dtypes are equal."""
    (_, first), *others = infos.items()
    if all(info.dtype == first.dtype for _, info in others):
        return ""
    small = all(info.dtype in SMALL for info in infos.values())
    differing = " and ".join(f"{name} has {info.dtype}" for name, info in others if info.dtype != first.dtype)
    return f"{'fp32' if small else 'fp64'} and stored as {first.dtype}, the dtype of A; {differing}"


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(map(repr, keys))


def _integer(dtype: str) -> bool:
    return dtype.startswith(("I", "U", "BOOL"))
