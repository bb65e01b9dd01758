"""What becomes alive in Markdown as GitHub shows it: a list of texts, and whether a rendered text still acts. cmark-gfm is the
judge of links, images and tags; GitHub's own filters for mentions and references work on the text that it leaves."""

from __future__ import annotations

import html
import re
from typing import Final

import pytest

LIVE: Final = {
    "a mention": "@octocat", "a mention by entity": "&commat;octocat", "by number": "&#64;octocat", "by hex": "&#x40;octocat",
    "an escaped mention": "\\@octocat", "an organisation's team": "cc @org/team", "an issue": "fixes #12", "by entity": "&num;1",
    "an issue by number": "&#35;12", "another's issue": "octo/cat#12", "GH-": "GH-1", "gh- in small": "fixes gh-12",
    "GH and an escape": "GH\\-1", "GH by entity": "&#71;H-1", "a mail": "a@b.com", "a mail by entity": "a&#x40;b.com",
    "mailto": "mailto:a@b.com", "xmpp": "xmpp:a@b.com/x", "xmpp by entity": "xmpp:a&commat;b.com/x",
    "https": "https://evil.example", "HTTPS": "HTTPS://evil.example", "Http": "Http://evil.example", "ftp": "ftp://evil.example",
    "www": "www.evil.example", "in brackets": "<https://evil.example>", "a scheme by entity": "<https&colon;//evil.example>",
    "a link": "[a](//evil.example)", "a link of the site": "[a](/logout)", "a reference": "[a][b]\n\n[b]: /logout",
    "a short reference": "[a]\n\n[a]: /logout", "a footnote": "a[^1]\n\n[^1]: b", "an image": "![i](https://evil.example/x.png)",
    "a tag": "<img src=x>", "an escaped tag": "\\\\<b>", "a comment": "<!-- sweetspot -->",
    "a block": "<details>\n\nx\n</details>",
    "a table": "a | b\n--|--\n1 | [c](//evil.example)", "code": "```mermaid\nclick a \"//evil.example\"\n```",
    "struck out": "~~~mermaid\nclick\n~~~",
    "in a heading": "# HTTPS://evil.example", "in bold": "**https://evil.example**", "in code": "`@octocat`",
}
UNSEEN: Final = ("in code", "a scheme by entity", "a comment", "a mail by entity", "xmpp by entity")
"""Those that cmark-gfm alone does not show as alive, and that stay in the list in case GitHub does."""
_ACTS: Final = re.compile(r"@\w|(^|[^&\w])#\d|\w#\d|\bgh-\d|\bwww\.|\b(https?|ftp):/", re.IGNORECASE)
_HARMLESS_TAGS: Final = re.compile(
    r"</?(p|h[1-6]|ul|ol|li|strong|em|br|hr|table|thead|tbody|tr|th|td|blockquote|del)( (align|start)=\"\w+\")?\s*/?>")


def rendered(markdown: str) -> str:
    """The HTML that GitHub makes of a comment."""
    cmarkgfm = pytest.importorskip("cmarkgfm", reason="cmarkgfm, GitHub's Markdown, is not installed: pip install -e '.[dev]'")
    return str(cmarkgfm.github_flavored_markdown_to_html(markdown))


def live(markdown: str) -> str:
    """What in a text acts once it is rendered; empty when nothing does."""
    left = _HARMLESS_TAGS.sub("\x00", rendered(markdown))
    if tag := re.search(r"<[^>]*>", left):
        return tag[0]
    found = next((match for text in left.split("\x00") if (match := _ACTS.search(html.unescape(text)))), None)
    return found[0] if found else ""
