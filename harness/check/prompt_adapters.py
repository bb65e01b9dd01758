"""Adapters that prompts name, found by the names of their files in the grid's adapter folder. Textual inversions become adapters
of every candidate, and so do LoRA tags that all prompts have, in each stage that reads them; other tags become adapters of their
prompts."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from harness.check.files import ADAPTER, file_problem
from harness.declare import Adapter, Alphas, Candidate, Grid, Prompt, Suite, grid_of
from harness.declare.effective_grid import run_grids, stage_grids
from harness.declare.listing import first_of
from harness.declare.nearest import did_you_mean
from harness.declare.prompt_texts import POSITIVE, ROLES, parsed, texts_of
from harness.declare.stage_candidates import with_named
from harness.declare.syntax import Tag
from harness.declare.syntax.tags import without_tags
from harness.hub import identity_of, pinned

if TYPE_CHECKING:
    from harness.adapters.recognising import Recognised

_SUFFIXES: Final = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
_EMBEDDINGS: Final = "embeddings"
"""The name of a folder whose files are textual inversions, whatever their format, as in A1111."""
_MOST_FILES: Final = 20_000


_Any = TypeVar("_Any")


class UnresolvedError(ValueError):
    """What stands against the adapters that prompts name."""


def resolved(suite: _Any, root: Path) -> _Any:
    """The suite with every address of the hub at its commit, and with the adapters that its prompts name. Once for a run, which
    then knows no branches."""
    return with_prompt_adapters(pinned(suite), root)


def with_prompt_adapters(suite: _Any, root: Path) -> _Any:
    """The suite with the adapters that its prompts name as adapters of every candidate or of these prompts, and without the tags
    in the prompts. Whatever has a problem of any kind, which the check says, is returned as it is."""
    if not isinstance(suite, Suite) or not isinstance(suite.grid, Grid):
        return suite
    try:
        if not _names_any(suite):
            return suite
        named = _named(suite, root)
        candidates = _given(suite, named, root)
        prompts = tuple(_without_tags(prompt, named.by_prompt.get(prompt.id, ())) for prompt in suite.grid.prompts)
        return replace(suite, candidates=candidates, grid=replace(suite.grid, prompts=prompts))
    except Exception:  # a suite file can hold any object, see `problems`
        return suite


def prompt_adapter_problems(suite: Suite, root: Path) -> Iterator[str]:
    """One phrase if the adapters that the prompts name cannot be given to the candidates."""
    try:
        if _names_any(suite):
            named = _named(suite, root)
            _given(suite, named, root)
            if (named.tagged or named.by_prompt or named.inversions) and suite.search is not None:
                yield ("prompts name adapters, but the candidates that a search proposes have none; remove the search, or fuse "
                       "the adapters into its models")
        elif suite.grid.adapter_folder and not any(_follows_names(prompt) for prompt in suite.grid.prompts):
            yield (f"adapter_folder is {suite.grid.adapter_folder!r}, but no prompt has a syntax in which it could name an "
                   "adapter; give the grid syntax='a1111' or syntax='comfyui', or remove adapter_folder")
    except UnresolvedError as error:
        yield str(error)
    except (ValueError, OverflowError):  # a text or the strength of a stage, see harness.check.stages
        return


@dataclass(frozen=True, kw_only=True)
class _Named:
    """The adapters of tags that all prompts have, those of other tags by the id of their prompt, and the files of textual
    inversions that the texts of the grid name."""

    folder: AdapterFolder
    tagged: tuple[Adapter, ...]
    by_prompt: Mapping[str, tuple[Adapter, ...]]
    inversions: tuple[str, ...]


def _named(suite: Suite, root: Path) -> _Named:
    """The adapters that the prompts name. Raises UnresolvedError for names that are not those of one file."""
    tags = {prompt.id: parsed(prompt, POSITIVE).tags for prompt in suite.grid.prompts}
    # Their order in a prompt makes no difference, so that all prompts have that in which tags first appear.
    order = list(dict.fromkeys(tag for own in tags.values() for tag in own))
    tags = {name: tuple(sorted(own, key=order.index)) for name, own in tags.items()}
    folder = AdapterFolder(suite.grid.adapter_folder, root)
    steps = {grid_of(suite, candidate).steps for candidate in suite.candidates}
    adapters = {tag: _adapter(tag, folder) for tag in order}
    by_prompt = {name: tuple(adapters[tag] for tag in own) for name, own in tags.items()}
    alike = len(set(tags.values())) == 1
    return _Named(folder=folder, tagged=next(iter(by_prompt.values())) if alike else (), by_prompt={} if alike else by_prompt,
                  inversions=_inversions(suite.grid.prompts, steps, folder))


def _inversions(prompts: Sequence[Prompt], steps: Collection[int], folder: AdapterFolder) -> tuple[str, ...]:
    """The files of textual inversions that the texts of prompts name, at any of these numbers of steps."""
    texts = [(prompt, role) for prompt in prompts for role in ROLES]
    prefixed = [folder.file(name, f"prompt {prompt.id!r}: embedding:{name}")
                for prompt, role in texts for name in parsed(prompt, role).embeddings]
    return tuple(dict.fromkeys((*prefixed, *folder.inversions_in(texts, steps))))


def _given(suite: Suite, named: _Named, root: Path) -> tuple[Candidate, ...]:
    """The candidates with the adapters that their texts name: tags wherever the prompts are read, and textual inversions in the
    stages whose texts have their names."""
    of_texts: dict[tuple[str, str | None, int], tuple[str, ...]] = {}
    candidates = []
    for candidate in suite.candidates:
        own = with_named(candidate, named.tagged)
        stages = []
        for place, (stage, grid) in enumerate(zip(own.stages, run_grids(suite, candidate)[1:], strict=True), 2):
            texts = (stage.prompt, stage.negative, grid.steps)
            if texts not in of_texts:
                try:
                    of_texts[texts] = _inversions(grid.prompts, {max(1, grid.steps)}, named.folder)
                except UnresolvedError as error:
                    raise UnresolvedError(f"candidate {candidate.name!r}: stage {place}: {error}") from None
            stages.append(replace(stage, adapters=(*stage.adapters, *_lacking(stage.adapters, of_texts[texts], root))))
        candidates.append(replace(own, stages=tuple(stages) or own.stages, adapters=(
            *own.adapters, *_lacking(candidate.adapters, named.inversions, root))))
    return tuple(candidates)


def _names_any(suite: Suite) -> bool:
    """Whether a text that is read names an adapter, or could by the name of a file in the folder."""
    later = [prompt for candidate in suite.candidates for grid in stage_grids(suite, candidate)[1:] for prompt in grid.prompts]
    for prompt in (*suite.grid.prompts, *later):
        if prompt.syntax == "a1111" and suite.grid.adapter_folder:
            return True
        if parsed(prompt, POSITIVE).tags or any(parsed(prompt, role).embeddings for role in ROLES):
            return True
    return False


def _follows_names(prompt: Prompt) -> bool:
    return prompt.syntax in ("a1111", "comfyui")


def _adapter(tag: Tag, folder: AdapterFolder) -> Adapter:
    path = folder.file(tag.name, f"<lora:{tag.name}:...>")
    if tag.text_weight is None:
        return Adapter(path=path, weight=tag.weight)
    parts = dict.fromkeys(_text_parts(folder.root / path), tag.text_weight)
    return Adapter(path=path, blocks=Alphas(default=tag.weight, parts=parts)) if parts else Adapter(path=path, weight=tag.weight)


def _text_parts(file: Path) -> list[str]:
    """The text encoders that an adapter changes."""
    from harness.adapters import AdapterError, recognise_file

    if file.suffix != ".safetensors":
        raise UnresolvedError(f"{file.name}: a second weight needs a safetensors file; convert it, or give one weight")
    try:
        return [part for part in recognise_file(file).modules if part.startswith("text_encoder")]
    except (AdapterError, OSError, ValueError) as error:
        raise UnresolvedError(str(error)) from None


@dataclass
class AdapterFolder:
    """The adapter files below a folder, which is given relative to `root`."""

    name: str
    root: Path

    def __post_init__(self) -> None:
        self.files: list[str] = []
        folder = self.root / self.name
        if self.name and not folder.is_dir():
            raise UnresolvedError(f"adapter_folder {self.name!r} is not a folder below {self.root}")
        for place, folders, names in os.walk(folder) if self.name else ():
            folders.sort()
            inside = Path(place).relative_to(folder)
            self.files += [os.path.normpath(Path(self.name) / inside / name) for name in sorted(names)
                           if name.lower().endswith(_SUFFIXES) and not name.startswith(".")]
            if len(self.files) > _MOST_FILES:
                raise UnresolvedError(f"adapter_folder {self.name!r} holds more than {_MOST_FILES} files; name the folder of "
                                      "your adapters")

    def file(self, name: str, written: str) -> str:
        """The path of the file of a name, without its suffix and the folders above it, or with them."""
        if not self.name:
            raise UnresolvedError(f"{written} names a file, but the grid has no folder in which to look for it; say "
                                  "Grid(..., adapter_folder='...')")
        ends = {path: Path(path).relative_to(os.path.normpath(self.name)).with_suffix("").as_posix() for path in self.files}
        paths = [path for path, end in ends.items() if name in (end, end.rpartition("/")[2])]
        if not paths:
            stems = sorted({end.rpartition("/")[2] for end in ends.values()})
            near = did_you_mean(name, stems) if stems else "the folder holds no adapters"
            raise UnresolvedError(f"{written}: no file of the name {name!r} is in adapter_folder {self.name!r}; {near}")
        if len(paths) > 1:
            apart = len({ends[path] for path in paths}) == len(paths)
            advice = f"write the folder before the name, such as {ends[paths[0]]!r}" if apart else "rename or remove one of them"
            raise UnresolvedError(f"{written}: {name!r} is the name of several files in adapter_folder {self.name!r}: "
                                  f"{first_of(paths, 4)}; {advice}")
        return paths[0]

    def inversions_in(self, texts: Sequence[tuple[Prompt, str]], steps: Collection[int]) -> list[str]:
        """The files of textual inversions whose name stands in a text of A1111's syntax, at any of these numbers of steps."""
        from harness.text.occurrences import composed, occurrences

        words = [composed(text.words) for prompt, role in texts if prompt.syntax == "a1111"
                 for number in steps for text in texts_of(prompt, role, number)]
        named = [path for path in self.files if any(occurrences([Path(path).stem], text) for text in words)]
        return [path for path in named if self.is_inversion(path)]

    def is_inversion(self, path: str) -> bool:
        """Whether a file of the folder is a textual inversion, by where it is or by its tensors, whatever its format."""
        if any(folder.lower() == _EMBEDDINGS for folder in Path(path).parts[:-1]):
            return True
        file = self._recognised(path)
        return not isinstance(file, str) and not file.modules and bool(file.tokens)

    def trouble(self, path: str) -> str:
        """Why a file of the folder cannot be read, so that nothing says what it is; empty if it can."""
        file = self._recognised(path)
        return file if isinstance(file, str) else ""

    def _recognised(self, path: str) -> Recognised | str:
        from harness.adapters import AdapterError, recognise_file

        if wrong := file_problem(ADAPTER, self.root / path):
            return wrong
        try:
            return recognise_file(self.root / path)
        except (AdapterError, OSError, ValueError) as error:
            return str(error)


def _lacking(adapters: Sequence[Adapter], inversions: Sequence[str], root: Path) -> Iterator[Adapter]:
    """Adapters of the inversions that are not among those given: their names stay in the prompts, so they may be there
    already."""
    own = {identity_of(adapter.path, root) for adapter in adapters}
    yield from (Adapter(path=path) for path in inversions if identity_of(path, root) not in own)


def _without_tags(prompt: Prompt, adapters: tuple[Adapter, ...]) -> Prompt:
    if prompt.syntax != "a1111":
        return prompt
    text, tags = without_tags(prompt.text)
    return replace(prompt, text=text.strip(), adapters=(*prompt.adapters, *adapters)) if tags else prompt
