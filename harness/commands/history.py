"""`sweetspot history`: the versions of a promoted model, and which of them is current."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from harness.commands.promote import add_models
from harness.commands.terminal import add_examples, say
from harness.declare.nearest import did_you_mean
from harness.records.harmless_text import printable

if TYPE_CHECKING:
    from harness.promotion.record_files import Version

_FIGURES: Final = ("objective", "clip_score", "seconds_per_image")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `history`."""
    add_examples(parser, "history photo-anime", "history photo-anime --models /srv/models")
    parser.add_argument("name", help="the name of the promoted model")
    add_models(parser)


def run(given: argparse.Namespace) -> int:
    """Exit codes: 0 listed, 1 no such model or a damaged record, 2 the command line is wrong."""
    from harness.promotion import Models, PromotionError, in_words

    models = Models(given.models, given.objects)
    code = 0
    try:
        numbers, current = models.numbers(given.name), models.current(given.name)
        if not numbers:
            raise PromotionError(  # noqa: TRY301  reported like the others
                f"{given.name!r} is not a promoted model in {given.models}; "
                f"{did_you_mean(given.name, models.names()) or 'it has no models'}")
        for number in numbers:
            try:
                say(printable(f"{'*' if number == current else ' '} {_line(models.version(given.name, number))}"))
            except PromotionError as error:
                code = 1
                print(f"sweetspot history: {printable(str(error))}", file=sys.stderr)
    except Exception as error:  # run folders and records can be edited by hand
        print(f"sweetspot history: {printable(in_words(error))}", file=sys.stderr)
        return 1
    return code


def _line(version: Version) -> str:
    start = f"{version.number:4d}  {version.date}  "
    if version.to:
        return f"{start}rollback to version {version.to} (blake3 {version.weights})"
    figures: Mapping[str, Any] = version.data["figures"]
    figures_shown = [f"{name} {_figure(figures[name])}" for name in _FIGURES if isinstance(figures.get(name), Mapping)]
    return f"{start}{version.candidate} of {version.suite}; {', '.join(figures_shown) or 'no figures'}; blake3 {version.weights}"


def _figure(figure: Mapping[str, Any]) -> str:
    mean, low, high = (figure.get(part) for part in ("mean", "low", "high"))
    if not isinstance(mean, int | float):
        return "not measured"
    between = f" [{low:.4g}, {high:.4g}]" if isinstance(low, int | float) and isinstance(high, int | float) else ""
    return f"{mean:.4g}{between}"
