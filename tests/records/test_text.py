"""Text from outside acts nowhere: the one set of functions that make it harmless, and what each place shows of a hostile name."""

import csv
import html
import io
import json
import random
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from harness.declare.listing import brief
from harness.records.harmless_text import (
    in_csv,
    in_markdown,
    in_plotly,
    in_script,
    printable,
    visible,
    without_credentials,
)

ROOT = Path(__file__).parents[2]
HOSTILE = (
    "\x1b]0;owned\x07\x1b[2Jred\x1b[0m", "\u202egnp.exe\u202c", "zero\u200bwidth\ufeff\u2060", "two\nlines\r\tand\u2028more",
    "\u2029", "\ud800 alone", "\x9b31mC1", "</script><script>alert(1)</script><!--", "<img src=x onerror=alert(1)>", "&lt;b&gt;",
    "=cmd|' /C calc'!A0", " \t+1+1", "@SUM(1)", "-2+3", "\u00a0=1", "[a](https://example.org) ![i](//x/y.png)",
    "@everyone #1 www.example.org", "| a | b |\n|---|---|", "`code` **bold** ~~gone~~ &amp;")
MIXED = tuple("".join(random.Random(seed).choices([*"".join(HOSTILE)], k=40)) for seed in range(12))


def acts(text: str) -> bool:
    """Whether a terminal, a bidi algorithm or an eye is deceived by a character; joiners of emoji are not deceit."""
    return any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in text if c not in "\u200d\ufe0f")


@pytest.mark.parametrize("text", HOSTILE + MIXED)
def test_nothing_that_acts_or_hides_is_left(text: str) -> None:
    assert not acts(printable(text))
    assert not acts(visible(text))
    assert not acts(in_plotly(text))
    assert not acts(in_csv(text))
    assert not acts(in_markdown(text).replace("\u200b", ""))  # its own, which breaks mentions and addresses


@pytest.mark.parametrize("text", HOSTILE + MIXED)
def test_printable_text_is_the_name_itself_when_typed_back(text: str) -> None:
    """An escaped name can be told from any other: what was printable stays as it is."""
    assert printable(text).isprintable()
    assert printable("alpha=0.35, ball 👩") == "alpha=0.35, ball 👩"


@pytest.mark.parametrize("text", HOSTILE + MIXED)
def test_no_cell_is_a_formula(text: str) -> None:
    row = io.StringIO()
    csv.writer(row).writerow([in_csv(text)])
    cell = next(csv.reader(io.StringIO(row.getvalue())))[0]
    assert cell.lstrip()[:1] not in ("=", "+", "-", "@")


@pytest.mark.parametrize("value", [None, 0, -1.5, True])
def test_numbers_and_what_is_absent_stay_as_they_are_in_a_table(value: Any) -> None:
    assert in_csv(value) is value


@pytest.mark.parametrize("text", HOSTILE + MIXED)
def test_markdown_has_no_live_mark_up(text: str) -> None:
    bare = re.sub(r"\\[\\`*_\[\]<>|!~&]", "", in_markdown(text))
    assert not re.search(r"[`*_\[\]<>|!~&]|[@#]\w|www\.|:/|gh-", bare, re.IGNORECASE)


@pytest.mark.parametrize("text", HOSTILE + MIXED)
def test_json_in_a_script_element_cannot_end_it_and_reads_the_same(text: str) -> None:
    whole = in_script(json.dumps({text: text}, ensure_ascii=False))
    assert not re.search("[<>&\u2028\u2029]", whole)
    assert json.loads(whole) == {text: text}


@pytest.mark.parametrize("text", HOSTILE + MIXED)
def test_a_plotly_label_has_no_tag(text: str) -> None:
    assert "<" not in in_plotly(text)
    assert html.unescape(in_plotly(text)) == visible(text)


def test_the_rule_stands_in_one_file() -> None:
    """Nobody else decides which characters are printable: whoever shows text takes it from harness/records/harmless_text.py."""
    files = {file.relative_to(ROOT).as_posix() for package in ("harness", "reports") for file in (ROOT / package).rglob("*.py")
             if re.search(r"unicode_escape|unicodedata\.category|html\.escape", file.read_text(encoding="utf-8"))}
    assert files == {"harness/records/harmless_text.py"}


@pytest.mark.parametrize(("word", "shown"), [
    ("redis://ci:hunter2@cache/0", "redis://cache/0"), ("rediss://:hunter2@cache:6379/0?ttl=5", "rediss://cache:6379/0?ttl=5"),
    ("--shared-cache=REDIS://ci:hunter2@cache/0", "--shared-cache=REDIS://cache/0"),
    ("redis://ci:hun@ter/2@cache/0", "redis://cache/0"), ("redis://ci:hun ter2\n@cache/0", "redis://cache/0"),
    ("redis:ci:hunter2@cache/0", "redis:cache/0"), ("https://token@example.org/x.git", "https://example.org/x.git"),
    ("redis://cache/0", "redis://cache/0"), ("suites/a.py::candidate[a@b]", "suites/a.py::candidate[a@b]"),
    ("folder:/a@b", "folder:/a@b"), ("-k", "-k")])
def test_no_password_of_an_address_is_left(word: str, shown: str) -> None:
    assert without_credentials(word) == shown


@pytest.mark.parametrize(("text", "shown"), [
    ("see 'https://me:pw@host/x?token=abc&b=1' and a@b", "see 'https://host/x?token=...&b=1' and a@b"),
    ("https://pw@host/x", "https://host/x"), ("redis://:p/w@host:6379/0", "redis://host:6379/0"),
    ("https://h/x?download=true&X-Amz-Signature=abc", "https://h/x?download=true&X-Amz-Signature=..."),
    ("https://h/?api_key=a;access_token=b#auth=c", "https://h/?api_key=...;access_token=...#auth=..."),
    ("https:/me:pw@host/x", "https:/host/x"), ("C:/me@here/x", "C:/me@here/x"),
    ("git+https://host/repository@v1.2", "git+https://host/repository@v1.2"), ("http://host:8080/@name", "http://host:8080/@name"),
    ("https://h/?keyframes=3&monkey=2", "https://h/?keyframes=3&monkey=2"), ("a sign with ?token=x", "a sign with ?token=x")])
def test_no_secret_of_an_address_in_a_text_is_shown(text: str, shown: str) -> None:
    assert (printable(text), visible(text)) == (shown, shown)


@pytest.mark.parametrize("length", [0, 1999, 2000, 2001, 100_000])
def test_a_long_message_keeps_its_start_and_its_end(length: int) -> None:
    text = ("start" + "x" * length)[:max(length - 3, 0)] + "end"
    short = brief(text)
    assert len(short) <= max(2000, 0)
    assert (short == text) == (len(text) <= 2000)
    assert short.endswith("end")
    assert short.startswith(text[:3])
