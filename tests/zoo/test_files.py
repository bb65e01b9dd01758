"""The zoo's files: small enough, assembled whole and alike on every machine, and equal to the parts they are made of."""

from __future__ import annotations

import hashlib
import multiprocessing
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from harness import zoo
from harness.zoo import store


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("zoo")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _resolve_photo(cache: Path) -> str:
    return _digest(zoo.resolve("zoo:photo", cache))


def test_importing_the_zoo_imports_no_torch() -> None:
    code = "import sys, harness.zoo; harness.zoo.resolve('zoo:config'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_zoo_takes_at_most_twelve_and_a_half_megabytes() -> None:
    size = sum(path.stat().st_size for path in Path(zoo.__file__).parent.rglob("*") if "__pycache__" not in path.parts)
    assert size <= 12_500_000


@pytest.mark.parametrize("name", zoo.NAMES)
def test_every_name_resolves_to_something_that_exists(name: str, cache: Path) -> None:
    assert zoo.resolve(name, cache).exists()


def test_an_unknown_name_raises_with_the_nearest_known_one() -> None:
    with pytest.raises(ValueError, match="did you mean 'zoo:photo'"):
        zoo.resolve("zoo:foto")


def test_the_cache_folder_can_be_set_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEETSPOT_CACHE", str(tmp_path))
    assert zoo.resolve("zoo:sketch").is_relative_to(tmp_path)


def test_two_processes_resolve_to_the_same_bytes(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        first, second = pool.map(_resolve_photo, [tmp_path, tmp_path])
    assert first == second == _resolve_photo(tmp_path / "elsewhere")
    assert not list(tmp_path.rglob("*.part"))


def test_of_several_that_ask_at_once_one_makes_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that another has opened must not be replaced, even by the same bytes."""
    made = []
    assemble = store.assemble

    def slowly(name: str, path: Path) -> None:
        made.append(name)
        time.sleep(0.05)
        assemble(name, path)

    monkeypatch.setattr(store, "assemble", slowly)
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(lambda _: zoo.resolve("zoo:sketch", tmp_path), range(4)))
    assert (len(paths), made) == (1, ["sketch"])


def test_saved_bytes_do_not_depend_on_the_order_of_tensors(tmp_path: Path) -> None:
    a, b = np.arange(6, dtype=np.float16).reshape(2, 3), np.ones((), np.int64)
    store.save_tensors({"a": a, "b": b}, tmp_path / "1", {"x": "1", "y": "2"})
    store.save_tensors({"b": b, "a": a}, tmp_path / "2", {"y": "2", "x": "1"})
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    assert np.array_equal(store.load_tensors(tmp_path / "1")["a"], a)


def test_a_stored_difference_is_wrong_by_at_most_half_a_step() -> None:
    rng = np.random.default_rng(0)
    base, tuned = rng.normal(size=(8, 5, 3, 3)).astype(np.float16), rng.normal(size=(8, 5, 3, 3))
    steps, step = store.difference(tuned, base)
    error = np.abs(store.restore(steps, step, base).astype(np.float64) - tuned)
    assert (error <= 0.5 * step.reshape(8, 1, 1, 1) + 2e-3).all()


def test_equal_weights_have_no_difference() -> None:
    base = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float16)
    assert np.array_equal(store.restore(*store.difference(base, base), base), base)


def test_a_checkpoint_has_the_layout_of_stable_diffusion_1(cache: Path) -> None:
    file = store.load_tensors(zoo.resolve("zoo:photo", cache))
    prefixes = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.text_model.")
    assert all(any(key.startswith(prefix) for key in file) for prefix in prefixes)
    assert {key for key in file if not key.startswith(prefixes)} == {"betas", "alphas_cumprod"}
    assert file["cond_stage_model.transformer.text_model.embeddings.position_ids"].dtype == np.int64
    assert file["model.diffusion_model.input_blocks.1.1.proj_in.weight"].ndim == 4
    assert file["alphas_cumprod"].dtype == np.float32


def test_the_adapter_says_the_same_in_both_layouts(cache: Path) -> None:
    kohya = store.load_tensors(zoo.resolve("zoo:sketch", cache))
    peft = store.load_tensors(zoo.resolve("zoo:sketch-peft", cache))
    assert len(kohya) == len(peft) // 2 * 3
    for key in (key for key in peft if key.endswith(".lora_A.weight")):
        module = key.removeprefix("unet.").removesuffix(".lora_A.weight")
        name = "lora_unet_" + module.replace(".", "_")
        assert np.array_equal(kohya[f"{name}.lora_down.weight"], peft[key])
        assert np.array_equal(kohya[f"{name}.lora_up.weight"], peft[key.replace("lora_A", "lora_B")])
        assert float(kohya[f"{name}.alpha"]) == len(peft[key])


def test_photo_and_anime_differ_from_the_base_and_from_each_other() -> None:
    base, photo, anime = (store.unet_tensors(name)["conv_in.weight"] for name in ("base", "photo", "anime"))
    assert not np.array_equal(base, photo)
    assert not np.array_equal(photo, anime)
