"""What the text of a Python file says about suites, without running it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SUITE_WORD: Final = re.compile(r"\bSUITE\b")
_WORTH_PARSING: Final = re.compile(r"suite|\bharness\b|import\s*\*", re.IGNORECASE)
_SCOPES: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


@dataclass(frozen=True, kw_only=True)
class Signs:
    """`mentions`: the word SUITE occurs. `assigns`: SUITE gets more than text or a number at module level; `declares`: in a file
    that imports harness. `makes`: the file imports harness's Suite or calls it. `perhaps`: it binds a name with "suite" in it,
    or imports all names of another module. `tests`: it holds tests of its own."""

    mentions: bool = False
    assigns: bool = False
    declares: bool = False
    makes: bool = False
    perhaps: bool = False
    tests: bool = False

    @property
    def worth_loading(self) -> bool:
        """Whether only running the file can tell if it has a SUITE, or should have one."""
        return self.mentions or self.makes or self.perhaps


def signs_of(path: Path) -> Signs:
    """The signs in a file. One that cannot be read or parsed shows all of them if its text could be a suite's: loading it says
    what is wrong."""
    try:
        source = path.read_bytes()
    except OSError:
        return Signs(mentions=True, assigns=True, declares=True, makes=True)
    text = source.decode("utf-8", errors="replace")
    if _WORTH_PARSING.search(text) is None:
        return Signs()
    mentions = _SUITE_WORD.search(text) is not None
    try:
        tree = ast.parse(source, filename=str(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        guess = mentions or "Suite" in text
        return Signs(mentions=mentions, assigns=guess, declares=guess, makes=guess)
    return _signs(tree, mentions)


def own_names(path: Path, names: Iterable[str]) -> list[str]:
    """Those of a module's names that its file binds itself, and not only by importing them."""
    nodes = list(_module_level(ast.parse(path.read_bytes())))
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    stored = {name for node in nodes if not isinstance(node, ast.Import | ast.ImportFrom) for name in _bound(node)}
    if any(alias.name == "*" for node in imports if not _of_harness(node) for alias in node.names):
        return [name for name in names if name in stored]
    imported = {alias.asname or alias.name for node in imports for alias in node.names}
    return [name for name in names if name in stored or name not in imported]


def _signs(tree: ast.Module, mentions: bool) -> Signs:
    nodes = list(_module_level(tree))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    harness = any(_of_harness(node) for node in imports)
    names = {name for node in nodes for name in _bound(node)}
    stars = any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in imports if not _of_harness(node))
    assigns = "SUITE" in names and not _only_constants(nodes)
    return Signs(mentions=mentions, assigns=assigns, declares=assigns and harness, tests=any(map(_is_test, tree.body)),
                 makes=_makes_suites(imports, tree if harness else None),
                 perhaps=stars or any("suite" in name.lower() for name in names))


def _module_level(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when the module is imported; functions and classes are given without their insides."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, _SCOPES):
            yield from _module_level(child)


def _bound(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names if not _is_the_word(node, alias))
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name


def _is_the_word(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> bool:
    """Whether an import brings harness's own Suite, or run_suite, which are no values of the file's."""
    return _of_harness(node) and alias.name in ("Suite", "run_suite")


def _of_harness(node: ast.Import | ast.ImportFrom) -> bool:
    modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    return any(name.partition(".")[0] == "harness" for name in modules)


def _makes_suites(imports: list[ast.Import | ast.ImportFrom], tree: ast.Module | None) -> bool:
    """Whether a file imports harness's Suite by name or, where `tree` imports harness, calls something of that name."""
    by_name = any(isinstance(node, ast.ImportFrom) and _of_harness(node) and any(a.name == "Suite" for a in node.names)
                  for node in imports)
    called = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call)) if tree is not None else ()
    return by_name or any((isinstance(f, ast.Name) and f.id == "Suite") or (isinstance(f, ast.Attribute) and f.attr == "Suite")
                          for f in called)


def _only_constants(nodes: list[ast.AST]) -> bool:
    """Whether every assignment to SUITE gives it text or a number."""
    values = [node.value for node in nodes if isinstance(node, ast.Assign | ast.AnnAssign) and "SUITE" in {
        name for part in ast.walk(node) for name in _bound(part)}]
    return bool(values) and all(isinstance(value, ast.Constant | ast.JoinedStr) or value is None for value in values)


def _is_test(node: ast.stmt) -> bool:
    return (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test")) or (
        isinstance(node, ast.ClassDef) and node.name.startswith("Test"))
