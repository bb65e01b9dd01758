"""Docstrings, also those of fields and constants, which Python itself does not keep, and how they become Markdown."""

import ast
import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from inspect import cleandoc, getsource
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent.parent
PAGE = "docs/api.md"
_LINK = re.compile(r"docs/([\w-]+)\.md(?:#([\w-]+))?")


@cache
def _bodies(module: str) -> Mapping[str, list[ast.stmt]]:
    """The statements of a module, by "", and those of its classes, by their names."""
    tree = ast.parse(getsource(sys.modules[module]))
    return {"": tree.body, **{node.name: node.body for node in tree.body if isinstance(node, ast.ClassDef)}}


def attributes(module: str, owner: str = "") -> dict[str, str]:
    """The docstrings behind the names that a class or a module assigns: {name: text}."""
    texts: dict[str, str] = {}
    name = ""
    for node in _bodies(module)[owner]:
        if name and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            texts[name] = cleandoc(node.value.value)
        target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0] if isinstance(node, ast.Assign) else None
        name = target.id if isinstance(target, ast.Name) else ""
    return texts


def constant(name: str, modules: Iterable[ModuleType]) -> str:
    """The docstring behind a constant in the one of these modules that has it."""
    return next((text for module in modules if (text := attributes(module.__name__).get(name))), "")


def own_docstring(thing: object) -> str:
    """The docstring of a class or function. ValueError where it has none: a dataclass without one has its signature there."""
    text = cleandoc(thing.__doc__ or "")
    if not text or text.startswith(f"{getattr(thing, '__name__', '')}("):
        raise ValueError(f"{thing!r} has no docstring")
    return text


def markdown(text: str) -> str:
    """A docstring as Markdown that shows its characters as they are, with links where it names a page of the manual."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") and len(part) > 1 else _linked(part) for part in parts)


def _linked(text: str) -> str:
    words, at = [], 0
    for link in _LINK.finditer(text):
        words += [_escaped(text[at:link.start()]), _link(link[1], link[2] or "")]
        at = link.end()
    return "".join([*words, _escaped(text[at:])])


def _escaped(text: str) -> str:
    text = text.replace("<", "&lt;")
    edges = r"(?<=\S)\*|\*(?=\S)|(?<![A-Za-z0-9/])_+|_+(?![A-Za-z0-9/])"
    return re.sub(edges, lambda signs: "".join(f"\\{sign}" for sign in signs[0]), text)


def _link(page: str, anchor: str) -> str:
    if f"docs/{page}.md" == PAGE:
        return f"[{anchor.replace('-', ' ')}](#{anchor})"
    headings = re.findall(r"^#+ (.*)", (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8"), re.MULTILINE)
    title = next(title for title in headings if not anchor or slug(title) == anchor)
    return f"[{title}]({page}.md{'#' if anchor else ''}{anchor})"


def slug(title: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def cell(text: str) -> str:
    """Markdown as a cell of a table."""
    return re.sub(r"\s+", " ", text).strip().replace("|", "\\|")


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of Markdown texts, without the columns that are empty in every row."""
    header, cells = list(header), [[cell(text) for text in row] for row in rows]
    shown = [number for number in range(len(header)) if any(row[number] for row in cells)]
    first, *others = [f"| {' | '.join(row[number] for number in shown)} |" for row in (header, *cells)]
    return "\n".join([first, "|" + "---|" * len(shown), *others])
