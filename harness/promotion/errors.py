"""The refusal of a promotion, and how a command says it."""

from __future__ import annotations


class PromotionError(ValueError):
    """A promotion, verification or rollback that is refused; the text names suite, candidate, gate or file, and what to do."""


def in_words(error: Exception) -> str:
    """What a command says instead of a traceback. Refusals speak for themselves; any other error, such as one raised by a run
    folder or record that was edited by hand, is named by its type as well."""
    message = str(error)
    return message if isinstance(error, ValueError | OSError) and message else (
        f"{type(error).__name__}: {message or 'no message'}")
