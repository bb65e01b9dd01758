"""Makes text from outside harmless, with one function for each place that shows it: prompts, names, paths and error messages may
contain anything, and must not act on a terminal, a page, a spreadsheet or a Markdown reader."""

from __future__ import annotations

import html
import re
import unicodedata
from typing import Any, Final

_ACTING: Final = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})
"""Unicode categories of characters that act or hide: controls, bidi overrides, zero-width characters, line separators."""
_OF_EMOJI: Final = frozenset({"\u200d", "\ufe0f"})
"""Joiner and variation selector: parts of ordinary emoji."""
_BLANK: Final = frozenset("\u034f\u115f\u1160\u3164\uffa0")
"""Letters and marks that are drawn as nothing: joiners and fillers."""
_FORMULA: Final = ("=", "+", "-", "@")
_REFERENCE: Final = re.compile(r"[@#]|www(?=\.)|gh(?=-)|:(?=//)", re.IGNORECASE)
_SCHEME: Final = ":/"
_USER_INFO: Final = re.compile(r"""(\b(?:[a-z][a-z0-9+.-]*://|(?:https?|ftps?|rediss?|s3|gs|ssh):/))"""
                               r"""(?:[^\s'"/?#]*@|[^\s'"/:]*:(?!\d+[/?#])[^\s'"]*@)""", re.IGNORECASE)
"""Name and password of an address: up to the path, or beyond its first "/" where a password follows a colon that no port does. An
address that was a path has lost the second "/" of its scheme."""
_SECRET_PARAMETER: Final = re.compile(
    r"([?&;#](?:[a-z0-9_.-]*[_.-])?(?:(?:access|auth|private)?token|secret|password|passwd|pwd|signature|sig|credentials?|auth"
    r"|authorization|(?:api|access|private)?key)(?:[_.-]?id)?=)[^\s&;#'\"]+", re.IGNORECASE)
_CREDENTIALS: Final = re.compile(r"((?:\b[a-z][a-z0-9+.-]*://|\brediss?:/*)).*@", re.IGNORECASE | re.DOTALL)


def printable(text: object) -> str:
    """The text with every character that cannot be printed as an escape, newlines too, and without the secrets of addresses: for
    terminals, and for names that a reader may type or paste back."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in without_secrets(str(text)))


def printable_lines(text: object) -> str:
    """The text with each of its lines as `printable`."""
    return "\n".join(printable(line) for line in str(text).splitlines())


def visible(text: str) -> str:
    """The text for reading: newlines and tabs become spaces, and characters that act or hide become a visible "\\x1b" notation.
    So no ANSI sequence reaches a terminal, and no override reverses a line of a page. Emoji stay whole; secrets of addresses are
    left out."""
    text = without_secrets(text)
    if text.isprintable():  # most are, and pages hold many thousands
        return text
    flat = text.replace("\r", " ").replace("\n", " ").replace("\t", " ")
    return "".join(f"\\x{ord(c):02x}" if unicodedata.category(c) in _ACTING and c not in _OF_EMOJI else c for c in flat)


def first_control(text: str) -> str:
    """The first control character of a text that is not a tab or the end of a line; empty if it has none."""
    return next((c for c in text if unicodedata.category(c) == "Cc" and c not in "\t\n\r"), "")


def first_invisible(text: str) -> str:
    """The first character of a text that no page shows, such as an override of the writing direction or a space of no width;
    empty if it has none. What belongs to emoji, and the ends of lines, are none of them."""
    return next((c for c in text if c in _BLANK or (unicodedata.category(c) == "Cf" and c not in _OF_EMOJI)), "")


def in_markdown(text: str) -> str:
    """`visible` text that Markdown shows as it is: nothing in it becomes a link, an image, a tag, a mention or a table cell."""
    escaped = re.sub(r"([\\`*_\[\]<>|!~&])", r"\\\1", visible(text))
    # GitHub looks for mentions, issues and bare addresses when the escapes are gone: a zero-width space breaks them.
    return _REFERENCE.sub("\\g<0>\u200b", escaped)


def without_credentials(word: str) -> str:
    """A word of a command line or an address without the name, the password and the tokens of a URL in it. A password may hold
    any character, so all up to the last "@" goes."""
    return without_secrets(_CREDENTIALS.sub(r"\1", word))


def without_secrets(text: str) -> str:
    """The text with every address in it without name and password, and with "..." for a parameter that is called a token, a
    key or a signature. An address ends at a blank or a quotation mark."""
    if _SCHEME not in text:
        return text
    return " ".join(_SECRET_PARAMETER.sub(r"\1...", _USER_INFO.sub(r"\1", word)) if _SCHEME in word else word
                    for word in text.split(" "))


def in_csv(value: Any) -> Any:
    """A cell of a CSV file: numbers and what is absent as they are, anything else as `visible` text, with an apostrophe where a
    spreadsheet would take it for a formula."""
    if value is None or isinstance(value, int | float):
        return value
    text = visible(str(value))
    return f"'{text}" if text.lstrip()[:1] in _FORMULA else text


def in_plotly(text: str) -> str:
    """`visible` text for plotly, which reads a subset of HTML in its labels: tags show, and do not act."""
    return html.escape(visible(text), quote=False)


def in_script(json_text: str) -> str:
    """JSON that is safe inside a script element: it contains no `</script>`, no `<!--` and no line separator."""
    for character in "<>&\u2028\u2029":
        json_text = json_text.replace(character, f"\\u{ord(character):04x}")
    return json_text
