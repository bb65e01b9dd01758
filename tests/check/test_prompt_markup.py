"""What is an instruction in another tool is refused in prompts, with what to write here; ordinary punctuation is not."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from harness import Adapter, Candidate, Emphasis, Prompt
from harness.check import problems, remarks
from harness.declare import plain, restore, short_hash
from tests.fakes import tiny_grid, tiny_suite


def wrong(tmp_path: Path, *prompts: Prompt, **changes: object) -> list[str]:
    return problems(tiny_suite(grid=tiny_grid(prompts=prompts), **changes), tmp_path)


MARKED = {
    "a (red:1.3) ball": "Emphasis(weights={'red': 1.3})", "a (red: .5 ) ball": "Emphasis(weights={'red': .5})",
    "a ((red)) ball": "Emphasis(weights={'red': 1.21})", "a (((red))) ball": "Emphasis(weights={'red': 1.33})",
    "a [red] ball": "Emphasis(weights={'red': 0.909})", "a (red:1.3": "Emphasis(weights={'red': 1.3})",
    "a (red)1.3 ball": "Emphasis(weights={'red': 1.3})", "a red++ ball": "Emphasis(weights={'red': 1.1})",
    "(red, round)+": "Emphasis(weights={'red, round': 1.1})",
    "a ball <lora:sketch:0.8>": "Adapter(path='sketch.safetensors', weight=0.8)",
    "<LoRA:sketch>": "Adapter(path='sketch.safetensors', weight=1.0)",
    "<lyco:a:0.5:0.7>": "Adapter(path='a.safetensors', weight=0.5)",
    "<hypernet:anime:0.8>": "Adapter(path='anime.safetensors', weight=0.8)", "<wildcard:x>": "remove it",
    "a ball, embedding:easynegative": "Adapter(path='easynegative.safetensors')", "(embedding:bad:1.2)": "path='bad.safetensors'",
    "[a:b:0.5]": "start=", "[a:10]": "start=", "[cat|dog]": "alternates", "{red|blue} ball": "Prompt for each",
    "{red} ball": "braces",
    "__colour__ ball": "Prompt for each", "a ball BREAK a cat": "remove it", "a ball AND a cat": "'and'", "a AND_PERP b": "'and'",
    r"saber \(fate\)": "without it", "a ball --ar 3:2": "Grid", "ball::2 cat": "Midjourney", "('a', 'b').blend(1, 1)": "one text",
    "a ball\nNegative prompt: ugly": "negative=", "一只(红色:1.3)球": "Emphasis(weights={'红色': 1.3})",
    "(very (red) ball:1.3)": "Emphasis(weights={'very (red) ball': 1.3})", "(a (b) c:1.2)": "Emphasis(weights={'a (b) c': 1.2})",
    "(a (b (c)) d:1.2)": "1.2", "(red ball:1.3,)": "Emphasis(weights={'red ball': 1.3})", "a ball —ar 3:2": "Grid",
    "by artist:wlop:1.2": "Emphasis(weights={'artist:wlop': 1.2})", "[a:b:10": "start=", "(red:0.8)": "0.8", "(red:2)": "2",
    "(red: 1.3)": "1.3", "a red--, ball": "Emphasis(weights={'red': ", "hot:: dog": "Midjourney",
    "(red)--": "Emphasis(weights={'red'",
}


@pytest.mark.parametrize(("text", "instead"), MARKED.items())
def test_markup_of_other_tools_is_refused_with_what_to_write(tmp_path: Path, text: str, instead: str) -> None:
    (first, *more) = wrong(tmp_path, Prompt(id="p", text=text))
    assert "prompt 'p': " in first
    assert instead in first
    assert len(more) <= 1
    assert wrong(tmp_path, Prompt(id="p", text=text, literal=True)) == []


@pytest.mark.parametrize("text", MARKED)
def test_it_is_refused_in_negatives_too_where_nothing_is_weighted(tmp_path: Path, text: str) -> None:
    said = wrong(tmp_path, Prompt(id="p", text="a ball", negative=text))[0]
    assert "prompt 'p', negative: " in said
    assert "Emphasis(" not in said


@pytest.mark.parametrize("text", [
    "a woman (smiling)", "a cat (a tabby), on a mat", "a red-blue ball", "a cat -- black -- on grass", "f/1.8, 85mm, 16:9",
    "at 12:30",     "a <cat-toy> on grass", "a photo :)", "R&D, AT&T",
    "a well-known man's hat", "50% off!", "a and b", "break of day", "snake_case",
    "a C++ logo", "Notepad++", "A++ rating", "(3:15)", "(16:9)", "at dusk (16:9)", "(est: 1920)", "(Team A: 3)", "well-- yes",
    "word embedding: a diagram", "3 < 5: yes > no", "(c)2020", "phone (555)1234", "(AB)-", "size (L)-", "(AB)+", "ROCK AND ROLL",
    "COFFEE BREAK", "a sign COFFEE BREAK on a door", "chapter 2::", "a __init__.py file", "a cat —a black one— on grass",
    "18+ sign", "tea; milk", "（红色）", "a cat--black--on grass", "no.1 <3", "http://a.b/c"])
def test_ordinary_punctuation_is_not_refused(tmp_path: Path, text: str) -> None:
    assert wrong(tmp_path, Prompt(id="p", text=text, negative=text)) == []


@pytest.mark.parametrize("syntax", ["plain", "a1111", "comfyui"])
@pytest.mark.parametrize("text", ["a cat <lora: x:1", "a cat <lora:x:1", "< lora:x:1> a cat", "<lora:<lora:",
                                  "<LyCO :x:1> a cat"])
def test_a_tag_that_no_tool_would_read_is_refused(tmp_path: Path, text: str, syntax: str) -> None:
    (problem,) = wrong(tmp_path, Prompt(id="p", text=text, syntax=syntax))[:1]
    assert "lora" in problem.lower() or "LyCO" in problem
    assert "is not closed" in problem or syntax != "a1111"


def test_what_to_declare_is_said_once_for_all_prompts(tmp_path: Path) -> None:
    listed = wrong(tmp_path, *(Prompt(id=f"p{number}", text=f"a (cat:1.{number})") for number in range(1, 5)))
    assert len(listed) == 4
    assert ["read_prompts(file, syntax=...)" in line for line in listed] == [True, False, False, False]
    assert ["literal=True" in line for line in listed] == [True, False, False, False]


def test_markup_is_refused_once_at_whichever_steps_it_comes(tmp_path: Path) -> None:
    changing = Prompt(id="p", text="[a|b] [c:d:0.5] [cat:__animal__:25]", syntax="a1111")
    listed = problems(tiny_suite(grid=tiny_grid(prompts=(changing,), steps=30)), tmp_path)
    assert [line.count("'__animal__'") for line in listed] == [1]


def test_all_of_it_is_said_at_once_and_by_prompt(tmp_path: Path) -> None:
    said = wrong(tmp_path, Prompt(id="one", text="(a:1.2), ((b)), [c], <lora:d:1>"), Prompt(id="two", text="x", negative="BREAK"),
                 styles={"anime": "(anime:1.3)"})
    words = [line for line in said if "no metric uses them" not in line]
    assert [re.findall(r"prompt '(\w+)'|(style) ", line)[0] for line in words] == [("one", "")] * 4 + [("two", ""), ("", "style")]


def test_the_advice_can_be_followed(tmp_path: Path) -> None:
    text = wrong(tmp_path, Prompt(id="p", text="a (red:1.3) ball"))[0]
    emphasis = eval(text.partition("emphasis=")[2].partition("). ")[0] + ")", {"Emphasis": Emphasis})
    said = wrong(tmp_path, Prompt(id="p", text="a red ball"), baseline="x", candidates=(
        Candidate(name="x", model="zoo:photo", emphasis=emphasis, adapters=(Adapter(path="zoo:sketch", weight=0.8),)),))
    assert said == []


def test_plain_brackets_are_pointed_out_until_they_are_called_literal() -> None:
    prompt = Prompt(id="p", text="a woman (smiling)")
    (said,) = remarks(tiny_suite(grid=tiny_grid(prompts=(prompt,))))
    assert "prompt 'p': '(smiling)' is read as text" in said
    assert remarks(tiny_suite(grid=tiny_grid(prompts=(replace(prompt, literal=True),)))) == []


@pytest.mark.parametrize(("text", "count"), [("a (red", 1), ("a red) ball", 1), (r"a \(red", 0), ("a (red) ball", 0)])
@pytest.mark.parametrize("syntax", ["a1111", "comfyui"])
def test_brackets_of_a_tool_that_do_not_match_are_pointed_out(text: str, count: int, syntax: str) -> None:
    assert len(remarks(tiny_suite(grid=tiny_grid(prompts=(Prompt(id="p", text=text),), syntax=syntax)))) == count


@pytest.mark.parametrize("text", ["(3:15)", "(Team A: 3)", "(est: 1920)", "well-- yes", "ROCK AND ROLL", "COFFEE BREAK"])
def test_what_may_be_markup_is_pointed_out(text: str) -> None:
    assert len(remarks(tiny_suite(grid=tiny_grid(prompts=(Prompt(id="p", text=text),))))) == 1


def test_a_declaration_that_is_not_literal_has_the_hash_that_it_had() -> None:
    prompt = Prompt(id="p", text="a ball")
    assert short_hash(prompt) == short_hash({"is": "Prompt", "id": "p", "text": "a ball", "negative": "", "split": "select",
                                             "tags": {}})
    literal = replace(prompt, literal=True)
    assert restore(plain(literal)) == literal


@pytest.mark.parametrize(("scales", "count"), [((1,), 1), ((1, 4), 0)])
def test_a_negative_that_no_scale_uses_is_remarked(scales: tuple[float, ...], count: int) -> None:
    suite = tiny_suite(grid=tiny_grid(guidance_scales=scales, prompts=(Prompt(id="a", text="a cat", negative="blurry"),)))
    assert sum("no effect" in remark for remark in remarks(suite)) == count


@pytest.mark.parametrize(("text", "syntax", "count"), [
    ("a (cat:1,3)", "a1111", 1), ("a (dog 1.3)", "a1111", 1), ("(a:nan)", "a1111", 1), ("(a:1e3)", "a1111", 1),
    ("a (cat:1,3)", "comfyui", 1), ("a (dog 1.3)", "comfyui", 1), ("(a:1e2)", "comfyui", 0), ("a (cat:1.3)", "a1111", 0),
    ("a (dog, 12 of them)", "a1111", 0), ("(a:1)", "a1111", 0)])
def test_a_number_that_only_looks_like_a_weight_is_pointed_out(text: str, syntax: str, count: int) -> None:
    listed = remarks(tiny_suite(grid=tiny_grid(prompts=(Prompt(id="p", text=text, syntax=syntax),))))
    assert len(listed) == count
    assert all("as a word, not as a weight" in line for line in listed)


@pytest.mark.parametrize(("negative", "name"), [
    ("easynegative, blurry", "easynegative"), ("(bad-hands-5:1.2)", "bad-hands-5"), ("blurry", ""), ("Easynegatives", "")])
def test_a_widespread_inversion_without_its_file_is_pointed_out(negative: str, name: str) -> None:
    listed = remarks(tiny_suite(grid=tiny_grid(prompts=(Prompt(id="p", text="a cat", negative=negative),), syntax="a1111")))
    assert [repr(name) in line for line in listed] == [True] * bool(name)


@pytest.mark.parametrize("piece", ["--a ", "__", "<lora:", "(a:1.2) ", "BREAK "])
def test_a_text_of_very_much_markup_is_refused(tmp_path: Path, piece: str) -> None:
    """Work that grew with the square of its length would not come to an end."""
    suite = tiny_suite(grid=tiny_grid(prompts=(Prompt(id="p", text=piece * 20_000),)))
    assert problems(suite, tmp_path)
    remarks(suite)


@pytest.mark.parametrize(("character", "name"), [
    ("\u202e", "U+202E (right-to-left override)"), ("\u2066", "U+2066"), ("\u200b", "U+200B (zero width space)"),
    ("\ufeff", "U+FEFF"), ("\u00ad", "U+00AD (soft hyphen)"), ("\u2060", "U+2060"), ("\u3164", "U+3164 (hangul filler)"),
    ("\U000e0041", "U+E0041")])
@pytest.mark.parametrize("field", ["text", "negative", "style"])
def test_a_character_that_nobody_sees_and_the_encoder_reads_is_named(character: str, name: str, field: str) -> None:
    styles = {"flat": f"a flat{character} drawing"} if field == "style" else {}
    texts = {"text": "a red ball", **({field: f"a red{character} ball"} if field != "style" else {})}
    (remark,) = remarks(tiny_suite(grid=tiny_grid(prompts=(Prompt(id="p", **texts),), guidance_scales=(4,)), styles=styles))
    assert name in remark
    assert ("style 'flat'" if field == "style" else "prompt 'p'") in remark


@pytest.mark.parametrize("text", ["a red ball", "un \u00e9l\u00e9phant", "a \U0001f469\u200d\U0001f680 star \u2764\ufe0f",
                                  "a ball\nof wool", "a\u00a0ball", "\u8d64\u3044\u3000\u661f"])
def test_emoji_accents_and_wide_spaces_are_not_invisible(text: str) -> None:
    assert remarks(tiny_suite(grid=tiny_grid(prompts=(Prompt(id="p", text=text),)))) == []


def test_an_invisible_character_of_many_prompts_is_named_once() -> None:
    prompts = tuple(Prompt(id=f"p{number}", text=f"a\u200b ball number {number}") for number in range(9))
    (remark,) = remarks(tiny_suite(grid=tiny_grid(prompts=prompts)))
    assert "and 6 more" in remark
