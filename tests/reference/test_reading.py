"""IP-Adapter files: both forms give the same tensors, every tensor is accounted for, and other kinds are refused by name."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from harness.reference.reading import cross_attentions, read_image_prompt, refuse_misfit
from harness.weights import ModelFileError
from harness.zoo import resolve
from tests.reference.files import Tensors, plain, plus, saved

LAYERS = [(8, 10), (8, 10), (16, 10)]


@pytest.mark.parametrize("make", [plain, plus])
@pytest.mark.parametrize("name", ["a.safetensors", "a.bin"])
def test_both_forms_of_a_file_give_the_same_network(make: Callable[..., Tensors], name: str, tmp_path: Path) -> None:
    tensors = make(LAYERS)
    prompt = read_image_prompt(saved(tensors, tmp_path / name))
    assert (prompt.kind, prompt.tokens) == {plain: ("plain", 4), plus: ("plus", 5)}[make]
    assert (prompt.encoder_width, prompt.context_width, len(prompt.attention)) == (12, 10, 3)
    used = {*prompt.projection.values(), *(name for pair in prompt.attention for name in pair)}
    assert used == tensors.keys()
    assert torch.equal(prompt.attention_tensors()[2][1], tensors["ip_adapter.5.to_v_ip.weight"])


def test_the_zoos_files_are_plain_ones_for_its_own_encoder() -> None:
    for name in ("zoo:image-prompt", "zoo:image-prompt-bin"):
        prompt = read_image_prompt(resolve(name))
        assert (prompt.kind, prompt.encoder_width, prompt.context_width, len(prompt.attention)) == ("plain", 96, 96, 4)


REFUSED = {
    "full": ({"image_proj.proj.0.weight": (2, 2), "image_proj.proj.3.weight": (2,), "ip_adapter.1.to_k_ip.weight": (2, 2)},
             "kind full"),
    "face": ({"image_proj.proj.0.weight": (2, 2), "image_proj.norm.weight": (2,), "ip_adapter.1.to_k_ip.weight": (2, 2)},
             "FaceID, which reads.*ip-adapter-plus-face"),
    "face plus": ({"image_proj.perceiver_resampler.proj_in.weight": (2, 2), "image_proj.norm.weight": (2,),
                   "ip_adapter.0.to_q_lora.down.weight": (2, 2)}, "FaceID plus"),
    "flux": ({"double_blocks.0.processor.ip_adapter_double_stream_k_proj.weight": (2, 2),
              "ip_adapter_proj_model.norm.weight": (2,)}, "for Flux"),
    "control": ({"control_model.input_hint_block.0.weight": (2, 2)}, "controls="),
    "lora": ({"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": (2, 2)}, "adapters="),
    "encoder": ({"vision_model.embeddings.class_embedding": (2,)}, "encoder"),
    "model": ({"model.diffusion_model.out.2.weight": (2, 2)}, "model"),
    "unknown": ({"a": (2,)}, "image_proj"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_another_file_is_refused_by_what_it_is(kind: str, tmp_path: Path) -> None:
    shapes, words = REFUSED[kind]
    path = saved({name: torch.ones(shape) for name, shape in shapes.items()}, tmp_path / "a.safetensors")
    with pytest.raises(ModelFileError, match=f"a.safetensors: this is .*{words}"):
        read_image_prompt(path)


WRONG = {
    "missing": (lambda t: t.pop("image_proj.norm.bias"), "'image_proj.norm.bias'"),
    "half": (lambda t: t.pop("ip_adapter.3.to_v_ip.weight"), "'ip_adapter.3.to_v_ip.weight' is missing"),
    "number": (lambda t: t.update({"ip_adapter.9.to_k_ip.weight": t.pop("ip_adapter.5.to_k_ip.weight"),
                                   "ip_adapter.9.to_v_ip.weight": t.pop("ip_adapter.5.to_v_ip.weight")}),
               "numbered 1, 3, 9; expected 1, 3, 5"),
    "extra": (lambda t: t.update({"image_proj.other": torch.ones(2)}), "1 of its 11 tensors.*'image_proj.other'"),
    "unknown part": (lambda t: t.update({"ip_adapter.1.to_q_ip.weight": torch.ones(2, 2)}), "to_q_ip"),
    "shape": (lambda t: t.update({"image_proj.proj.bias": torch.ones(3)}), r"'image_proj.proj.bias' has the shape \[3\]"),
    "width": (lambda t: t.update({"ip_adapter.1.to_k_ip.weight": torch.ones(8, 11)}), r"has the shape \[8, 11\]"),
    "integers": (lambda t: t.update({"image_proj.proj.bias": torch.ones(40, dtype=torch.int8)}), "stored as I8"),
}


@pytest.mark.parametrize("case", WRONG)
def test_every_tensor_of_a_file_has_its_place(case: str, tmp_path: Path) -> None:
    change, words = WRONG[case]
    tensors = plain(LAYERS)
    change(tensors)  # type: ignore[no-untyped-call]
    with pytest.raises(ModelFileError, match=words):
        read_image_prompt(saved(tensors, tmp_path / "a.safetensors"))


@pytest.mark.parametrize("name", ["image_proj.layers.2.0.to_out.weight", "image_proj.latents", "image_proj.proj_in.weight"])
def test_a_resampler_is_whole_or_refused(name: str, tmp_path: Path) -> None:
    tensors = plus(LAYERS)
    del tensors[name]
    with pytest.raises(ModelFileError):
        read_image_prompt(saved(tensors, tmp_path / "a.safetensors"))


def test_numbers_that_are_not_finite_are_refused_when_they_are_read(tmp_path: Path) -> None:
    tensors = plain(LAYERS)
    tensors["ip_adapter.1.to_k_ip.weight"][0, 0] = torch.nan
    with pytest.raises(ModelFileError, match="NaN"):
        read_image_prompt(saved(tensors, tmp_path / "a.safetensors")).attention_tensors()


def test_cross_attentions_are_counted_down_up_middle() -> None:
    shapes = {f"{path}.attn2.to_k.weight": (8, 10) for path in (
        "mid_block.attentions.0.transformer_blocks.0", "up_blocks.3.attentions.1.transformer_blocks.0",
        "up_blocks.3.attentions.0.transformer_blocks.10", "up_blocks.3.attentions.0.transformer_blocks.2",
        "down_blocks.0.attentions.0.transformer_blocks.0")}
    assert [path.split(".transformer")[0] + path.rsplit(".", 2)[1] for path in cross_attentions(shapes)] == [
        "down_blocks.0.attentions.00", "up_blocks.3.attentions.02", "up_blocks.3.attentions.010", "up_blocks.3.attentions.10",
        "mid_block.attentions.00"]


def test_a_misfit_is_refused_with_what_both_have(tmp_path: Path) -> None:
    prompt = read_image_prompt(saved(plain([(8, 768), (8, 768)]), tmp_path / "a.safetensors"))
    for layers, words in ({"a": (8, 2048)}, "768 numbers.*Stable Diffusion 1.*2048.*Stable Diffusion XL"), (
            {"a": (8, 768)}, "2 cross attentions, and m has 1"), ({"a": (8, 768), "b": (16, 768)}, r"b of m needs \[16, 768\]"):
        with pytest.raises(ModelFileError, match=words):
            refuse_misfit(prompt, layers, "m")
