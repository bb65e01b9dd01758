"""Words of prompts that are plain text here, though something else may have been meant: weights that are mistyped, names of
textual inversions that no file has, and characters that nobody sees."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from harness.check.prompt_adapters import AdapterFolder, UnresolvedError, with_prompt_adapters
from harness.declare import Prompt, Suite, grid_of
from harness.declare.effective_grid import run_grids
from harness.declare.hub_names import file_name
from harness.declare.listing import first_of
from harness.declare.nearest import closest
from harness.declare.prompt_texts import ROLES, texts_of
from harness.declare.syntax import PLAIN, SYNTAXES
from harness.records.harmless_text import first_invisible

_COMMA: Final = r"\([^():]+:\s*[+-]?\d+,\d+\s*\)"
_NO_COLON: Final = r"\([^():]*[^():\s,]\s+\d?\.\d+\s*\)"
_NOT_DIGITS: Final = r"\([^():]+:\s*[+-]?(?:nan|inf(?:inity)?|[\d.]+e[+-]?\d+)\s*\)"
_MISTYPED: Final[Mapping[str, re.Pattern[str]]] = {
    "a1111": re.compile(f"{_COMMA}|{_NO_COLON}|{_NOT_DIGITS}", re.IGNORECASE),
    "comfyui": re.compile(f"{_COMMA}|{_NO_COLON}"),
}
_WELL_KNOWN: Final = (
    "easynegative", "easynegativev2", "badhandv4", "bad-hands-5", "bad_prompt", "bad_prompt_version2", "bad-artist",
    "bad-artist-anime", "bad-image-v2-39000", "bad-picture-chill-75v", "negative_hand", "negative_hand-neg", "negfeet-v2",
    "ng_deepnegative_v1_75t", "verybadimagenegative_v1.3", "fastnegativev2", "fastnegativeembedding", "baddream",
    "unrealisticdream", "realisticvision-negative-embedding", "cyberrealistic_negative", "unaestheticxl", "unaestheticxlv31",
    "negativexl_d", "negativexl_a", "aissist-neg", "aissistxlv2-neg", "charturnerv2")
"""Names of files of widespread textual inversions, which mean nothing to a model without the file."""
_SHORTEST: Final = 6
"""Letters of a name that is compared with words: shorter ones are near to ordinary words."""
_ALIKE: Final = 0.85
_LENGTHS_APART: Final = 3


def mistyped_weight(prompt: Prompt) -> str:
    """A sentence about brackets that look like a weight, and that the tool of the prompt's syntax reads as text; or nothing."""
    pattern = _MISTYPED.get(prompt.syntax)
    for text in (prompt.text, prompt.negative) if pattern else ():
        if match := pattern.search(text):  # type: ignore[union-attr]  # there is one, see above
            return (f"prompt {prompt.id!r}: {SYNTAXES[prompt.syntax].tool} reads the number in {match[0][:80]!r} as a word, not "
                    "as a weight. Write it as (word:1.3) if it is one")
    return ""


def invisible_characters(suite: Suite) -> Iterator[str]:
    """A sentence for each invisible character in texts that a text encoder reads, which it reads as it reads letters."""
    places: dict[str, list[str]] = {}
    texts = [(f"prompt {prompt.id!r}", text) for prompt in suite.grid.prompts for text in (prompt.text, prompt.negative)]
    for place, text in (*texts, *((f"style {name!r}", text) for name, text in suite.styles.items())):
        if (character := first_invisible(text)) and place not in places.setdefault(character, []):
            places[character].append(place)
    for character, names in places.items():
        what = f"U+{ord(character):04X} ({unicodedata.name(character, 'without a name').lower()})"
        yield (f"{first_of(names)}: the text holds the invisible character {what}, which changes the image like a word; remove "
               "it if it came along when the text was copied")


def unknown_inversions(suite: Suite, root: Path) -> Iterator[str]:
    """Sentences about names of textual inversions in prompts and in the texts of stages that no adapter of the candidates has,
    and about words that are the names of files."""
    resolved = with_prompt_adapters(suite, root)
    given = _adapters_of(resolved)
    brought = {adapter.path for prompt in resolved.grid.prompts for adapter in prompt.adapters}
    files = {Path(file_name(path)).stem.lower() for path in given | brought}
    folder = _folder(suite, root)
    stems = {Path(path).stem.lower(): path for path in folder.files} if folder else {}
    ordinary = {stem: path for path in given - _adapters_of(suite) if (stem := Path(file_name(path)).stem.lower()).isalpha()
                and stem not in _WELL_KNOWN and folder and folder.is_inversion(path)}
    seen = set[str]()
    for place, prompt, text in _texts(resolved):
        words, named = _words(prompt, text)
        for word in sorted(word for word in words - seen if word.lower() in ordinary):
            seen.add(word)
            yield (f"{place}: {word!r} is the name of the textual inversion {ordinary[word.lower()]!r}, which takes the place of "
                   "the word, as in A1111. Rename the file if the word is meant")
        for word in sorted((words | named) - files - seen):
            seen.add(word)
            if near := _near(word, folder):
                yield (f"{place}: {word[:80]!r} is read as words; did you mean the textual inversion {near!r} of the adapter "
                       "folder?")
            elif folder and (trouble := folder.trouble(stems[word.lower()]) if word.lower() in stems else ""):
                yield (f"{place}: {word[:80]!r} is read as words, because the file {stems[word.lower()]!r} cannot be used: "
                       f"{trouble}")
            elif word in named:
                yield f"{place}: {_without_file(word, prompt)}"


def _adapters_of(suite: Suite) -> set[str]:
    """The files of the adapters of all candidates, in all stages."""
    return {adapter.path for candidate in suite.candidates
            for adapters in (candidate.adapters, *(stage.adapters for stage in candidate.stages)) for adapter in adapters}


def _texts(suite: Suite) -> Iterator[tuple[str, Prompt, str]]:
    """Every text that is read, with its prompt and a name of its place: those of the grid, then those of later stages."""
    from harness.text.occurrences import composed

    steps = {grid_of(suite, candidate).steps for candidate in suite.candidates}
    grids = [("", suite.grid.prompts, steps), *(
        (f"candidate {candidate.name!r}, stage {number}, ", grid.prompts, {max(1, grid.steps)})
        for candidate in suite.candidates for number, grid in enumerate(run_grids(suite, candidate)[1:], 2))]
    for label, prompts, counts in grids:
        for prompt in prompts:
            texts = {text.words for role in ROLES for number in counts for text in texts_of(prompt, role, number)}
            yield from ((f"{label}prompt {prompt.id!r}", prompt, text)
                        for text in sorted(map(composed, () if prompt.literal else texts)))


def _words(prompt: Prompt, text: str) -> tuple[set[str], set[str]]:
    """The words of a text that could be names of files, and the names of widespread textual inversions in it."""
    from harness.text.occurrences import occurrences

    words = set(re.findall(r"[^\s,()\[\]:|<>]+", text)) if prompt.syntax == "a1111" else set()
    return words, {found.key for found in occurrences(_WELL_KNOWN, text)} if "embedding:" not in text else set()


def _folder(suite: Suite, root: Path) -> AdapterFolder | None:
    try:
        return AdapterFolder(suite.grid.adapter_folder, root)
    except UnresolvedError:  # which the check says
        return None


def _near(word: str, folder: AdapterFolder | None) -> str:
    """The name of a textual inversion in the folder that a word resembles, but is not; or nothing."""
    if folder is None or len(word) < _SHORTEST:
        return ""
    # Only names of one beginning and about one length are compared: a folder may hold thousands of files.
    names = {stem.lower(): path for path in folder.files
             if (stem := Path(path).stem)[:2].lower() == word[:2].lower() and abs(len(stem) - len(word)) <= _LENGTHS_APART}
    if word.lower() in names:
        return ""
    near = closest(word.lower(), names, cutoff=_ALIKE)
    return Path(names[near[0]]).stem if near and folder.is_inversion(names[near[0]]) else ""


def _without_file(word: str, prompt: Prompt) -> str:
    way = ("put its file into the Grid's adapter_folder" if prompt.syntax not in ("", PLAIN) else
           "give the candidates an Adapter with its file")
    return (f"{word!r} is the name of a widespread textual inversion, but no file of this name is given, so it is read as words; "
            f"{way}")
