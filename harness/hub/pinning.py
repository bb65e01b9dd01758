"""The addresses of the hub that a declaration names, and the same declaration with each at its commit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final, TypeVar

from harness.declare.hub_names import of_clip
from harness.hub.address import PREFIX, Address, address_in, at_commit
from harness.hub.places import commit_of

WHOLE: Final = ("path", "base", "model", "models", "a", "b", "c", "more", "take", "clip", "encoder", "detector")
"""Fields whose texts are files or folders of models."""
CLIPS: Final = ("clip",)
"""Fields whose texts are CLIP models: of a repository alone, the file of open_clip."""
CONFIGS: Final = ("config",)
"""Fields whose texts are folders that only configs and tokenizers are read from."""

_Any = TypeVar("_Any")


def addresses(declared: object) -> dict[Address, bool]:
    """The addresses that a declaration names, in order, and whether weights are needed of them."""
    named: dict[Address, bool] = {}
    for text, weights in _references(declared):
        if inside := address_in(text):
            named[inside[1]] = weights or named.get(inside[1], False)
    return named


def pinned(declared: _Any, known: Mapping[Address, str] | None = None) -> _Any:
    """The declaration with every branch and tag replaced by its commit: the `known` one, or that at which the cache has all that
    is asked of the repository. Addresses that it does not have stay as they are. Whatever is not a declaration does too."""
    try:
        named = addresses(declared)
        if not named:
            return declared
        commits = {**commits_of(named), **{address: known[address] for address in named if known and address in known}}
        at_commits: _Any = _replaced(declared, commits)
    except Exception:  # a suite file can hold any object, and the check says what is wrong with it
        return declared
    return at_commits


def commits_of(named: Mapping[Address, bool]) -> dict[Address, str]:
    """The commit of each address that the cache has: one for all of a repository and revision."""
    together: dict[tuple[str, str], dict[Address, bool]] = {}
    for address, weights in named.items():
        if not address.is_pinned:
            together.setdefault((address.repository, address.revision), {})[address] = weights
    return {address: commit for group in together.values() if (commit := commit_of(group)) for address in group}


def moved(declared: object, ran: object) -> list[str]:
    """A phrase for each file of the hub that a declaration has at another commit than one that ran before."""
    def by_file(one: object) -> dict[tuple[str, str], str]:
        return {(a.repository, a.file): a.revision for a in addresses(one) if a.is_pinned}

    now, before = by_file(declared), by_file(ran)
    return [f"{Address(repository=repository, file=file)} was at commit {before[repository, file][:12]} and is now at "
            f"{commit[:12]}" for (repository, file), commit in now.items() if before.get((repository, file), commit) != commit]


def as_ran(declared: _Any, ran: object) -> _Any:
    """The declaration with its branches and tags at the commits that ran, where that names the same files."""
    commits = {(a.repository, a.file): a.revision for a in addresses(ran) if a.is_pinned}
    return pinned(declared, {a: commits[a.repository, a.file] for a in addresses(declared)
                             if not a.is_pinned and (a.repository, a.file) in commits})


def _references(declared: object, weights: bool | None = None) -> Iterator[tuple[str, bool]]:
    """Every text that may be an address, and whether weights are needed of it. `weights` is None outside of fields of files."""
    if isinstance(declared, str):
        if weights is not None and PREFIX in declared:
            yield declared, weights
    elif dataclasses.is_dataclass(declared) and not isinstance(declared, type):
        for name in _fields(type(declared)):
            value = getattr(declared, name)
            yield from _references(of_clip(value) if name in CLIPS and isinstance(value, str) else value,
                                   True if name in WHOLE else False if name in CONFIGS else None)
    elif isinstance(declared, Mapping):
        for value in declared.values():
            yield from _references(value, weights)
    elif isinstance(declared, tuple | list):
        for value in declared:
            yield from _references(value, weights)


def _replaced(declared: Any, commits: Mapping[Address, str], of_file: bool = False) -> Any:
    if isinstance(declared, str):
        return at_commit(declared, commits) if of_file and PREFIX in declared else declared
    if dataclasses.is_dataclass(declared) and not isinstance(declared, type):
        changed = {}
        for name in _fields(type(declared)):
            value = getattr(declared, name)
            given = of_clip(value) if name in CLIPS and isinstance(value, str) else value
            if (new := _replaced(given, commits, name in (*WHOLE, *CONFIGS))) is not given:
                changed[name] = new
        return dataclasses.replace(declared, **changed) if changed else declared
    if isinstance(declared, Mapping):
        mapped = {key: _replaced(value, commits, of_file) for key, value in declared.items()}
        return mapped if any(mapped[key] is not value for key, value in declared.items()) else declared
    if isinstance(declared, tuple | list):
        listed = [_replaced(value, commits, of_file) for value in declared]
        same = all(new is value for new, value in zip(listed, declared, strict=True))
        return declared if same else type(declared)(listed)
    return declared


@cache
def _fields(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind) if field.init)
