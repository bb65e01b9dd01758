"""`sweetspot adapter`: what comes out applied is what went in applied, and the errors are said."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.adapters.kinds import delta
from harness.adapters.reading import read_changes
from harness.cli import main
from harness.materialise.library import shapes_of
from harness.weights import ModelFile, open_model, save_single_file
from harness.zoo import resolve

Deltas = dict[tuple[str, str], torch.Tensor]


@pytest.fixture(scope="module")
def base() -> ModelFile:
    return open_model(resolve("zoo:base"))


def deltas(path: Path, base: ModelFile) -> Deltas:
    """What an adapter file does to every weight, by (component, module path)."""
    changes = read_changes(path, shapes_of(base), base.family).changes
    return {key: delta(change, base.tensor(key[0], f"{key[1]}.weight").float()) for key, change in changes.items()}


def close(one: Deltas, two: Deltas, tolerance: float = 1e-3) -> bool:
    return one.keys() == two.keys() and all(
        float((one[key] - two[key]).norm()) <= tolerance * float(two[key].norm()) + 1e-7 for key in two)


def small_lora(path: Path, base: ModelFile, seed: int, names: str = "kohya") -> Path:
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for key in [key for key in base.components["unet"] if key.endswith("attn1.to_q.weight")][:3]:
        out, width = base.components["unet"][key].shape
        module = key.removesuffix(".weight")
        down, up = torch.randn(2, width, generator=generator), torch.randn(out, 2, generator=generator)
        if names == "kohya":
            stem = f"lora_unet_{module.replace('.', '_')}"
            tensors |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up, f"{stem}.alpha": torch.tensor(1.0)}
        else:
            tensors |= {f"unet.{module}.lora_A.weight": down, f"unet.{module}.lora_B.weight": up}
    save_file(tensors, path)
    return path


def run(*words: object) -> int:
    return main(["adapter", *map(str, words)])


def test_a_merge_of_two_tools_adapters_is_the_sum_of_what_they_do(tmp_path: Path, base: ModelFile) -> None:
    one, two = small_lora(tmp_path / "a.safetensors", base, 1), small_lora(tmp_path / "b.safetensors", base, 2, "peft")
    out = tmp_path / "both.safetensors"
    assert run("merge", "--model", "zoo:base", f"{one}=0.7", f"{two}=-0.4", "-o", out, "--dtype", "fp32") == 0
    first, second = deltas(one, base), deltas(two, base)
    assert close(deltas(out, base), {key: 0.7 * first[key] - 0.4 * second[key] for key in first}, 1e-5)


@pytest.mark.parametrize("layout", ["kohya", "peft"])
def test_a_converted_adapter_does_the_same(tmp_path: Path, base: ModelFile, layout: str) -> None:
    out = tmp_path / "out.safetensors"
    assert run("convert", "--model", "zoo:base", resolve("zoo:sketch"), "--layout", layout, "-o", out) == 0
    assert close(deltas(out, base), deltas(resolve("zoo:sketch"), base))


def test_an_extracted_adapter_takes_the_base_to_the_tuned_model(tmp_path: Path, base: ModelFile,
                                                                capsys: pytest.CaptureFixture[str]) -> None:
    out, tuned = tmp_path / "difference.safetensors", open_model(resolve("zoo:anime"))
    assert run("extract", "--base", "zoo:base", "--tuned", "zoo:anime", "--rank", 1000, "--parts", "unet", "-o", out,
               "--dtype", "fp32") == 0
    assert "largest relative error" in capsys.readouterr().out
    made = deltas(out, base)
    for (component, path), change in made.items():
        exact = tuned.tensor(component, f"{path}.weight").float() - base.tensor(component, f"{path}.weight").float()
        assert torch.allclose(change, exact, atol=1e-4), path


def test_a_resized_adapter_says_what_it_lost(tmp_path: Path, base: ModelFile, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "small.safetensors"
    assert run("resize", "--model", "zoo:base", small_lora(tmp_path / "a.safetensors", base, 1), "--rank", 1, "-o", out) == 0
    assert "rank 2 to 1, relative error 0." in capsys.readouterr().out
    assert all(t.shape[0] == 1 for key, t in load_file(out).items() if key.endswith("lora_down.weight"))


def test_an_adapter_with_a_tensor_that_cannot_be_applied_is_not_written_without_it(tmp_path: Path, base: ModelFile,
                                                                                  capsys: pytest.CaptureFixture[str]) -> None:
    small_lora(tmp_path / "a.safetensors", base, 1)
    stem = "lora_unet_conv_norm_out"
    norm = {f"{stem}.lora_down.weight": torch.ones(2, 4), f"{stem}.lora_up.weight": torch.ones(4, 2)}
    save_file({**load_file(tmp_path / "a.safetensors"), **norm}, tmp_path / "b.safetensors")
    assert run("convert", "--model", "zoo:base", tmp_path / "b.safetensors", "-o", tmp_path / "o.safetensors") == 1
    assert "lora_unet_conv_norm_out" in capsys.readouterr().err
    assert not (tmp_path / "o.safetensors").exists()


def test_models_of_two_families_have_no_adapter_between_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.weights.tiny_families import states, write_folder

    folder = write_folder(tmp_path / "xl", states("sdxl"))
    assert run("extract", "--base", "zoo:base", "--tuned", folder, "--rank", 4, "-o", tmp_path / "o.safetensors") == 1
    assert "of the same family" in capsys.readouterr().err
    assert not (tmp_path / "o.safetensors").exists()


def test_a_key_that_only_one_model_has_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = load_file(resolve("zoo:anime"))
    del tensors["model.diffusion_model.input_blocks.1.0.in_layers.2.bias"]
    save_single_file(tmp_path / "t.safetensors", tensors, {})
    assert run("extract", "--base", "zoo:base", "--tuned", tmp_path / "t.safetensors", "--rank", 4, "-o",
               tmp_path / "o.safetensors") == 1
    assert "down_blocks.0.resnets.0.conv1.bias" in capsys.readouterr().err


def test_a_part_of_a_tuned_model_is_filled_up_as_the_refusal_says(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    base, tuned = load_file(resolve("zoo:base")), load_file(resolve("zoo:anime"))
    save_file(base, tmp_path / "base.safetensors")
    save_file({key: tensor for key, tensor in tuned.items() if ".attn2." in key}, tmp_path / "tuned.safetensors")
    monkeypatch.chdir(tmp_path)
    words = ("extract", "--base", "base.safetensors", "--rank", 4, "--parts", "unet", "-o", "o.safetensors", "--tuned")
    assert run(*words, "tuned.safetensors") == 1
    command = capsys.readouterr().err.partition("sweetspot merge ")[2].split()
    assert main(["merge", *command]) == 0
    assert run(*words, "whole.safetensors") == 0
    assert all("attn2" in key for key in load_file("o.safetensors"))


@pytest.mark.parametrize("way", ["merge", "convert", "resize"])
def test_a_file_with_words_is_refused(way: str, tmp_path: Path, base: ModelFile,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    width = base.components["text_encoder"]["embeddings.token_embedding.weight"].shape[1]
    small_lora(tmp_path / "a.safetensors", base, 1)
    bundled = {**load_file(tmp_path / "a.safetensors"), "bundle_emb.style.clip_l": torch.ones(2, width)}
    save_file(bundled, tmp_path / "b.safetensors")
    save_file({"emb_params": torch.ones(2, width)}, tmp_path / "word.safetensors")
    more = ("--rank", 1) if way == "resize" else ()
    for name, said in (("b", "vectors for the words 'style'"), ("word", "is a textual inversion ('word')")):
        assert run(way, "--model", "zoo:base", tmp_path / f"{name}.safetensors", *more, "-o", tmp_path / "o.safetensors") == 1
        err = capsys.readouterr().err
        assert said in err and f"{name}.safetensors" in err
    assert not (tmp_path / "o.safetensors").exists()


def test_tensors_of_a_component_that_the_model_lacks_are_said_to_be_left_out(tmp_path: Path, base: ModelFile,
                                                                            capsys: pytest.CaptureFixture[str]) -> None:
    small_lora(tmp_path / "a.safetensors", base, 1)
    stem = "lora_te2_text_model_encoder_layers_0_self_attn_q_proj"
    absent = {f"{stem}.lora_down.weight": torch.ones(2, 4), f"{stem}.lora_up.weight": torch.ones(4, 2)}
    save_file({**load_file(tmp_path / "a.safetensors"), **absent}, tmp_path / "b.safetensors")
    words = ("convert", "--model", "zoo:base", tmp_path / "b.safetensors", "-o", tmp_path / "o.safetensors")
    assert run(*words) == 1
    message = capsys.readouterr().err
    assert all(word in message for word in ("2 tensors are for text_encoder_2", "--leave-out"))
    assert run(*words, "--leave-out") == 0
    assert "2 tensors are for text_encoder_2" in capsys.readouterr().out


def test_numbers_that_the_dtype_loses_are_said(tmp_path: Path, base: ModelFile, capsys: pytest.CaptureFixture[str]) -> None:
    """The same products, with factors below what fp16 holds: written so, the adapter would do nothing."""
    tensors = load_file(small_lora(tmp_path / "a.safetensors", base, 1))
    tiny = {key: value * {"weight": 1e-9 if "lora_up" in key else 1, "alpha": 1e9}[key.rpartition(".")[2]]
            for key, value in tensors.items()}
    save_file(tiny, tmp_path / "tiny.safetensors")
    out = tmp_path / "o.safetensors"
    assert run("convert", "--model", "zoo:base", tmp_path / "tiny.safetensors", "-o", out) == 0
    said = capsys.readouterr().out
    assert "warning: numbers too small for fp16: 3 tensors lose more than 1 %" in said
    assert "lora_up.weight loses most, 1 of it" in said
    assert run("convert", "--model", "zoo:base", tmp_path / "tiny.safetensors", "-o", out, "--dtype", "bf16") == 0
    assert "warning" not in capsys.readouterr().out
    assert close(deltas(out, base), deltas(tmp_path / "a.safetensors", base), 1e-2)


@pytest.mark.parametrize("weight", ["nan", "inf", "1e+300", "-1001"])
def test_a_weight_that_no_adapter_has_is_refused_by_its_text(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                           weight: str) -> None:
    out = tmp_path / "o.safetensors"
    assert run("merge", "--model", "zoo:base", f"zoo:sketch={weight}", "-o", out) == 1
    assert f"zoo:sketch={weight}: the weight is {weight}; expected a number from -1000 to 1000" in capsys.readouterr().err


def two_models(folder: Path) -> tuple[Path, Path]:
    """Two tiny SDXL folders that differ in one weight of the second text encoder."""
    from tests.weights.tiny_families import states, write_folder

    tuned = states("sdxl")
    key = next(key for key in tuned["text_encoder_2"] if key.endswith("q_proj.weight"))
    tuned["text_encoder_2"][key] = tuned["text_encoder_2"][key] + 1
    return write_folder(folder / "base", states("sdxl")), write_folder(folder / "tuned", tuned)


def test_an_extracted_adapter_holds_the_second_text_encoder_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, tuned = two_models(tmp_path)
    out = tmp_path / "o.safetensors"
    assert run("extract", "--base", base, "--tuned", tuned, "--rank", 4, "-o", out) == 0
    assert all(key.startswith("lora_te2_") for key in load_file(out))
    assert "not compared: vae" in capsys.readouterr().out


def transformers(folder: Path, family: str) -> dict[str, Path]:
    """A base and a tuned model, whose matrices differ, each in the original code's names and in diffusers'."""
    from tests.weights import real_names as real

    base = real.drawn(real.original_shapes(family), 1)
    change = real.drawn({name: (2, 2) for name, t in base.items() if t.ndim == 2 and "blocks.1." in name}, 2)
    tuned = {name: t + (change[name].repeat(t.shape[0] // 2, 1) if name in change else 0) for name, t in base.items()}
    files = {"base": base, "base-diffusers": real.in_diffusers(family, base), "tuned": tuned,
             "tuned-diffusers": real.in_diffusers(family, tuned)}
    for name, tensors in files.items():
        save_file(tensors, folder / f"{name}.safetensors")
    return {name: folder / f"{name}.safetensors" for name in files}


@pytest.mark.parametrize(("mine", "other"), [("", "-diffusers"), ("-diffusers", "")])
@pytest.mark.parametrize("family", ["flux", "sd3"])
def test_models_in_two_layouts_have_an_adapter_between_them(tmp_path: Path, family: str, mine: str, other: str) -> None:
    files, out = transformers(tmp_path, family), tmp_path / "o.safetensors"
    expected = load_file(files[f"tuned{mine}"])
    for layout in ("kohya", "peft", "comfyui"):
        assert run("extract", "--base", files[f"base{mine}"], "--tuned", files[f"tuned{other}"], "--error", 0, "--dtype", "fp32",
                   "--layout", layout, "-o", out) == 0
        fused = tmp_path / "fused.safetensors"
        assert main(["merge", "--a", str(files[f"base{mine}"]), "--adapter", f"{out}=1", "-o", str(fused)]) == 0
        for key, tensor in load_file(fused).items():
            torch.testing.assert_close(tensor, expected[key], rtol=1e-4, atol=1e-4, msg=f"{layout} {key}")


def test_a_misspelt_part_is_not_left_out_in_silence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, tuned = two_models(tmp_path)
    assert run("extract", "--base", base, "--tuned", tuned, "--parts", "unett,text_encoder_2", "--rank", 4, "-o",
               tmp_path / "o.safetensors") == 1
    assert "the part 'unett' is not in both models" in capsys.readouterr().err


def inpainting(folder: Path) -> tuple[Path, Path]:
    """A U-Net, and one that takes more channels and differs in one matrix and in a tensor that is neither weight nor bias."""
    shapes = {"conv_in.weight": (8, 4, 3, 3), "conv_in.bias": (8,), "mid_block.attentions.0.proj_in.weight": (8, 8, 1, 1),
              "down_blocks.0.resnets.0.conv1.weight": (8, 8, 3, 3), "up_blocks.0.resnets.0.conv1.weight": (8, 16, 3, 3)}
    base = {key: torch.ones(shape) for key, shape in shapes.items()}
    tuned = {**base, "conv_in.weight": torch.ones(8, 9, 3, 3),
             "mid_block.attentions.0.proj_in.weight": torch.full((8, 8, 1, 1), 2.0)}
    save_file(base, folder / "base.safetensors")
    save_file(tuned, folder / "tuned.safetensors")
    return folder / "base.safetensors", folder / "tuned.safetensors"


def test_a_module_of_another_shape_is_refused_with_a_way_out_that_works(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                                        ) -> None:
    base, tuned = inpainting(tmp_path)
    out = tmp_path / "out.safetensors"
    words = ("extract", "--base", base, "--tuned", tuned, "--rank", 2, "-o", out)
    assert run(*words) == 1
    message = capsys.readouterr().err
    assert all(word in message for word in ("'conv_in.weight'", "(8, 4, 3, 3)", "(8, 9, 3, 3)", "--leave-out"))
    assert not out.exists()
    assert run(*words, "--leave-out") == 0
    assert "left out: unet: 'conv_in.weight'" in capsys.readouterr().out
    assert {key.partition(".")[0] for key in load_file(out)} == {"lora_unet_mid_block_attentions_0_proj_in"}
