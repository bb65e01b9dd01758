"""Exported graphs hold no weights, take each of them by its name, and are kept on the disk by what they depend on."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from harness.runtimes import Graph, WeightsError
from harness.runtimes.exporting import architecture_of
from harness.runtimes.graph import PREFIX, fitting
from harness.runtimes.graph_cache import Graphs, alone, read_kept, write_kept
from harness.runtimes.graph_check import trouble_of
from harness.runtimes.unet_entry import UNET
from tests.runtimes.conftest import SIZE, small_unet


def test_the_weights_of_a_graph_are_those_of_the_state_dict(graph: Graph) -> None:
    assert graph.weights == {name: tuple(tensor.shape) for name, tensor in small_unet().state_dict().items()}


def test_a_graph_holds_no_weight_and_no_trace_of_this_machine(graph: Graph) -> None:
    model = onnx.load_from_string(graph.data)
    assert not [tensor.name for tensor in model.graph.initializer if tensor.name.startswith(PREFIX)]
    assert sum(len(tensor.raw_data) for tensor in model.graph.initializer) < 4096
    assert b"site-packages" not in graph.data
    assert not any(node.op_type.startswith("Sequence") for node in model.graph.node)


def test_the_initializers_of_a_graph_are_of_a_file_that_does_not_exist(graph: Graph) -> None:
    model = onnx.load_from_string(graph.with_initializers())
    weights = [tensor for tensor in model.graph.initializer if tensor.name.startswith(PREFIX)]
    assert {tensor.name.removeprefix(PREFIX): tuple(tensor.dims) for tensor in weights} == graph.weights
    assert all(tensor.data_location == onnx.TensorProto.EXTERNAL and not tensor.raw_data for tensor in weights)
    assert [value.name for value in model.graph.input] == list(graph.inputs)


@pytest.mark.parametrize(("change", "fact"), [
    (lambda weights: weights.pop("conv_in.bias"), "'conv_in.bias' is missing"),
    (lambda weights: weights.update(other=torch.zeros(1)), "'other' is unknown"),
    (lambda weights: weights.update({"conv_in.bias": torch.zeros(3)}), r"'conv_in.bias' is \[3\], expected \[8\]"),
    (lambda weights: weights.update({"conv_in.bias": torch.zeros(8, dtype=torch.float16)}), "'conv_in.bias' is float16"),
    (lambda weights: weights.update({"conv_in.weight": torch.zeros(3, 3, 4, 8).permute(3, 2, 0, 1)}), "not contiguous")])
def test_weights_that_do_not_fit_are_refused_by_name(change: Any, fact: str, graph: Graph, executor: Any) -> None:
    weights = dict(small_unet().state_dict())
    change(weights)
    with pytest.raises(WeightsError, match=fact):
        fitting(graph, weights)
    with pytest.raises(WeightsError, match=fact):
        executor.refresh(weights, "a")
    assert executor.holds == ""


def test_a_graph_is_exported_once_and_then_read(graphs: Graphs, graph: Graph) -> None:
    later = Graphs(folder=graphs.folder)
    assert later.of(small_unet(1), "float32", SIZE) == graph
    assert later.seconds == {}


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"x" + data[1:], lambda data: b"",
                                    lambda data: data + b" "])
def test_a_damaged_graph_is_made_again(damage: Any, graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.runtimes.graph_cache.export", lambda *_: graph)
    Graphs(folder=tmp_path).of(small_unet(), "float32", SIZE)
    [path] = tmp_path.glob("*/*.graph")
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    again = Graphs(folder=tmp_path)
    assert again.of(small_unet(), "float32", SIZE) == graph
    assert list(again.seconds) == [graph.architecture]
    assert path.read_bytes() == whole


def test_a_graph_serves_in_a_folder_that_cannot_be_written(graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.runtimes.graph_cache.export", lambda *_: graph)
    (tmp_path / "graphs").write_text("a file")
    graphs = Graphs(folder=tmp_path / "graphs")
    assert graphs.of(small_unet(), "float32", SIZE) is graphs.of(small_unet(), "float32", SIZE) is graph
    assert "graphs" in graphs.unkept[graph.architecture]
    assert "cannot be written" in graphs.unkept[graph.architecture]


def test_a_graph_under_the_name_of_another_is_not_read(graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.runtimes.graph_cache.export", lambda *_: graph)
    Graphs(folder=tmp_path).of(small_unet(), "float32", SIZE)
    [path] = tmp_path.glob("*/*.graph")
    other = architecture_of(small_unet(), "float32", (8, 8))
    path.rename(path.with_name(f"{other}.graph"))
    again = Graphs(folder=tmp_path)
    again.of(small_unet(), "float32", (8, 8))
    assert list(again.seconds) == [other]


def test_what_decides_a_graph_is_in_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    unet = small_unet()
    names = {architecture_of(unet, dtype, size) for dtype, size in (("float32", SIZE), ("float16", SIZE), ("float32", (6, 4)))}
    monkeypatch.setattr("harness.runtimes.exporting.metadata.version", lambda _: "99")
    assert len(names | {architecture_of(unet, "float32", SIZE)}) == 4


def edited(graph: Graph, change: Any) -> bytes:
    """The graph with a change that whoever can write into the folder could make."""
    model = onnx.load_from_string(graph.data)
    change(model)
    data: bytes = model.SerializeToString()
    return data


def reading_a_file(model: Any) -> None:
    tensor = model.graph.initializer.add(name="foreign", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")


def bomb(model: Any) -> None:
    """A value of a thousand times a thousand million numbers, added to nothing."""
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([10 ** 6, 10 ** 6]), "shape"))
    model.graph.node.insert(0, onnx.helper.make_node("ConstantOfShape", ["shape"], ["bomb"], name="bomb"))


def looping(model: Any) -> None:
    body = onnx.helper.make_graph([], "body", [], [])
    model.graph.node.add(op_type="Loop", output=["x"]).attribute.append(onnx.helper.make_attribute("body", body))


HOSTILE = {
    "another file": reading_a_file, "takes more than": bomb, "the operator .Loop": looping,
    "the operator com.evil.Run": lambda model: model.graph.node.add(op_type="Run", domain="com.evil", output=["x"]),
    "operators or functions of its own": lambda model: model.opset_import.add(domain="com.evil", version=1),
    "inputs are other ones": lambda model: model.graph.input.pop(),
    "output is another one": lambda model: model.graph.output.add(name="more"),
    "is not known": lambda model: model.graph.node.add(op_type="NonZero", input=["sample"], output=["x"])}


@pytest.mark.parametrize("fact", HOSTILE)
def test_a_graph_that_no_export_writes_is_refused(fact: str, graph: Graph) -> None:
    inputs = UNET.inputs(small_unet().config, SIZE)
    assert trouble_of(graph.data, inputs, graph.weights, "float32") == ""
    assert fact in trouble_of(edited(graph, HOSTILE[fact]), inputs, graph.weights, "float32")


def test_a_foreign_graph_with_a_true_digest_is_made_again(graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.runtimes.graph_cache.export", lambda *_: graph)
    Graphs(folder=tmp_path).of(small_unet(), "float32", SIZE)
    [path] = tmp_path.glob("*/*.graph")
    write_kept(path, graph.architecture, edited(graph, reading_a_file))
    again = Graphs(folder=tmp_path)
    assert again.of(small_unet(), "float32", SIZE) == graph
    assert list(again.seconds) == [graph.architecture]


@pytest.mark.parametrize("plant", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["a pipe", "an endless device"])
def test_what_is_no_regular_file_in_place_of_a_graph_is_not_read(plant: Any, tmp_path: Path) -> None:
    plant(tmp_path / "a.graph")
    assert read_kept(tmp_path / "a.graph", "a") is None
    assert write_kept(tmp_path / "a.graph", "a", b"graph") == ""
    assert read_kept(tmp_path / "a.graph", "a") == b"graph"


def test_of_several_processes_one_at_a_time_makes_what_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.plan"
    with alone(path):
        pauses: list[float] = []
        with alone(path, seconds=0.05, pause=lambda seconds: (pauses.append(seconds), time.sleep(0.02))[0]):
            assert pauses, "another one waits, and not for ever"
    pauses.clear()
    with alone(path, pause=pauses.append):
        assert pauses == []


def test_a_pipe_in_place_of_a_lock_and_a_folder_that_is_none_hold_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.plan.lock")
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "a.plan", tmp_path / "file" / "b.plan"):
        with alone(path):
            pass
