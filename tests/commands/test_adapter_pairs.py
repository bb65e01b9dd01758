"""`sweetspot adapter merge` of two formats, whatever tools they come from: the file that is written does their sum.

Whatever its names, a file says the same kinds of change, so that a format meets one partner and every kind meets every kind.
"""

from itertools import combinations_with_replacement

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from harness.adapters.kinds import bias_delta, delta
from harness.adapters.reading import read_changes
from harness.cli import main
from harness.materialise.library import shapes_of
from harness.weights import open_model
from tests.adapters.every_format import NOT_ADDITIVE, ROWS, TIER_1, model
from tests.weights.tiny_families import states, write_folder

ADDITIVE = {name: row().base for name, row in TIER_1.items() if not name.startswith(NOT_ADDITIVE)}
OF_ONE_BASE = [[name for name, own in ADDITIVE.items() if own == base] for base in dict.fromkeys(ADDITIVE.values())]
NEIGHBOURS = [(name, names[(place + 1) % len(names)]) for names in OF_ONE_BASE for place, name in enumerate(names)]
KINDS = ("kohya SDXL, diffusers names", "LoCon, Tucker", "LoHa", "LoHa, Tucker", "LoKr", "whole differences", "norms")
PAIRS = list(dict.fromkeys((*NEIGHBOURS, *combinations_with_replacement(KINDS, 2))))
FIRST, SECOND = 0.7, -0.4


@pytest.fixture(scope="session")
def bases(tmp_path_factory):
    """The tiny models as files and folders, by name."""
    folder = tmp_path_factory.mktemp("bases")
    made = {name: write_folder(folder / name, states(name)) for name in ("sd1", "sd2", "sdxl")}
    for name, file in (("flux", "flux.safetensors"), ("sd3", "sd3.safetensors")):
        parts = model(name)[0]
        save_file({f"{path}.weight": torch.ones(shape) for path, shape in parts["transformer"].items()}, folder / file)
        made[name] = folder / file
    return made


def test_the_files_have_the_shapes_that_the_formats_were_written_for(bases):
    for name in bases:
        opened, (shapes, family) = open_model(bases[name]), model(name)
        found = shapes_of(opened)
        assert opened.family == family
        assert all(found[part] == own for part, own in shapes.items() if part in found)


def merged(bases, folder, one, two):
    """The base's shapes, and the file of FIRST * one + SECOND * two, both of other seeds."""
    sources = []
    for number, name in enumerate((one, two)):
        (folder / str(number)).mkdir()
        made = ROWS[name](seed=11 + number)
        sources.append((made, made.save(folder / str(number))))
    out, base = folder / "out.safetensors", bases[sources[0][0].base]
    words = ["adapter", "merge", "--model", base, f"{sources[0][1]}={FIRST}", f"{sources[1][1]}={SECOND}", "-o", out,
             "--dtype", "fp32", "--leave-out"]
    return main([str(word) for word in words]), [made for made, _ in sources], out, base


@pytest.mark.parametrize(("one", "two"), PAIRS)
def test_two_formats_merge_to_the_sum_of_their_deltas(one, two, bases, tmp_path, capsys):
    code, (first, second), out, base = merged(bases, tmp_path, one, two)
    assert code == 0, capsys.readouterr().err
    opened = open_model(base)
    shapes = shapes_of(opened)
    changes = read_changes(out, shapes, opened.family).changes
    wanted = {place for made in (first, second) for place in (*made.effects, *made.biases) if place[0] in shapes}
    assert set(changes) == wanted
    for place in wanted:
        w0 = np.zeros(shapes[place[0]][place[1]])
        parts = [(FIRST, first.effects.get(place)), (SECOND, second.effects.get(place))]
        expected = sum((weight * effect(w0) for weight, effect in parts if effect), w0)
        found = delta(changes[place], torch.from_numpy(w0).float()).double().numpy()
        assert np.linalg.norm(found - expected) <= 1e-6 * np.linalg.norm(expected), place
        bias = FIRST * first.biases.get(place, np.float64(0)) + SECOND * second.biases.get(place, np.float64(0))
        given = bias_delta(changes[place])
        assert np.allclose(0 if given is None else given.numpy(), bias, atol=1e-6), place


@pytest.mark.parametrize("name", [name for name in ROWS if name.startswith(NOT_ADDITIVE)])
def test_what_depends_on_the_weight_is_not_added_and_named(name, bases, tmp_path, capsys):
    other = {"sdxl": "kohya SDXL, diffusers names", "flux": "kohya Flux"}[ROWS[name]().base]
    code, _, out, _ = merged(bases, tmp_path, name, other)
    said = capsys.readouterr().err
    assert code == 1 and not out.exists()
    assert "depends on the weight it changes" in said and "merge it into the model and extract the difference" in said
