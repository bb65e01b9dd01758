"""`sweetspot inspect` tells what files are without reading weights or importing torch, and lets nothing of them out raw."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harness import zoo
from harness.cli import main
from harness.commands.inspect import inspect_file
from harness.weights import content_hash, ldm
from harness.weights.ema import flat_name
from tests.weights.tiny import tiny
from tests.weights.tiny_families import states, write_folder

TINY = tiny()


def write(folder: Path, name: str = "m.safetensors", metadata: dict[str, str] | None = None, **extra: torch.Tensor) -> Path:
    save_file({n: t.contiguous() for n, t in {**TINY.file(), **extra}.items()}, folder / name, metadata)
    return folder / name


def told(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["inspect", str(path), *options]) == 0
    return capsys.readouterr().out


def test_parts_are_counted_in_keys_parameters_and_bytes(tmp_path):
    part = inspect_file(write(tmp_path)).components["unet"]
    parameters = sum(t.numel() for t in TINY.unet.values())
    assert (part.keys, part.parameters, part.bytes, part.dtypes) == (
        len(TINY.unet), parameters, 4 * parameters, {"F32": len(TINY.unet)})


def test_the_text_names_family_layout_prediction_and_parts(tmp_path, capsys):
    text = told(write(tmp_path, v_pred=torch.zeros(0)), capsys)
    assert "sd1, layout ldm, file of" in text
    assert "prediction     v_prediction (markers: 'v_pred')" in text
    for component in ("unet", "vae", "text_encoder"):
        assert f"  {component}" in text
    assert "integers in order" in text


def test_an_ema_copy_is_told_beside_the_unet(tmp_path, capsys):
    names = ldm.unet_to_ldm(TINY.unet)
    path = write(tmp_path, **{flat_name(names[key]): t + 1 for key, t in TINY.unet.items()})
    assert f"  EMA of unet    {len(TINY.unet):>5} keys" in told(path, capsys)


def test_json_holds_the_same_in_full(tmp_path, capsys):
    path = write(tmp_path, "a.safetensors", {"long": "x" * 5000}, stray=torch.ones(1))
    found = json.loads(told(path, capsys, "--json", "--keys"))
    assert len(found) == 1
    assert found[0]["family"] == "sd1"
    assert found[0]["unknown"] == ["stray"]
    assert len(found[0]["metadata"]["long"]) == 5000
    assert found[0]["keys"]["unet"]["conv_in.weight"]["source"] == "model.diffusion_model.input_blocks.0.0.weight"
    assert "stray" in found[0]["keys"]["other"]


def test_keys_names_every_tensor(tmp_path, capsys):
    path = write(tmp_path)
    text = told(path, capsys, "--keys")
    assert all(name in text for name in TINY.file())


def test_hash_gives_both_hashes_of_a_file(tmp_path, capsys):
    import hashlib

    path = write(tmp_path)
    text = told(path, capsys, "--hash")
    assert content_hash(path) in text
    assert hashlib.sha256(path.read_bytes()).hexdigest() in text


def test_a_folder_is_told_as_one_model(tmp_path, capsys):
    text = told(write_folder(tmp_path / "m", states("sdxl")), capsys, "--hash")
    assert "sdxl, layout diffusers, diffusers folder of" in text
    assert "text_encoder_2" in text
    assert "sha256" not in text


def test_a_recipe_in_the_header_is_said(tmp_path, capsys):
    path = write(tmp_path, metadata={"sweetspot.recipe": "{}", "format": "pt"})
    assert "holds a Sweetspot recipe ('sweetspot.recipe')" in told(path, capsys)


def test_texts_of_a_file_are_escaped_and_cut(tmp_path, capsys):
    path = write(tmp_path, metadata={"evil\x1b[2J": "\x1b]0;owned\x07" + "y" * 500, "modelspec.architecture": "flux-1\x9b"},
                 **{"stray\x1b[31m": torch.ones(1)})
    for options in ((), ("--keys",), ("--json", "--keys")):
        text = told(path, capsys, *options)
        assert all(ch.isprintable() or ch == "\n" for ch in text)
    assert "(510 characters)" in told(path, capsys)


def test_an_adapter_is_named_and_the_other_files_are_still_told(tmp_path, capsys):
    save_file({"lora_unet_mid.lora_down.weight": torch.ones(1, 4)}, tmp_path / "lora.safetensors")
    assert main(["inspect", str(tmp_path / "lora.safetensors"), str(write(tmp_path)), str(tmp_path / "none.ckpt")]) == 1
    out, err = capsys.readouterr()
    assert "sd1, layout ldm" in out
    assert "adapter: kohya" in out
    assert "none.ckpt: no such file" in err


def test_json_holds_what_was_refused_too(tmp_path, capsys):
    (tmp_path / "m.safetensors").write_bytes(b"<html>")
    assert main(["inspect", "--json", str(tmp_path / "m.safetensors")]) == 1
    assert "web page" in json.loads(capsys.readouterr().out)[0]["error"]


def test_inspecting_imports_nothing_heavy() -> None:
    path = zoo.resolve("zoo:photo")
    code = (f"import sys; from harness.cli import main; main(['inspect', {str(path)!r}]); "
            "print([m for m in ('torch', 'numpy', 'safetensors', 'rich', 'pandas', 'transformers') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_scaled_weights_are_counted(tmp_path):
    module = "model.diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q"
    codes = TINY.file()[f"{module}.weight"].to(torch.float8_e4m3fn)
    found = inspect_file(write(tmp_path, **{f"{module}.weight": codes, f"{module}.scale_weight": torch.ones(())}))
    assert found.scaled == 1
    assert found.components["unet"].dtypes["F8_E4M3"] == 1


@pytest.mark.parametrize(("name", "said", "where"), [
    ("zoo:sketch-peft", ["  alpha          8"], "the header's lora_adapter_metadata"),
    ("zoo:sketch-peft-folder", ["  alpha          8"], "adapter_config.json"),
    ("zoo:sketch", ["  alpha          8"], "alpha tensors"),
    ("zoo:sketch-original", ["  alpha missing  in 64 modules; alpha = rank is assumed"], "")])
def test_the_strength_of_an_adapter_is_told_from_where_it_stands(name, said, where, capsys):
    text = told(zoo.resolve(name), capsys).splitlines()
    assert [line for line in text if line.startswith("  alpha ")] == said
    assert [line for line in text if line.startswith("  strength ")] == ([f"  strength       in {where}"] if where else [])


def test_a_folder_of_peft_that_is_refused_is_told_why(tmp_path, capsys):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "IA3"}))
    save_file({"base_model.model.to_q.ia3_l": torch.ones(4)}, tmp_path / "adapter_model.safetensors")
    assert main(["inspect", str(tmp_path)]) == 1
    assert "a PEFT folder of kind 'IA3'" in capsys.readouterr().err


def test_settings_that_reading_would_refuse_are_a_warning(tmp_path, capsys):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 1, "lora_alpha": None}))
    factors = {"lora_A": torch.ones(1, 4), "lora_B": torch.ones(4, 1)}
    save_file({f"base_model.model.mid.to_q.{name}.weight": value for name, value in factors.items()},
              tmp_path / "adapter_model.safetensors")
    assert "warning: adapter_model.safetensors: lora_alpha or alpha_pattern of its settings is 'None'" in told(
        tmp_path, capsys).replace(f"{tmp_path.name}/", "")


def test_an_adapter_that_is_not_whole_or_whose_header_lies_is_said_to_be_odd(tmp_path, capsys):
    save_file({"lora_unet_mid.lora_down.weight": torch.ones(1, 4)}, tmp_path / "lora.safetensors", {"ss_network_dim": "8"})
    text = told(tmp_path / "lora.safetensors", capsys)
    assert "warning: its header says ss_network_dim = 8, but its ranks are 1 to 1" in text
    assert "warning: 'lora_unet_mid.lora_down.weight': its lora has down but no up" in text
    assert len(json.loads(told(tmp_path / "lora.safetensors", capsys, "--json"))[0]["warnings"]) == 2


def test_a_model_of_the_zoo_is_inspected_by_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SWEETSPOT_CACHE", str(tmp_path))
    assert main(["inspect", "zoo:photo", "--json"]) == 0
    (photo,) = json.loads(capsys.readouterr().out)
    assert (photo["path"], photo["prediction"]) == (str(zoo.resolve("zoo:photo")), "v_prediction")


def test_an_unknown_name_of_the_zoo_is_refused_with_the_nearest(capsys):
    assert main(["inspect", "zoo:foto"]) == 1
    assert "'zoo:photo'" in capsys.readouterr().err
