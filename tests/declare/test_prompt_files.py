"""Prompts are read from what editors write, and every error names the file and what is expected."""

import codecs
from pathlib import Path

import pytest

from harness import Prompt, read_prompts, read_recipe

TOML = '[[prompt]]\nid = "a"\ntext = "a cät"\n'


def put(folder: Path, data: bytes | str, name: str = "p.toml") -> Path:
    file = folder / name
    file.write_bytes(data.encode() if isinstance(data, str) else data)
    return file


@pytest.mark.parametrize("data", [
    TOML.encode(), codecs.BOM_UTF8 + TOML.encode(), TOML.encode("utf-16"), TOML.replace("\n", "\r\n").encode(),
    codecs.BOM_UTF16_BE + TOML.encode("utf-16-be")])
def test_every_encoding_of_an_editor_is_read(tmp_path: Path, data: bytes) -> None:
    assert read_prompts(put(tmp_path, data)) == (Prompt(id="a", text="a cät"),)


def test_recipes_and_prompts_have_one_reader(tmp_path: Path) -> None:
    for encoded in (codecs.BOM_UTF8 + b'path = "x"', 'path = "x"'.encode("utf-16")):
        assert read_recipe(put(tmp_path, encoded)) == read_recipe(put(tmp_path, 'path = "x"'))


@pytest.mark.parametrize(("name", "data", "words"), [
    ("p.toml", '[prompt]\nid = "a"\n', "p.toml: [prompt] is one table; expected [[prompt]] tables"),
    ("p.toml", '[[prompts]]\nid = "a"\n', "p.toml: unknown table 'prompts'; did you mean [[prompt]]?"),
    ("p.toml", 'id = "a"\n', "p.toml: unknown field 'id'"),
    ("p.toml", "", "p.toml: holds no prompts; expected [[prompt]] tables"),
    ("p.toml", "prompt = 3\n", "p.toml: [prompt] is one table"), ("p.toml", "a red ball\n", "p.toml: not valid TOML"),
    ("p.toml", b"\xff\xff\xff", "p.toml: not a text in UTF-8 or UTF-16"),
    ("p.toml", '[[prompt]]\nid = "a"\n', "prompt 1: field 'text'"),
    ("p.toml", '[[prompt]]\nid = "a"\ntext = "b"\nnegativ = "c"\n', "did you mean 'negative'"),
    ("p.txt", "# nothing\n\n", "p.txt: holds no prompts; expected a prompt on each line"),
    ("p.txt", "a cat\na dog\nA cat.\n", "p.txt, line 3: has the words of line 1"), ("p.csv", "a", "p.csv: expected a .toml file"),
])
def test_every_error_names_the_file_and_what_is_expected(tmp_path: Path, name: str, data: bytes | str, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_prompts(put(tmp_path, data, name))
    assert words in str(caught.value)


def test_a_text_has_a_prompt_on_each_line_for_both_splits(tmp_path: Path) -> None:
    file = put(tmp_path, codecs.BOM_UTF8 + "a red ball\r\n\r\n# later\r\n  一只猫 \r\n".encode(), "p.txt")
    assert read_prompts(file, negative="blurry") == (
        Prompt(id="a-red-ball", text="a red ball", negative="blurry", split="select"),
        Prompt(id="一只猫", text="一只猫", negative="blurry", split="confirm"))


def test_long_prompts_that_begin_alike_keep_ids_of_their_own(tmp_path: Path) -> None:
    start = "masterpiece, best quality, highly detailed, a photo of something that is "
    one, two = read_prompts(put(tmp_path, f"{start}red\n{start}blue\n", "p.txt"))
    assert one.id != two.id
    assert max(len(one.id), len(two.id)) <= 60


def test_a_shared_negative_leaves_a_prompts_own_alone(tmp_path: Path) -> None:
    own = TOML + 'negative = "own"\n[[prompt]]\nid = "b"\ntext = "b"\n'
    assert [p.negative for p in read_prompts(put(tmp_path, own), negative="shared")] == ["own", "shared"]
