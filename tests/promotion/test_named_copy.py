"""`--copy-to` writes the promoted weights under a name as well, and never over other bytes."""

import shutil
from pathlib import Path

import pytest

from harness.promotion import PromotionError
from harness.promotion.file_hashes import weigh
from harness.promotion.named_copy import named_copy, refuse_copy
from harness.weights import ModelFileError

PROMOTE = ("promote", "alpha=0.5", "--run", "runs/tiny", "--as", "blend", "--copy-to")


def test_the_copy_has_the_promoted_bytes_and_is_known_to_verify(work, sweetspot):
    work()
    code, out, err = sweetspot(*PROMOTE, "out/photo-anime.safetensors")
    (weights,) = Path("models/objects").iterdir()
    assert (code, err) == (0, "")
    assert "out/photo-anime.safetensors" in out
    assert [at.name for at in Path("out").iterdir()] == ["photo-anime.safetensors"]
    assert Path("out/photo-anime.safetensors").read_bytes() == weights.read_bytes()
    assert sweetspot("verify", "out/photo-anime.safetensors")[0] == 0
    assert sweetspot(*PROMOTE, "out/photo-anime.safetensors")[0] == 0


def test_a_file_with_other_bytes_is_kept_and_nothing_is_published(work, sweetspot):
    work()
    before = Path("parents/photo.safetensors").read_bytes()
    code, _, err = sweetspot(*PROMOTE, "parents/photo.safetensors")
    assert code == 1
    assert "--copy-to parents/photo.safetensors" in err
    assert Path("parents/photo.safetensors").read_bytes() == before
    assert not [at for at in Path("models").rglob("*") if at.is_file()]
    assert [at.name for at in Path("parents").iterdir()] == ["photo.safetensors"]


@pytest.mark.parametrize("name", ["model.ckpt", "model", "folder.safetensors", "link.safetensors", "file/model.safetensors"])
def test_a_path_that_cannot_be_a_copy_is_refused_before_anything_is_made(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "nothing")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises((PromotionError, ModelFileError), match=name.partition("/")[0]):
        refuse_copy(tmp_path / name)


def test_a_failed_promotion_leaves_no_copy(tmp_path: Path) -> None:
    source = tmp_path / "a.safetensors"
    source.write_bytes(b"weights")
    with pytest.raises(RuntimeError), named_copy(source, weigh(source), tmp_path / "b.safetensors"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == [source]


def test_an_equal_file_is_kept_and_one_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    source, target = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    source.write_bytes(b"weights")
    shutil.copy(source, target)
    there = target.stat().st_ino
    with named_copy(source, weigh(source), target):
        pass
    assert target.stat().st_ino == there
    target.unlink()
    with pytest.raises(PromotionError, match="other bytes"), named_copy(source, weigh(source), target):
        target.write_bytes(b"others")
    assert target.read_bytes() == b"others"


def test_a_copy_among_the_promoted_versions_is_refused(work, sweetspot):
    work()
    for path in ("models/objects/mine.safetensors", "models/blend/mine.safetensors"):
        code, _, err = sweetspot(*PROMOTE, path)
        assert (code, path in err) == (1, True)
    assert not Path("models").exists() or not list(Path("models").rglob("*.safetensors"))
