"""What a full or read-only disk refuses at the end of a run is named with its path, leaves nothing half-written, and fails a run
that was asked for it."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tests.plugin.test_plugin import loaded, painted, write_suite, zoo_cache

__all__ = ["loaded", "painted", "zoo_cache"]


def refuse(name: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk refuses every file with this name once it is written, in an error that names none, as that of a write."""
    replace = Path.replace

    def refused(path: Path, target: Path) -> Path:
        if Path(target).name == name:
            raise OSError(number, os.strerror(number))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", refused)


@pytest.mark.parametrize(("name", "number", "arguments"), [
    ("report.html", errno.ENOSPC, ["-k", "candidate"]), ("report.html", errno.EACCES, []),
    ("comment.md", errno.EROFS, ["--markdown", "comment.md"])])
def test_a_page_or_comment_that_the_disk_refuses_fails_the_run_and_is_named(
        pytester: pytest.Pytester, painted: None, monkeypatch: pytest.MonkeyPatch, name: str, number: int,
        arguments: list[str]) -> None:
    write_suite(pytester)
    refuse(name, number, monkeypatch)
    result = pytester.runpytest("suites", "--benchmark", *arguments)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert any(os.strerror(number) in line and name in line for line in result.outlines)
    result.stdout.no_fnmatch_line("*Traceback*")
    assert not list(pytester.path.rglob("*.tmp"))
    monkeypatch.undo()


def test_a_report_that_pytest_cannot_write_fails_the_run_after_the_verdict(
        pytester: pytest.Pytester, painted: None, monkeypatch: pytest.MonkeyPatch) -> None:
    write_suite(pytester)

    def refused(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "j.xml")

    monkeypatch.setattr("_pytest.junitxml.LogXML.pytest_sessionfinish", refused)
    result = pytester.runpytest("suites", "--benchmark", "--junitxml", "j.xml")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*not written (*Read-only file system: 'j.xml')*", "page: *"])


def test_a_summary_that_does_not_fit_on_the_disk_is_left_as_it_was(
        pytester: pytest.Pytester, painted: None, monkeypatch: pytest.MonkeyPatch) -> None:
    write_suite(pytester)
    summary = pytester.path / "summary.md"
    summary.write_text("of an earlier step\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    true_open = Path.open

    def small(path: Path, mode: str = "r", **options: Any) -> Any:
        file = true_open(path, mode, **options)
        if path != summary or "a" not in mode:
            return file
        whole = file.write

        class Small:
            tell, truncate = file.tell, file.truncate

            def __enter__(self) -> "Small":
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def write(self, data: bytes) -> int:
                return int(whole(data[:7]))

        return Small()

    monkeypatch.setattr(Path, "open", small)
    result = pytester.runpytest("suites", "--benchmark")
    result.stdout.fnmatch_lines(["$GITHUB_STEP_SUMMARY: not written (No space left on device: *summary.md*"])
    assert summary.read_text() == "of an earlier step\n"
    monkeypatch.undo()
