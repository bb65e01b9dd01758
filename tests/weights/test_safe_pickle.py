"""A pickle is refused before torch reads it when reading could take more time or memory than its size explains, whichever reader
opens the file; and what people really save is read as it was saved."""

from __future__ import annotations

import io
import pickle
import random
import struct
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.adapters.hypernetwork.reading import read_hypernetwork
from harness.adapters.open_adapter import open_stored
from harness.text.aesthetic import read_aesthetic
from harness.weights import ModelFileError, open_tensors
from harness.weights.pickle_opcodes import PickleError
from harness.weights.safe_pickle import check_pickle, read_pickle
from tests.work import work

READERS: dict[str, Callable[[Path], Any]] = {"model": open_tensors, "adapter": open_stored, "hypernetwork": read_hypernetwork,
                                             "aesthetic": read_aesthetic}
TENSOR = (b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01tQ"
          b"K\0K\x01\x85K\x01\x85\x89ccollections\nOrderedDict\n)Rtq\x09R")


def text(word: str) -> bytes:
    return b"X" + struct.pack("<I", len(word)) + word.encode()


def archive(path: Path, data: bytes, compression: int = zipfile.ZIP_STORED, numbers: bytes = b"\0\0\x80?") -> Path:
    """A file as torch writes it, with the pickle `data` and one storage "0" of four bytes."""
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", data)
        file.writestr("archive/data/0", numbers)
        file.writestr("archive/version", b"3\n")
    return path


def call(name: str, arguments: bytes) -> bytes:
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode() + arguments + b"R"


def nested_dicts() -> bytes:
    """A dict of 60 keys that all lead to one dict of 60 keys, five deep."""
    data = b"\x80\x02" + TENSOR + b"q\0"
    for depth in range(5):
        data += b"}(" + b"".join(text(f"k{n}") + b"h" + bytes([depth]) for n in range(60)) + b"u" + b"q" + bytes([depth + 1])
    return data + b"."


def doubled(start: bytes, step: bytes, times: int) -> bytes:
    return b"\x80\x02}" + start + step * times + b"K\x01s."


HUGE = b"\x8a\x05\0\0\0\0\x20"  # 2**37
ATTACKS = {
    "a memo place far away": b"\x80\x02}r" + struct.pack("<I", 2**28) + text("p")
                             + b"ctorch.nn.modules.container\nParameterDict\n)Rs.",
    "a bytearray of a size": b"\x80\x02}" + text("x") + call("builtins.bytearray", HUGE + b"\x85") + b"s.",
    "a tensor of a size": b"\x80\x02}" + text("x") + call("torch.Tensor", HUGE + b"\x85") + b"s.",
    "a storage of a size": b"\x80\x02}" + text("x") + call("torch.storage.UntypedStorage", HUGE + b"\x85") + b"s.",
    "a subclass made by another call": b"\x80\x02}" + text("x") + call(
        "torch._tensor._rebuild_from_type_v2", b"(cbuiltins\nbytearray\nctorch\nTensor\n" + HUGE + b"\x85}t") + b"s.",
    "a text encoded again and again": b"\x80\x02}" + text("x") + text("a" * 64)
                                      + (b"q\1" + b"c_codecs\nencode\nh\1" + text("hex") + b"\x86R") * 30 + b"s.",
    "one dict copied again and again": b"\x80\x02]q\0}q\1(" + b"".join(text(f"{n:04}") + b"K\1" for n in range(5000)) + b"u"
                                       + b"(" + b"ccollections\nOrderedDict\nh\1\x85R" * 2000 + b"e.",
    "a deep tuple as a key": b"\x80\x02})" + b"\x85" * 1_000 + TENSOR + b"s.",
    "a key that doubles": doubled(b")", b"q\0h\0\x86", 50),
    "dicts of the same dict": nested_dicts(),
    "a dict within itself": b"\x80\x02}q\0" + text("state_dict") + b"h\0s" + text("w") + TENSOR + b"s.",
    "a list within itself": b"\x80\x02}" + text("x") + b"]q\0h\0as.",
    "more instructions than a model has": b"\x80\x02]" + b"]a" * 600_000 + b".",
    "an integer of 5,000 bytes as a key": b"\x80\x02}\x8b" + struct.pack("<i", 5000) + b"\x7f" * 5000 + TENSOR + b"s.",
    "an integer of 5,000 bytes as a value": b"\x80\x02}" + text("x") + b"\x8b" + struct.pack("<i", 5000) + b"\x7f" * 5000 + b"s.",
    "a storage larger than its record": b"\x80\x02}" + text("w") + TENSOR.replace(b"K\x01tQ", b"M\x00\x01tQ") + b"s.",
    "a tensor larger than its storage": b"\x80\x02}" + text("w") + TENSOR.replace(b"K\0K\x01\x85", b"K\0M\x00\x01\x85") + b"s.",
    "a tensor with a negative offset": b"\x80\x02}" + text("w") + TENSOR.replace(b"K\0K\x01", b"J\xff\xff\xff\xffK\x01") + b"s.",
    "a tensor set anew": b"\x80\x02}" + text("w") + TENSOR + b"(K\0K\1\x85K\1\x85tbs.",
    "a text longer than the file": b"\x80\x02}" + b"X\xff\xff\xff\x7f" + b"s.",
    "bytes longer than the file": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".",
    "no end": b"\x80\x02}",
    "nothing to take": b"\x80\x02s.",
    "a mark that is missing": b"\x80\x02t.",
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused_by_every_reader_with_the_file_and_little_work(attack: str, reader: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "bad.pt", ATTACKS[attack])
    with work() as counted, pytest.raises(ValueError, match=r"bad\.pt"):
        READERS[reader](path)
    assert counted.calls < 20_000_000


@pytest.mark.parametrize("attack", [name for name in ATTACKS if "within itself" not in name and "instructions" not in name])
def test_an_attack_is_seen_before_torch_reads_it(attack: str, tmp_path: Path) -> None:
    tracemalloc.start()
    with pytest.raises(PickleError):
        check_pickle(archive(tmp_path / "bad.pt", ATTACKS[attack]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 400e6


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("record", ["archive/data.pkl", "archive/data/0"])
def test_a_compressed_record_is_refused_unread(record: str, reader: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "bad.pt", b"\x80\x02}" + text("w") + TENSOR + b"s.")
    with zipfile.ZipFile(path) as plain, zipfile.ZipFile(tmp_path / "bomb.pt", "w") as bomb:
        for name in plain.namelist():
            bomb.writestr(name, bytes(50_000_000) if name == record else plain.read(name),
                          zipfile.ZIP_DEFLATED if name == record else zipfile.ZIP_STORED)
    with pytest.raises(ValueError, match=r"bomb\.pt.*compressed"):
        READERS[reader](tmp_path / "bomb.pt")


def test_a_pickle_of_more_bytes_than_names_need_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PickleError, match=r"data\.pkl has 1\d{7} bytes"):
        check_pickle(archive(tmp_path / "m.pt", b"\x80\x02" + text("a" * (17 << 20)) + b"."))


def changed(path: Path, how: str) -> None:
    """Makes of a sound archive one that two readers could read in two ways."""
    data = path.read_bytes()
    if how == "a start before it":
        path.write_bytes(b"PK\x03\x04" + bytes(96) + data)
    elif how == "a comment":
        path.write_bytes(data[:-2] + struct.pack("<H", 30) + b"PK\x05\x06" + bytes(26))
    else:
        with zipfile.ZipFile(path, "a") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file.writestr("archive/data.pkl" if how == "one name twice" else "ARCHIVE/DATA.PKL", b"\x80\x02}.")


@pytest.mark.parametrize("how", ["a start before it", "a comment", "one name twice", "another spelling"])
def test_an_archive_that_two_readers_read_differently_is_refused(how: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "m.pt", b"\x80\x02}" + text("w") + TENSOR + b"s.")
    check_pickle(path)
    changed(path, how)
    with pytest.raises(PickleError):
        check_pickle(path)


@pytest.mark.parametrize("method", ["get", "items", "keys", "values", "__iter__", "__class__"])
def test_a_dictionary_that_hides_its_methods_is_read_all_the_same(method: str, tmp_path: Path) -> None:
    hiding = call("collections.OrderedDict", b")") + text("w") + TENSOR + b"s}" + text(method) + b"K\5sb"
    path = archive(tmp_path / "m.pt", b"\x80\x02" + hiding + b".")
    assert list(open_tensors(path).stored) == ["w"]
    assert list(open_stored(path).entries) == ["w"]


def test_a_parameter_that_hides_its_methods_is_read_all_the_same(tmp_path: Path) -> None:
    weight: Any = torch.nn.Parameter(torch.ones(2))
    weight.detach = 5
    torch.save({"w": weight}, tmp_path / "m.pt")
    assert torch.equal(open_tensors(tmp_path / "m.pt").read(["w"])["w"], torch.ones(2))
    assert torch.equal(open_stored(tmp_path / "m.pt").load()["w"], torch.ones(2))


OPTIMIZER = torch.optim.Adam([torch.nn.Parameter(torch.ones(3))])
SOUND = {
    "a state dict": torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).state_dict(),
    "a checkpoint of a trainer": {"state_dict": {"w": torch.ones(2)}, "epoch": 3, "lr": 1e-4, "name": "é" * 500, "none": None,
                                  "optimizer": OPTIMIZER.state_dict(), "seed": 2**64 - 1, "shape": torch.Size((2, 3)),
                                  "set": {1, 2}, "raw": b"\0\xff" * 50, "dtype": torch.bfloat16, "device": torch.device("cpu")},
    "every dtype": {str(dtype): torch.zeros(2, dtype=dtype) for dtype in (
        torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.uint8, torch.int16, torch.int32,
        torch.int64, torch.bool, torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16, torch.uint32, torch.complex64)},
    "views, and one tensor twice": {"all": torch.arange(12.0).reshape(3, 4), "row": torch.arange(12.0).reshape(3, 4)[1],
                                    "turned": torch.arange(6.0).reshape(2, 3).T, "again": OPTIMIZER.param_groups[0]["params"][0],
                                    "empty": torch.zeros(0, 4), "number": torch.tensor(3.0)},
    "parameters": {"w": torch.nn.Parameter(torch.ones(2, 2))},
    "a bare tensor": torch.ones(1, 768),
    "a list": [torch.ones(2), torch.zeros(3)],
    "pairs under widths": {768: ({"linear.0.weight": torch.ones(2, 2)}, {"linear.0.weight": torch.ones(2, 2)}), "step": 5},
}


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return type(other) is torch.Tensor and other.dtype == one.dtype and torch.equal(other.view(one.shape), one.detach())
    if isinstance(one, dict):
        return type(other) is dict and list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize(("what", "older"), [*((what, False) for what in SOUND),
                                             *((what, True) for what in SOUND if what != "every dtype")])
def test_what_people_save_is_read_as_it_was_saved(what: str, older: bool, mapped: bool, tmp_path: Path) -> None:
    torch.save(SOUND[what], tmp_path / "m.pt", _use_new_zipfile_serialization=not older)
    assert same(SOUND[what], read_pickle(tmp_path / "m.pt", mapped=mapped))


def test_tensor_attributes_do_not_keep_a_file_from_being_read(tmp_path: Path) -> None:
    weight: Any = torch.ones(2)
    weight.tensor_model_parallel = True
    torch.save({"w": weight}, tmp_path / "m.pt")
    assert torch.equal(read_pickle(tmp_path / "m.pt")["w"], torch.ones(2))


def test_storages_that_an_older_file_does_not_list_are_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(3), "v": torch.ones(2)}, tmp_path / "m.pt", _use_new_zipfile_serialization=False)
    data = (tmp_path / "m.pt").read_bytes()
    stream = io.BytesIO(data)
    for _ in range(3):
        pickle.load(stream)  # the number, the version, the system: pickles of this test's own
    from harness.weights.pickle_opcodes import Checker
    Checker(None).check(stream)
    (tmp_path / "bad.pt").write_bytes(data[:stream.tell()] + pickle.dumps([], protocol=2) + data[-40:])
    with pytest.raises(PickleError, match="list of storages"):
        check_pickle(tmp_path / "bad.pt")


@pytest.mark.parametrize("content", [b"", b"\x80", b"\x80\x02}.", pickle.dumps({"a": 1}), b"PK\x03\x04",
                                     b"PK\x03\x04" + bytes(80), b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."])
def test_what_is_not_of_torch_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "odd.pt").write_bytes(content)
    for reader in READERS.values():
        with pytest.raises(ValueError, match=r"odd\.pt"):
            reader(tmp_path / "odd.pt")


def test_pickles_changed_by_chance_are_read_or_refused_with_the_file(tmp_path: Path) -> None:
    dice = random.Random(14)
    torch.save(SOUND["a checkpoint of a trainer"], tmp_path / "seed.pt")
    with zipfile.ZipFile(tmp_path / "seed.pt") as file:
        seed = file.read("seed/data.pkl")
        numbers = {name: file.read(name) for name in file.namelist() if "/data/" in name}
    refused = 0
    for number in range(300):
        data = bytearray(seed)
        for _ in range(dice.randint(1, 4)):
            place = dice.randrange(len(data))
            odd = dice.choices(b"}])(\x85\x86tuseabRQq\x00.\xffKcX", k=dice.randint(0, 4))
            data[place:place + dice.randint(0, 3)] = bytes(odd)
        with zipfile.ZipFile(tmp_path / "odd.pt", "w") as file:
            file.writestr("seed/data.pkl", bytes(data))
            for name, content in numbers.items():
                file.writestr(name, content)
        for reader in (open_tensors, open_stored):
            try:
                reader(tmp_path / "odd.pt")
            except ValueError as error:
                refused += 1
                assert "odd.pt" in str(error), number
                assert str(error).isprintable(), number
    assert 300 < refused <= 600


def test_a_name_that_is_not_text_is_refused(tmp_path: Path) -> None:
    torch.save({(1, 2): torch.ones(1)}, tmp_path / "m.ckpt")
    with pytest.raises(ModelFileError, match=r"m\.ckpt: one of its tensors has a tuple for a name"):
        open_tensors(tmp_path / "m.ckpt")
