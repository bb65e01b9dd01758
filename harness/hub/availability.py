"""Makes the files of the hub that a declaration names available: at their commits, and fetched where that is allowed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, TypeVar

from harness.declare.listing import first_of
from harness.hub.pinning import addresses, pinned
from harness.records.byte_sizes import size_in_words
from harness.records.harmless_text import printable

if TYPE_CHECKING:
    from harness.hub.fetching import Plan

_Any = TypeVar("_Any")
_LISTED: Final = 12


def available(declared: _Any, *, allow_download: bool, say: Callable[[str], None]) -> _Any:
    """The declaration with each address of the hub at its commit. What the cache does not have is fetched if that is allowed, and
    `say` is called with a line of that before. Raises FetchError."""
    if allow_download:
        from harness.hub.fetching import fetch_missing, refuse_offline

        refuse_offline()
        fetch_missing(addresses(declared), announcing(say))
    return pinned(declared)


def announcing(say: Callable[[str], None]) -> Callable[[Plan], None]:
    """What calls `say` with each line about a plan."""
    def announce(plan: Plan) -> None:
        for line in sentences(plan):
            say(line)

    return announce


def sentences(plan: Plan) -> Iterator[str]:
    """What is fetched, with sizes, and what is not, line by line."""
    count = len(plan.files)
    yield printable(f"fetching {count} file{'' if count == 1 else 's'} of {plan.repository} at {plan.commit[:12]} "
                    f"({size_in_words(plan.size)}) to {plan.cache}")
    largest = sorted(plan.files, key=lambda name: -plan.files[name])
    for name in largest[:_LISTED]:
        yield printable(f"  {size_in_words(plan.files[name]):>10}  {name}")
    if rest := largest[_LISTED:]:
        yield f"  {size_in_words(sum(plan.files[name] for name in rest)):>10}  {len(rest)} more"
    if plan.left_out:
        left_out = [f"{name} ({why})" for name, why in plan.left_out.items()]
        yield printable(f"  not fetched: {first_of(left_out)}. The model needs none of it")
