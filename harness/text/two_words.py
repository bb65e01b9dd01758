"""A textual inversion's two words: the one within the file, which diffusers takes, and the file's name, which A1111 takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from harness.declare.syntax import PLAIN, Text
from harness.text.occurrences import composed, occurrences
from harness.text.treatment import Treatment, Word


def as_written(treatment: Treatment, texts: Iterable[Text | str]) -> Treatment:
    """The treatment with each word spelled as the plain texts write it: its token, or the file's name if no text has the token.
    Texts of a tool's syntax know a word by the name of its file, whatever is in it.

    In a text with the token the file's name is ordinary text. Raises ValueError if one text has the token and another only the
    file's name, and for a name that two files share or that is another file's token.
    """
    listed = [composed(text if isinstance(text, str) else text.words) for text in texts
              if isinstance(text, str) or text.syntax == PLAIN]
    spelled = {(word.token, word.file_word): _spelling(word, treatment.words, listed)
               for word in treatment.words if word.file_word}
    words = tuple(replace(word, token=spelled.get((word.token, word.file_word), word.token)) for word in treatment.words)
    return replace(treatment, words=words)


def _spelling(word: Word, words: Iterable[Word], texts: list[str]) -> str:
    with_token = [bool(occurrences([word.token], text)) for text in texts]
    by_name = [text for text, has in zip(texts, with_token, strict=True) if not has and occurrences([word.file_word], text)]
    if not by_name:
        return word.token
    name = word.file_word.lower()
    same = {other.token for other in words if other.file_word.lower() == name or other.token.lower() == name} - {word.token}
    if same:
        raise ValueError(f"{word.file_word!r} in a prompt means two textual inversions, {word.token!r} and {min(same)!r}; write "
                         "the word itself, or rename one of the files")
    if any(with_token):
        raise ValueError(f"prompts have both words of one textual inversion: {word.token!r}, which is in the file, and "
                         f"{word.file_word!r}, the file's name; use one of them, or rename the file")
    return word.file_word
