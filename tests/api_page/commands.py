"""The sections of the command line: subcommands and the options of pytest."""

import argparse
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from harness.cli import COMMANDS
from harness.plugin.options import add_options
from tests.api_page.docstrings import markdown, table


def sections() -> Iterator[tuple[str, str]]:
    """The heading and the text of each command."""
    heading = "pytest suites/ --benchmark"
    yield heading, f"### {heading}\n\nRuns all suites of a folder, see docs/running.md.\n\n{_options()}\n"
    for name, (module, help_line) in COMMANDS.items():
        parser = argparse.ArgumentParser()
        import_module(module).add_arguments(parser)
        yield from _command(f"sweetspot {name}", help_line, parser)


def _command(name: str, help_line: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    others = [action for action in parser._actions
              if action not in inner and not isinstance(action, argparse._HelpAction) and action.help != argparse.SUPPRESS]
    rows = [(_words(action), markdown(action.help or "") % {"default": action.default}) for action in others]
    yield name, f"### {name}\n\n{_sentence(help_line)}\n" + (f"\n{table(('argument', 'meaning'), rows)}\n" if rows else "")
    for action in inner:
        lines = {choice.dest: choice.help or "" for choice in action._choices_actions}
        for word, one in action.choices.items():
            yield from _command(f"{name} {word}", lines.get(word, ""), one)


def _words(action: argparse.Action) -> str:
    value = action.metavar or (f"{{{','.join(map(str, action.choices))}}}" if action.choices else action.dest.upper())
    shown = " ".join(value) if isinstance(value, tuple) else value
    takes = f" {shown}" if action.nargs != 0 else ""
    return ", ".join(f"`{option}{takes}`" for option in action.option_strings) or f"`{shown}`"


def _sentence(text: str) -> str:
    return markdown(text[:1].upper() + text[1:] + "." * (not text.endswith(".")))


class _Recorder:
    """Takes the options of the plugin in pytest's place."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str]] = []

    def getgroup(self, name: str) -> "_Recorder":
        return self

    def addoption(self, name: str, *, help: str, metavar: str = "", choices: tuple[str, ...] = (), **_: Any) -> None:
        value = metavar or (f"{{{','.join(choices)}}}" if choices else "")
        self.rows.append((f"`{name} {value}`".replace(" `", "`"), markdown(help)))

    def addini(self, name: str, help: str, **_: Any) -> None:
        self.rows.append((f"`{name}` in the ini file", markdown(help)))


def _options() -> str:
    recorder: Any = _Recorder()
    add_options(recorder)
    return table(("option", "meaning"), recorder.rows)
