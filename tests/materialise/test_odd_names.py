"""Tensors that are no weights: constants of any tool are passed over, and a name that nobody knows only stops what needs it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.cli import main
from harness.materialise.library import MaterialiseError
from harness.weights import ModelFileError, open_model
from tests.materialise.models import made_file, merge, parent, planned, two, write
from tests.materialise.tiny_dit import flux, sd3

PREFIX = "model.diffusion_model."
G = "conditioner.embedders.1.model."
SIGMAS = torch.linspace(0, 1, 10)
IDS = torch.arange(77)[None]
State = dict[str, torch.Tensor]


def behind(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def apart(state: State) -> State:
    return {name: tensor.clone() for name, tensor in state.items()}


EXTRAS = [
    ("flux", "", {"model_sampling.sigmas": SIGMAS}),
    ("flux", "", {"model_sampling.sigma_data": torch.tensor(1.0), "model_sampling.log_sigmas": SIGMAS}),
    ("flux", PREFIX, {"model_sampling.sigmas": SIGMAS}),
    ("flux", "", {"pos_embedder.seq": torch.arange(9), "pe_embedder.inv_freq": SIGMAS}),
    ("flux", "net.", {"net.pos_embedder.dim_spatial_range": SIGMAS, "net.rope.inv_freq": SIGMAS}),
    ("flux", "net.", {"model_sampling.sigmas": SIGMAS}),
    ("flux", PREFIX, {f"{PREFIX}model_sampling.sigmas": SIGMAS, "denoiser.sigmas": SIGMAS}),
    ("flux", PREFIX, {"text_encoders.clip_l.transformer.text_model.embeddings.position_ids": IDS}),
    ("sd3", PREFIX, {"model.model_sampling.sigmas": SIGMAS}),
    ("sd3", "", {"model_sampling.sigmas": SIGMAS}),
    ("sd3", PREFIX, {"text_encoders.clip_g.transformer.text_model.embeddings.position_ids": IDS}),
]


@pytest.mark.parametrize(("family", "prefix", "extra"), EXTRAS)
@pytest.mark.parametrize("side", ["a", "b"])
def test_constants_of_tools_neither_stop_nor_change_a_merge(family, prefix, extra, side, tmp_path, capsys):
    plain = {"flux": flux, "sd3": sd3}[family]
    a, b = behind(prefix, plain(1)), plain(2)
    write(tmp_path / "a.safetensors", {**a, **(apart(extra) if side == "a" else {})})
    write(tmp_path / "b.safetensors", {**behind(prefix, b), **(apart(extra) if side == "b" else {})})
    assert main(["inspect", f"{tmp_path}/{side}.safetensors"]) == 0
    assert "warning" not in capsys.readouterr().out
    out = {name.removeprefix("net."): tensor for name, tensor in made_file(tmp_path, merge(parts=("transformer",))).items()}
    expected = {name.removeprefix("net."): tensor for name, tensor in a.items()}
    kept = {name.removeprefix("net."): tensor for name, tensor in extra.items()} if side == "a" else {}
    assert set(out) == {*expected, *kept}
    assert all(torch.equal(out[name], tensor) for name, tensor in kept.items())
    for name, tensor in b.items():
        one = expected[name if prefix == "net." else prefix + name]
        merged = out[name if prefix == "net." else prefix + name]
        assert torch.allclose(merged.double(), 0.7 * one.double() + 0.3 * tensor.double(), rtol=1e-6, atol=1e-7)


IDS_NAME = f"{G}transformer.text_model.embeddings.position_ids"


def test_position_ids_below_any_prefix_are_reported_as_such(tmp_path, capsys):
    write(tmp_path / "m.safetensors", {**parent(1, family="sdxl"), IDS_NAME: IDS})
    assert main(["inspect", f"{tmp_path}/m.safetensors"]) == 0
    assert f"integers in order: '{IDS_NAME}'" in capsys.readouterr().out
    assert IDS_NAME in open_model(tmp_path / "m.safetensors").position_ids


@pytest.mark.parametrize("parts", [("unet",), ("unet", "text_encoder", "text_encoder_2", "vae")])
def test_files_with_and_without_these_ids_merge(parts, tmp_path):
    a, b = two(tmp_path, family="sdxl")
    write(tmp_path / "b.safetensors", {**b, IDS_NAME: IDS})
    out = made_file(tmp_path, merge(parts=parts))
    assert set(out) == set(a)
    write(tmp_path / "a.safetensors", {**a, IDS_NAME: IDS.half() + 0.5})
    assert torch.equal(made_file(tmp_path, merge(parts=parts))[IDS_NAME], IDS)


ODD = f"{G}transformer.resblocks.0.mlp.c_gate.weight"


def test_an_unknown_weight_is_listed_and_stops_only_a_merge_of_its_part(tmp_path, capsys):
    a, b = two(tmp_path, family="sdxl")
    write(tmp_path / "b.safetensors", {**b, ODD: torch.ones(3)})
    assert main(["inspect", f"{tmp_path}/b.safetensors"]) == 0
    said = capsys.readouterr().out
    assert "text_encoder_2" in said
    assert "c_gate" in said
    assert "unet" in said
    assert set(made_file(tmp_path, merge(parts=("unet",)))) == set(a)
    with pytest.raises(MaterialiseError, match=r"text_encoder_2: '.*c_gate\.weight'.*keep_a"):
        made_file(tmp_path, merge(parts=("unet", "text_encoder_2")))
    kept = merge(parts=("unet", "text_encoder_2"), missing="keep_a")
    assert set(made_file(tmp_path, kept)) == set(a)
    assert any("left out of b.safetensors" in note and "c_gate" in note for note in planned(tmp_path, kept).notes)


def test_an_unknown_weight_of_a_part_that_is_not_merged_is_copied(tmp_path):
    a, _ = two(tmp_path, family="sdxl")
    write(tmp_path / "a.safetensors", {**a, ODD: torch.ones(3)})
    assert torch.equal(made_file(tmp_path, merge(parts=("unet",)))[ODD], torch.ones(3))


def test_a_model_with_an_unknown_weight_is_not_opened_for_other_uses(tmp_path: Path) -> None:
    write(tmp_path / "m.safetensors", {**parent(1, family="sdxl"), ODD: torch.ones(3)})
    with pytest.raises(ModelFileError, match="c_gate"):
        open_model(tmp_path / "m.safetensors")


def test_a_file_of_mostly_unknown_names_is_no_model_of_the_family(tmp_path: Path) -> None:
    more = {f"double_blocks.0.img_attn.new_{n}.weight": torch.ones(2) for n in range(140)}
    write(tmp_path / "m.safetensors", {**flux(1), **more})
    with pytest.raises(ModelFileError, match="new_0"):
        open_model(tmp_path / "m.safetensors", tolerant=True)
