"""A recipe file is a declaration: what is written is what is read, and what is unknown is named with its place."""

from pathlib import Path

import pytest

from harness import Adapter, Alphas, Blocks, Checkpoint, Fused, Gradient, Merge, read_recipe, recipe_text
from tests.declare.test_declare import MERGES

TOML = """
method = "add_difference"
b = { path = "b.safetensors", ema = true }
c = "zoo:base"
parts = ["unet", "text_encoder"]
settings = { seed = 7 }

[a]
a = "x.safetensors"
b = "y.safetensors"
alpha = { gradient = [0, 0.5, 1] }

[alpha]
default = 0.2
parts = { unet = { preset = "GRAD_V", convention = "meh" }, vae = { values = [1, 2] } }
keys = { "*z*" = 0.1, "*a*" = 0.2 }

[take]
vae = "v.safetensors"
"""


def written(tmp_path: Path, text: str, name: str = "r.toml") -> Path:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return file


def test_a_toml_file_is_the_merge_it_says(tmp_path: Path) -> None:
    assert read_recipe(written(tmp_path, TOML)) == Merge(
        a=Merge(a="x.safetensors", b="y.safetensors", alpha=Gradient(values=(0, 0.5, 1))), c="zoo:base",
        b=Checkpoint(path="b.safetensors", ema=True), method="add_difference", parts=("unet", "text_encoder"),
        alpha=Alphas(default=0.2, parts={"unet": Blocks(preset="GRAD_V", convention="meh"), "vae": Blocks(values=(1, 2))},
                     keys={"*z*": 0.1, "*a*": 0.2}),
        settings={"seed": 7}, take={"vae": "v.safetensors"})


def test_patterns_keep_the_order_of_the_file(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, TOML))
    assert isinstance(recipe, Merge) and isinstance(recipe.alpha, Alphas)
    assert list(recipe.alpha.keys) == ["*z*", "*a*"]


@pytest.mark.parametrize("merge", [*MERGES, Checkpoint(path="x", config="c")])
def test_a_recipe_is_read_back_as_it_was_written(tmp_path: Path, merge: Merge) -> None:
    again = read_recipe(written(tmp_path, recipe_text(merge), "r.json"))
    assert again == merge
    assert recipe_text(again) == recipe_text(merge)


def test_equal_merges_have_equal_texts() -> None:
    one, two = ({"density": 0.2, "seed": 1}, {"seed": 1, "density": 0.2})
    assert recipe_text(Merge(a="x", b="y", settings=one)) == recipe_text(Merge(a="x", b="y", settings=two))


def test_what_is_no_number_is_not_written() -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        recipe_text(Merge(a="x", b="y", alpha=float("nan")))


@pytest.mark.parametrize(("text", "said"), [
    ('a = "x"\nb = "y"\nalhpa = 1', r"r\.toml: unknown field 'alhpa'; did you mean 'alpha'\? Known: a, b, alpha"),
    ('a = "x"', r"r\.toml: field 'b' is missing\. Merge has the fields a, b, alpha"),
    ('b = "y"\n[a]\npath = "x"\nemma = true', r"r\.toml: a: unknown field 'emma'; did you mean 'ema'"),
    ('a = "x"\nb = 3', r"r\.toml: b is 3; expected a path, or a table with path, with a and b, or with model and adapters"),
    ('a = "x"\nb = "y"\n[alpha]\nvalues = [1]\nbsae = 1', r"r\.toml: alpha: unknown field 'bsae'; did you mean 'base'"),
    ('a = "x"\nb = "y"\nalpha = { default = 1, parts = { vae = { presett = "A" } } }',
     r"alpha\.parts\.vae: unknown field 'presett'"),
    ('a = "x"\nb = "y"\nalpha = { gradient = [0, 1], base = 1 }', r"alpha: gradient cannot be combined with base"),
    ('a = "x"\nb = "y"\nmore = ["z", { pth = "w" }]', r"more\[1\]: unknown field 'pth'"),
    ('a = "x"\nb = "y"\ntake = { vae = { config = "w" } }', r"take\.vae: unknown field 'config'"),
    ('a = { is = "Mergee", a = "x" }\nb = "y"', r"r\.toml: a: is 'Mergee'; expected one of Checkpoint, Merge"),
    ('a = "x"\nb = "y"\nalpha = { is = "Merge" }', r"alpha: is 'Merge'; expected one of Alphas, Blocks, Gradient"),
    ("a = [", r"r\.toml: not valid TOML"),
])
def test_what_is_wrong_is_named_with_its_file_and_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_recipe(written(tmp_path, text))


@pytest.mark.parametrize(("name", "text", "said"), [
    ("r.yaml", "", r"r\.yaml: expected a recipe file, \.toml or \.json"), ("r.json", "{", r"r\.json: not valid JSON"),
    ("r.json", "[" * 100_000, r"r\.json: not valid JSON"), ("r.json", "[]", r"r\.json is \[\]; expected a path")])
def test_a_file_that_is_not_a_recipe_is_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_recipe(written(tmp_path, text, name))


@pytest.mark.parametrize(("text", "kind"), [
    ('models = ["x", "y"]\nweights = [0.5, 0.5]', "an ensemble"), ('models = ["x", "y"]\nat = [0.5]', "a relay"),
    ('is = "Ensemble"', "an ensemble"), ('type = "Relay"\nmodels = []', "a relay"), ("[Ensemble]\nweights = [1]", "an ensemble"),
    ('a = "x"\nalpha = 0.5\n[b]\nmodels = ["x", "y"]\nweights = [0.5, 0.5]', "b: it declares an ensemble")])
def test_a_recipe_of_several_models_is_refused_by_its_kind(tmp_path: Path, text: str, kind: str) -> None:
    with pytest.raises(ValueError, match=f"{kind}.*no single file holds it") as refused:
        read_recipe(written(tmp_path, text))
    assert ("merge the same models" in str(refused.value)) is ("ensemble" in kind)


def test_a_fused_adapter_can_have_block_weights_in_a_recipe(tmp_path: Path) -> None:
    text = '[[adapters]]\npath = "l.safetensors"\nweight = 0.5\nblocks = { values = [1, 0, 1] }\n'
    file = tmp_path / "r.toml"
    file.write_text('model = "m.safetensors"\n' + text, encoding="utf-8")
    model = read_recipe(file)
    assert model == Fused(model="m.safetensors", adapters=(
        Adapter(path="l.safetensors", weight=0.5, blocks=Blocks(values=(1, 0, 1))),))
    again = tmp_path / "again.json"
    again.write_text(recipe_text(model), encoding="utf-8")
    assert read_recipe(again) == model
