"""The command says what is wrong in one sentence and ends with an exit code that means it."""

from pathlib import Path

import pytest

from harness.cli import main


def test_a_folder_that_is_no_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err


def test_an_unknown_subcommand_ends_with_two() -> None:
    with pytest.raises(SystemExit) as end:
        main(["reprot"])
    assert end.value.code == 2
