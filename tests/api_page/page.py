"""The page as a whole."""

import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from inspect import isfunction
from typing import Any

import harness
from harness.declare.rows import Rows
from tests.api_page import commands, tables
from tests.api_page.docstrings import PAGE, ROOT, constant, markdown, own_docstring, slug, table
from tests.api_page.records import function_section, reached, record_section, value_text

FILE = ROOT / PAGE
PUBLIC = {name: getattr(harness, name) for name in [*harness.__all__, *harness._LAZY]}
FUNCTIONS = {name: thing for name, thing in PUBLIC.items() if isfunction(thing)}
RECORDS = [thing for thing in PUBLIC.values() if isinstance(thing, type) and is_dataclass(thing)]
DECLARED = {name: record for name, record in (reached([harness.Suite]) | reached(RECORDS)).items() if name in PUBLIC}
"""The public records of a suite in the order in which they are met from Suite, and behind them all others."""
OWN = reached(table.kind for table in vars(tables).values() if isinstance(table, Rows))
CONSTANTS = {name: thing for name, thing in PUBLIC.items() if name not in FUNCTIONS and name not in DECLARED}
HEAD = """\
# All names

What a suite file can import, what its fields can hold, and what the command line takes. This page is made of the code's
docstrings and tables: `make docs` writes it again.

All records are frozen dataclasses whose fields are given by name. A list or range may be given wherever a tuple is shown, and a
path object wherever a path is.

```python
from harness import Candidate, Gate, Grid, Prompt, Suite, alpha_sweep    # and all other names up to "Names to choose from"
```
"""
OWN_INTRO = """\
These are imported from `harness.metrics`, `harness.merge`, `harness.quantize` and `harness.runtimes`. How they are used, and the
checks of `harness.testing`, are in [rows of your own](extending.md).
"""


def _chapters() -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    """Title, introduction and sections of each chapter."""
    known = {*DECLARED, *OWN}
    yield "Declarations", "", [(name, record_section(name, record, known)) for name, record in DECLARED.items()]
    yield "Functions", "", [(name, function_section(name, function)) for name, function in FUNCTIONS.items()]
    yield "Constants and errors", table(("name", "value", "what it is"), map(_constant, CONSTANTS)) + "\n", []
    yield "Names to choose from", "", list(tables.sections())
    yield "Rows of your own", OWN_INTRO, [(name, record_section(name, record, known)) for name, record in OWN.items()]
    yield "Commands", "", list(commands.sections())


def _constant(name: str) -> tuple[str, str, str]:
    thing: Any = CONSTANTS[name]
    if isinstance(thing, type):
        return f"`{name}`", "an error", markdown(own_docstring(thing))
    text = constant(name, [module for path, module in sys.modules.items() if path.startswith("harness.")])
    if not text:
        raise ValueError(f"the constant {name} has no docstring in the line below it, which {PAGE} shows")
    return f"`{name}`", "" if name == "__version__" else f"`{value_text(thing)}`", markdown(text)


def page() -> str:
    """The text of `docs/api.md`."""
    chapters = list(_chapters())
    contents = [f"- [{title}](#{slug(title)}){': ' if parts else ''}"
                + ", ".join(f"[{heading}](#{slug(heading)})" for heading, _ in parts) for title, _, parts in chapters]
    texts = ["\n".join([f"## {title}", *([f"\n{intro}"] if intro else [""]), *(text for _, text in parts)])
             for title, intro, parts in chapters]
    return "\n".join([HEAD, "\n".join(contents) + "\n", *texts])
