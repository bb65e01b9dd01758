"""The merge command: its flags say what a recipe file says, and whatever is wrong is said in one line with its exit code."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness import Alphas, Blocks, Checkpoint, Gradient, Merge
from harness.cli import main
from harness.declare import Model
from harness.declare.recipe_files import recipe_text
from harness.merge import MERGE_METHODS
from harness.weights import open_model
from tests.materialise.models import CONV_IN, UNET, averaged, header, merge, parent, two, write

AB = ("--a", "a.safetensors", "--b", "b.safetensors")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    two(tmp_path)
    return tmp_path


def run(*words: object) -> int:
    return main(["merge", *map(str, words)])


def failed(capsys: pytest.CaptureFixture[str], code: int, *words: object) -> str:
    """What is said on standard error, in one line, by a command that ends with this code."""
    assert run(*words) == code
    said = capsys.readouterr().err
    assert said.startswith("sweetspot merge: "), said
    assert said.count("\n") == 1
    return said


def listing(folder: Path) -> list[tuple[str, int, int]]:
    return sorted((p.name, p.stat().st_mtime_ns, p.stat().st_size) for p in [folder, *folder.rglob("*")])


# Flags and recipes

SAME: list[tuple[tuple[str, ...], Model]] = [
    (("--alpha", "0.3"), merge()),
    (("--alpha", "0.3", "--parts", "unet, vae"), merge(parts=("unet", "vae"))),
    (("--alpha", "0.3", "--take", "vae=b.safetensors"), merge(take={"vae": "b.safetensors"})),
    (("--alpha", "0.3", "--dtype", "fp32", "--precision", "fp64"), merge(dtype="fp32", precision="fp64")),
    (("--alpha", "1", "--missing", "keep_a", "--force", "prediction"), merge(alpha=1.0, missing="keep_a", force=("prediction",))),
    (("--alpha", "1", "--method", "ties", "--c", "c.safetensors", "--more", "b.safetensors", "--set", "density=0.5"),
     merge(alpha=1.0, method="ties", c="c.safetensors", more=("b.safetensors",), settings={"density": 0.5})),
    (("--method", "weighted_average", "--weights", "1, 3"), merge(alpha=None, method="weighted_average", weights=(1, 3))),
    (("--method", "tensor_sum", "--alpha", "0.3", "--beta", "0.2"), merge(method="tensor_sum", beta=0.2)),
    (("--preset", "GRAD_V", "--convention", "meh"), merge(alpha=Blocks(preset="GRAD_V", convention="meh"))),
    (("--blocks", ", ".join(["0.5"] * 13), "--alpha", "0.1", "--parts", "unet,text_encoder"),
     merge(alpha=Blocks(values=(0.5,) * 13, base=0.1), parts=("unet", "text_encoder"))),
    (("--gradient", "0,1,0.5"), merge(alpha=Gradient(values=(0, 1, 0.5)))),
    (("--alpha", "0", "--alpha-part", "unet=0.4", "--alpha-key", "*attn2*=0.9"),
     merge(alpha=Alphas(default=0, parts={"unet": 0.4}, keys={"*attn2*": 0.9}))),
]


@pytest.mark.parametrize(("flags", "recipe"), SAME, ids=range(len(SAME)))
def test_flags_and_a_recipe_file_make_the_same_bytes(flags, recipe, root):
    write(root / "c.safetensors", parent(3))
    (root / "r.json").write_text(recipe_text(recipe))
    words = [word.replace("0.5, " * 12 + "0.5", ", ".join(["0.5"] * blocks(root))) for word in flags]
    if isinstance(recipe, Merge) and isinstance(recipe.alpha, Blocks) and recipe.alpha.values:
        changed = replace(recipe, alpha=replace(recipe.alpha, values=(0.5,) * blocks(root)))
        (root / "r.json").write_text(recipe_text(changed))
    assert run(*AB, *words, "-o", "flags.safetensors", "--title", "t") == 0
    assert run("r.json", "-o", "recipe.safetensors", "--title", "t") == 0
    assert (root / "flags.safetensors").read_bytes() == (root / "recipe.safetensors").read_bytes()


def blocks(root: Path) -> int:
    """How many blocks the U-Net of a.safetensors has, the middle one included."""
    return 2 * (1 + max(int(n.split(".")[3]) for n in header(root / "a.safetensors") if n.startswith(f"{UNET}input_blocks."))) + 1


def test_a_recipe_in_toml_is_read(root):
    (root / "r.toml").write_text('a = "a.safetensors"\nb = "b.safetensors"\nalpha = 0.3\n')
    assert run("r.toml", "-o", "out.safetensors") == 0
    assert json.loads(header(root / "out.safetensors")["__metadata__"]["sweetspot.recipe"])["alpha"] == 0.3  # type: ignore[index,call-overload]


def test_the_mark_for_ema_is_understood(root):
    for name, seed in (("a", 1), ("b", 2)):
        tensors = parent(seed)
        write(root / f"{name}.safetensors", {**tensors, **averaged(tensors)})
    assert run("--a", "a.safetensors#ema", "--b", "b.safetensors#ema", "--alpha", "0.5", "-o", "o.safetensors") == 0
    found = json.loads(header(root / "o.safetensors")["__metadata__"]["sweetspot.recipe"])  # type: ignore[index,call-overload]
    assert found["a"] == {"is": "Checkpoint", "path": "a.safetensors", "config": None, "ema": True}
    assert Checkpoint(path="a.safetensors", ema=True).ema


def test_a_path_may_hold_an_equals_sign(root):
    (root / "b.safetensors").rename(root / "alpha=0.3.safetensors")
    assert run("--a", "a.safetensors", "--b", "a.safetensors", "--alpha", "0.3", "--take", "vae=alpha=0.3.safetensors",
               "-o", "o.safetensors") == 0


# The command line is wrong: 2


@pytest.mark.parametrize(("words", "said"), [
    ((), "give a recipe file, or --a and --b"),
    (("--a", "a.safetensors"), "give a recipe file, or --a and --b"),
    ((*AB, "--alpha", "0.3"), "nothing to do"),
    ((*AB, "--alpha", "0.3", "--dry-run", "--check"), "give one of them"),
    ((*AB, "--blocks", "1,2", "--preset", "GRAD_V", "-o", "o.safetensors"), "give only one of"),
    ((*AB, "--alpha", "0.3", "--gradient", "0,1", "-o", "o.safetensors"), "give only one of"),
    ((*AB, "--alpha", "0.3", "--convention", "meh", "-o", "o.safetensors"), "--convention"),
    ((*AB, "--alpha-key", "*=1", "-o", "o.safetensors"), "need a default"),
    ((*AB, "--blocks", "a,b", "-o", "o.safetensors"), "expected numbers"),
    ((*AB, "--blocks", "", "-o", "o.safetensors"), "expected numbers"),
    ((*AB, "--gradient", "0 1", "-o", "o.safetensors"), "expected numbers"),
    ((*AB, "--weights", "1 2", "-o", "o.safetensors"), "expected numbers"),
    ((*AB, "--weights", "", "-o", "o.safetensors"), "expected numbers"),
    ((*AB, "--alpha", "0.3", "--set", "density", "-o", "o.safetensors"), "expected NAME=VALUE"),
    ((*AB, "--alpha", "0.3", "--set", "=1", "-o", "o.safetensors"), "expected NAME=VALUE"),
    ((*AB, "--alpha", "0.3", "--set", "density=much", "-o", "o.safetensors"), "'much' is not a number"),
    ((*AB, "--alpha", "0.3", "--set", "seed=1", "--set", "seed=2", "-o", "o.safetensors"), "given twice"),
    ((*AB, "--alpha", "0.3", "--take", "vae=a", "--take", "vae=b", "-o", "o.safetensors"), "given twice"),
    ((*AB, "--alpha", "0.3", "--take", "vae", "-o", "o.safetensors"), "expected NAME=VALUE"),
    (("nothing.toml", "-o", "o.safetensors"), "nothing.toml"),
    (("a.safetensors", "-o", "o.safetensors"), ".toml or .json"),
    (("bad.toml", "-o", "o.safetensors"), "not valid TOML"),
    (("deep.json", "-o", "o.safetensors"), "deep.json"),
    (("good.json", "--take", "vae=b.safetensors", "-o", "o.safetensors"), "--take cannot be combined with a recipe file"),
    (("good.json", "--dtype", "fp16", "-o", "o.safetensors"), "--dtype cannot be combined with a recipe file"),
    (("good.json", "--alpha-key", "*=1", "-o", "o.safetensors"), "--alpha-key cannot be combined with a recipe file"),
], ids=range(26))
def test_a_wrong_command_line_ends_with_2(words, said, root, capsys):
    (root / "bad.toml").write_text("a = ")
    (root / "deep.json").write_text("[" * 100_000)
    (root / "good.json").write_text(recipe_text(merge()))
    assert said in failed(capsys, 2, *words)
    assert not (root / "o.safetensors").exists()


@pytest.mark.parametrize("words", [("--alpha", "much"), ("--missing", "maybe"), ("--dtype", "fp8"), ("--force", "all"),
                                   ("--what",)])
def test_a_wrong_word_for_a_flag_ends_with_2(words, root, capsys):
    with pytest.raises(SystemExit) as end:
        run(*AB, *words)
    assert end.value.code == 2


# What is asked for is refused: 1


@pytest.mark.parametrize(("words", "said"), [
    (("--alpha", "nan"), "takes 0 to 1"),
    (("--alpha", "1e999"), "takes 0 to 1"),
    (("--alpha", "-0.1"), "takes 0 to 1"),
    ((), "needs alpha"),
    (("--alpha", "0.3", "--beta", "0.1"), "takes no beta"),
    (("--blocks", "0.1,0.2"), "2 block weights are given"),
    (("--blocks", ",".join(["0.5"] * 26)), "this U-Net has"),
    (("--preset", "GRAD"), "unknown preset 'GRAD'"),
    (("--preset", "GRAD_V", "--convention", "mine"), "unknown convention 'mine'"),
    (("--alpha", "0.3", "--set", "unknown=1"), "has no settings"),
    (("--alpha", "0.3", "--take", "foo=b.safetensors"), "unknown part"),
    (("--alpha", "0.3", "--parts", "nonsense"), "unknown part 'nonsense'"),
    (("--alpha", "0.3", "--parts", ""), "unknown part ''"),
    (("--alpha", "0.3", "--parts", "unet,unet"), "given 2 times"),
    (("--alpha", "0.3", "--method", ""), "unknown merge method ''"),
    (("--alpha", "0.3", "--method", "tiez"), "did you mean 'ties'"),
    (("--alpha", "0.3", "--c", "a.safetensors"), "takes 2 models"),
    (("--alpha", "0.3", "--alpha-key", "*none*=1"), "matches"),
    (("--alpha", "0.3", "--a", "folder"), "expected a diffusers folder"),
    (("--alpha", "0.3", "--b", "text.safetensors"), "a text, not the weights"),
    (("--alpha", "0.3", "--b", "pointer.safetensors"), "Git LFS pointer"),
    (("--alpha", "0.3", "--b", "lora.safetensors"), "this is a LoRA"),
    (("--alpha", "0.3", "--b", "none.safetensors"), "does not exist"),
    (("--alpha", "0.3", "--b", ""), "does not exist"),
    (("--alpha", "0.3", "--b", "\x1b[2J.safetensors"), "does not exist"),
    (("--alpha", "0.3", "--b", "x" * 5000), "does not exist"),
    (("--alpha", "0.3", "--b", "zoo:nothing"), "unknown model of the zoo"),
    (("--alpha", "0.3", "--b", "a\0b"), "does not exist"),
    (("--alpha", "0.3", "--b", os.fsdecode(b"\xff")), "lone surrogate"),
    (("--alpha", "0.3", "--b", "empty.safetensors"), "empty file"),
    (("--alpha", "0.3", "--b", "zoo:sketch"), "is an adapter; expected a checkpoint"),
    (("--alpha", "0.3", "--b", "zoo:config"), "expected"),
    (("--alpha", "0.3", "--weights", "1,2"), "takes none"),
    (("--alpha", "0.3", "--alpha-part", "vae=1"), "is not merged"),
    (("--alpha", "0.3", "-o", "folder"), ".safetensors"),
    (("--alpha", "0.3", "-o", "\x1b[2J"), "written as"),
], ids=range(36))
def test_what_cannot_be_made_is_refused_in_one_line(words, said, root, capsys):
    (root / "folder").mkdir()
    (root / "text.safetensors").write_text("this is a text, and no model at all")
    (root / "pointer.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    (root / "empty.safetensors").touch()
    write(root / "lora.safetensors", {"lora_unet_mid.lora_down.weight": torch.ones(1, 1)})
    assert said in (found := failed(capsys, 1, *AB, "-o", "o.safetensors", *words)), found
    assert "\x1b" not in found
    assert not (root / "o.safetensors").exists()


def test_a_check_that_would_read_what_it_replaced_is_refused(root, capsys):
    assert "remove --check" in failed(capsys, 1, *AB, "--alpha", "0.3", "-o", "a.safetensors", "--check")


# What is shown


def test_a_dry_run_touches_nothing_and_says_coverage_and_size(root, capsys):
    before = listing(root)
    assert run(*AB, "--alpha", "0.3", "-o", "new/o.safetensors", "--dry-run") == 0
    assert listing(root) == before
    said = capsys.readouterr().out
    assert "weighted_sum of unet; alpha 0.3 of B" in said
    assert f"{'unet':16} {sum(1 for n in parent(1) if n.startswith(UNET))} merged" in said
    assert f"{len(parent(1))} tensors, " in said
    assert run(*AB, "--alpha", "0.3", "-o", "new/o.safetensors") == 0
    size = (root / "new/o.safetensors").stat().st_size
    assert f"{size / 1000:.2f} kB" in said


def test_block_weights_are_shown_in_short_lines(root, capsys):
    assert run(*AB, "--preset", "GRAD_V", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "unet alpha by block, with the number of keys:" in said
    assert "IN00 1 (" in said
    assert max(map(len, said.splitlines())) <= 130


def test_a_note_of_hundreds_of_names_is_cut_and_says_so(root, capsys):
    b = parent(2)
    write(root / "b.safetensors", {n: t for n, t in b.items() if "attn" not in n})
    assert run(*AB, "--alpha", "0.3", "--missing", "keep_a", "-o", "o.safetensors") == 0
    note = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("note: unet: kept from A"))
    assert len(note) < 500
    names = [n for n in open_model(root / "a.safetensors").components["unet"] if "attn" in n]
    assert f"and {len(names) - 3} more (the header of the file has all)" in note
    assert note.count("'") == 6
    assert "mid_block.attentions.0.transformer_blocks.0.attn2.to_v.weight" in str(header(root / "o.safetensors"))


def test_every_identity_is_shown(root, capsys):
    assert run(*AB, "--alpha", "0.3", "-o", "o.safetensors", "--check") == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("ok ")]
    assert len(said) == 8


def test_a_broken_method_ends_the_check_with_1(root, capsys, monkeypatch):
    function = MERGE_METHODS["weighted_sum"].function
    monkeypatch.setitem(MERGE_METHODS, "weighted_sum", replace(
        MERGE_METHODS["weighted_sum"], function=lambda a, b, alpha: function(a, b, alpha) * 1.01))
    assert run(*AB, "--alpha", "0.3", "--check") == 1
    assert "FAILED alpha=0 is A" in capsys.readouterr().out


def test_every_method_is_listed(capsys):
    assert run("--methods") == 0
    said = capsys.readouterr().out
    assert all(f"\n{name}: " in f"\n{said}" for name in MERGE_METHODS)


def test_names_with_control_characters_are_written_and_shown_harmless(root, capsys):
    (root / "b.safetensors").rename(root / "b\x1b[2J\n.safetensors")
    assert run("--a", "a.safetensors", "--b", "b\x1b[2J\n.safetensors", "--alpha", "0.3", "-o", "é\x1b.safetensors") == 0
    assert run("--a", "a.safetensors", "--b", "b\x1b[2J\n.safetensors", "--alpha", "0.3", "-o", "é\x1b.safetensors") == 0
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert "é\\x1b.safetensors.bak1" in said.out


# As a process


def command(root: Path, *words: str, **more: object) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    return subprocess.run([sys.executable, "-m", "harness.cli", *words],  # type: ignore[call-overload,no-any-return]
                          cwd=root, env=env, text=True, check=False, **pipes)


def test_the_command_merges_and_replays_as_a_process(root):
    merged = command(root, "merge", *AB, "--alpha", "0.3", "-o", "o.safetensors")
    assert (merged.returncode, merged.stderr) == (0, "")
    assert "wrote o.safetensors" in merged.stdout
    replayed = command(root, "replay", "o.safetensors")
    assert (replayed.returncode, replayed.stderr) == (0, "")


def test_the_exit_code_of_the_process_says_what_happened(root):
    broken = parent(2)
    broken[CONV_IN][0] = float("nan")
    write(root / "b.safetensors", broken)
    refused = command(root, "merge", *AB, "--alpha", "0.3", "-o", "o.safetensors")
    assert refused.returncode == 1
    assert CONV_IN in refused.stderr
    assert "Traceback" not in refused.stderr
    assert command(root, "merge", "--alpha").returncode == 2


def test_a_reader_that_goes_away_does_not_spoil_the_exit_code(root):
    end, start = os.pipe()
    os.close(end)
    done = command(root, "merge", *AB, "--alpha", "0.3", "-o", "o.safetensors", stdout=start)
    os.close(start)
    assert (done.returncode, done.stderr) == (0, "")
    assert (root / "o.safetensors").exists()
