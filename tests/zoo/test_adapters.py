"""The zoo's adapter files: each is read whole in the format it claims, and those of one LoRA change the base alike."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from harness import zoo
from harness.adapters import Reading, read_changes, recognise_file
from harness.adapters.kinds import changed_weight, check_change, delta
from harness.zoo import layouts, store
from harness.zoo.layouts import FILES, same_lora
from tests.zoo.plain_sampler import unet_weights, with_adapter

FORMAT = {
    "sketch": "kohya",
    "sketch-peft": "diffusers",
    "sketch-peft-folder": "peft",
    "sketch-diffusers-2023": "diffusers-2023",
    "sketch-onetrainer": "kohya",
    "sketch-omi": "omi",
    "sketch-comfyui": "comfyui",
    "sketch-original": "bare",
    "sketch-lycoris": "lycoris",
    "sketch-tucker": "kohya",
    "sketch-full": "kohya",
    "sketch-loha": "kohya",
    "sketch-lokr": "kohya",
    "sketch-dora": "kohya",
    "sketch-word": "textual-inversion",
}
KIND = {
    "sketch-full": ("full",),
    "sketch-loha": ("loha",),
    "sketch-lokr": ("lokr",),
    "sketch-dora": ("lora", "dora"),
    "sketch-word": (),
}
TRAINED = ("sketch", "loha", "lokr", "dora")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("zoo")


@pytest.fixture(scope="module")
def base() -> dict[str, torch.Tensor]:
    return unet_weights("base")


def read(name: str, cache: Path) -> Reading:
    """A member of the zoo against its base."""
    return read_file(zoo.resolve(f"zoo:{name}", cache))


def read_file(path: Path) -> Reading:
    """An adapter file against the zoo's base."""
    tensors = {"unet": store.unet_tensors("base"), "text_encoder": store.load_tensors(store.PARTS / "text_encoder.safetensors")}
    shapes = {component: {key.removesuffix(".weight"): value.shape for key, value in found.items() if key.endswith(".weight")}
              for component, found in tensors.items()}
    return read_changes(path, shapes, "sd1")


def test_the_names_of_the_zoo_are_those_of_the_files() -> None:
    assert {name for name in zoo.NAMES if name.startswith("zoo:sketch")} == {f"zoo:{name}" for name in FILES}
    assert set(FORMAT) == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_whole_in_its_format(name: str, cache: Path) -> None:
    found = read(name, cache)
    assert found.format == FORMAT[name]
    assert {status for by_status in found.keys.values() for status in by_status} <= {"applied", "consumed"}
    assert found.warnings == ()
    assert len(found.changes) == (0 if name == "sketch-word" else 64)
    assert {component for component, _ in found.changes} <= {"unet"}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_recognised_by_its_header_alone(name: str, cache: Path) -> None:
    said = recognise_file(zoo.resolve(f"zoo:{name}", cache))
    assert (said.format, said.kinds) == (FORMAT[name], KIND.get(name, ("lora",)))
    assert "width 96" in said.base or said.base == "unknown"


@pytest.mark.parametrize("name", [name for name in same_lora() if name != "sketch-full"])
def test_every_layout_of_the_lora_says_the_same(name: str, cache: Path, base: dict[str, torch.Tensor]) -> None:
    wanted = read("sketch", cache).changes
    found = read(name, cache).changes
    assert set(found) == set(wanted)
    for place, change in found.items():
        expected = delta(wanted[place], base[f"{place[1]}.weight"])
        error = (delta(change, base[f"{place[1]}.weight"]) - expected).abs().max()
        assert error <= 1e-6 * expected.abs().max(), place


def test_whole_differences_are_the_lora_rounded_once_to_fp16(cache: Path) -> None:
    factors = layouts.pairs(store.load_tensors(store.PARTS / "sketch.safetensors"))
    for (_, path), change in read("sketch-full", cache).changes.items():
        down, up = (value.astype(np.float64) for value in factors[path])
        exact = (up.reshape(len(up), -1) @ down.reshape(len(down), -1)).reshape(len(up), *down.shape[1:])
        off = np.abs(change.tensors["diff"].double().numpy() - exact)
        assert (off <= 2.0**-11 * np.abs(exact) * (1 + 1e-9) + 2.0**-25).all(), path
        assert change.scale == 1


def test_the_core_of_the_tucker_form_is_of_one_rank_on_all_sides(cache: Path) -> None:
    changes = [change for change in read("sketch-tucker", cache).changes.values() if "mid" in change.tensors]
    assert len(changes) == 16
    assert all(change.tensors["mid"].shape[0] == change.tensors["mid"].shape[1] == change.rank for change in changes)


@pytest.mark.parametrize("part", TRAINED)
@pytest.mark.parametrize("weight", [0.5, 1.0, 1.5])
def test_the_zoos_own_formulas_agree_with_those_of_the_adapters(
    part: str, weight: float, cache: Path, base: dict[str, torch.Tensor]
) -> None:
    wanted = with_adapter(base, weight, part)
    changes = read("sketch" if part == "sketch" else f"sketch-{part}", cache).changes
    for (_, path), change in changes.items():
        check_change(change, tuple(base[f"{path}.weight"].shape))
        assert torch.allclose(changed_weight(change, base[f"{path}.weight"], weight), wanted[f"{path}.weight"], atol=2e-6), path
    untouched = set(base) - {f"{path}.weight" for _, path in changes}
    assert all(torch.equal(wanted[key], base[key]) for key in untouched)


@pytest.mark.parametrize("part", TRAINED[1:])
def test_peft_that_trained_an_adapter_computes_the_same_change(part: str, base: dict[str, torch.Tensor]) -> None:
    from peft import set_peft_model_state_dict

    from harness.zoo.models import new_unet
    from harness.zoo.training.kinds import KINDS

    unet = new_unet()
    unet.load_state_dict(base)
    unet.add_adapter(KINDS[part]())
    stored = {key: torch.from_numpy(value).float() for key, value in
              store.load_tensors(store.PARTS / f"{part}.safetensors").items()}
    assert not set_peft_model_state_dict(unet, stored).unexpected_keys
    wanted = with_adapter(base, 1.0, part)
    for path, layer in unet.named_modules():
        if hasattr(layer, "merge") and hasattr(layer, "base_layer"):
            layer.merge()
            assert torch.allclose(layer.base_layer.weight, wanted[f"{path}.weight"], atol=1e-5), path


def test_the_folder_is_one_that_peft_opens(cache: Path) -> None:
    from peft import LoraConfig, PeftModel

    from harness.zoo.models import new_unet

    folder, unet = zoo.resolve("zoo:sketch-peft-folder", cache), new_unet()
    assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert LoraConfig.from_pretrained(str(folder)).r == 8
    base = unet_weights("base")
    unet.load_state_dict(base)
    merged = PeftModel.from_pretrained(unet, str(folder)).merge_and_unload().state_dict()
    assert all(torch.allclose(merged[key], value, atol=1e-5) for key, value in with_adapter(base, 1.0).items())


def test_a_whole_kronecker_product_has_an_alpha_without_effect(cache: Path, tmp_path: Path) -> None:
    tensors = store.load_tensors(zoo.resolve("zoo:sketch-lokr", cache))
    junk = {key: np.asarray(1e10, np.float32) for key in tensors if key.endswith(".alpha")}
    assert len(junk) == 64
    store.save_tensors({**tensors, **junk}, tmp_path / "junk.safetensors")
    assert {change.scale for change in read_file(tmp_path / "junk.safetensors").changes.values()} == {1.0}


def test_the_word_is_not_in_the_vocabulary(cache: Path) -> None:
    (embedding,) = read("sketch-word", cache).embeddings
    vocabulary = json.loads((zoo.resolve("zoo:config") / "tokenizer" / "vocab.json").read_text(encoding="utf-8"))
    assert embedding.token not in vocabulary
    assert f"{embedding.token.strip('<>')}</w>" not in vocabulary
    assert tuple(embedding.vectors.shape) == (2, 96)


def test_whole_differences_are_summed_the_same_way_everywhere() -> None:
    rng = np.random.default_rng(0)
    up, down = rng.normal(size=(5, 3, 1, 1)).astype(np.float16), rng.normal(size=(3, 4, 3, 3)).astype(np.float16)
    exact = np.einsum("or,rikl->oikl", up[..., 0, 0].astype(np.float64), down.astype(np.float64))
    assert np.allclose(layouts.product(up, down), exact, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", FILES)
def test_the_inspect_command_names_the_format(name: str, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from harness.adapters.formats import FORMATS
    from harness.cli import main

    path = zoo.resolve(f"zoo:{name}", cache)
    assert not main(["inspect", str(path)])
    said = capsys.readouterr().out
    assert (FORMATS[FORMAT[name]].says if FORMAT[name] in FORMATS else "textual inversion") in " ".join(said.split())
