"""The pictures that a run was given are in its folder, by their contents."""

from pathlib import Path

import pytest
from blake3 import blake3

from harness.declare.picture_uses import input_path
from harness.records.file_version import ChangedFileError
from harness.run.inputs import keep_inputs


def test_pictures_are_copied_once_and_mended_where_they_are_damaged(tmp_path: Path) -> None:
    (tmp_path / "cat.PNG").write_bytes(b"a picture")
    content = blake3(b"a picture").hexdigest()
    run = tmp_path / "run"
    run.mkdir()
    keep_inputs(run, {"cat.PNG": content}, lambda file: tmp_path / file)
    kept = run / input_path("cat.PNG", content)
    assert (kept.suffix, kept.read_bytes()) == (".png", b"a picture")
    kept.write_bytes(b"damaged")
    keep_inputs(run, {"cat.PNG": content}, lambda file: tmp_path / file)
    assert kept.read_bytes() == b"a picture"
    (tmp_path / "cat.PNG").unlink()
    keep_inputs(run, {"cat.PNG": content}, lambda file: tmp_path / file)


def test_a_picture_that_changed_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"another")
    with pytest.raises(ChangedFileError, match=r"'cat\.png' was changed"):
        keep_inputs(tmp_path, {"cat.png": blake3(b"a picture").hexdigest()}, lambda file: tmp_path / file)


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "inputs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ChangedFileError, match="is a link"):
        keep_inputs(tmp_path, {"cat.png": "00"}, lambda file: tmp_path / file)


def test_drawn_pictures_and_odd_endings_have_the_name_of_their_content() -> None:
    assert input_path("zoo:edges-fish-3", "ab" * 32) == f"inputs/{'ab' * 16}.png"
    assert input_path("../x.png/../evil.sh", "ab" * 32) == f"inputs/{'ab' * 16}.png"
