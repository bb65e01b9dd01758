"""The way out that a refusal of `sweetspot merge` says, in the words of the command line, works when it is followed."""

from __future__ import annotations

import argparse
import re
import subprocess
from pathlib import Path

import pytest
import torch

from harness.cli import main
from harness.commands import merge as command
from harness.declare.ways_out import DEFAULT_ZERO, EMA, FORCE_EMA, FORCE_PREDICTION, KEEP_A, in_speech, parts, take
from tests.materialise.models import CONV_OUT, UNET, averaged, parent, two, write

A, B = ("--a", "a.safetensors"), ("--b", "b.safetensors")
AB = (*A, *B, "--alpha", "0.5")
PYTHON = re.compile(r"\b[a-z_]+=[\"'({\[]|\b[a-z_]+=(?:True|False)")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models, and others that lack something or have more."""
    monkeypatch.chdir(tmp_path)
    a, b = two(tmp_path)
    write(tmp_path / "c.safetensors", parent(3))
    write(tmp_path / "less.safetensors", {name: t for name, t in b.items() if name != CONV_OUT})
    write(tmp_path / "stray.safetensors", {**b, "strange.weight": torch.ones(3)})
    write(tmp_path / "vpred.safetensors", {**b, "v_pred": torch.zeros(0)})
    write(tmp_path / "unet.safetensors", {name: t for name, t in b.items() if name.startswith(UNET)})
    for name, tensors in (("ema_a", a), ("ema_b", b)):
        write(tmp_path / f"{name}.safetensors", {**tensors, **averaged(tensors)})
    return tmp_path


# What is typed, what the refusal says to do, and what is typed then.
ROWS: list[tuple[tuple[str, ...], str, tuple[str, ...]]] = [
    ((*A, "--b", "less.safetensors", "--alpha", "0.5"), "--missing keep_a",
     (*A, "--b", "less.safetensors", "--alpha", "0.5", "--missing", "keep_a")),
    (("--a", "less.safetensors", *B, "--alpha", "0.5"), "--missing keep_a",
     ("--a", "less.safetensors", *B, "--alpha", "0.5", "--missing", "keep_a")),
    ((*A, "--b", "stray.safetensors", "--alpha", "0.5"), "--missing keep_a",
     (*A, "--b", "stray.safetensors", "--alpha", "0.5", "--missing", "keep_a")),
    ((*A, "--b", "vpred.safetensors", "--alpha", "0.5"), "--force prediction",
     (*A, "--b", "vpred.safetensors", "--alpha", "0.5", "--force", "prediction")),
    (("--a", "ema_a.safetensors#ema", "--b", "ema_b.safetensors", "--alpha", "0.5"), "'#ema' after its name",
     ("--a", "ema_a.safetensors#ema", "--b", "ema_b.safetensors#ema", "--alpha", "0.5")),
    (("--a", "ema_a.safetensors#ema", "--b", "ema_b.safetensors", "--alpha", "0.5"), "--force ema",
     ("--a", "ema_a.safetensors#ema", "--b", "ema_b.safetensors", "--alpha", "0.5", "--force", "ema")),
    ((*AB, "--parts", "transformer"), "--parts unet,vae,text_encoder", (*AB, "--parts", "unet,vae,text_encoder")),
    ((*AB, "--parts", "unet,text_encoder_2"), "--parts unet", (*AB, "--parts", "unet")),
    (("--a", "unet.safetensors", "--b", "a.safetensors", "--alpha", "0.5", "--parts", "unet,vae"), "--parts unet",
     ("--a", "unet.safetensors", "--b", "a.safetensors", "--alpha", "0.5", "--parts", "unet")),
    (("--a", "unet.safetensors", "--b", "a.safetensors", "--alpha", "0.5", "--parts", "unet,vae"), "--take vae=a.safetensors",
     ("--a", "unet.safetensors", "--b", "a.safetensors", "--alpha", "0.5", "--take", "vae=a.safetensors")),
    (("--a", "unet.safetensors", "--b", "a.safetensors", "--alpha", "0.5", "--parts", "all"), "--parts unet",
     ("--a", "unet.safetensors", "--b", "a.safetensors", "--alpha", "0.5", "--parts", "unet")),
    ((*AB, "--alpha-key", "*atn2*=1"), "'*attn2*'", (*AB, "--alpha-key", "*attn2*=1")),
    ((*A, *B, "--alpha", "0", "--alpha-key", "*attn2*=1", "--alpha-key", "unet.*=0.2"), "Put it last",
     (*A, *B, "--alpha", "0", "--alpha-key", "unet.*=0.2", "--alpha-key", "*attn2*=1")),
    ((*AB, "--alpha-part", "vae=1"), "vae", (*AB, "--alpha-part", "vae=1", "--parts", "unet,vae")),
    ((*A, *B, "--preset", "GRAD_V", "--alpha", "0.5"), "give 0 for BASE", (*A, *B, "--preset", "GRAD_V", "--alpha", "0")),
    ((*A, *B, "--preset", "GRAD_V", "--alpha", "0.5"), "with --parts",
     (*A, *B, "--preset", "GRAD_V", "--alpha", "0.5", "--parts", "unet,text_encoder")),
    ((*AB, "--method", "tensor_sum"), "beta", (*AB, "--method", "tensor_sum", "--beta", "0.5")),
    ((*AB, "--method", "add_difference"), "with --c", (*AB, "--method", "add_difference", "--c", "c.safetensors")),
    ((*AB, "--method", "ties"), "with --c", (*AB, "--method", "ties", "--c", "c.safetensors")),
    ((*A, *B, "--method", "weighted_average", "--c", "c.safetensors"), "to --more",
     (*A, *B, "--method", "weighted_average", "--more", "c.safetensors")),
    ((*AB, "--method", "slurp"), "'slerp'", (*AB, "--method", "slerp")),
    ((*AB, "--method", "ties", "--c", "c.safetensors", "--set", "densty=0.5"), "'density'",
     (*AB, "--method", "ties", "--c", "c.safetensors", "--set", "density=0.5")),
    ((*AB, "--alpha-part", "unet=0.3"), "--alpha 0", (*A, *B, "--alpha", "0", "--alpha-part", "unet=0.3")),
    ((*AB, "--alpha-key", "*=0.3"), "--alpha 0", (*A, *B, "--alpha", "0", "--alpha-key", "*=0.3")),
    ((*A, *B, "--preset", "GRAD_V", "--alpha-key", "*=0.3"), "--alpha 0", (*A, *B, "--alpha", "0", "--alpha-key", "*=0.3")),
    ((*A, *B, "--gradient", ",".join(["0.5"] * 30)), "at most 13 values", (*A, *B, "--gradient", ",".join(["0.5"] * 13))),
    ((*A, "--b", "bb.safetensors", "--alpha", "0.5"), "'b.safetensors' does", AB),
]


@pytest.mark.parametrize(("typed", "way_out", "then"), ROWS, ids=[f"{number} {row[1]}" for number, row in enumerate(ROWS)])
def test_the_way_out_of_a_refusal_works_when_it_is_followed(typed, way_out, then, root, capsys):
    assert main(["merge", *typed, "--dry-run"]) == 1
    message = capsys.readouterr().err
    assert way_out in message
    assert not PYTHON.search(message), message
    assert main(["merge", *then, "--dry-run"]) == 0


@pytest.mark.parametrize("typed", [row[0] for row in ROWS], ids=range(len(ROWS)))
def test_a_refusal_names_only_options_that_the_command_has(typed, root, capsys):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    main(["merge", *typed, "--dry-run"])
    flags = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().err))
    assert flags <= {flag for action in parser._actions for flag in action.option_strings}


def test_a_recipe_file_is_answered_in_its_own_words(root, capsys):
    (root / "r.toml").write_text('a = "a.safetensors"\nb = "less.safetensors"\nalpha = 0.5\n')
    assert main(["merge", "r.toml", "--dry-run"]) == 1
    assert 'missing = "keep_a"' in capsys.readouterr().err
    (root / "r.toml").write_text('a = "a.safetensors"\nb = "less.safetensors"\nalpha = 0.5\nmissing = "keep_a"\n')
    assert main(["merge", "r.toml", "--dry-run"]) == 0


@pytest.mark.parametrize("way", [
    KEEP_A, FORCE_PREDICTION, FORCE_EMA, EMA, DEFAULT_ZERO, parts(("unet",)), parts(("unet", "vae")), take("vae", "v.pt")])
@pytest.mark.parametrize("speech", ["flags", "recipe"])
def test_every_way_out_has_a_spelling_for_every_caller(way, speech):
    assert in_speech(f"Set {way}.", "python") == f"Set {way}."
    assert way not in in_speech(f"Set {way}.", speech)


def test_a_file_with_bytes_after_the_last_tensor_can_be_cut_as_the_refusal_says(root, capsys):
    with (root / "b.safetensors").open("ab") as file:
        file.write(bytes(64))
    assert main(["merge", *AB, "--dry-run"]) == 1
    message = capsys.readouterr().err
    assert "64 bytes" in message
    subprocess.run(message.partition("without them: ")[2], shell=True, check=True, cwd=root)
    assert main(["merge", "--a", "a.safetensors", "--b", "b-trimmed.safetensors", "--alpha", "0.5", "--dry-run"]) == 0


def test_a_tensor_under_another_name_is_named_and_not_given_up(root, capsys):
    """Under keep_a its values would be lost: the refusal says so, and what it says to rename is what has to be renamed."""
    old = f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_q.weight"
    tensors = parent(2)
    write(root / "named.safetensors", {name.replace("attn2.to_q.weight", "attn2.to_qq.weight"): t for name, t in tensors.items()})
    assert old in tensors
    assert main(["merge", *A, "--b", "named.safetensors", "--alpha", "0.5", "--dry-run"]) == 1
    assert "to_qq" in capsys.readouterr().err


def test_a_difference_may_be_added_to_a_model_of_another_prediction(root, capsys):
    words = ("--a", "vpred.safetensors", "--b", "a.safetensors", "--c", "c.safetensors", "--alpha", "1", "--dry-run")
    assert main(["merge", *words, "--method", "add_difference"]) == 0
    assert "the result is of A's kind" in capsys.readouterr().out
    assert main(["merge", *words, "--method", "similarity_add", "--beta", "0.5"]) == 1
    swapped = ("--a", "a.safetensors", "--b", "vpred.safetensors", "--c", "c.safetensors", "--alpha", "1", "--dry-run")
    assert main(["merge", *swapped, "--method", "add_difference"]) == 1
