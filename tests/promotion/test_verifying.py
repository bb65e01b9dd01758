"""Tampering is detected wherever it is done, and what people or attackers write into a models folder brings nothing down."""

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from harness.promotion import Models, PromotionError
from harness.promotion import models_folder as store
from harness.promotion.file_hashes import weigh
from harness.promotion.record_files import read_record
from harness.records.signed_json import digest_of, signed_text

NAMES = ["../evil", "/etc", "a/b", "..", ".", "", "objects", "Baselines", "a\0b", "a\nb", "_x", "x" * 65, "é", "end."]


@pytest.fixture(scope="module")
def promoted(ran: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with two versions of "blend"."""
    from harness.cli import main

    root = tmp_path_factory.mktemp("promoted") / "work"
    shutil.copytree(ran, root)
    suite = json.loads((root / "runs/tiny/run.json").read_text())["suite"]
    (root / "suites/tiny.py").write_text(
        f"import json\nfrom harness.declare import restore\nSUITE = restore(json.loads({json.dumps(suite)!r}))")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for candidate in ("alpha=0.5", "alpha=1"):
            assert main(["promote", candidate, "--run", "runs/tiny", "--as", "blend"]) == 0
    return root / "models"


@pytest.fixture
def models(promoted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(promoted, tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    return Path("models")


def record(models: Path, number: int) -> dict:
    return json.loads((models / f"blend/records/{number:04d}.json").read_text())


def weights(models: Path, number: int) -> Path:
    return models / "objects" / f"{record(models, number)['weights']['blake3']}.safetensors"


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("place", [-1, -100_000])
def test_one_flipped_bit_of_the_weights_is_detected(place, models, sweetspot):
    copy = shutil.copy(weights(models, 1), "model.safetensors")
    assert sweetspot("verify", str(copy))[0] == 0
    flip(Path(copy), place)
    code, _, err = sweetspot("verify", str(copy))
    assert (code, "tampered with: it has the header of 'blend' version 1, but other weights" in err) == (1, True)


def test_another_header_is_detected(models, sweetspot):
    with safe_open(weights(models, 1), framework="pt") as file:
        metadata = {**file.metadata(), "modelspec.title": "mine"}
    save_file(load_file(weights(models, 1)), "mine.safetensors", metadata)
    code, _, err = sweetspot("verify", "mine.safetensors")
    assert (code, "tampered with: it has the weights of 'blend' version 1 under another header" in err) == (1, True)


def test_what_was_never_promoted_is_said_to_be_so(models, sweetspot, ran):
    code, _, err = sweetspot("verify", str(ran / "parents/photo.safetensors"))
    assert (code, "not promoted" in err, "2 promoted versions in models" in err) == (1, True, True)


@pytest.mark.parametrize("data", [b"", b"x", b"\xff" * 8, b"\0" * 100, b"version https://git-lfs.github.com/spec/v1\n",
                                  b"\x02\0\0\0\0\0\0\0{}"])
def test_a_file_that_is_no_model_is_not_verified(data, models, sweetspot):
    Path("x.safetensors").write_bytes(data)
    code, _, err = sweetspot("verify", "x.safetensors")
    assert (code, "x.safetensors" in err) == (1, True)


def test_the_weights_of_another_version_are_not_those_of_the_current_one(models, sweetspot):
    shutil.copy(weights(models, 1), weights(models, 2))
    code, _, err = sweetspot("verify", "blend")
    assert (code, "is not 'blend' version 2, but 'blend' version 1" in err) == (1, True)


def test_a_file_that_is_named_by_a_hash_must_have_it(models, sweetspot, tmp_path):
    shutil.copy(weights(models, 1), weights(models, 2))
    code, _, err = sweetspot("verify", str(weights(models, 2)))
    assert (code, "is named after another content: it is 'blend' version 1" in err) == (1, True)
    shutil.copy(weights(models, 1), tmp_path / "mine.safetensors")
    assert sweetspot("verify", str(tmp_path / "mine.safetensors"))[0] == 0


def test_a_damaged_object_is_named_and_not_rolled_back_to(models, sweetspot):
    flip(weights(models, 1), -1)
    assert "tampered with" in sweetspot("verify", str(weights(models, 1)))[2]
    code, _, err = sweetspot("rollback", "blend")
    assert (code, "is no longer the file of 'blend' version 1" in err) == (1, True)
    assert (models / "blend/current").read_text() == "0002\n"
    weights(models, 1).unlink()
    assert sweetspot("rollback", "blend")[0] == 1
    assert not (models / "blend/records/0003.json").exists()


def test_an_edited_verdict_is_detected(models, sweetspot):
    file = models / "blend/records/0001.json"
    file.write_text(file.read_text().replace('"status": "passed"', '"status": "failed"'))
    code, _, err = sweetspot("verify", str(weights(models, 1)))
    assert (code, "0001.json was changed after it was written" in err) == (1, True)
    assert sweetspot("history", "blend")[0] == 1
    assert sweetspot("rollback", "blend")[0] == 1


def test_a_record_that_was_replaced_with_a_new_digest_breaks_the_chain(models, sweetspot):
    file = models / "blend/records/0001.json"
    file.write_text(signed_text({**record(models, 1), "candidate": "forged"}))
    code, _, err = sweetspot("history", "blend")
    assert (code, "0002.json does not follow from the record before it" in err) == (1, True)


def test_a_recipe_that_is_not_the_headers_is_detected(models, sweetspot):
    file = models / "blend/records/0002.json"
    file.write_text(signed_text({**record(models, 2), "recipe": {"path": "other.safetensors"}}))
    code, _, err = sweetspot("verify", str(weights(models, 2)))
    assert (code, "the recipe in its header is not that of 'blend' version 2" in err) == (1, True)


@pytest.mark.parametrize("command", [("history",), ("rollback",), ("promote", "alpha=1", "--run", "nowhere", "--as")])
def test_a_name_that_is_a_trick_is_refused(command, models, sweetspot):
    before = sorted(models.parent.rglob("*"))
    for name in NAMES:
        code, _, err = sweetspot(*command, name)
        assert (code, "cannot be the name of a model" in err) == (1, True), name
    assert sorted(models.parent.rglob("*")) == before


@pytest.mark.parametrize("change", [
    {"weights": {"blake3": "../../etc/passwd", "header_blake3": "0" * 64, "data_blake3": "0" * 64}}, {"weights": 3},
    {"weights": None},
    {"number": 7}, {"number": "1"}, {"number": True}, {"kind": "gift"}, {"name": "other"}, {"format": 99}, {"previous": [1]},
    {"replaces": "x"}, {"replaces": -1}, {"replaces": 10 ** 30}, {"to": 1.5}, {"date": 5}, {"verdicts": {}}, {"verdicts": [1]},
    {"figures": []}, {"figures": {"objective": {"mean": "x"}}}, {"figures": {"objective": 3}}, {"cells": {"rows": 3}},
    {"suite": {"name": "../x"}}, {"suite": {}}, {"recipe": "x"}, {"inputs": []}, {"candidate": "\x1b[2J"}])
def test_a_record_edited_by_hand_never_brings_a_command_down(change, models, sweetspot):
    """With its digest put right, so that the values themselves are looked at."""
    file = models / "blend/records/0002.json"
    data = {**record(models, 2), **change}
    file.write_text(json.dumps({**data, "digest": digest_of(data)}))
    before = set(models.parent.rglob("*"))
    for words in (("verify", str(weights(models, 1))), ("verify", "blend"), ("history", "blend"), ("rollback", "blend")):
        code, out, err = sweetspot(*words)
        assert code in (0, 1)
        assert "\x1b" not in out + err
    strangers = set(models.parent.rglob("*")) - before
    assert all(at.is_relative_to(models) for at in strangers), strangers


@pytest.mark.parametrize("text", ["", "null", "[]", "{", "[" * 100_000, '{"format": 1}', "\xff\xfe", '{"format": NaN}'])
def test_what_is_no_record_is_named(text, models, sweetspot):
    (models / "blend/records/0002.json").write_text(text, encoding="latin-1")
    code, _, err = sweetspot("history", "blend")
    assert (code, "0002.json" in err) == (1, True)


@pytest.mark.parametrize("text", ["", "../../x", "9999999999999999", "-1", "two", "0009"])
def test_a_current_that_is_none_is_named(text, models, sweetspot):
    (models / "blend/current").write_text(text)
    code, _, err = sweetspot("rollback", "blend")
    assert (code, err != "") == (1, True)


def test_a_link_out_of_the_models_folder_is_not_followed(models, sweetspot, tmp_path):
    (tmp_path / "outside").mkdir()
    shutil.move(models / "blend", tmp_path / "outside" / "blend")
    (models / "blend").symlink_to(tmp_path / "outside" / "blend")
    code, _, err = sweetspot("rollback", "blend")
    assert (code, "leads out of models" in err) == (1, True)


def test_a_name_that_was_never_promoted_is_said_with_those_that_were(models, sweetspot):
    for words in (("history", "blond"), ("rollback", "blond")):
        code, _, err = sweetspot(*words)
        assert (code, "'blond' is not a promoted model in models; did you mean 'blend'" in err) == (1, True)


@pytest.mark.parametrize(("words", "said"), [(("--to", "9"), "no version 9"), (("--to", "2"), "version 2 is already current")])
def test_a_version_that_cannot_be_gone_back_to_is_named(words, said, models, sweetspot):
    code, _, err = sweetspot("rollback", "blend", *words)
    assert (code, said in err) == (1, True)


def test_going_back_twice_goes_back_two_versions_and_then_no_further(models, sweetspot):
    assert sweetspot("rollback", "blend")[0] == 0
    code, _, err = sweetspot("rollback", "blend")
    assert (code, "nothing was current before version 1" in err) == (1, True)
    code, _, err = sweetspot("rollback", "blend", "--to", "3")
    assert (code, "version 3 of 'blend' is a rollback to 1; give that number" in err) == (1, True)


def test_wrong_command_lines_end_with_two(models):
    from harness.cli import main

    for words in (("rollback", "blend", "--to", "0"), ("rollback", "blend", "--to", "x"), ("verify",), ("promote", "a"),
                  ("promote", "a", "--run", "r", "--as", "n", "--policy", "failed=pass")):
        with pytest.raises(SystemExit) as end:
            main(list(words))
        assert end.value.code == 2


def add(models: Models, data: dict) -> Callable[[int], int]:
    def one(_: int) -> int:
        with models.locked():
            number = models.append("blend", data).number
            models.make_current("blend", number)
            return number

    return one


def test_versions_added_at_once_are_all_there_and_follow_each_other(models):
    data = record(models, 2)
    with ThreadPoolExecutor(6) as pool:
        numbers = sorted(pool.map(add(Models(models), data), range(12)))
    assert numbers == list(range(3, 15))
    kept = Models(models)
    assert [kept.version("blend", number).number for number in kept.numbers("blend")] == list(range(1, 15))
    assert kept.current("blend") == 14


def test_a_second_writer_that_waits_too_long_is_told(models, monkeypatch):
    monkeypatch.setattr(store, "LOCK_SECONDS", 0.1)
    said = "another process is writing to models"
    with Models(models).locked(), pytest.raises(PromotionError, match=said), Models(models).locked():
        pass


def test_a_promotion_cut_off_before_the_last_rename_leaves_the_old_version_current(models, monkeypatch):
    write = store.write_atomically

    def cut(path: Path, data: bytes) -> None:
        if path.name == "current":
            raise OSError(28, "No space left on device")
        write(path, data)

    kept = Models(models)
    monkeypatch.setattr(store, "write_atomically", cut)
    with pytest.raises(OSError, match="No space"):
        add(kept, record(models, 2))(0)
    assert kept.current("blend") == 2
    monkeypatch.setattr(store, "write_atomically", write)
    assert add(kept, record(models, 2))(0) == 4
    assert (kept.current("blend"), kept.version("blend", 4).replaces) == (4, 2)


def test_record_text_reads_back_as_it_was(models):
    data = record(models, 1)
    assert json.loads(signed_text(data)) == data
    assert read_record(models / "blend/records/0001.json", "blend").data == data


def test_the_three_hashes_cover_the_whole_file(models):
    from blake3 import blake3

    data = weights(models, 1).read_bytes()
    length = 8 + int.from_bytes(data[:8], "little")
    found = weigh(weights(models, 1))
    assert [found.blake3, found.header_blake3, found.data_blake3, found.size] == [
        blake3(data).hexdigest(), blake3(data[:length]).hexdigest(), blake3(data[length:]).hexdigest(), len(data)]
