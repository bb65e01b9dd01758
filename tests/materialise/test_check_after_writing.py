"""`merge --check` and `replay` know what a written file holds, whatever names it has."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from harness.cli import main
from tests.materialise import test_encoder_files as encoders
from tests.materialise import test_structural as structural
from tests.materialise import test_transformer_folders as folders
from tests.materialise.models import write
from tests.materialise.tiny_dit import comfy, flux


def _encoder(root: Path, which: str) -> tuple[str, ...]:
    for seed, name in enumerate("ab"):
        write(root / name, encoders.new(encoders.FILES[which], seed))
    return "--parts", "text_encoder_3"


def _unknown(root: Path) -> tuple[str, ...]:
    for seed, name in enumerate("ab"):
        write(root / name, structural.new(structural.WAN, seed))
    return ()


def _norms(root: Path) -> tuple[str, ...]:
    write(root / "a", flux(1))
    write(root / "b", comfy(flux(2)))
    return ()


def _folders(root: Path, family: str) -> tuple[str, ...]:
    folders.two(root, family)
    return ()


CASES = {"flux folder": lambda root: _folders(root, "flux"), "sd3 folder": lambda root: _folders(root, "sd3"),
         "clip_l": lambda root: _encoder(root, "clip_l"), "t5xxl": lambda root: _encoder(root, "t5xxl"),
         "unknown": _unknown, "norms": _norms}


@pytest.mark.parametrize("case", CASES)
def test_a_written_file_is_checked_and_made_again(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    more = CASES[case](tmp_path)
    for name in "ab":
        if (tmp_path / name).is_file():
            (tmp_path / name).rename(tmp_path / f"{name}.safetensors")
    a, b = (name if (tmp_path / name).is_dir() else f"{name}.safetensors" for name in "ab")
    words = ["merge", "--a", a, "--b", b, "--alpha", "0.3", *more]
    assert main([*words, "-o", "out.safetensors", "--check"]) == 0
    said = capsys.readouterr().out
    saved = next(line for line in said.splitlines() if "the saved file has the bits" in line)
    assert "n/a" not in saved
    assert main(["replay", "out.safetensors"]) == 0
    assert load_file("out.safetensors")
