"""What the subcommands show on a terminal."""

import io
import sys
from threading import Thread

import pytest

from harness.commands.terminal import ByteBar, size_in_words


class Terminal(io.StringIO):
    """Text that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_bar_shows_what_is_done_on_a_terminal_and_takes_itself_off(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    with ByteBar(4_000_000, "merging") as bar:
        threads = [Thread(target=bar.advance, args=(1_000_000,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert bar.rich is not None
        assert bar.rich.tasks[0].completed == 4_000_000
    assert "merging" in shown.getvalue()
    assert "4.0/4.0 MB" in shown.getvalue()


def test_a_bar_says_nothing_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with ByteBar(10, "merging") as bar:
        bar.advance(10)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("size", "words"), [(2_130_000_000, "2.13 GB"), (1_500, "1.50 kB"), (999, "999 bytes")])
def test_sizes_are_said_as_readers_say_them(size: int, words: str) -> None:
    assert size_in_words(size) == words
