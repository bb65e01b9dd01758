"""Files that diffusers and PEFT write, or load, read to what these libraries themselves compute; and textual inversions of
every kind and every file that is refused, each with one name changed or with what to do."""

import json

import numpy as np
import pytest
import torch

from harness.adapters.kinds import changed_weight, delta
from harness.adapters.live_plan import AdapterError
from harness.adapters.reading import read_changes, recognise_file
from tests.adapters import fixtures as fx
from tests.adapters.conftest import adaptable, kohya_tensors, live_shapes, new_unet, random_factors
from tests.adapters.every_format import ROWS as EVERY
from tests.adapters.test_recognise import REFUSED

TARGETS = ["to_q", "to_out.0", "ff.net.2", "conv1", "proj_in"]


def drawn(model):
    """The same model with every adapter tensor drawn anew: fresh ones are zero in part."""
    made = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if any(word in name for word in ("lora_", "hada_")):
            noise = torch.randn(parameter.shape, generator=made) * 0.3
            parameter.data.copy_(noise.abs() + 0.5 if "magnitude" in name else noise)
    return model


def agrees(reading, merged, base):
    """That the changes take every weight of the base to that of the merged U-Net, and leave the others."""
    for path, layer in adaptable(base):
        change, own = reading.changes.get(("unet", path)), merged.get_submodule(path).weight.detach()
        found = layer.weight.detach() if change is None else changed_weight(change, layer.weight, 1.0)
        assert torch.linalg.vector_norm(found - own) <= 1e-6 * torch.linalg.vector_norm(own), path


@pytest.mark.parametrize("config", [
    {"r": 4, "lora_alpha": 6, "rank_pattern": {"to_q": 2, "conv1": 3}, "alpha_pattern": {"to_out.0": 1, "attn1.to_q": 16}},
    {"r": 4, "lora_alpha": 6, "use_rslora": True}, {"r": 3, "lora_alpha": 6, "use_dora": True}])
def test_a_folder_that_peft_saved_does_what_peft_merges(config, tmp_path):
    from peft import LoraConfig, get_peft_model

    model = drawn(get_peft_model(new_unet(), LoraConfig(target_modules=TARGETS, **config)))
    model.save_pretrained(tmp_path)
    reading = read_changes(tmp_path, live_shapes({"unet": new_unet()}), "sd1")
    agrees(reading, model.merge_and_unload(), new_unet())


def test_a_loha_folder_that_peft_saved_does_what_peft_merges(tmp_path):
    from peft import LoHaConfig, get_peft_model

    model = drawn(get_peft_model(new_unet(), LoHaConfig(r=4, alpha=6, target_modules=TARGETS)))
    model.save_pretrained(tmp_path)
    agrees(read_changes(tmp_path, live_shapes({"unet": new_unet()}), "sd1"), model.merge_and_unload(), new_unet())


def by_diffusers(file, unet):
    """A U-Net with the file's layers as a pipeline's load_lora_weights attaches them, merged."""
    from diffusers import StableDiffusionPipeline

    tensors, alphas, header = StableDiffusionPipeline.lora_state_dict(file, return_lora_metadata=True, unet_config=unet.config)
    StableDiffusionPipeline.load_lora_into_unet(tensors, alphas, unet, adapter_name="it", metadata=header)
    unet.fuse_lora()
    unet.unload_lora()
    return unet


def uniform(only=""):
    """One rank and one alpha for all modules: of several, diffusers mixes up the strengths."""
    factors = random_factors(new_unet())
    return {path: (down[:1], up[:, :1], 2.0) for path, (down, up, _) in factors.items() if only in path}


def peft_file():
    return {f"unet.{path}.lora_{half}.weight": value for path, (down, up, _) in uniform().items() for half, value in (
        ("A", down), ("B", up))}, None


def legacy_file():
    split = {path: path.removesuffix(".0").split(".to_") for path in uniform(".to_")}
    return {f"unet.{split[path][0]}.processor.to_{split[path][1]}_lora.{half}.weight": value
            for path, (down, up, _) in uniform(".to_").items() for half, value in (("down", down), ("up", up))}, None


def layers_file():
    return {f"unet.{path}.lora.{half}.weight": value for path, (down, up, _) in uniform(".to_").items()
            for half, value in (("down", down), ("up", up))}, None


def headed(made):
    """The same file with settings in its header, by which it is four times as strong."""
    tensors, _ = made()
    modules = sorted(uniform(".to_"))
    return tensors, {"lora_adapter_metadata": json.dumps({"unet.r": 1, "unet.lora_alpha": 4, "unet.target_modules": modules})}


@pytest.mark.parametrize("made", [lambda: (kohya_tensors(uniform()), None), peft_file, legacy_file, layers_file,
                                  lambda: headed(legacy_file), lambda: headed(layers_file)],
                         ids=["kohya", "diffusers with PEFT", "diffusers 2023, processors", "diffusers 2023, layers",
                              "diffusers 2023, processors, header", "diffusers 2023, layers, header"])
def test_a_file_of_one_strength_does_what_diffusers_fuses(made, tmp_path):
    tensors, header = made()
    file = fx.save(tmp_path / "a.safetensors", tensors, header)
    agrees(read_changes(file, live_shapes({"unet": new_unet()}), "sd1"), by_diffusers(file, new_unet()), new_unet())


def test_an_xlabs_file_does_what_diffusers_makes_of_it(tmp_path):
    from diffusers.loaders.lora_conversion_utils import _convert_xlabs_flux_lora_to_diffusers

    tensors = {key: torch.from_numpy(value) for key, value in EVERY["XLabs"]().tensors.items()
               if "qkv_lora" not in key or "double" in key}
    shapes = {"transformer": fx.flux_diffusers()}
    reading = read_changes(fx.save(tmp_path / "a.safetensors", tensors), shapes, "flux")
    theirs = _convert_xlabs_flux_lora_to_diffusers(dict(tensors))
    stems = {key.partition(".lora_")[0] for key in theirs}
    assert {f"transformer.{path}" for _, path in reading.changes} == stems
    for place, change in reading.changes.items():
        up, down = (theirs[f"transformer.{place[1]}.lora_{half}.weight"] for half in "BA")
        torch.testing.assert_close(delta(change, torch.zeros(shapes["transformer"][place[1]])), up @ down, rtol=1e-6, atol=1e-6)


def test_f2_a_loha_and_a_lokr_file_have_their_scale_once(tmp_path):
    """LyCORIS 4.1.3 merges alpha / rank = 0.5 as 0.25."""
    stem, path = "lora_unet_mid_block_attentions_0_proj_in", "mid_block.attentions.0.proj_in"
    shapes, half = {"unet": {path: (8, 8)}}, torch.ones(8, 2)
    loha = {f"{stem}.hada_w{n}_{side}": half if side == "a" else half.T for n in (1, 2) for side in "ab"}
    lokr = {f"{stem}.lokr_w1": torch.ones(2, 2), f"{stem}.lokr_w2_a": torch.ones(4, 2), f"{stem}.lokr_w2_b": torch.ones(2, 4)}
    for tensors, value in ((loha, 4 * 0.5), (lokr, 2 * 0.5)):
        file = fx.save(tmp_path / "a.safetensors", tensors | {f"{stem}.alpha": torch.tensor(1.0)})
        assert bool((delta(read_changes(file, shapes, "sd1").changes["unet", path], torch.zeros(8, 8)) == value).all())


ROWS = torch.arange(48.0).reshape(2, 24)
WIDE = torch.ones(2, 40)
INVERSIONS = {  # what is saved, under which ending, and the words by encoder
    "A1111": ({"string_to_token": {"*": 265}, "string_to_param": {"*": ROWS}, "name": "word", "step": 5}, ".pt", ("word",)),
    "diffusers": ({"<cat>": ROWS}, ".safetensors", ("<cat>",)),
    "diffusers, pickled": ({"<cat>": ROWS}, ".bin", ("<cat>",)),
    "kohya": ({"emb_params": ROWS}, ".safetensors", ("file",)),
    "SDXL": ({"clip_l": ROWS, "clip_g": WIDE}, ".safetensors", ("file", "file")),
    "replicate": ({"text_encoders_0": ROWS, "text_encoders_1": WIDE}, ".pti", ("file", "file")),
    "CompVis": ({"string_to_token": {"*": torch.tensor(265)}, "string_to_param": torch.nn.ParameterDict({
        "*": torch.nn.Parameter(ROWS)})}, ".pt", ("file",)),
}


def save(folder, content, suffix):
    if suffix == ".safetensors":
        return fx.save(folder / "file.safetensors", content)
    torch.save(content, folder / f"file{suffix}")
    return folder / f"file{suffix}"


@pytest.mark.parametrize("name", INVERSIONS)
def test_a_textual_inversion_reads_to_its_vectors_and_the_account_closes(name, tmp_path):
    content, suffix, tokens = INVERSIONS[name]
    reading = read_changes(save(tmp_path, content, suffix), fx.sdxl(), "sdxl")
    assert tuple(word.token for word in reading.embeddings) == tokens
    for word in reading.embeddings:
        assert np.array_equal(word.vectors.numpy(), (ROWS if word.component == "text_encoder" else WIDE).numpy())
    listed = [key for by_status in reading.keys.values() for keys in by_status.values() for key in keys]
    assert len(listed) == len(set(listed)) and not reading.reasons


@pytest.mark.parametrize("name", [name for name in INVERSIONS if not name.startswith("diffusers")])
def test_a_textual_inversion_with_a_renamed_key_fails_and_names_it(name, tmp_path):
    content, suffix, _ = INVERSIONS[name]
    for old in [key for key in content if not isinstance(content[key], str | int) and "token" not in key]:
        renamed = {old + "x" if key == old else key: value for key, value in content.items()}
        with pytest.raises(AdapterError, match=f"{old}x"):
            read_changes(save(tmp_path, renamed, suffix), fx.sdxl(), "sdxl")


def test_the_key_of_a_diffusers_inversion_is_its_word_and_is_said(tmp_path):
    """There a changed name is another word, which only the user can tell: the facts say it."""
    reading = read_changes(save(tmp_path, {"<cta>": ROWS}, ".safetensors"), fx.sdxl(), "sdxl")
    assert reading.facts["words"] == "<cta>"


@pytest.mark.parametrize("what", [what for what in REFUSED if what != "not recognised"])
def test_a_file_that_is_refused_is_told_what_to_do_instead(what, tmp_path):
    file = fx.save(tmp_path / "a.safetensors", {key: torch.ones(3, 3) for key in REFUSED[what]})
    with pytest.raises(AdapterError, match=r"; .*(merge it|load it|give it|train a|save it|download)"):
        recognise_file(file)


@pytest.mark.parametrize(("keys", "what"), [
    (["base_model.model.a.vera_lambda_b"], "VeRA"), (["base_model.model.a.vera_A"], "VeRA"),
    (["unet.a.processor.ip_adapter_k.weight"], "IP-Adapter"), (["ip_adapter_proj_model.proj.weight"], "IP-Adapter"),
    (["body.0.block1.weight", "conv_in.weight"], "T2I-Adapter"), (["zero_convs.0.0.weight"], "a ControlNet")])
def test_other_spellings_of_files_of_no_use_are_named_too(keys, what, tmp_path):
    with pytest.raises(AdapterError, match=what):
        read_changes(fx.save(tmp_path / "a.safetensors", {key: torch.ones(3, 3) for key in keys}), fx.sd1(), "sd1")


def test_a_peft_header_on_a_file_of_another_kind_changes_nothing(tmp_path):
    tensors = kohya_tensors({"mid_block.attentions.0.proj_in": (torch.ones(2, 8), torch.ones(8, 2), 2.0)})
    header = {"lora_adapter_metadata": json.dumps({"unet.r": 2, "unet.lora_alpha": 200})}
    file = fx.save(tmp_path / "a.safetensors", tensors, header)
    reading = read_changes(file, {"unet": {"mid_block.attentions.0.proj_in": (8, 8)}}, "sd1")
    assert next(iter(reading.changes.values())).scale == 1.0 and "is ignored" in reading.warnings[0]
    assert "diffusers" not in reading.warnings[0]
    # Without alphas diffusers loads such a file, with the strength of the header, and kohya's tools do not.
    bare = fx.save(tmp_path / "b.safetensors", {key: value for key, value in tensors.items() if "alpha" not in key}, header)
    reading = read_changes(bare, {"unet": {"mid_block.attentions.0.proj_in": (8, 8)}}, "sd1")
    assert next(iter(reading.changes.values())).scale == 1.0 and "diffusers" in reading.warnings[0]
