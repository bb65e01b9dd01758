"""An address with a password or a token in a declaration is refused by its field, and nothing shows the secret."""

from pathlib import Path
from typing import Any

import pytest

from harness import Adapter, AestheticGradient, Candidate, Checkpoint, Fused, Merge, alpha_sweep
from harness.check import problems
from harness.cli import main
from tests.fakes import PROMPTS, tiny_grid, tiny_suite

MARKER = "hunter2"
ADDRESSES = (f"https://me:{MARKER}@host/x.safetensors", f"https://host/x.safetensors?access_token={MARKER}")
PLACES: dict[str, Any] = {
    "model": lambda url: {"model": url},
    "checkpoint": lambda url: {"model": Checkpoint(path=url)},
    "config": lambda url: {"model": Checkpoint(path="zoo:photo", config=url)},
    "parent": lambda url: {"model": Merge(a="zoo:photo", b=url, alpha=0.5)},
    "take": lambda url: {"model": Merge(a="zoo:photo", b="zoo:anime", alpha=0.5, take={"vae": url})},
    "fused": lambda url: {"model": Fused(model="zoo:base", adapters=(Adapter(path=url),))},
    "adapter": lambda url: {"adapters": (Adapter(path=url),)},
    "aesthetic": lambda url: {"aesthetic": AestheticGradient(path=url)},
    "its clip": lambda url: {"aesthetic": AestheticGradient(path="a.pt", clip=f"ViT-B-32:{url}")},
    "name": lambda url: {"name": url},
}


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("place", PLACES)
def test_a_candidate_with_a_secret_is_refused_without_showing_it(place: str, address: str, tmp_path: Path) -> None:
    candidate = Candidate(**{"name": "x", "model": "zoo:base", **PLACES[place](address)})
    sentences = problems(tiny_suite(candidates=(*alpha_sweep("zoo:photo", "zoo:anime", (0, 1)), candidate)), tmp_path)
    assert [sentence for sentence in sentences if "a password or a token" in sentence and "candidates[" in sentence]
    assert MARKER not in "\n".join(sentences)


@pytest.mark.parametrize("changes", [
    {"description": f"see {ADDRESSES[0]}"}, {"clip": f"ViT-B-32:{ADDRESSES[1]}"}, {"styles": {"toy": ADDRESSES[0]}}])
def test_so_is_a_suite_with_one(changes: dict[str, Any], tmp_path: Path) -> None:
    sentences = problems(tiny_suite(**changes), tmp_path)
    assert any(f"{next(iter(changes))}" in sentence and "a password or a token" in sentence for sentence in sentences)
    assert MARKER not in "\n".join(sentences)


def test_prompts_may_hold_any_words_and_addresses_without_a_secret_are_no_problem(tmp_path: Path) -> None:
    prompts = (*PROMPTS, PROMPTS[0].__class__(id="sign", text="a sign that says http://me:you@here/"))
    assert problems(tiny_suite(grid=tiny_grid(prompts=prompts), description="https://host/x@v1?key"), tmp_path) == []


@pytest.mark.parametrize("command", ["inspect", "promote", "verify", "report"])
def test_no_command_shows_one_in_its_error(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = {"promote": ["x", "--run", ADDRESSES[0], "--as", "m"]}
    assert main([command, *words.get(command, [ADDRESSES[0]])]) == 1
    printed = capsys.readouterr()
    assert MARKER not in printed.out + printed.err
