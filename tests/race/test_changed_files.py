"""A race that is resumed after a file changed, under the name that it had, is the race of the new file: nothing that looks at the
old one decided counts, not even between its interruption and its end."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness import Adapter, Candidate, Suite, alpha_sweep
from harness.declare import Budget, Control, Lut, Reference
from harness.zoo import resolve
from reports.read.run import load_run
from tests.fakes import PROMPTS, tiny_grid
from tests.painted import paint_runs
from tests.post.test_luts import cube
from tests.race.painted import LOSES, NAMES, SCALES, go, looks, scripted, suite

CHANGED = ("b.safetensors", "control.safetensors", "reference.safetensors", "sketch.safetensors", "map.png", "look.png", "a.cube")


def write(root: Path) -> Suite:
    """The files, and a race of candidates that use all of them."""
    for name, member in (("b.safetensors", "anime"), ("control.safetensors", "control-edges"), ("map.png", "edges-fish-1"),
                         ("reference.safetensors", "image-prompt"), ("look.png", "picture-fish-1"),
                         ("sketch.safetensors", "sketch")):
        root.mkdir(exist_ok=True)
        shutil.copyfile(resolve(f"zoo:{member}"), root / name)
    cube(root, "LUT_3D_SIZE 2", [(0.5, 0.5, 0.5)] * 8)
    (root / "night.cube").rename(root / "a.cube")
    prompts = tuple(replace(prompt, pictures={"map": "map.png", "look": "look.png"}) for prompt in PROMPTS)
    budget = Budget(first_prompts=1, step_prompts=1, refine="alpha", finest=0.2)
    return suite(budget, grid=tiny_grid(prompts=prompts, seeds=(1, 2)), candidates=[guided(one) for one in alpha_sweep(
        "zoo:photo", "b.safetensors", (0, 0.5, 1))])


def guided(candidate: Candidate) -> Candidate:
    return replace(candidate, controls=(Control(path="control.safetensors", picture="map"),), post=(Lut("a.cube"),),
                   references=(Reference(path="reference.safetensors", picture="look"),),
                   adapters=(Adapter(path="sketch.safetensors"),))


def change(root: Path, name: str) -> None:
    if name == "a.cube":
        cube(root, "LUT_3D_SIZE 2", [(0.2, 0.2, 0.2)] * 8)
        (root / "night.cube").replace(root / "a.cube")
    elif name.endswith(".png"):
        shutil.copyfile(resolve("zoo:edges-star-2" if name == "map.png" else "zoo:picture-star-2"), root / name)
    else:  # the same network with another number in it
        data = bytearray((root / name).read_bytes())
        data[-1] ^= 1
        (root / name).write_bytes(data)


@pytest.mark.parametrize("name", CHANGED)
def test_nothing_of_the_race_of_another_file_counts(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paint_runs(monkeypatch)
    monkeypatch.setattr("harness.race.elimination.confirm_plan", lambda *_: (NAMES, SCALES))
    monkeypatch.setattr("harness.race.elimination.refinements", lambda result, _: (0.25,) if result.number == 1 else ())
    monkeypatch.setattr("harness.race.elimination.judge_look", scripted(LOSES, {"done": True}))
    declared = write(tmp_path / "resumed")
    go(tmp_path / "resumed", declared)
    assert load_run(tmp_path / "resumed" / "runs" / "tiny").head["added"] == ["alpha=0.25"]
    write(tmp_path / "new")
    for root in ("resumed", "new"):
        change(tmp_path / root, name)
    monkeypatch.setattr("harness.race.elimination.refinements", lambda *_: ())
    monkeypatch.setattr("harness.race.elimination.judge_look", scripted({}, {"done": True}))
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "resumed", declared, stop_after=2)
    between = load_run(tmp_path / "resumed" / "runs" / "tiny")
    assert (between.looks, between.head["added"]) == ((), [])
    for root in ("resumed", "new"):
        go(tmp_path / root, declared)
    assert looks(tmp_path / "resumed") == looks(tmp_path / "new")
    assert [c.name for c in load_run(tmp_path / "resumed" / "runs" / "tiny").suite.candidates] == list(NAMES)
