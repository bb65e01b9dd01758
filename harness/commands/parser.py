"""The parser of the command line: a word that it does not know is answered with the nearest that it does."""

from __future__ import annotations

import argparse
from typing import Any

from harness.declare.nearest import did_you_mean


class Parser(argparse.ArgumentParser):
    """Names the nearest option or subcommand. A command that sets `spread` to one of its lists gets what is left over there: a
    shell replaces a pattern by many words, of which an option takes the first."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in argparse, without unknown options."""
        given, rest = super().parse_known_args(args, namespace)
        for word in rest:
            if word.startswith("-"):
                name = word.partition("=")[0]
                known = [option for action in self._actions for option in action.option_strings]
                self.error(f"unknown option {name!r}; {did_you_mean(name, known)}")
        if spread := getattr(given, "spread", ""):
            getattr(given, spread).extend(rest)
            rest = []
        return given, rest

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, f"unknown {value!r}; {did_you_mean(value, map(str, action.choices))}")
