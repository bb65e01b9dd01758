"""What tokenizers cut off while a pipeline is called: noted, as some pipelines cut texts without a word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(kw_only=True)
class Watch:
    """By tokenizer: how many tokens each text that it was given has, and how many of these are read."""

    lengths: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def cut(self, tokenizer: str) -> tuple[int, int] | None:
        """The lengths of the first text that a tokenizer cut off; None if it read all of them whole."""
        return next((pair for pair in self.lengths[tokenizer] if pair[0] > pair[1]), None)

    @property
    def problem(self) -> str:
        """What all tokenizers cut off; empty if one of them read the whole."""
        cuts = [self.cut(name) for name in self.lengths]
        if not cuts or None in cuts:
            return ""
        tokens, limit = max((cut for cut in cuts if cut is not None), key=lambda cut: cut[1])
        return f"of its {tokens} tokens, with those that the pipeline adds, {limit} are read; shorten it"

    @property
    def in_part(self) -> bool:
        """Whether some tokenizers cut off what others read."""
        return not self.problem and any(self.cut(name) is not None for name in self.lengths)


@contextmanager
def watching(tokenizers: Mapping[str, Any], texts: Sequence[str] = (), longest: int | None = None) -> Iterator[Watch]:
    """Within the block every call of the tokenizers is noted. `texts` are what a pipeline is called with: what these have beyond
    `longest` tokens it cuts off by itself."""
    watch, before = Watch(), {name: type(tokenizer) for name, tokenizer in tokenizers.items()}
    try:
        for name, tokenizer in tokenizers.items():
            tokenizer.__class__ = _noting(before[name], name, watch)
        yield watch
    finally:
        for name, tokenizer in tokenizers.items():
            tokenizer.__class__ = before[name]
    for name in watch.lengths if longest is not None else ():
        counts = (_count(tokenizers[name], before[name], text, special=False) for text in texts)
        watch.lengths[name] += [(count, longest) for count in counts if longest is not None and count > longest]


def _noting(kind: Any, name: str, watch: Watch) -> Any:
    """The class of a tokenizer, with calls that are noted."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = args[0] if args else kwargs.get("text")
        for text in [given] if isinstance(given, str) else given if isinstance(given, list) else []:
            if isinstance(text, str):
                tokens = _count(self, kind, text, special=kwargs.get("add_special_tokens", True))
                limit = kwargs.get("max_length") or int(self.model_max_length)
                watch.lengths.setdefault(name, []).append((tokens, limit if kwargs.get("truncation") else tokens))
        return kind.__call__(self, *args, **kwargs)

    return type(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})


def _count(tokenizer: Any, kind: Any, text: str, *, special: bool) -> int:
    return len(kind.__call__(tokenizer, text, add_special_tokens=special, truncation=False, verbose=False)["input_ids"])
