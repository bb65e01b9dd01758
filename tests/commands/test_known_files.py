"""Files of the trade that a command cannot use: the user reads what each most probably is, and what to do."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file

from harness.cli import main
from harness.weights.known_files import KNOWN_FILES, most_probably
from tests.materialise.models import parent, two
from tests.weights.gguf_files import gguf, plain

T = torch.randn
Writer = Callable[[Path], object]


def stored(*names: str) -> Writer:
    return lambda path: save_file({name: T(2, 2) for name in names}, path)


def pickled(content: object) -> Writer:
    return lambda path: torch.save(content, path)


def raw(content: bytes) -> Writer:
    return lambda path: path.write_bytes(content)


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/unet/diffusion_pytorch_model.safetensors", b"x")


def cut(path: Path) -> None:
    torch.save(parent(1), path)
    path.write_bytes(path.read_bytes()[:20_000])


UPSCALER = ("conv_first.weight", "body.0.rdb1.conv1.weight", "conv_body.weight", "conv_up1.weight", "conv_last.weight")
OPTIMIZER = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": T(2, 2)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]}
FILES: dict[str, tuple[Writer, str, str]] = {
    "x.safetensors": (stored(*UPSCALER), "an upscaler (ESRGAN", "Use it in"),
    "x.pth": (pickled({"params_ema": {name: T(2, 2) for name in UPSCALER}}), "an upscaler (ESRGAN", "Use it in"),
    "old.pth": (pickled({name: T(2, 2) for name in ("model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight", "model.3.weight")}),
                "an upscaler (ESRGAN", "Use it in"),
    "swin.safetensors": (stored("conv_first.weight", "layers.0.residual_group.blocks.0.attn.qkv.weight", "conv_last.weight"),
                         "an upscaler (SwinIR", "Use it in"),
    "optimizer.pt": (pickled(OPTIMIZER), "the state of an optimizer", "file of weights"),
    "training_state.pt": (pickled({"optimizer": OPTIMIZER, "epoch": 2}), "the state of an optimizer", "file of weights"),
    "optimizer.safetensors": (stored("0.exp_avg", "0.exp_avg_sq", "1.exp_avg"), "the state of an optimizer", "file of weights"),
    "taesd.safetensors": (stored("1.weight", "3.conv.0.weight", "3.conv.2.weight"), "approximate VAE", "give that"),
    "tiny.safetensors": (stored("decoder.layers.0.weight", "decoder.layers.2.conv.0.weight", "encoder.layers.0.weight"),
                         "approximate VAE", "give that"),
    "vaeapprox.pt": (pickled({f"conv{n}.weight": T(2, 2) for n in range(1, 9)}), "approximate VAE", "give that"),
    "safety.safetensors": (stored("concept_embeds", "special_care_embeds", "visual_projection.weight"), "a safety checker",
                           "leave it out"),
    "vision.safetensors": (stored("vision_model.encoder.layers.0.mlp.fc1.weight", "visual_projection.weight", "a.weight"),
                           "an image encoder (CLIP vision)", "text encoders"),
    "face.pth": (pickled({"params_ema": {"stylegan_decoder.style_convs.0.weight": T(2, 2)}}), "restores faces", "Use it in"),
    "control.safetensors": (stored("control_model.input_blocks.0.0.weight", "control_model.zero_convs.0.0.weight"), "ControlNet",
                            "Candidate(controls=...)"),
    "t2i.safetensors": (stored("body.0.block1.weight", "body.0.block2.weight", "conv_in.weight"), "T2I-Adapter",
                        "Candidate(controls=...)"),
    "ip.safetensors": (stored("image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"), "IP-Adapter", "references"),
    "ip.bin": (pickled({"image_proj": {"proj.weight": T(2, 2)}, "ip_adapter": {"1.to_k_ip.weight": T(2, 2)}}), "IP-Adapter",
               "references"),
    "model.onnx": (raw(b"\x08\x07\x12\x07pytorch" + b"\1" * 99), "an ONNX file", "from which it was made"),
    "folder.zip": (zipped, "a zip archive", "Unpack"),
    "page.safetensors": (raw(b"<!DOCTYPE html><html></html>"), "a web page", "Download"),
    "lfs.safetensors": (raw(b"version https://git-lfs.github.com/spec/v1\n"), "a Git LFS pointer", "git lfs pull"),
    "empty.safetensors": (raw(b""), "an empty file", "Download"),
    "cut.safetensors": (raw(save({"a.weight": T(9, 9)})[:-9]), "truncated", "Download"),
    "cut.ckpt": (cut, "incomplete", "Download"),
}
WORDS: dict[str, list[str]] = {
    "merge": ["merge", "--a", "a.safetensors", "--b", "FILE", "--alpha", "0.5", "-o", "o.safetensors"],
    "merge as A": ["merge", "--a", "FILE", "--b", "b.safetensors", "--alpha", "0.5", "-o", "o.safetensors"],
    "fuse": ["merge", "--a", "a.safetensors", "--adapter", "FILE=1", "-o", "o.safetensors"],
    "take": ["merge", "--a", "a.safetensors", "--b", "b.safetensors", "--alpha", "0.5", "--take", "vae=FILE",
             "-o", "o.safetensors"],
    "extract": ["adapter", "extract", "--base", "a.safetensors", "--tuned", "FILE", "--rank", "2", "-o", "o.safetensors"],
    "convert": ["adapter", "convert", "FILE", "--model", "a.safetensors", "--layout", "kohya", "-o", "o.safetensors"],
    "inspect": ["inspect", "FILE"]}


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    two(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", FILES)
def test_every_command_says_what_the_file_most_probably_is_and_what_to_do(
        name: str, beside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, what, advice = FILES[name]
    make(beside / name)
    for command, words in WORDS.items():
        code = main([word.replace("FILE", name) for word in words])
        shown = "".join(capsys.readouterr())
        # What is not known by name may still be inspected and merged with another of its kind.
        assert code == 1 or command == "inspect", (command, shown)
        assert what in shown, (command, shown)
        assert advice in shown, (command, shown)
        assert not (beside / "o.safetensors").exists()


@pytest.mark.parametrize(("content", "what"), [
    ({768: ({"linear.0.weight": T(2, 2)}, {"linear.0.weight": T(2, 2)})}, "a hypernetwork"),
    ({"string_to_token": {"*": 265}, "string_to_param": {"*": T(2, 768)}}, "a textual inversion"),
    (T(1, 768), "an aesthetic gradient"),
    ({"lora_unet_x.lora_down.weight": T(2, 2), "lora_unet_x.lora_up.weight": T(2, 2)}, "a LoRA")])
def test_what_a_candidate_can_use_is_not_a_model_and_says_where_it_belongs(content: object, what: str, beside: Path,
                                                                           capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(content, beside / "x.pt")
    for words in (WORDS["merge"], WORDS["extract"]):
        assert main([word.replace("FILE", "x.pt") for word in words]) == 1
        shown = capsys.readouterr().err
        assert what in shown
        assert "candidate" in shown


def test_a_training_checkpoint_is_read_for_its_weights(beside: Path) -> None:
    content = {"state_dict": parent(3), "epoch": 3, "pytorch-lightning_version": "2.0", "optimizer_states": [OPTIMIZER]}
    torch.save(content, beside / "x.ckpt")
    assert main([word.replace("FILE", "x.ckpt") for word in WORDS["merge"]]) == 0


def test_two_upscalers_can_still_be_merged(beside: Path) -> None:
    for name in "xy":
        stored(*UPSCALER)(beside / f"{name}.safetensors")
    assert main(["merge", "--a", "x.safetensors", "--b", "y.safetensors", "--alpha", "0.5", "-o", "o.safetensors"]) == 0


def test_no_row_takes_a_model_for_something_else() -> None:
    from tests.weights.real_names import TRANSFORMERS, UNETS, diffusers_shapes, original_shapes, single_file_names

    for family in UNETS:
        for part in ("unet", "vae") if family != "sdxl_refiner" else ("unet",):
            assert most_probably(diffusers_shapes(family, part)) is None
            assert most_probably(single_file_names(family, part).values()) is None
    assert all(most_probably(original_shapes(family)) is None for family in TRANSFORMERS)
    assert all(row.what[:2] in ("a ", "an", "th") and row.advice[0].isupper() for row in KNOWN_FILES)


def test_the_last_layer_of_the_second_stable_diffusion_alone_is_named(beside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored("cond_stage_model.model.transformer.resblocks.23.ln_1.weight",
           "cond_stage_model.model.transformer.resblocks.23.mlp.c_fc.weight")(beside / "x.safetensors")
    assert main(["inspect", "x.safetensors"]) == 1
    shown = capsys.readouterr().err
    assert "last layer" in shown
    assert "nothing to merge" in shown


def test_the_way_out_for_a_kronecker_product_in_the_layout_of_peft_works(
        beside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stem = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q."
    save_file({f"{stem}lokr_w1": T(2, 2), f"{stem}lokr_w2": T(4, 4), f"{stem}alpha": torch.tensor(1.0)}, beside / "x.safetensors")
    words = ["x.safetensors", "--model", "a.safetensors", "--layout", "peft", "-o", "o.safetensors"]
    assert main(["adapter", "convert", *words]) == 1
    assert "resize --rank" in capsys.readouterr().err
    assert main(["adapter", "resize", "--rank", "4", *words]) == 0


@pytest.mark.parametrize(("block", "what"), [
    ("enc.blk", "a T5 text encoder in llama.cpp's names"), ("blk", "a language model or text encoder in llama.cpp's names")])
@pytest.mark.parametrize("command", ["merge", "merge as A", "inspect"])
def test_a_text_encoder_of_llama_cpp_is_named_with_what_to_give_instead(
        block: str, what: str, command: str, beside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("token_embd.weight", f"{block}.0.attn_q.weight", f"{block}.0.ffn_up.weight")
    (beside / "encoder.gguf").write_bytes(gguf({name: plain(T(2, 2)) for name in names}))
    code = main([word.replace("FILE", "encoder.gguf") for word in WORDS[command]])
    shown = "".join(capsys.readouterr())
    assert code == 1 or command == "inspect"
    assert what in shown
    assert "transformers' names" in shown
