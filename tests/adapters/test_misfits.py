"""Tensors that do not fit their module, and numbers that are none: errors that name the file and a key."""

import math

import pytest
import torch

from harness.adapters.live_plan import AdapterError
from harness.adapters.reading import read_changes
from tests.adapters import fixtures as fx
from tests.adapters.cases import LINEAR

HOSTILE = {
    "wrong input": ({"lora_down.weight": (2, 15), "lora_up.weight": (16, 2)}, "down"),
    "wrong output": ({"lora_down.weight": (2, 16), "lora_up.weight": (17, 2)}, "up"),
    "no number of axes": ({"lora_down.weight": (), "lora_up.weight": ()}, "down"),
    "rank 0": ({"lora_down.weight": (0, 16), "lora_up.weight": (16, 0)}, "rank"),
    "ranks differ": ({"lora_down.weight": (2, 16), "lora_up.weight": (16, 3)}, "up"),
    "half": ({"lora_down.weight": (2, 16)}, "up factor is missing"),
    "alpha of two": ({"lora_down.weight": (2, 16), "lora_up.weight": (16, 2), "alpha": (2,)}, "one number"),
    "alpha alone": ({"alpha": ()}, "incomplete"),
    "two kinds": ({"lora_down.weight": (2, 16), "lora_up.weight": (16, 2), "diff": (16, 16)}, "one kind"),
    "loha without a quarter": ({"hada_w1_a": (16, 2), "hada_w1_b": (2, 16), "hada_w2_a": (16, 2)}, "no w2_b"),
    "odd kronecker": ({"lokr_w1": (3, 3), "lokr_w2": (5, 5)}, "divide"),
    "magnitude of another layer": ({"lora_down.weight": (2, 16), "lora_up.weight": (16, 2), "dora_scale": (15, 1)}, "magnitude"),
    "blocks of another layer": ({"oft_blocks": (3, 5, 5)}, "oft_blocks"),
    "empty": ({"oft_blocks": (0, 0, 0)}, "oft_blocks"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_tensors_that_do_not_fit_are_an_error_that_names_the_file_and_a_key(name, tmp_path):
    shapes, match = HOSTILE[name]
    stem = "lora_unet_" + LINEAR.replace(".", "_")
    file = fx.save(tmp_path / "a.safetensors", {f"{stem}.{ending}": torch.ones(shape) for ending, shape in shapes.items()})
    with pytest.raises(AdapterError, match=rf"a\.safetensors.*{stem}.*{match}"):
        read_changes(file, fx.sd1(), "sd1")


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("ending", ["lora_up.weight", "alpha", "dora_scale"])
def test_numbers_that_are_none_are_an_error(value, ending, tmp_path):
    stem = "lora_unet_" + LINEAR.replace(".", "_")
    tensors = {f"{stem}.lora_down.weight": torch.ones(1, 16), f"{stem}.lora_up.weight": torch.ones(16, 1),
               f"{stem}.alpha": torch.tensor(1.0), f"{stem}.dora_scale": torch.ones(16, 1)}
    tensors[f"{stem}.{ending}"] = torch.full_like(tensors[f"{stem}.{ending}"], value)
    with pytest.raises(AdapterError, match=stem):
        read_changes(fx.save(tmp_path / "a.safetensors", tensors), fx.sd1(), "sd1")
