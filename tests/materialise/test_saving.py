"""A file is written whole or not at all: a full disk, a kill, an old file, folders and names of every kind."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file

from harness import Blocks, Merge
from harness.cli import main
from harness.materialise import Library, MaterialiseError
from harness.materialise import stream_file as making
from harness.records.file_version import ChangedFileError
from harness.weights import ModelFileError, content_hash, stream
from tests.materialise.models import TEXT, VAE, differing, header, made_file, merge, parent, saved, two, write

SLOW = """
import signal, sys, time
delay = float(sys.argv[1])
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in a shell's background inherits that it is ignored
from harness.weights import stream
from harness.materialise import stream_file
stream_file.WINDOW = 4096
write, commit = stream.OutputFile.write, stream.OutputFile.commit
def slowly(self, offset, data):
    write(self, offset, data)
    print("wrote", flush=True)
    time.sleep(0.05)
def late(self, header, keep_old=True):
    print("commits", flush=True)
    time.sleep(delay)
    return commit(self, header, keep_old)
stream.OutputFile.write, stream.OutputFile.commit = slowly, late
from harness.cli import command
sys.argv = ["sweetspot", *sys.argv[2:]]
command()
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Killed, interrupted


@pytest.mark.parametrize("word", ["wrote", "commits"])
def test_a_killed_merge_leaves_the_old_file_and_the_next_one_removes_what_is_left(word, tmp_path, monkeypatch, capsys):
    two(tmp_path)
    (tmp_path / "out.safetensors").write_bytes(b"old")
    flags = ["merge", "--a", "a.safetensors", "--b", "b.safetensors", "--alpha", "0.3", "-o", "out.safetensors"]
    with subprocess.Popen([sys.executable, "-c", SLOW, "60", *flags], cwd=tmp_path, stdout=subprocess.PIPE, text=True,
                          env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith(word):
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    assert (tmp_path / "out.safetensors").read_bytes() == b"old"
    assert names(tmp_path) == [f".out.safetensors.{process.pid}.tmp", "a.safetensors", "b.safetensors", "out.safetensors"]
    monkeypatch.chdir(tmp_path)
    assert main(flags) == 0
    assert f"removed .out.safetensors.{process.pid}.tmp" in capsys.readouterr().out
    assert names(tmp_path) == ["a.safetensors", "b.safetensors", "out.safetensors", "out.safetensors.bak1"]


def test_an_interrupted_merge_cleans_up_and_says_so(tmp_path):
    two(tmp_path)
    flags = ["merge", "--a", "a.safetensors", "--b", "b.safetensors", "--alpha", "0.3", "-o", "out.safetensors"]
    with subprocess.Popen([sys.executable, "-c", SLOW, "0", *flags], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("wrote"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130
    assert said == "stopped; no file was changed\n"
    assert names(tmp_path) == ["a.safetensors", "b.safetensors"]


def test_nobody_writes_any_more_when_an_interrupted_merge_has_cleaned_up(tmp_path, monkeypatch):
    two(tmp_path)
    write_, late = stream.OutputFile.write, []
    aborted = []

    def slowly(self, offset, data):
        time.sleep(0.05)
        late.extend(aborted)
        write_(self, offset, data)

    monkeypatch.setattr(making, "WINDOW", 4096)
    monkeypatch.setattr(stream.OutputFile, "write", slowly)
    monkeypatch.setattr(stream.OutputFile, "abort", lambda self: (aborted.append(1), self.temporary.unlink()))
    join, calls = making.threading.Thread.join, []

    def interrupted(self, timeout=None):
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        join(self, timeout)

    monkeypatch.setattr(making.threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        saved(tmp_path, merge())
    assert (aborted, late) == ([1], [])


# The disk


def test_a_disk_that_fills_up_half_way_leaves_nothing_behind(tmp_path, monkeypatch):
    two(tmp_path)
    (tmp_path / "out.safetensors").write_bytes(b"old")
    monkeypatch.setattr(making, "WINDOW", 4096)
    pwrite, count = os.pwrite, []

    def full(handle, data, offset):
        count.append(1)
        if len(count) > 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(handle, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(MaterialiseError, match=r"out\.safetensors was not written: No space left on device"):
        saved(tmp_path, merge())
    assert (tmp_path / "out.safetensors").read_bytes() == b"old"
    assert names(tmp_path) == ["a.safetensors", "b.safetensors", "out.safetensors"]


def test_too_little_disk_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    two(tmp_path)
    monkeypatch.setattr(stream.shutil, "disk_usage", lambda _: os.terminal_size((1, 1)) and type("D", (), {"free": 1000}))
    with pytest.raises(ModelFileError, match="the disk has 1000 left"):
        saved(tmp_path, merge())
    assert names(tmp_path) == ["a.safetensors", "b.safetensors"]


def test_a_file_system_without_direct_writes_gets_the_same_bytes(tmp_path, monkeypatch):
    two(tmp_path)
    expected = saved(tmp_path, merge()).path.read_bytes()
    open_ = os.open

    def without(path, flags, *rest):
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return open_(path, flags, *rest)

    monkeypatch.setattr(os, "open", without)
    assert saved(tmp_path, merge(), "again.safetensors").path.read_bytes() == expected


def test_an_input_that_is_written_to_meanwhile_is_refused(tmp_path, monkeypatch):
    two(tmp_path)
    finite = making.finite

    def touched(tensor):
        os.utime(tmp_path / "b.safetensors", (1, 1))
        return finite(tensor)

    monkeypatch.setattr(making, "finite", touched)
    with pytest.raises(ChangedFileError, match=r"b\.safetensors: was changed while it was in use"):
        saved(tmp_path, merge())
    assert names(tmp_path) == ["a.safetensors", "b.safetensors"]


# The target


def test_an_old_file_is_kept_under_the_next_free_number(tmp_path):
    two(tmp_path)
    for content in (b"first", b"second"):
        (tmp_path / "out.safetensors").write_bytes(content)
        backup = saved(tmp_path, merge()).backup
        assert backup is not None
        assert backup.read_bytes() == content
    assert backup.name == "out.safetensors.bak2"


def test_a_may_be_replaced_by_the_merge_and_is_kept(tmp_path):
    a, _ = two(tmp_path)
    expected = made_file(tmp_path, merge())
    backup = saved(tmp_path, merge(), "a.safetensors").backup
    assert differing(load_file(tmp_path / "a.safetensors"), expected) == []
    assert differing(load_file(backup), a) == []


def test_a_folder_that_is_not_there_is_made(tmp_path):
    two(tmp_path)
    assert saved(tmp_path, merge(), "new/deep/out.safetensors").path.is_file()


def test_a_folder_as_target_is_refused(tmp_path):
    two(tmp_path)
    (tmp_path / "out.safetensors").mkdir()
    with pytest.raises(MaterialiseError, match="is a folder"):
        saved(tmp_path, merge())


def test_a_file_as_folder_of_the_target_is_named(tmp_path):
    two(tmp_path)
    with pytest.raises(MaterialiseError, match=r"out\.safetensors cannot be written"):
        saved(tmp_path, merge(), "a.safetensors/out.safetensors")


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path, monkeypatch):
    two(tmp_path)
    open_ = os.open

    def closed(path, flags, *rest):
        if flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return open_(path, flags, *rest)

    monkeypatch.setattr(os, "open", closed)
    with pytest.raises(MaterialiseError, match=r"out\.safetensors cannot be written: Permission denied"):
        saved(tmp_path, merge())


@pytest.mark.parametrize("name", ["out.ckpt", "out", "out.safetensors.tmp"])
def test_another_suffix_is_refused(name, tmp_path):
    two(tmp_path)
    with pytest.raises(ModelFileError, match=r"\.safetensors"):
        saved(tmp_path, merge(), name)


def test_a_name_with_wildcards_finds_its_own_leftovers_and_no_others(tmp_path):
    two(tmp_path)
    mine, other = tmp_path / ".o[1]*.safetensors.999999999.tmp", tmp_path / ".o1x.safetensors.999999999.tmp"
    mine.touch()
    other.touch()
    assert saved(tmp_path, merge(), "o[1]*.safetensors").removed == (mine,)
    assert other.exists()


def test_the_file_of_a_merge_that_still_runs_is_left_alone(tmp_path):
    two(tmp_path)
    running = tmp_path / f".out.safetensors.{os.getppid()}.tmp"
    running.touch()
    assert saved(tmp_path, merge()).removed == ()
    assert running.exists()


# The header


def metadata(root: Path, **changes: object) -> dict[str, str]:
    found = header(saved(root, merge(**changes)).path)["__metadata__"]
    assert isinstance(found, dict)
    return found


def test_the_header_says_how_the_file_was_made(tmp_path):
    import json

    two(tmp_path)
    found = metadata(tmp_path)
    inputs = json.loads(found["sweetspot.inputs"])
    assert {name: said["blake3"] for name, said in inputs.items()} == {
        name: content_hash(tmp_path / name) for name in ("a.safetensors", "b.safetensors")}
    assert json.loads(found["sweetspot.recipe"])["alpha"] == 0.3
    assert json.loads(found["sweetspot.coverage"])["keys"]["unet"]["merged"] > 300
    assert (found["modelspec.architecture"], found["modelspec.title"]) == ("stable-diffusion-v1", "title")
    assert found["modelspec.merged_from"] == "a.safetensors, b.safetensors"


@pytest.mark.parametrize(("b", "said"), [({"modelspec.prediction_type": "v"}, "v"), ({"format": "pt"}, None)])
def test_what_only_one_models_header_says_of_the_prediction_is_said_of_the_result(tmp_path, b, said):
    write(tmp_path / "a.safetensors", parent(1))
    write(tmp_path / "b.safetensors", parent(2), b)
    assert header(saved(tmp_path, merge()).path)["__metadata__"].get("modelspec.prediction_type") == said


def test_no_folder_of_this_machine_is_in_the_header(tmp_path):
    _, b = two(tmp_path)
    vae = {n.removeprefix(VAE): t for n, t in b.items() if n.startswith(VAE)}
    write(tmp_path / "a.safetensors", {n: t for n, t in parent(1).items() if not n.startswith(TEXT)})
    write(tmp_path / "vae.safetensors", vae)
    found = metadata(tmp_path, a=str(tmp_path / "a.safetensors"), b=str(tmp_path / "b.safetensors"),
                     take={"vae": str(tmp_path / "vae.safetensors")})
    assert "taken whole from vae.safetensors" in found["sweetspot.coverage"]
    assert "text_encoder: b.safetensors has one" in found["sweetspot.coverage"]
    assert str(tmp_path) not in str(found)
    assert time.strftime("%Y-") not in str(found)


def test_the_same_recipe_makes_the_same_bytes_wherever_it_is(tmp_path):
    files = []
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        two(tmp_path / folder)
        paths = {"a": str(tmp_path / folder / "a.safetensors")} if folder == "there" else {}
        files.append(saved(tmp_path / folder, merge(**paths)).path.read_bytes())
    assert files[0] == files[1]


def test_inputs_of_one_name_in_two_folders_are_told_apart(tmp_path):
    import json

    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "m.safetensors", parent(ord(folder)))
    found = metadata(tmp_path, a="x/m.safetensors", b="y/m.safetensors")
    inputs = json.loads(found["sweetspot.inputs"])
    assert inputs["m.safetensors"]["blake3"] == content_hash(tmp_path / "x/m.safetensors")
    assert inputs["m.safetensors (2)"]["blake3"] == content_hash(tmp_path / "y/m.safetensors")


def test_a_parent_that_was_made_carries_its_recipe_on(tmp_path):
    import json

    two(tmp_path)
    saved(tmp_path, merge(alpha=0.123), "child.safetensors")
    found = metadata(tmp_path, a="child.safetensors")
    said = json.loads(json.loads(found["sweetspot.inputs"])["child.safetensors"]["recipe"])
    assert said["alpha"] == 0.123


def test_a_name_that_is_no_utf_8_does_not_spoil_the_header(tmp_path):
    two(tmp_path)
    odd = os.fsdecode(b"m\xff.safetensors")
    (tmp_path / odd).symlink_to(tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors").rename(tmp_path / os.fsdecode(b"n\xff.safetensors"))
    (tmp_path / "link.safetensors").symlink_to(tmp_path / os.fsdecode(b"n\xff.safetensors"))
    from harness.materialise.saving import save
    from tests.materialise.models import planned

    recipe = merge(a="link.safetensors")
    save(planned(tmp_path, recipe), Library(tmp_path), tmp_path / "out.safetensors", os.fsdecode(b"t\xff"))
    with safe_open(tmp_path / "out.safetensors", framework="pt") as file:
        assert file.metadata()["modelspec.title"] == "t?"
        assert "link.safetensors" in file.metadata()["sweetspot.inputs"]


def test_hidden_files_of_a_folder_do_not_change_the_result(tmp_path):
    from tests.materialise.models import folder

    two(tmp_path)
    folder(tmp_path / "m", 2)
    first = saved(tmp_path, merge(b="m")).path.read_bytes()
    (tmp_path / "m/.cache").mkdir()
    (tmp_path / "m/.cache/bookkeeping").write_text("from a hub")
    assert saved(tmp_path, merge(b="m")).path.read_bytes() == first


def test_a_nested_recipe_names_each_file_once(tmp_path):
    two(tmp_path)
    recipe = Merge(a=merge(alpha=Blocks(preset="GRAD_V")), b="a.safetensors", alpha=0.5)
    found = header(saved(tmp_path, recipe).path)["__metadata__"]
    assert found["modelspec.merged_from"] == "a.safetensors, b.safetensors"
