"""The house stands as drawn: imports point one way, nothing imports in a circle, and importing loads nothing heavy.

The layers below are the whole rule. It holds for every file of both packages and for imports wherever they stand: at module
level, inside functions and under TYPE_CHECKING.
"""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent

HARNESS = (
    ("declare", "records", "version"),
    ("weights", "adapters", "merge", "quantize", "runtimes", "text", "metrics", "probes", "cache", "zoo", "samplers",
     "control", "reference", "post", "savers", "hub", "own_pipelines"),
    ("check", "materialise", "testing"),
    ("sampling", "run_folder"),
    ("run", "executors"),
    ("race", "promotion", "sensitivity"),
    ("session", "cleaning", "first_suite"),
    ("commands",),
    ("plugin", "cli", "__init__"),
)
"""The folders and loose files of `harness`, from the bottom up. A file imports its own folder and the layers below.
`__init__` is the public face for suites and notebooks; the harness itself imports the homes behind it."""

REPORTS = (
    ("read", "statistics"),
    ("formatting", "comparable"),
    ("verdict",),
    ("gates",),
    ("figures",),
    ("page",),
    ("compare", "trend", "blind", "analysis"),
    ("__init__",),
)

WITHIN_A_LAYER = {
    ("harness.records", "harness.declare"): "one search for values without their declared types, in suites and in records",
    ("harness.adapters", "harness.weights"): "one reader of headers and pickles and one map of names, for models and adapters",
    ("harness.weights", "harness.reference"): "a live pipeline carries the references that its U-Net sees",
    ("harness.weights", "harness.own_pipelines"): "a folder of diffusers is opened by the class that it names",
    ("harness.own_pipelines", "harness.weights"): "the pipeline that a folder names is built of opened files",
    ("harness.own_pipelines", "harness.samplers"): "a named sampler may take the place of a folder's own scheduler",
    ("harness.reference", "harness.weights"): "IP-Adapters are opened by the one reader of tensors",
    ("harness.reference", "harness.metrics"): "the image tower of the CLIP that scores may read references too",
    ("harness.zoo", "harness.weights"): "the zoo exports through the one writer of model files",
    ("harness.zoo", "harness.control"): "the zoo's maps of edges are those of every control picture",
    ("harness.metrics", "harness.weights"): "one home says what a file is by its content",
    ("harness.savers", "harness.weights"): "a VAE is tiled in one way, and savers act on live pipelines",
    ("harness.control", "harness.weights"): "control networks are read by the one reader of headers and pickles",
    ("harness.metrics", "harness.control"): "the edges of images are measured by the detector that makes control maps",
    ("harness.metrics", "harness.hub"): "CLIP models are found in the cache of the hub",
    ("harness.post", "harness.metrics"): "one home of the colour arithmetic",
    ("harness.metrics", "harness.zoo"): "the CLIP metric's default model is the zoo's",
    ("harness.adapters", "harness.hub"): "a sweep's files may be the hub's",
    ("harness.hub", "harness.zoo"): "one home says where a path, a built-in name or an address leads",
    ("harness.quantize", "harness.weights"): "one home of GGUF's blocks and of nf4, in files and in memory",
    ("harness.run", "harness.executors"): "a run has its images made by a worker, in its own process or elsewhere",
    ("harness.text", "harness.weights"): "texts are embedded by the text encoders of live pipelines",
}
"""The only imports between two folders of one layer."""

REPORTS_MAY_IMPORT = {"harness.declare", "harness.records", "harness.version"}
JUDGES = {"reports.read", "reports.statistics", "reports.formatting", "reports.verdict", "reports.gates"}
MAY_IMPORT_JUDGES = {"harness.race", "harness.promotion"}
MAY_IMPORT_REPORTS = {"harness.session", "harness.cleaning", "harness.commands", "harness.plugin", "harness.cli",
                      "harness.__init__"}
"""A race and a promotion ask what a run means; whatever stands above them may also write pages."""

HEAVY = ("torch", "diffusers", "transformers", "open_clip", "torchmetrics", "sklearn", "pandas", "plotly")


@cache
def modules() -> Mapping[str, Path]:
    """Every module of both packages by its dotted name."""
    files = [file for package in ("harness", "reports") for file in (ROOT / package).rglob("*.py")]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def named_in(tree: ast.AST) -> Iterator[str]:
    """The module of each import statement; for `from a import b` that is a.b where b is a module, and a where it is not."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in modules() else str(node.module) for name in whole)


@cache
def imports() -> Mapping[str, frozenset[str]]:
    """The modules of this project that each module imports."""
    trees = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in modules().items()}
    return {name: frozenset(other for other in named_in(tree) if other in modules() and other != name)
            for name, tree in trees.items()}


def place(module: str) -> str:
    """The folder or loose file of a module: "harness.merge", "reports.formatting", "harness.__init__"."""
    return ".".join([*module.split("."), "__init__"][:2])


def layers_of(package: str, layers: tuple[tuple[str, ...], ...]) -> dict[str, int]:
    return {f"{package}.{name}": number for number, layer in enumerate(layers) for name in layer}


LAYER = layers_of("harness", HARNESS) | layers_of("reports", REPORTS)


def allowed(importer: str, imported: str) -> bool:
    """Whether a file of one place may import a file of another."""
    if importer == imported or (importer, imported) in WITHIN_A_LAYER:
        return True
    if importer.startswith("reports.") and imported.startswith("harness."):
        return imported in REPORTS_MAY_IMPORT
    if importer.startswith("harness.") and imported.startswith("reports."):
        return importer in MAY_IMPORT_REPORTS or (importer in MAY_IMPORT_JUDGES and imported in JUDGES)
    return LAYER[imported] < LAYER[importer]


def circles(graph: Mapping[str, frozenset[str]]) -> list[list[str]]:
    """Groups of modules that import one another, directly or on the way (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = lowest[name] = len(index)
        stack.append(name)
        for other in graph[name]:
            if other not in index:
                visit(other)
            if other in stack:
                lowest[name] = min(lowest[name], lowest[other])
        if lowest[name] == index[name]:
            start = stack.index(name)
            groups.append(sorted(stack[start:]))
            del stack[start:]

    for name in graph:
        if name not in index:
            visit(name)
    return [group for group in groups if len(group) > 1]


def test_there_are_at_most_nine_layers_in_the_harness_and_eight_in_the_reports() -> None:
    assert len(HARNESS) <= 9
    assert len(REPORTS) <= 8


def test_every_file_has_its_layer_and_every_layer_its_files() -> None:
    assert {place(module) for module in modules()} == LAYER.keys()


def test_every_import_declared_within_a_layer_is_needed() -> None:
    pairs = {(place(module), place(other)) for module, others in imports().items() for other in others}
    assert set(WITHIN_A_LAYER) <= pairs


def test_imports_point_to_lower_layers() -> None:
    wrong = [f"{module} imports {other}" for module, others in imports().items() for other in sorted(others)
             if not allowed(place(module), place(other))]
    assert not wrong, "\n".join(wrong)


def test_no_modules_import_one_another_in_a_circle() -> None:
    assert not circles(imports())


def test_a_circle_is_found_wherever_it_is() -> None:
    graph = {"a": frozenset({"b"}), "b": frozenset({"c"}), "c": frozenset({"b", "d"}), "d": frozenset[str]()}
    assert circles(graph) == [["b", "c"]]


def test_imports_are_seen_inside_functions_and_under_type_checking() -> None:
    tree = ast.parse("if TYPE_CHECKING:\n    from harness import zoo\n"
                     "def late():\n    import harness.run\n    from harness.records import Journal\n")
    assert set(named_in(tree)) == {"harness.zoo", "harness.run", "harness.records"}


LIGHT = ("harness", "reports", "harness.check", "harness.plugin.hooks", "harness.merge", "harness.metrics", "harness.quantize",
         "harness.zoo", "harness.adapters", "harness.weights")
LIGHT_BUT_FOR_TABLES = ("harness.run.suite_run",)
IMPORT_IN_TURN = """
import importlib, json, sys
light, but_for_tables, heavy = json.loads(sys.argv[1])
loaded = {}
for module in (*light, *but_for_tables):
    importlib.import_module(module)
    forbidden = heavy if module in light else [name for name in heavy if name not in ("pandas", "plotly")]
    loaded[module] = [name for name in forbidden if name in sys.modules]
print(json.dumps(loaded))
"""


def test_importing_loads_nothing_heavy() -> None:
    """One interpreter imports all of them: the first that loads something names it."""
    asked = json.dumps([LIGHT, LIGHT_BUT_FOR_TABLES, HEAVY])
    done = subprocess.run([sys.executable, "-c", IMPORT_IN_TURN, asked], capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(done.stdout) == {module: [] for module in (*LIGHT, *LIGHT_BUT_FOR_TABLES)}


def test_a_head_says_what_a_module_is_and_not_who_calls_it() -> None:
    """Who calls it goes stale with the next move."""
    heads = {name: ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) for name, file in modules().items()}
    assert [name for name, head in heads.items() if not head] == []
    callers = re.compile(r"[Cc]alled by|[Dd]rawn by|\bcalls? (it|them|these)\b")
    assert {name: head for name, head in heads.items() if callers.search(head or "")} == {}


def test_the_tree_of_the_manual_is_the_tree() -> None:
    manual = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tree = manual.split("```")[1].split("tests/ ")[0]
    shown = set(re.findall(r"\b([a-z_]+)(?:/|\.py)", tree)) - {"suites", "harness", "reports"}
    assert shown == {place.split(".")[1] for place in LAYER} - {"__init__", "version"}
    paths = re.findall(r"`((?:harness|reports|tests)/[\w/.]*)`", manual)
    assert [path for path in paths if not (ROOT / path).exists()] == []


BETWEEN_OUR_OWN_PROCESSES = "harness.executors.messages"
"""The only module that unpickles: what processes send that this one started, on a socket that nobody else has."""


def test_no_file_unpickles_without_protection() -> None:
    for name, file in modules().items():
        text = file.read_text(encoding="utf-8")
        assert "weights_only=False" not in text, file
        assert "pickle.load" not in text or name == BETWEEN_OUR_OWN_PROCESSES, file
