"""A merged file is made again from its header, and every difference is named; a header that lies is refused."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.cli import main
from tests.materialise.models import CONV_IN, IDS, header, merge, parent, saved, two, write

CONTROL = "\x1b]0;owned\x07"


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file that a merge becomes, wherever it is made."""
    root = tmp_path_factory.mktemp("merged")
    two(root)
    return saved(root, merge()).path.read_bytes()


@pytest.fixture
def out(merged: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    two(tmp_path)
    (tmp_path / "out.safetensors").write_bytes(merged)
    return tmp_path / "out.safetensors"


def changed(out: Path, **texts: str) -> Path:
    """The file with other texts in its header."""
    found = {**header(out)["__metadata__"], **{f"sweetspot.{key}": text for key, text in texts.items()}}  # type: ignore[dict-item]
    save_file(load_file(out), out, found)
    return out


def replay(*words: object) -> int:
    return main(["replay", *map(str, words)])


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What is said when a replay ends with 1."""
    assert replay(*words) == 1
    said = capsys.readouterr().err
    assert said.startswith("sweetspot replay: ")
    assert said.count("\n") == 1
    return said


def test_a_file_is_made_again_bit_for_bit(out, capsys):
    assert replay(out) == 0
    assert "identical" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["slerp", "cosine_a", "geometric", "crossover"])
def test_so_is_one_of_every_kind_of_method(method, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    two(tmp_path)
    assert replay(saved(tmp_path, merge(method=method, parts=("unet", "text_encoder"))).path) == 0


def test_one_flipped_bit_is_found_and_its_tensor_named(out, capsys):
    begin = header(out)[CONV_IN]["data_offsets"][0]  # type: ignore[index,call-overload]
    with out.open("r+b") as file:
        at = int.from_bytes(file.read(8), "little") + 8 + begin
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    assert replay(out) == 1
    assert f"the file has other values in '{CONV_IN}'" in capsys.readouterr().out


def test_a_file_that_the_safetensors_library_wrote_again_is_the_same(out):
    found = header(out)["__metadata__"]
    save_file(dict(reversed(load_file(out).items())), out, found)  # type: ignore[arg-type]
    assert replay(out) == 0


def test_tensors_too_few_too_many_and_declared_otherwise_are_named(out, capsys):
    tensors = load_file(out)
    tensors["more"] = torch.ones(1)
    tensors[CONV_IN] = tensors[CONV_IN].float()
    del tensors[IDS]
    save_file(tensors, out, header(out)["__metadata__"])  # type: ignore[arg-type]
    assert replay(out) == 1
    said = capsys.readouterr().out
    for phrase in (f"lacks '{IDS}'", "also has 'more'", f"dtype or shape for '{CONV_IN}'"):
        assert phrase in said


def test_an_input_that_was_renamed_is_found_by_its_content(out, tmp_path):
    (tmp_path / "b.safetensors").rename(tmp_path / "z.safetensors")
    assert replay(out) == 0


def test_inputs_in_another_folder_are_found_there(out, tmp_path):
    (tmp_path / "models").mkdir()
    for name in ("a.safetensors", "b.safetensors"):
        (tmp_path / name).rename(tmp_path / "models" / name)
    assert replay(out, "--models", tmp_path / "models") == 0


def test_an_input_that_was_changed_is_named(out, tmp_path, capsys):
    write(tmp_path / "b.safetensors", parent(9))
    assert "'b.safetensors'" in (said := refused(capsys, out))
    assert "has its size but not its content" in said


def test_an_input_that_is_missing_is_named(out, tmp_path, capsys):
    (tmp_path / "b.safetensors").unlink()
    assert "input 'b.safetensors'" in refused(capsys, out)


def test_an_input_that_the_merge_replaced_is_found_in_its_backup(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    two(tmp_path)
    out = saved(tmp_path, merge(), "a.safetensors").path
    assert "is now" in (said := refused(capsys, out))
    assert "a.safetensors.bak1" in said
    (tmp_path / "models").mkdir()
    (tmp_path / "a.safetensors.bak1").rename(tmp_path / "models/a.safetensors")
    assert replay(out, "--models", "models") == 0


def test_inputs_of_one_name_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "m.safetensors", parent(ord(folder)))
    out = saved(tmp_path, merge(a="x/m.safetensors", b="y/m.safetensors")).path
    assert replay(out, "--models", "x", "--models", "y") == 0


def test_a_merge_of_zoo_models_is_made_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert replay(saved(tmp_path, merge(a="zoo:photo", b="zoo:anime")).path) == 0


def test_the_file_made_again_can_be_written(out, tmp_path):
    assert replay(out, "-o", "again.safetensors") == 0
    assert (tmp_path / "again.safetensors").read_bytes() == out.read_bytes()


# Headers that lie


def test_a_file_without_recipe_is_refused(out, capsys):
    assert "holds no recipe" in refused(capsys, "a.safetensors")


@pytest.mark.parametrize("name", ["nothing.safetensors", ".", "a.txt"])
def test_what_is_no_model_file_is_refused(name, out, tmp_path, capsys):
    (tmp_path / "a.txt").write_text("text")
    refused(capsys, name)


@pytest.mark.parametrize("recipe", [
    "[" * 100_000, '{"a":' * 100_000, "", "null", "7", "[]", '"b.safetensors"', "{}", '{"is":"Merge"}', '{"is":"Suite"}',
    '{"is":"Merge","a":1,"b":2}', '{"is":"Merge","a":"a.safetensors","b":["b.safetensors"],"alpha":0.3}',
    '{"is":"Merge","a":"a.safetensors","b":"b.safetensors","alpha":"much"}',
    '{"is":"Merge","a":"a.safetensors","b":"b.safetensors","alpha":1e999}',
    '{"is":"Merge","a":"a.safetensors","b":"b.safetensors","alpha":' + "9" * 5000 + "}",
    '{"is":"Merge","a":"a.safetensors","b":"b.safetensors","alpha":0.3,"method":"rm"}',
    '{"is":"Merge","a":"a.safetensors","b":"b.safetensors","alpha":0.3,"take":["vae"]}',
    '{"is":"Merge","a":"a.safetensors","b":"b.safetensors","alpha":0.3,"more":"abc"}',
    '{"is":"Merge","a":"a.safetensors","b":"b.safetensors","alpha":0.3,"settings":[1]}',
    '{"is":"Merge","a":"a.safetensors","b":"b.safetensors","alpha":{"is":"Blocks","values":[1,2,"x"]}}',
    '{"is":"Merge","a":"a.safetensors","b":"b.safetensors","alpha":0.3,"parts":7}',
    '{"is":"Merge","a":"zoo:../../x","b":"b.safetensors","alpha":0.3}',
], ids=range(22))
def test_a_recipe_that_is_none_is_refused_in_one_line(recipe, out, capsys):
    inputs = json.loads(header(out)["__metadata__"]["sweetspot.inputs"])  # type: ignore[index,call-overload]
    changed(out, recipe=recipe, inputs=json.dumps({**inputs, "zoo:../../x": inputs["a.safetensors"]}))
    if recipe == '"b.safetensors"':
        assert replay(out) == 1  # a copy of b is a recipe, and this file is none
    else:
        refused(capsys, out)


@pytest.mark.parametrize("depth", [20, 60, 120, 400])
def test_merges_nested_however_deep_end_in_one_line(depth, out, capsys):
    recipe = '{"is":"Merge","a":' * depth + '"a.safetensors"' + ',"b":"b.safetensors","alpha":0.5}' * depth
    changed(out, recipe=recipe)
    assert replay(out) == 1
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "..", ".", "", "x/../../secret.safetensors", "a\0b",
                                  "folder/secret.safetensors", "x" * 5000, "../secret.safetensors (2)"])
def test_nothing_outside_the_given_folders_is_opened(name, out, tmp_path, capsys, monkeypatch):
    import shutil

    inner = tmp_path / "inner"
    inner.mkdir()
    for at in (tmp_path / "secret.safetensors", inner / "out.safetensors", inner / "a.safetensors"):
        shutil.copy(out if at.name[0] == "o" else tmp_path / "a.safetensors", at)
    found = header(out)["__metadata__"]
    inputs = json.loads(found["sweetspot.inputs"])  # type: ignore[index,call-overload]
    recipe = found["sweetspot.recipe"].replace('"b.safetensors"', json.dumps(name))  # type: ignore[index,call-overload]
    changed(inner / "out.safetensors", recipe=recipe, inputs=json.dumps({**inputs, name: inputs["b.safetensors"]}))
    monkeypatch.chdir(inner)
    opened: list[str] = []
    open_ = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest, **more: opened.append(str(path)) or open_(path, *rest, **more))
    refused(capsys, "out.safetensors")
    assert [path for path in opened if not Path(path).resolve().is_relative_to(inner)] == []


@pytest.mark.parametrize("inputs", ["", "[]", "7", "{}", '{"a.safetensors":7,"b.safetensors":7}',
                                    '{"a.safetensors":{},"b.safetensors":{}}',
                                    '{"a.safetensors":{"blake3":1,"bytes":"x"},"b.safetensors":{"blake3":1,"bytes":1}}',
                                    '{"a.safetensors":{"blake3":1,"bytes":1e999},"b.safetensors":{"blake3":1,"bytes":1}}'])
def test_inputs_that_say_nothing_are_refused(inputs, out, capsys):
    refused(capsys, changed(out, inputs=inputs))


@pytest.mark.parametrize("methods", ["[]", "7", "null", '{"weighted_sum":"\\u001b[2J"}', "{" * 10])
def test_versions_that_are_none_are_refused(methods, out, capsys):
    refused(capsys, changed(out, methods=methods))


def test_no_text_of_a_header_reaches_the_terminal_as_it_is(out, capsys):
    recipe = header(out)["__metadata__"]["sweetspot.recipe"]  # type: ignore[index,call-overload]
    inputs = json.loads(header(out)["__metadata__"]["sweetspot.inputs"])  # type: ignore[index,call-overload]
    changed(out, version=CONTROL, recipe=recipe.replace('"a.safetensors"', json.dumps(CONTROL)),
            inputs=json.dumps({**inputs, CONTROL: inputs["a.safetensors"]}))
    assert replay(out) == 0
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert "\\x1b]0;owned" in said.out


def test_a_header_text_of_no_json_kind_is_shown_cut(out, capsys):
    assert len(refused(capsys, changed(out, recipe='{"is":"Merge","' + "x" * 100_000 + '":1}'))) < 1000
