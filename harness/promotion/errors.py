"""The error of a refused promotion, and errors as text for commands."""

from __future__ import annotations


class PromotionError(ValueError):
    """A refused promotion, verification or rollback. The message names suite, candidate, gate or file, and says what to do."""


def in_words(error: Exception) -> str:
    """The message that a command prints instead of a traceback. For an unexpected error, such as one from a run folder or record
    edited by hand, the message includes the error's type."""
    message = str(error)
    return message if isinstance(error, ValueError | OSError) and message else (
        f"{type(error).__name__}: {message or 'no message'}")
