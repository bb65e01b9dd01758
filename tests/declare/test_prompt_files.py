"""Prompts are read from what editors write, and every error names the file and what is expected."""

import codecs
import json
import random
from pathlib import Path

import pytest

from harness import Candidate, Grid, Prompt, Suite, read_prompts, read_recipe
from harness.check import remarks
from tests.declare.pictures import A1111, FORGE, INVOKE, comfy, graph, node, png

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
    ("p.txt", "a cat\na dog\nA cat.\n", "p.txt, line 3: has the words of line 1"), ("p.xls", "a", "p.xls: expected a .toml file"),
    ("p.txt", "a cat".encode("utf-16-le"), "holds zero bytes"), ("p.txt", "a cat".encode("utf-32"), "not a text in UTF-8"),
    ("p.csv", "Grüße".encode("latin-1"), "p.csv: not a text in UTF-8"), ("p.csv", "prompt\n", "p.csv: holds no prompts"),
    ("p.csv", "prompt\na, b\n", "p.csv, line 2: has 2 cells, and the header 1"),
    ("p.csv", 'prompt\n"a\n', "p.csv, line 2: not valid CSV"), ("p.csv", "promt\na\n", "line 2: unknown column 'promt'"),
    ("p.csv", "prompt,category\na,x\n", "or call it 'tags.category'"),
    ("p.csv", "prompt,text\na,b\n", "two columns are the text"), ("p.csv", "prompt,split\na,select\nb,\n", "line 3: the split"),
    ("p.csv", "prompt,literal\na,maybe\n", "literal is 'maybe'"), ("p.csv", "id,prompt\na,x\na,y\n", "line 3: has the id of"),
    ("p.csv", "prompt\nA cat\na cat!\n", "p.csv, line 3: has the words of line 2"),
    ("p.csv", "name,prompt,negative_prompt\nnone,,ugly\n", "line 2: the prompt is empty or missing"),
    ("p.csv", "name,prompt,negative_prompt\nink,{prompt} in ink,\n", "the text holds {prompt}"),
    ("p.jsonl", '{"prompt": "a"}\n{"prompt"\n', "p.jsonl, line 2: not valid JSON"),
    ("p.jsonl", '"a"\n', "p.jsonl, line 1: is str, not an object"),
    ("p.jsonl", '{"id": "a"}', "line 1: the prompt is empty or missing"),
    ("p.csv", "prompt,prompt\na,b\n", "p.csv: two columns have one name"),
    ("p.jsonl", '{"prompt": 3}', "line 1: text is 3; expected a text"), ("p.png", b"x", "p.png: not a PNG, WebP or JPEG image"),
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


STYLES = "name,prompt,negative_prompt\r\nink,\"a cat, in ink\",ugly\r\noil,\"a dog,\nin oil\",\r\n"


@pytest.mark.parametrize("data", [
    STYLES.encode(), codecs.BOM_UTF8 + STYLES.encode(), STYLES.encode("utf-16"), STYLES.replace("\r\n", "\n").encode(),
    b'Name;Prompt;Negative Prompt\nink;"a cat, in ink";ugly\noil;"a dog,\nin oil";\n'])
def test_the_styles_of_a1111_are_prompts(tmp_path: Path, data: bytes) -> None:
    assert read_prompts(put(tmp_path, data, "styles.csv"), negative="shared") == (
        Prompt(id="ink", text="a cat, in ink", negative="ugly", split="select"),
        Prompt(id="oil", text="a dog,\nin oil", negative="shared", split="confirm"))


def test_a_table_may_give_every_field_of_a_prompt(tmp_path: Path) -> None:
    expected = (Prompt(id="a", text="[a]", negative="n", split="confirm", literal=True, tags={"kind": "animal"}),)
    table = "id\ttext\tnegative\tsplit\tliteral\ttags.kind\na\t[a]\tn\tconfirm\ttrue\tanimal\n"
    lines = '{"id": "a", "text": "[a]", "negative": "n", "split": "confirm", "literal": true, "tags": {"kind": "animal"}}\n\n'
    assert read_prompts(put(tmp_path, table, "p.tsv")) == read_prompts(put(tmp_path, lines, "p.jsonl")) == expected


def test_rows_without_ids_and_splits_are_named_and_dealt_out(tmp_path: Path) -> None:
    lines = codecs.BOM_UTF8 + b'{"prompt": "A cat!"}\r\n{"Prompt": "a dog", "negative_prompt": "x"}\r\n'
    assert read_prompts(put(tmp_path, lines, "p.jsonl"), negative="shared") == (
        Prompt(id="a-cat", text="A cat!", negative="shared", split="select"),
        Prompt(id="a-dog", text="a dog", negative="x", split="confirm"))


def test_damaged_tables_are_read_or_refused_by_name(tmp_path: Path) -> None:
    draw = random.Random(0)
    wholes = {"p.csv": STYLES.encode(), "p.jsonl": b'{"id": "a", "prompt": "a", "tags": {"kind": "x"}, "literal": true}\n' * 2,
              "p.tsv": STYLES.replace(",", "\t").encode("utf-16"), "p.txt": "eins\r\nzwei ä\n".encode()}
    for name, whole in wholes.items():
        for _ in range(150):
            data = bytearray(whole[:draw.randint(1, len(whole))])
            for _ in range(draw.randint(0, 4)):
                data[draw.randrange(len(data))] = draw.choice((*b'",{}[]:\n\0\\', draw.randrange(256)))
            try:
                read_prompts(put(tmp_path, bytes(data), name))
            except ValueError as error:
                assert str(error).startswith(name)


def test_a_folder_of_pictures_gives_each_text_once(tmp_path: Path) -> None:
    png(tmp_path / "1.png", {"parameters": FORGE})
    png(tmp_path / "2.png", {"parameters": FORGE.replace("Seed: 3", "Seed: 4")})
    comfy(tmp_path / "3.PNG", graph())
    (tmp_path / "notes.md").write_text("mine")
    cat, bottle = read_prompts(tmp_path, negative="shared")
    assert (cat.id, cat.text, cat.negative, cat.split) == ("a-cat", "a cat", "shared", "select")
    assert cat.tags["picture"] == "1.png and 1 more"
    assert (cat.tags["steps"], "seed" in cat.tags) == ("4", False)
    assert (bottle.text, bottle.negative, bottle.split) == ("a (glass:1.2) bottle", "text, watermark", "confirm")
    assert bottle.tags["seed"] == "156680208700286"


def test_pictures_bring_the_syntax_of_their_tool_along(tmp_path: Path) -> None:
    png(tmp_path / "1.png", {"parameters": FORGE})
    comfy(tmp_path / "2.png", graph())
    png(tmp_path / "3.png", {"invokeai_metadata": json.dumps(INVOKE)})
    assert [prompt.syntax for prompt in read_prompts(tmp_path, syntax="a1111")] == ["a1111", "comfyui", "plain"]


def test_texts_with_equal_words_keep_ids_of_their_own(tmp_path: Path) -> None:
    for number, text in enumerate(("a (cat:1.2)", "a (cat:1.2)\nNegative prompt: dog", "a [cat:1.2]")):
        png(tmp_path / f"{number}.png", {"parameters": f"{text}\nSteps: 1, Sampler: Euler, CFG scale: 1"})
    assert len({prompt.id for prompt in read_prompts(tmp_path)}) == 3


def test_pictures_that_a_prompt_cannot_hold_are_refused_by_name(tmp_path: Path) -> None:
    two = node("CLIPTextEncodeSDXL", text_g="a ship", text_l="oil", clip=["11", 0])
    with pytest.raises(ValueError, match=r"two\.png: its two text encoders got different texts.*'a ship' or 'oil'"):
        read_prompts(comfy(tmp_path / "two.png", graph(n6=two)))
    with pytest.raises(ValueError, match=r"none\.png: its prompt is empty"):
        read_prompts(png(tmp_path / "none.png", {"parameters": FORGE.replace("a cat", "")}))


def test_the_check_says_which_settings_of_pictures_do_not_count(tmp_path: Path) -> None:
    prompts = read_prompts(png(tmp_path / "a.png", {"parameters": A1111.replace("[blurry],", "").replace("(blue eyes:1.2)", "")}))
    grid = Grid(prompts=prompts, seeds=(0,), guidance_scales=(7.5,), steps=30, width=512, height=768)
    suite = Suite(name="s", candidates=(Candidate(name="a", model="zoo:photo"),), baseline="a", grid=grid)
    (remark,) = (line for line in remarks(suite) if "a.png" in line)
    assert all(words in remark for words in ("seed 965400086", "steps 20", "sampler DPM++ 2M", "clip_skip 2", "Lora hashes"))
    assert "guidance" not in remark
    assert "size" not in remark


def test_nothing_that_a_picture_says_acts_on_a_terminal() -> None:
    prompt = Prompt(id="a", text="a", tags={"picture": "\x1b[2J.png", "sampler": "\u202eEuler", "others": "\x1b[31mx"})
    grid = Grid(prompts=(prompt,), seeds=(0,), guidance_scales=(3,))
    suite = Suite(name="s", candidates=(Candidate(name="a", model="zoo:photo"),), baseline="a", grid=grid)
    (remark,) = remarks(suite)
    assert remark.isprintable()


def test_settings_that_the_grid_has_too_need_no_remark(tmp_path: Path) -> None:
    prompt = Prompt(id="a", text="a", tags={
        "picture": "a.png", "steps": "20", "guidance": "7", "size": "512x512", "sampler": "DPM++ 2M", "schedule": "Karras",
        "clip_skip": "1"})
    grid = Grid(prompts=(prompt,), seeds=(0,), guidance_scales=(3, 7), steps=20, sampler="dpmpp_2m_karras")
    suite = Suite(name="s", candidates=(Candidate(name="a", model="zoo:photo"),), baseline="a", grid=grid)
    assert remarks(suite) == []


MARKED = ["a (cat:1.2) <lora:x:1>", "a cat", "a [dog|bird]", "a ((cat))"]


@pytest.mark.parametrize("name", ["p.txt", "p.jsonl"])
def test_ids_are_made_of_the_words_without_markup(tmp_path: Path, name: str) -> None:
    lines = MARKED if name == "p.txt" else [json.dumps({"prompt": text}) for text in MARKED]
    ids = [prompt.id for prompt in read_prompts(put(tmp_path, "\n".join(lines), name), syntax="a1111")]
    assert [one[:5] for one in ids] == ["a-cat", "a-cat", "a-bir", "a-cat"]
    assert (ids[0], ids[2], len(set(ids))) == ("a-cat", "a-bird", 4)
    assert read_prompts(put(tmp_path, "a (cat:1.2)", "p.txt"))[0].id == "a-cat-1-2"


def test_a_file_that_is_not_there_is_named_with_the_nearest_beside_it(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a ball")
    with pytest.raises(FileNotFoundError, match=r"promts\.txt' does not exist.*did you mean 'prompts\.txt'"):
        read_prompts(tmp_path / "promts.txt")
