"""The command says what is wrong in one sentence and ends with an exit code that means it."""

import argparse
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from harness.cli import COMMANDS, main


def test_a_folder_that_is_not_a_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err


def test_an_unknown_subcommand_ends_with_two() -> None:
    with pytest.raises(SystemExit) as end:
        main(["reprot"])
    assert end.value.code == 2


def test_the_bare_command_lists_its_subcommands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)


@pytest.mark.parametrize("words", [["merge", "--part", "unet", "-o", "x.safetensors"], ["promote", "a", "--ru", "runs/x"],
                                   ["adapter", "resize", "a", "--mode", "m"], ["trend", "runs/x", "--out", "t.html"]])
def test_an_option_is_not_guessed_from_its_beginning(words: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_in_a_help_text_is_a_valid_command_line(name: str) -> None:
    parser = argparse.ArgumentParser()
    import_module(COMMANDS[name][0]).add_arguments(parser)
    examples = [line.split() for line in (parser.epilog or "").splitlines()[1:]]
    assert examples
    for program, command, *arguments in examples:
        assert (program, command) == ("sweetspot", name)
        parser.parse_args(arguments)


@pytest.mark.parametrize(("words", "nearest"), [
    (["promte", "x"], "did you mean 'promote'"), (["try", "a", "b", "--minuts", "3"], "did you mean '--minutes'"),
    (["init", "--prompt=p.txt", "a"], "did you mean '--prompts'"), (["adapter", "mrege"], "did you mean 'merge'"),
    (["adapter", "extract", "--base=a", "--tuned=b", "--rank", "4", "-o", "c", "--laout", "peft"], "did you mean '--layout'")])
def test_a_misspelt_word_of_the_command_line_is_answered_with_the_nearest(words: list[str], nearest: str,
                                                                          capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert nearest in capsys.readouterr().err


def test_a_reader_that_wants_no_more_ends_a_command_without_a_traceback() -> None:
    words = "from harness import cli\ndef main():\n    raise BrokenPipeError\ncli.main = main\ncli.command()"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (141, "")
