"""Reads an adapter file of any known format against a model: canonical changes of its modules, and the status of every
tensor."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.adapters.adapter_file import Stored, quoted
from harness.adapters.build_change import Group, UnusableError, build
from harness.adapters.change import Change, Embedding, Reading, Shapes
from harness.adapters.formats import FORMATS, Key
from harness.adapters.formats.headers import DEFAULT_ALPHA
from harness.adapters.fused_rows import InseparableError, join_rows, select_places
from harness.adapters.header_warnings import other_family
from harness.adapters.live_plan import AdapterError
from harness.adapters.module_names import Place, Table, Target, is_t5, missing, tables, underscored
from harness.adapters.open_adapter import open_stored, refuse_without_settings
from harness.adapters.pickled import PLAIN_NUMBERS
from harness.adapters.recognising import INVERSION, Recognised, describe, format_of, parsed, recognise_file, strength_place
from harness.adapters.textual_inversion import embedding, place_of
from harness.weights.header_claims import prediction_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Recognised", "read_changes", "recognise_file"]
_TRANSFORMERS: Final = ("flux", "sd3")


def read_changes(path: Path, shapes: Shapes, family: str, *, paired: bool = True) -> Reading:
    """The file's changes of a model with these weights; `family` is "sd1", "sd2", "sdxl", "flux" or "sd3". `paired`: whether the
    modules of its transformer also have the names of Flux.1's or Stable Diffusion 3's other spelling.

    Raises AdapterError for anything that cannot be applied exactly. Two exceptions: keys of layers that do not support such
    a change are listed as refused, and keys of components that this model lacks as absent_component.
    """
    stored = open_stored(Path(path))
    refuse_without_settings(Path(path), stored)
    name = format_of(stored)
    reader = _Reader(stored, name, shapes, family, paired=paired)
    return reader.read()


class _Reader:
    """The state of one reading: the file, the model's names, and the status of the keys so far."""

    def __init__(self, stored: Stored, name: str, shapes: Shapes, family: str, *, paired: bool) -> None:
        self.stored, self.name, self.shapes, self.family = stored, name, shapes, family
        self.recognised = describe(stored, name)
        self.tables = tables(shapes, family, paired=paired)
        self.keys: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        self.reasons: dict[str, str] = {}
        self.notes: dict[str, None] = {}
        self.owners: dict[tuple[str, str], list[tuple[tuple[int, int], str]]] = defaultdict(list)

    def read(self) -> Reading:
        """Reads the whole file. Raises AdapterError."""
        values = {key: _plain(tensor) for key, tensor in self.stored.load().items()}
        if set(values) != set(self.stored.entries):
            raise AdapterError(f"{self.stored.name}: its header and its tensors differ; download it again")
        embeddings = tuple(self._embeddings(values))
        groups = self._groups(values)
        changes = self._place([(group, change) for group in groups if (change := self._built(group)) is not None])
        self._close(changes, embeddings)
        return Reading(
            source=self.stored.name, format=self.name, changes=changes, embeddings=embeddings, reasons=self.reasons,
            keys={part: {status: tuple(keys) for status, keys in by_status.items()} for part, by_status in self.keys.items()},
            facts=_facts(self.recognised, self.stored), notes=tuple(self.notes),
            strength_version=2 if self._is_strength_elsewhere() else 1, warnings=(
                *self.recognised.warnings, *other_family(self.stored, self.recognised.base, self.family)))

    def _is_strength_elsewhere(self) -> bool:
        """Whether the strength is in a header of names that had none, in plain numbers of a pickle, or PEFT's default."""
        in_header = (self.name in FORMATS and FORMATS[self.name].strength == "either"
                     and strength_place(self.stored, self.name) == "header")
        alphas = [key for key, entry in self.stored.entries.items() if key.endswith(PLAIN_NUMBERS) and not entry.shape]
        return in_header or (self.stored.pickled and bool(alphas)) or any(DEFAULT_ALPHA in note for note in self.notes)

    def _component(self, part: str) -> str:
        if part == "t5":
            second = self.family == "flux" or (not self.family and is_t5(self.shapes.get("text_encoder_2", ())))
            return "text_encoder_2" if second else "text_encoder_3"
        if part == "denoiser":
            return "transformer" if "transformer" in self.shapes or self.family in _TRANSFORMERS else "unet"
        # Some files for transformers have "unet" in their names too, which early trainers wrote.
        return "transformer" if part == "unet" and "unet" not in self.shapes and "transformer" in self.shapes else part

    def _embeddings(self, values: Mapping[str, Tensor]) -> list[Embedding]:
        embeddings: list[Embedding] = []
        key_by_token: dict[tuple[str, str], str] = {}
        for key in self.stored.entries:
            if (inversion_key := place_of(self.stored, key)) is None:
                continue
            component = self._component(inversion_key.part)
            if component not in self.shapes:
                self._account(component, "absent_component", [key], f"this model has no {component}")
            elif inversion_key.status != "applied":
                self._account(component, inversion_key.status, [key], inversion_key.reason)
            else:
                if (other := key_by_token.setdefault((component, inversion_key.token), key)) != key:
                    raise AdapterError(f"{self.stored.name}: {quoted(other)} and {quoted(key)} both define the word "
                                       f"{quoted(inversion_key.token)}; expected one")
                embeddings.append(embedding(self.stored, key, inversion_key, component, values[key], self.shapes[component]))
                self._account(component, "applied", [key])
        return [replace(one, file_word=self.recognised.file_word) for one in embeddings]

    def _groups(self, values: Mapping[str, Tensor]) -> list[Group]:
        if self.name == INVERSION:
            return []
        row = FORMATS[self.name]
        names = row.names(self.stored, self.shapes) if row.names else {}
        only = self._peft_component() if self.name == "peft" else ""
        flat: dict[str, Table] = {}
        groups: dict[tuple[str, tuple[Place, ...]], Group] = {}
        for key, said in parsed(self.stored, self.name):
            part = names.get(key, said)
            component, module, target = self._locate(key, part, only, flat)
            if target is None:
                self._account(component, "absent_component", [key], f"this model has no {component}")
                continue
            group = groups.setdefault((component, target.places), Group(component=component, module=module, target=target))
            if part.role in group.keys:
                raise AdapterError(f"{self.stored.name}: {quoted(group.keys[part.role])} and {quoted(key)} both change "
                                   f"{target.places[0].path}; expected one change per module")
            group.add(key, part, values[key])
        return list(groups.values())

    def _locate(self, key: str, part: Key, only: str, flat: dict[str, Table]) -> tuple[str, str, Target | None]:
        """Component, module name and target of a key; the target is None if this model lacks the component. Raises
        AdapterError for a module that the component does not have."""
        places = [(self._component(name), module) for name, module in part.places]
        if only:
            places = [place for place in places if place[0] == only]
        if places[0][0] not in self.shapes:
            return places[0][0], places[0][1], None
        for component, module in places:
            if component not in self.shapes:
                continue
            if part.flat and component not in flat:
                flat[component] = underscored(self.tables[component])
            table = flat[component] if part.flat else self.tables[component]
            if module in table:
                return component, module, table[module]
        component, module = places[0]
        error = missing(self.stored.name, key, module, component, flat[component] if part.flat else self.tables[component])
        raise AdapterError(f"{error} Its names and shapes are for: {self.recognised.base}.")

    def _peft_component(self) -> str:
        """The component that a PEFT folder is for: the one with most of its modules in matching widths. Raises AdapterError
        in a tie."""
        scores: dict[str, int] = {}
        for key, part in parsed(self.stored, "peft"):
            for name, module in part.places:
                component = self._component(name)
                if target := self.tables.get(component, {}).get(module):
                    scores[component] = scores.get(component, 0) + 1 + (part.role == "down" and len(target.shape) > 1 and (
                        self.stored.entries[key].shape[1:2] == target.shape[1:2]))
        best = [component for component, score in scores.items() if score == max(scores.values())]
        if len(best) > 1:
            raise AdapterError(f"{self.stored.name}: its modules fit {' and '.join(best)} equally, and PEFT's names do not "
                               "say which is meant; save it with diffusers, whose names do")
        return best[0] if best else self._component("denoiser")

    def _built(self, group: Group) -> Change | None:
        """The change in the file's own layout; None, with its keys refused, if the layer does not support it."""
        try:
            change, notes = build(self.stored, strength_place(self.stored, self.name), group)
        except UnusableError as error:
            self._refuse([group], str(error))
            return None
        for note in notes:
            # Of a note that applies to many modules, the first is enough.
            if not any(said.partition(" (")[0] == note.partition(" (")[0] for said in self.notes):
                self.notes[note] = None
        return change

    def _place(self, built: list[tuple[Group, Change]]) -> dict[tuple[str, str], Change]:
        changes: dict[tuple[str, str], Change] = {}
        parts: dict[tuple[str, str], list[tuple[Group, Change, tuple[int, int]]]] = defaultdict(list)
        for group, change in built:
            self._claim(group)
            first = group.target.places[0]
            if first.at is not None:
                parts[group.component, first.path].append((group, change, first.at))
                continue
            try:
                made = {(group.component, path): part for path, part in select_places(
                    change, group.target.places, group.target.shape[0]).items()}
            except InseparableError as error:
                self._refuse([group], f"{group.module}: {error}")
                continue
            changes |= made
            self._applied(group)
            if len(made) > 1:
                self._count_note("fused modules of the file were split by rows into single layers, exactly (with a shared down)")
            elif first.rows:
                self.notes[f"{group.module}: its halves are in reverse order in this model, and were swapped"] = None
        for place, found in parts.items():
            self._join(place, found, changes)
        return changes

    def _join(self, place: tuple[str, str], parts: list[tuple[Group, Change, tuple[int, int]]],
              changes: dict[tuple[str, str], Change]) -> None:
        component, path = place
        groups = [group for group, _, _ in parts]
        try:
            joined = join_rows([(change, at) for _, change, at in parts], self.shapes[component][path][0])
        except InseparableError as error:
            self._refuse(groups, f"{path}: {error}")
            return
        changes[place] = replace(joined, component=component, path=path)
        for group in groups:
            self._applied(group)
        how = "block-diagonal factors, ranks added" if joined.kind == "lora" else "one dense difference"
        self._count_note(f"fused layers of this model were joined from single modules of the file, exactly ({how})")

    def _count_note(self, text: str) -> None:
        """Adds a note with a count in front, or increments its count."""
        old = next((note for note in self.notes if note.partition(" ")[2] == text), None)
        count = int(old.partition(" ")[0]) if old else 0
        self.notes = {note: None for note in self.notes if note != old} | {f"{count + 1} {text}": None}

    def _claim(self, group: Group) -> None:
        """Raises AdapterError for two names of the same rows of a weight; other tools silently use the last."""
        key = next(iter(group.keys.values()))
        for place in group.target.places:
            height = (*self.shapes[group.component][place.path], 1)[0]
            top, bottom = place.at or (0, height)
            for (begin, end), other in self.owners[group.component, place.path]:
                if top < end and begin < bottom:
                    raise AdapterError(f"{self.stored.name}: {quoted(other)} and {quoted(key)} both change {place.path}; "
                                       "expected one change per module")
            self.owners[group.component, place.path].append(((top, bottom), key))

    def _applied(self, group: Group) -> None:
        self._account(group.component, "applied", [key for role, key in group.keys.items() if role not in group.consumed])
        self._account(group.component, "consumed", [key for role, key in group.keys.items() if role in group.consumed])

    def _refuse(self, groups: list[Group], reason: str) -> None:
        for group in groups:
            self._account(group.component, "refused", list(group.keys.values()), reason)

    def _account(self, component: str, status: str, keys: list[str], reason: str = "") -> None:
        if keys:
            self.keys[component][status] += keys
        if reason:
            self.reasons |= dict.fromkeys(keys, reason)

    def _close(self, changes: Mapping[Any, Change], embeddings: tuple[Embedding, ...]) -> None:
        counted = [key for by_status in self.keys.values() for keys in by_status.values() for key in keys]
        if len(counted) != len(set(counted)) or set(counted) != set(self.stored.entries):
            raise AdapterError(f"{self.stored.name}: {len(counted)} of {len(self.stored.entries)} tensors accounted for; this is "
                               "a bug of Sweetspot")
        if not changes and not embeddings:
            why = next(iter(self.reasons.values()), "")
            raise AdapterError(f"{self.stored.name}: nothing in it can be applied to this model ({why}). Its names and "
                               f"shapes are for: {self.recognised.base}.")
        silent = sum(change.scale == 0 for change in changes.values())
        if silent:
            self.notes[f"alpha is 0: no effect ({silent} of {len(changes)} modules)"] = None


def _plain(tensor: Tensor) -> Tensor:
    """8-bit floats as float32, because torch cannot compute with them; other tensors unchanged."""
    return tensor.float() if str(tensor.dtype).startswith("torch.float8") else tensor


def _facts(recognised: Recognised, stored: Stored) -> dict[str, str]:
    facts = {"prediction": prediction_of((), stored.metadata, None)[0],
             "training tool": recognised.tool, "base": recognised.base, "kinds": ", ".join(recognised.kinds),
             "modules": ", ".join(f"{part} {count}" for part, count in recognised.modules.items()),
             "ranks": "" if recognised.ranks is None else span(recognised.ranks), "words": ", ".join(recognised.tokens)}
    if recognised.alphas is not None:
        without = f", {recognised.alphas_missing} modules without" if recognised.alphas_missing else ""
        facts["alphas"] = span(recognised.alphas) + without
    return {name: text for name, text in facts.items() if text}


def span(ends: tuple[float, float]) -> str:
    """ "4", or "4 to 16"."""
    return f"{ends[0]:g}" if ends[0] == ends[1] else f"{ends[0]:g} to {ends[1]:g}"
