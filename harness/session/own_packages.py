"""Keeps files of the user's from taking the place of modules that are imported late: Sweetspot's own reports, libraries, and
Python's modules."""

from __future__ import annotations

import importlib
import sys
import sysconfig
from collections.abc import Iterator
from importlib.machinery import PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Final

HOME: Final = Path(__file__).resolve().parents[2]
LIBRARIES: Final = frozenset({
    "PIL", "accelerate", "blake3", "cpuinfo", "diffusers", "filelock", "fsspec", "ftfy", "httpx", "huggingface_hub",
    "jinja2", "joblib", "lightning_utilities", "markupsafe", "mpmath", "networkx", "numpy", "open_clip", "optuna",
    "packaging", "pandas", "peft", "plotly", "psutil", "py", "pygments", "pynvml", "redis", "regex", "requests", "rich",
    "safetensors", "scipy", "sklearn", "sympy", "timm", "tokenizers", "torch", "torchao", "torchmetrics", "torchvision",
    "tqdm", "transformers", "triton", "yaml"})
"""Packages that Sweetspot and its libraries import, some of them late."""


def keep_own_packages(*, libraries: bool = True) -> str:
    """Imports now what a file of the user's would hide later, from where it belongs. Returns what is wrong, in a sentence, if
    such a file was imported already; empty if nothing is. `libraries` may wait until the user's own files are imported."""
    taken = [*_reports(), *(_libraries() if libraries else ())]
    return "" if not taken else (
        f"{' and '.join(taken)}; Sweetspot needs that name for itself. Rename your file or folder, or keep the code that "
        "imports it out of this run")


def _reports() -> Iterator[str]:
    """Loads the `reports` beside this package, whatever stands before it in sys.path."""
    file = HOME / "reports" / "__init__.py"
    module = sys.modules.get("reports")
    if module is None:
        spec = spec_from_file_location("reports", file, submodule_search_locations=[str(file.parent)])
        assert spec is not None  # there is one for every .py file
        assert spec.loader is not None
        sys.modules["reports"] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules["reports"])
    elif (place := _place(getattr(module, "__file__", None))) != file:
        yield f"a package 'reports' was imported from {place or 'elsewhere'}"


def _libraries() -> Iterator[str]:
    """Imports the libraries and modules of Python's that files of the user's have the names of."""
    hiding = {name: folder for folder in reversed(_before_libraries()) for name in _names(folder)}
    path = sys.path[:]
    for name, folder in sorted(hiding.items()):
        module = sys.modules.get(name)
        if module is not None:
            place = _place(getattr(module, "__file__", None))
            if place is not None and place.is_relative_to(folder):
                yield f"{name!r} was imported from {place}"
            continue
        sys.path[:] = [entry for entry in path if Path(entry or ".").resolve() not in hiding.values()]
        try:
            if PathFinder.find_spec(name, sys.path) is not None:
                importlib.import_module(name)
        finally:
            sys.path[:] = path


def _before_libraries() -> list[Path]:
    """The folders of sys.path that come before Python's own modules, without this project's."""
    own = {Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    folders: list[Path] = []
    for entry in sys.path:
        folder = Path(entry or ".").resolve()
        if folder in own:
            break
        if folder.is_dir():
            folders.append(folder)
    return folders


def _names(folder: Path) -> Iterator[str]:
    """Modules in a folder that have the name of a library or of one of Python's modules."""
    try:
        files = list(folder.iterdir())
    except OSError:  # Python cannot import from it either
        return
    for file in files:
        name = file.stem if file.suffix == ".py" else file.name if (file / "__init__.py").is_file() else ""
        if name in LIBRARIES or name in sys.stdlib_module_names:
            yield name


def _place(file: str | None) -> Path | None:
    return None if file is None else Path(file).resolve()
