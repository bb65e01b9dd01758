"""The strength of an adapter that is not in its tensors: in settings beside them or in the header, in plain numbers of a pickle;
and settings with which an adapter is more than its factors times a number."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harness.adapters import AdapterError
from harness.adapters.kinds import delta
from harness.adapters.reading import read_changes, recognise_file
from harness.cli import main
from tests.materialise.models import parent, write

MODULE = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
SHAPES = {"unet": {MODULE: (8, 6)}}
DOWN, UP = torch.randn(2, 6), torch.randn(8, 2)
SETTINGS = {"peft_type": "LORA", "r": 2, "lora_alpha": 6}
FLAT = f"lora_unet_{MODULE.replace('.', '_')}"


def factors(prefix: str = "") -> dict[str, torch.Tensor]:
    return {f"{prefix}{MODULE}.lora_A.weight": DOWN, f"{prefix}{MODULE}.lora_B.weight": UP}


def folder(path: Path, **settings: object) -> Path:
    path.mkdir()
    save_file(factors("base_model.model."), path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text(json.dumps({**SETTINGS, **settings}))
    return path


def with_header(path: Path, prefix: str, settings: dict[str, object]) -> Path:
    save_file(factors(prefix), path, {"lora_adapter_metadata": json.dumps(settings)})
    return path


def pickled(path: Path, alpha: object) -> Path:
    torch.save({f"{FLAT}.lora_down.weight": DOWN, f"{FLAT}.lora_up.weight": UP, f"{FLAT}.alpha": alpha}, path)
    return path


def scale_of(path: Path) -> float:
    (change,) = read_changes(path, SHAPES, "sd1").changes.values()
    given, product = delta(change, torch.zeros(8, 6, dtype=torch.float64)), UP.double() @ DOWN.double()
    scale = float((given / product).median())
    assert torch.allclose(given, product * scale, atol=1e-6)
    return scale


@pytest.mark.parametrize(("make", "scale"), [
    (lambda at: folder(at / "f"), 3.0),
    (lambda at: folder(at / "f", use_rslora=True), 6 / 2 ** 0.5),
    (lambda at: folder(at / "f", init_lora_weights="gaussian", use_qalora=False, alora_invocation_tokens=None), 3.0),
    # As diffusers' unet.save_lora_adapter(...) writes it.
    (lambda at: with_header(at / "a.safetensors", "", SETTINGS), 3.0),
    (lambda at: with_header(at / "a.safetensors", "", {"unet.r": 2, "unet.lora_alpha": 6}), 3.0),
    (lambda at: with_header(at / "a.safetensors", "unet.", {"unet.r": 2, "unet.lora_alpha": 6}), 3.0),
    (lambda at: pickled(at / "a.pt", 6.0), 3.0), (lambda at: pickled(at / "a.pt", 6), 3.0),
    (lambda at: pickled(at / "a.pt", torch.tensor(6.0)), 3.0),
])
def test_the_strength_is_read_where_the_tool_that_wrote_the_file_puts_it(tmp_path: Path, make, scale: float) -> None:
    assert scale_of(make(tmp_path)) == pytest.approx(scale)


def test_only_what_is_read_otherwise_than_before_makes_another_candidate(tmp_path: Path) -> None:
    made = [folder(tmp_path / "f"), with_header(tmp_path / "prefixed.safetensors", "unet.", {"unet.r": 2, "unet.lora_alpha": 6}),
            with_header(tmp_path / "bare.safetensors", "", SETTINGS), pickled(tmp_path / "number.pt", 6.0),
            folder(tmp_path / "without")]
    (made[-1] / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2}))
    assert [read_changes(path, SHAPES, "sd1").strength_version for path in made] == [1, 1, 2, 2, 2]


def test_without_an_alpha_in_its_settings_pefts_default_is_used_and_said(tmp_path: Path) -> None:
    path = folder(tmp_path / "f")
    (path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2}))
    assert scale_of(path) == pytest.approx(4.0)
    assert any("no lora_alpha" in note and "8" in note for note in read_changes(path, SHAPES, "sd1").notes)


def test_the_default_alpha_is_that_of_the_installed_peft() -> None:
    from peft import LoHaConfig, LoKrConfig, LoraConfig

    assert (LoraConfig().lora_alpha, LoHaConfig().alpha, LoKrConfig().alpha) == (8, 8, 8)


def test_the_tensors_of_a_peft_folder_are_refused_without_their_settings_and_the_folder_works(tmp_path: Path) -> None:
    path = folder(tmp_path / "f")
    with pytest.raises(AdapterError, match=r"adapter_config\.json beside it; give the folder .*f instead"):
        read_changes(path / "adapter_model.safetensors", SHAPES, "sd1")
    assert scale_of(path) == pytest.approx(3.0)


@pytest.mark.parametrize("settings", [
    {"init_lora_weights": "pissa"}, {"init_lora_weights": "pissa_niter_4"}, {"init_lora_weights": "olora"},
    {"init_lora_weights": "corda"}, {"init_lora_weights": "loftq"}, {"init_lora_weights": "lora_ga"}, {"use_qalora": True},
    {"alora_invocation_tokens": [5, 7]}, {"layer_replication": [[0, 2]]}, {"arrow_config": {"top_k": 3}},
    {"kasa_config": {"beta": 1}}, {"use_bdlora": {"blocks": 2}}], ids=lambda settings: next(iter(settings.items()))[0])
def test_an_adapter_that_is_more_than_its_factors_is_refused_by_its_setting(tmp_path: Path, settings: dict[str, object]) -> None:
    name = next(iter(settings))
    for path in (folder(tmp_path / "f", **settings), with_header(tmp_path / "a.safetensors", "", {**SETTINGS, **settings})):
        with pytest.raises(AdapterError, match=name):
            read_changes(path, SHAPES, "sd1")


def test_peft_itself_changes_the_weights_that_such_an_adapter_is_trained_on(tmp_path: Path) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    changed = {}
    for start in ("gaussian", "orthogonal", "pissa", "olora"):
        layer = torch.nn.Sequential(torch.nn.Linear(6, 8))
        before = layer[0].weight.detach().clone()
        model = inject_adapter_in_model(LoraConfig(r=2, target_modules=["0"], init_lora_weights=start), layer)
        changed[start] = not torch.equal(model[0].base_layer.weight, before)
    assert changed == {"gaussian": False, "orthogonal": False, "pissa": True, "olora": True}


@pytest.mark.parametrize("name", ["ss_base_model_version", "modelspec.architecture"])
def test_an_adapter_whose_header_names_another_family_is_said_to_be_of_it(tmp_path: Path, name: str) -> None:
    save_file({f"{FLAT}.lora_down.weight": DOWN, f"{FLAT}.lora_up.weight": UP}, tmp_path / "a.safetensors",
              {name: "stable-diffusion-v2"})
    said = [note for note in read_changes(tmp_path / "a.safetensors", SHAPES, "sd1").warnings if name in note]
    assert len(said) == 1 and "Stable Diffusion 2" in said[0] and "Stable Diffusion 1" in said[0]
    assert not any(name in note for note in read_changes(tmp_path / "a.safetensors", SHAPES, "sd2").warnings)


def test_a_merge_says_what_is_assumed_of_an_adapter(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "m.safetensors", model := parent(1))
    rows, columns = model["model.diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q.weight"].shape
    save_file({f"{FLAT}.lora_down.weight": torch.randn(2, columns), f"{FLAT}.lora_up.weight": torch.randn(rows, 2)},
              "a.safetensors", {"ss_network_alpha": "6", "ss_network_dim": "2"})
    assert main(["merge", "--a", "m.safetensors", "--adapter", "a.safetensors", "--dry-run"]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: adapter a.safetensors")]
    assert any("ss_network_alpha = 6" in note for note in notes) and any("alpha = rank" in note for note in notes)


def test_a_file_with_settings_of_a_component_without_prefix_is_described_by_them(tmp_path: Path) -> None:
    recognised = recognise_file(with_header(tmp_path / "a.safetensors", "", SETTINGS))
    assert recognised.alphas == (6, 6) and not recognised.warnings
