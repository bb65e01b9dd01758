"""Markup of A1111 and ComfyUI means what their documentation says: weights and schedules written out by hand or by the tools."""

from __future__ import annotations

import pytest

from harness.declare.syntax import SYNTAXES, MarkupError, Tag, parse
from harness.text import WEIGHTINGS

Written = list[tuple[str, float]]


def weights(text: str, syntax: str) -> Written:
    (span,) = parse(text, syntax).spans(10)
    return [("BREAK " * part.breaks + part.text, pytest.approx(part.weight)) for part in span.text.parts]


def schedule(text: str, steps: int = 10) -> list[tuple[int, str]]:
    """Each text without weights, and its last step."""
    return [(span.until, span.text.words) for span in parse(text, "a1111").spans(steps)]


A1111: dict[str, Written] = {
    # The examples of parse_prompt_attention in A1111's modules/prompt_parser.py.
    "normal text": [("normal text", 1)],
    "an (important) word": [("an ", 1), ("important", 1.1), (" word", 1)],
    "(unbalanced": [("unbalanced", 1.1)],
    r"\(literal\]": [("(literal]", 1)],
    "(unnecessary)(parens)": [("unnecessaryparens", 1.1)],
    "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).": [
        ("a ", 1), ("house", 1.5730000000000004), (" ", 1.1), ("on", 1), (" a ", 1.1), ("hill", 0.55), (", sun, ", 1.1),
        ("sky", 1.4641000000000006), (".", 1.1)],
    # The wiki, "Attention/emphasis".
    "a ((word))": [("a ", 1), ("word", 1.21)], "a [word]": [("a ", 1), ("word", 1 / 1.1)],
    "a (word:1.5)": [("a ", 1), ("word", 1.5)], "a (word:0.25)": [("a ", 1), ("word", 0.25)], r"a \(word\)": [("a (word)", 1)],
    # By hand.
    "((a:1.2) b:1.5)": [("a", 1.8), (" b", 1.5)], "(a: 1.3 )": [("a", 1.3)], "(a:-0.5)": [("a", -0.5)], "(artist:wlop:1.2)": [
        ("artist:wlop", 1.2)], "a:1.3)": [("a:1.3)", 1)], ":)": [(":)", 1)], "[a": [("a", 1 / 1.1)], "a]": [("a]", 1)],
    r"a \\ b": [("a \\ b", 1)], r"a \b": [("a b", 1)], "(a)b(c)": [("a", 1.1), ("b", 1), ("c", 1.1)], "": [("", 1)],
    "[a:b]": [("a:b", 1 / 1.1)], "(red:1.0) ball": [("red ball", 1)],
    "a BREAK b": [("a", 1), ("BREAK b", 1)], "BREAK a": [("BREAK a", 1)], "a, BREAK (b:1.2)": [
        ("a,", 1), ("BREAK ", 1), ("b", 1.2)], "a BREAK BREAK b": [("a", 1), ("BREAK ", 1), ("BREAK b", 1)],
    "BREAKFAST": [("BREAKFAST", 1)], "(a) BREAK b": [("a", 1.1), ("BREAK b", 1)],
}


@pytest.mark.parametrize(("text", "expected"), A1111.items())
def test_weights_of_a1111(text: str, expected: Written) -> None:
    assert [part for part in weights(text, "a1111") if part[0] not in ("", "BREAK ")] == [
        part for part in expected if part[0] not in ("", "BREAK ")]


COMFYUI: dict[str, Written] = {
    # ComfyUI's README, "Notes": (word:1.2), the default weight of brackets is 1.1, and \( is a bracket.
    "(good code:1.2) or (bad code:0.8)": [("good code", 1.2), (" or ", 1), ("bad code", 0.8)],
    "a (word)": [("a ", 1), ("word", 1.1)], r"a \(b\) c": [("a (b) c", 1)], r"(a \(b\):1.3)": [("a (b)", 1.3)],
    # By hand: a written weight is the weight, whatever stands around it; brackets alone multiply.
    "((a))": [("a", 1.21)], "((a:1.2) b:1.5)": [("a", 1.2), (" b", 1.5)], "((a) b:1.5)": [("a", 1.65), (" b", 1.5)],
    "(a:b)": [("a:b", 1.1)], "(16:9)": [("16", 9)], "(:1.2)": [(":1.2", 1.1)], "(a:1.2": [("(a:1.2", 1)], "a)": [("a)", 1)],
    "a) (b)": [("a) (b)", 1)], "[a] BREAK b": [("[a] BREAK b", 1)], "": [("", 1)],
    "embedding:bad.pt, (embedding:easy:1.2)": [("embedding:bad, ", 1), ("embedding:easy", 1.2)],
}


@pytest.mark.parametrize(("text", "expected"), COMFYUI.items())
def test_weights_of_comfyui(text: str, expected: Written) -> None:
    assert weights(text, "comfyui") == expected


SCHEDULES: dict[str, list[tuple[int, str]]] = {
    # The examples of get_learned_conditioning_prompt_schedules in A1111's modules/prompt_parser.py, with 10 steps.
    "test": [(10, "test")], "a [b:3]": [(3, "a "), (10, "a b")], "a [b: 3]": [(3, "a "), (10, "a b")],
    "a [[[b]]:2]": [(2, "a "), (10, "a b")], "[(a:2):3]": [(3, ""), (10, "a")],
    "a [b : c : 1] d": [(1, "a b  d"), (10, "a  c  d")], "a[b:[c:d:2]:1]e": [(1, "abe"), (2, "ace"), (10, "ade")],
    "a [unbalanced": [(10, "a unbalanced")], "a [b:.5] c": [(5, "a  c"), (10, "a b c")],
    "((a][:b:c [d:3]": [(3, "a]:b:c "), (10, "a]:b:c d")],
    "[a|(b:1.1)]": [(step, "ab"[(step - 1) % 2]) for step in range(1, 11)],
    "[fe|]male": [(step, ("female", "male")[(step - 1) % 2]) for step in range(1, 11)],
    "[fe|||]male": [(1, "female"), (4, "male"), (5, "female"), (8, "male"), (9, "female"), (10, "male")],
    # The wiki, "Prompt editing" and "Alternating Words".
    "[cow|horse] in a field": [(step, ("cow", "horse")[(step - 1) % 2] + " in a field") for step in range(1, 11)],
    "a [mountain:lake:0.25]": [(2, "a mountain"), (10, "a lake")],  # after int(0.25 * 10) steps
    "a [fog::0.5]": [(5, "a fog"), (10, "a ")], "a [fog::4]": [(4, "a fog"), (10, "a ")],
    # By hand.
    r"a \[b:3\]": [(10, "a [b:3]")], "[a:b:1.0]": [(10, "a")], "[a:b:0]": [(10, "b")], "[a:b:99]": [(10, "a")],
    "[a:(b:1.2):0.5]": [(5, "a"), (10, "b")], "[[a|b]:c:0.2]": [(1, "a"), (2, "b"), (10, "c")],
}


@pytest.mark.parametrize(("text", "expected"), SCHEDULES.items())
def test_texts_of_the_steps_of_a1111(text: str, expected: list[tuple[int, str]]) -> None:
    merged: list[tuple[int, str]] = []
    for until, words in schedule(text):
        merged = [*(merged[:-1] if merged and merged[-1][1] == words else merged), (until, words)]
    assert merged == expected


def test_weights_within_a_schedule_are_those_of_their_step() -> None:
    first, second = parse("a [(b:1.5):c:0.5]", "a1111").spans(4)
    assert [(part.text, part.weight) for part in first.text.parts] == [("a ", 1), ("b", 1.5)]
    assert [(part.text, part.weight) for part in second.text.parts] == [("a c", 1)]


@pytest.mark.parametrize("end", ["", ".0"])
def test_a_step_of_hundreds_of_digits_is_one_that_no_image_has(end: str) -> None:
    text = f"[a:b:{'9' * 400}{end}]"
    assert schedule(text) == [(10, "a")]
    assert parse(text, "a1111").never_drawn(10) == (text,)


@pytest.mark.parametrize("text", ["(a:1e308)", "(a:-1001)", "(a:nan)", "(a:inf)", "(a:" + "9" * 400 + ")"])
def test_weights_that_no_model_can_follow_are_refused_in_comfyui(text: str) -> None:
    with pytest.raises(MarkupError, match="weight"):
        parse(text, "comfyui")


@pytest.mark.parametrize(("text", "expected"), [
    ("a \\", [("a ", 1)]), ("a \\\\", [("a \\", 1)]), (" " * 4900 + "a", [(" " * 4900 + "a", 1)]),
    ("a  BREAK  BREAK  b", [("a", 1), ("BREAK ", 1), ("BREAK b", 1)]), ("[|]", [("", 1)]), ("()", [("", 1)])])
def test_odd_ends_and_empty_markup_are_read(text: str, expected: Written) -> None:
    assert [part for part in weights(text, "a1111") if part[0]] == [part for part in expected if part[0]]


@pytest.mark.parametrize(("text", "steps", "expected"), [
    ("[a:b:5]", 5, ("[a:b:5]",)), ("[a:b:5]", 6, ()), ("[a:b:0.5]", 1, ("[a:b:0.5]",)), ("[a:b:0.5]", 2, ()),
    ("[a|b|c]", 2, ("[a|b|c]",)), ("[a|b|c]", 3, ()), ("[[a:b:8]:c:5]", 20, ("[a:b:8]",)), ("[a::1.0]", 9, ("[a::1.0]",)),
    ("plain", 1, ())])
def test_what_no_step_would_draw_is_named(text: str, steps: int, expected: tuple[str, ...]) -> None:
    assert parse(text, "a1111").never_drawn(steps) == expected


@pytest.mark.parametrize(("text", "syntax", "plain"), [
    ("a (red:1.3) ball, ((best)), [blurry]", "a1111", "a red ball, best, blurry"), ("a [cat:dog:0.5]", "a1111", "a dog"),
    ("a [cat|dog]", "a1111", "a dog"), ("a BREAK b", "a1111", "a b"), ("a ball <lora:x:0.8>", "a1111", "a ball"),
    (r"a \(b\)", "a1111", "a (b)"), ("a (red:1.3) ball", "comfyui", "a red ball"), ("a  (red) ball", "plain", "a  (red) ball")])
def test_images_are_scored_by_the_text_without_markup(text: str, syntax: str, plain: str) -> None:
    assert parse(text, syntax).plain == plain


@pytest.mark.parametrize(("text", "tags"), [
    ("a <lora:sketch:0.8> b", [Tag(name="sketch", weight=0.8)]), ("<lora:sketch>", [Tag(name="sketch")]),
    ("<lora:sketch:0.8:0.5>", [Tag(name="sketch", weight=0.5, text_weight=0.8)]),
    ("<lora:a:te=0.2:unet=1>", [Tag(name="a", weight=1, text_weight=0.2)]), ("<lyco:a:unet=0.5>", [
        Tag(name="a", weight=0.5, text_weight=1)]), ("<hypernet:a:0.5>", [Tag(name="a", weight=0.5)]),
    ("<lora:a:1><lora:b:-0.5>", [Tag(name="a"), Tag(name="b", weight=-0.5)])])
def test_tags_name_adapters_with_their_weights(text: str, tags: list[Tag]) -> None:
    assert list(parse(text, "a1111").tags) == tags


def test_comfyui_names_embeddings_by_their_files() -> None:
    assert parse("embedding:bad.pt, (embedding:easy:1.2) embedding:bad", "comfyui").embeddings == ("bad", "easy")


@pytest.mark.parametrize(("text", "words"), [
    ("a AND b", "'and'"), ("a AND_PERP b", "'AND_PERP'"), ("(a BREAK b:1.2)", "close the brackets"), ("(a:1.2.3)", "'1.2.3'"),
    ("[a:b|c]", "brackets of its own"), ("[a:b:c:0.5]", "[from:to:when]"), ("[a:b:c]", "[from:to:when]"), ("[a:b:-1]", "-1"),
    ("<lora:a:x>", "'x'"), ("<lora:a:1:2:3>", "'3'"), ("<lora:a:dyn=1>", "'dyn=1'"), ("<lora::1>", "no name"),
    ("<wildcard:a>", "'<wildcard:a>'"), ("[<lora:a:1>:0.5]", "Adapter with start"), ("<lora:a:1><lora:a:2>", "two tags"),
    ("<lo<lora:a:1>ra:b:1>", "around another"),
    ("<lora:a:1e300>", "'1e300'"), ("<lora:a:nan>", "'nan'"), ("<lora:a:1:-inf>", "'-inf'"), ("a # b", "comment"),
    ("[" * 60 + "a" + "]" * 60, "50 deep"),
    ("(" * 60 + "a" + ":999999)" * 60, "'a' has the weight inf"), ("(a:1001)", "'a' has the weight 1e+03"),
    ("(" * 2400 + "a" + ")" * 2400, "'a' has the weight"),
    ("[" * 2400 + "a" + "]" * 2400, "50 deep"), ("(a:" + "9" * 300 + ")", "at most 1000"),
    ("[a:b:nan]", "[from:to:when]"), ("[a:b:inf]", "[from:to:when]"), ("[a:b:\uff10.5]", "[from:to:when]"),
    ("a" * 6000, "6000 characters"),
    ("[a:(b:1.2.3):0.5]", "'1.2.3'")])
def test_what_a1111_would_read_otherwise_than_it_looks_is_refused(text: str, words: str) -> None:
    with pytest.raises(MarkupError) as caught:
        parse(text, "a1111")
    assert words in str(caught.value)


@pytest.mark.parametrize(("text", "advice", "then"), [
    ("a AND b", "write 'and'", "a and b"), ("(a BREAK b:1.2)", "close the brackets before it", "(a:1.2) BREAK (b:1.2)"),
    ("(a:1.2.3)", "one such as 1.2", "(a:1.2)"), ("[a:b|c]", "brackets of its own", "[a|[b:c:0.5]]"),
    ("[a:b:c]", "[from:to:when]", "[a:b:0.5]"), ("[a:b:c]", r"\[ for a bracket", r"\[a:b:c\]"),
    ("[a:b:-1]", "such as 0.5", "[a:b:0.5]"), ("<lora:a:x>", "such as 0.8", "<lora:a:0.8>"), ("a # b", "remove it", "a b"),
    ("[<lora:a:1>:0.5]", "outside of them", "<lora:a:1> [b:0.5]"), ("<lora:a:1><lora:a:2>", "keep one", "<lora:a:1>"),
    ("<wildcard:a>", "<lora:name:weight>", "<lora:name:0.5>"), ("<lora:a:1:2:3>", "second weight", "<lora:a:1:2>")])
def test_what_a_refusal_says_to_write_can_be_read(text: str, advice: str, then: str) -> None:
    with pytest.raises(MarkupError) as caught:
        parse(text, "a1111")
    assert advice in str(caught.value)
    assert parse(then, "a1111").spans(4)


@pytest.mark.parametrize(("text", "words"), [
    ("(a:nan)", "'nan'"), ("(a:1e999)", "'1e999'"), ("(" * 60 + "a" + ")" * 60, "50 deep")])
def test_what_comfyui_cannot_weigh_is_refused(text: str, words: str) -> None:
    with pytest.raises(MarkupError) as caught:
        parse(text, "comfyui")
    assert words in str(caught.value)


@pytest.mark.parametrize("text", [
    "[" * 5000, "(a" * 1200 + ")" * 1200, "[a|" * 1600, "[a:" * 1200 + "0.5]" * 300, "a[b:0.5]" * 600])
@pytest.mark.parametrize("syntax", ["a1111", "comfyui"])
def test_no_nesting_is_too_deep_for_the_parser(text: str, syntax: str) -> None:
    try:
        assert parse(text, syntax).spans(1000)[-1].until == 1000
    except MarkupError as error:
        assert "deep" in str(error) or "weight" in str(error)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_syntax_names_a_way_to_weigh_words(syntax: str) -> None:
    assert SYNTAXES[syntax].weighting in WEIGHTINGS
