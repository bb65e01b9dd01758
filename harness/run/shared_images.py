"""What runs of one suite share through a cache: images with the pictures of their earlier stages, why an image is unusable, and
which batches memory was refused for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from harness.cache import ImageCache, NoCache
from harness.declare import Candidate, Suite, short_hash
from harness.declare.effective_grid import picture_size, stage_grids
from harness.declare.stages import stage_name
from harness.records import Cell, Fit

if TYPE_CHECKING:
    from harness.run.image_making import ImageMaking, Written

_REASON: Final = 1000
"""A reason that a note gives is cut to so many characters, so that all of a note's fit into its size."""
_REFUSALS: Final = 16
_MOST_BYTES: Final = 1 << 62
_SIZES: Final = ("asked_bytes", "free_bytes", "total_bytes")


class Keys(Protocol):
    """The keys of a candidate's grid."""

    def shared_key(self, key: str) -> str:
        """The key of an image in a cache that several machines share."""

    def stage_key(self, identity: str) -> str:
        """A key of everything that determines the images of weights of an identity, besides their cells."""


@dataclass(frozen=True, kw_only=True)
class SharedImage:
    """An image as a cache has it, as PNG, with the pictures of its earlier stages by name. `why` says why it is unusable, if it
    is."""

    data: bytes
    stages: Mapping[str, bytes]
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A batch that memory was refused for. It was one with guidance if `guided`."""

    fit: Fit
    guided: bool


class SharedImages:
    """The images of one suite in a cache. An unusable image has a key of its own, so that nothing takes it for a usable one, and
    a note at the key of the image says why."""

    def __init__(self, cache: ImageCache, suite: Suite) -> None:
        self.cache, self._suite = cache, suite
        self._own: dict[str, dict[tuple[int, bool], Refusal]] = {}
        """The refusals of this process, by the key of their note."""

    @property
    def active(self) -> bool:
        """Whether there is a cache at all."""
        return not isinstance(self.cache, NoCache)

    def image(self, candidate: Candidate, keys: Keys, cell: Cell, making: ImageMaking) -> SharedImage | None:
        """The image of a cell as it was sampled; None unless the pictures of its stages are there too. `candidate` is without
        post-steps."""
        key = making.sampled_key(cell)
        size = picture_size(self._suite, candidate)
        if (data := self.cache.get(keys.shared_key(key), size)) is not None:
            stages = self._stages(candidate, keys, {name: making.stage_key(cell, name) for name in self._names(candidate)})
            return None if stages is None else SharedImage(data=data, stages=stages)
        why = (self.cache.note(keys.shared_key(key)) or {}).get("unusable")
        if not isinstance(why, str) or not why:
            return None
        data = self.cache.get(keys.shared_key(_unusable(key)), size)
        stages = self._stages(candidate, keys, {name: _unusable(making.stage_key(cell, name)) for name in self._names(candidate)})
        return None if data is None or stages is None else SharedImage(data=data, stages=stages, why=why[:_REASON])

    def has(self, candidate: Candidate, keys: Keys, cell: Cell, making: ImageMaking) -> bool:
        """Whether there are entries for all that `image` would read; they are not verified."""
        key = making.sampled_key(cell)
        parts = [key, *(making.stage_key(cell, name) for name in self._names(candidate))]
        if all(self.cache.has(keys.shared_key(part)) for part in parts):
            return True
        return bool((self.cache.note(keys.shared_key(key)) or {}).get("unusable")) and all(
            self.cache.has(keys.shared_key(_unusable(part))) for part in parts)

    def put(self, keys: Keys, image: Written) -> None:
        """Offers an image with what it was made of; of an unusable one, last of all the notes that say why."""
        for record, data in image.files:
            if data:
                self.cache.put(keys.shared_key(_unusable(record.key) if image.defects else record.key), data)
        for defect in image.defects:
            self.cache.put_note(keys.shared_key(defect.sample), {"unusable": defect.why[:_REASON]})

    def refusals(self, keys: Keys, identity: str, batch_size: int) -> list[Refusal]:
        """The batches of at most `batch_size` images that memory was refused for with weights of this identity, as the cache has
        them. What no version writes is left out."""
        place = _refused(keys, identity)
        refusals = self._noted(place)
        if lost := [row for where, row in self._own.get(place, {}).items() if where not in map(_where, refusals)]:
            # Another process, which did not know of them, wrote at the same moment.
            self._note(place, lost)
            refusals = [*refusals, *lost]
        # Of an image alone nothing can be concluded: whether this device has room for it is tried.
        return [refusal for refusal in refusals if 1 < refusal.fit.batch_size <= batch_size]

    def refuse(self, keys: Keys, identity: str, refusals: Iterable[Refusal]) -> None:
        """Puts refusals of weights of this identity beside those that are there."""
        place, rows = _refused(keys, identity), list(refusals)
        self._own.setdefault(place, {}).update({_where(row): row for row in rows})
        self._note(place, rows)

    def _noted(self, place: str) -> list[Refusal]:
        rows = (self.cache.note(place) or {}).get("refused")
        refusals: list[Refusal] = []
        for row in rows[:_REFUSALS] if isinstance(rows, list) else ():
            with suppress(TypeError, KeyError, ValueError):
                refusals.append(_restored(row))
        return refusals

    def _note(self, place: str, refusals: Sequence[Refusal]) -> None:
        """Adds refusals to those that are in the cache now."""
        rows = {_where(refusal): refusal for refusal in (*self._noted(place), *refusals)}
        self.cache.put_note(place, {"refused": [_plain(refusal) for refusal in rows.values()][-_REFUSALS:]})

    def overflow(self, keys: Keys, identity: str) -> str:
        """Why weights of this identity, in fp16, were made in bf16; empty if they were not."""
        why = (self.cache.note(_overflow(keys, identity)) or {}).get("overflow")
        return why[:_REASON] if isinstance(why, str) else ""

    def put_overflow(self, keys: Keys, identity: str, why: str) -> None:
        """Notes that weights of this identity overflow in fp16."""
        self.cache.put_note(_overflow(keys, identity), {"overflow": why[:_REASON]})

    def _names(self, candidate: Candidate) -> list[str]:
        return [stage_name(number) for number, _ in enumerate(candidate.stages)]

    def _stages(self, candidate: Candidate, keys: Keys, names: Mapping[str, str]) -> dict[str, bytes] | None:
        """The pictures of a candidate's earlier stages, by name; None unless all are there."""
        pictures: dict[str, bytes] = {}
        for (name, key), grid in zip(names.items(), stage_grids(self._suite, candidate), strict=False):
            data = self.cache.get(keys.shared_key(key), (grid.width, grid.height))
            if data is None:
                return None
            pictures[name] = data
        return pictures


def smallest(refusals: Sequence[Refusal], *, guided: bool) -> Fit | None:
    """The refusal of the smallest batch of a kind. A batch with guidance needs more than one without."""
    fits = [refusal.fit for refusal in refusals if guided or not refusal.guided]
    return min(fits, key=lambda fit: fit.batch_size, default=None)


def _unusable(key: str) -> str:
    return short_hash([key, "unusable"])


def _refused(keys: Keys, identity: str) -> str:
    return keys.shared_key(short_hash([keys.stage_key(identity), "refused"]))


def _overflow(keys: Keys, identity: str) -> str:
    return keys.shared_key(short_hash([keys.stage_key(identity), "overflow"]))


def _where(refusal: Refusal) -> tuple[int, bool]:
    return refusal.fit.batch_size, refusal.guided


def _plain(refusal: Refusal) -> dict[str, Any]:
    fit = refusal.fit
    return {"candidate": fit.candidate, "batch_size": fit.batch_size, "guided": refusal.guided, "why": fit.why[:_REASON],
            **{name: value for name in _SIZES if (value := getattr(fit, name)) is not None}}


def _restored(row: Mapping[str, Any]) -> Refusal:
    """Raises TypeError, KeyError or ValueError for what `_plain` does not write."""
    size, guided, why, candidate = row["batch_size"], row["guided"], row["why"], row["candidate"]
    sizes = {name: row.get(name) for name in _SIZES}
    counts = [size, *(value for value in sizes.values() if value is not None)]
    if not all(isinstance(count, int) and not isinstance(count, bool) and 0 <= count <= _MOST_BYTES for count in counts):
        raise ValueError("not a number of images or bytes")
    if not (isinstance(guided, bool) and isinstance(why, str) and isinstance(candidate, str)):
        raise TypeError("not a refusal")
    return Refusal(guided=guided, fit=Fit(
        candidate=candidate[:_REASON], batch_size=size, fits=False, why=why[:_REASON], asked_bytes=sizes["asked_bytes"],
        free_bytes=sizes["free_bytes"], total_bytes=sizes["total_bytes"]))
