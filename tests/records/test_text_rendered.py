"""Text of a run, rendered as GitHub renders it: whatever a name or a prompt holds, nothing in report.md acts."""

from __future__ import annotations

import html
import re

import pytest

from harness.records.harmless_text import in_markdown, visible
from tests.live_markdown import LIVE, live, rendered

PLACES = {"a line": "{}", "a list": "- {}", "a heading": "## {}", "bold": "**{}**", "a table": "| a | b |\n|---|---|\n| {} | x |"}


@pytest.mark.parametrize("place", PLACES)
def test_no_text_acts_in_any_place(place: str) -> None:
    acting = {what: live(PLACES[place].format(in_markdown(text))) for what, text in LIVE.items()}
    assert not {what: how for what, how in acting.items() if how}


def test_a_text_is_shown_as_it_is() -> None:
    for text in LIVE.values():
        shown = html.unescape(re.sub(r"<[^>]*>", "", rendered(PLACES["bold"].format(f"x{in_markdown(text)}x"))))
        assert shown.replace("\u200b", "").strip() == f"x{visible(text)}x"
