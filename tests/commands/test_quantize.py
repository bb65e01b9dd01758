"""`sweetspot quantize`: what is written, by other readers and by our own, and what is refused by name."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from harness import Candidate, Checkpoint, Merge, Mixed, zoo
from harness.cli import main
from harness.materialise import quantized_file
from harness.materialise.library import MaterialiseError
from harness.materialise.workbench import Workbench
from harness.quantize.by_layer import quantize_layers
from harness.quantize.layers import QuantizedWeight
from harness.weights import ModelFileError, open_model
from harness.weights.gguf_codes import encoded, joined
from harness.weights.header_claims import said_family
from harness.weights.layout import Piece, Placed
from harness.weights.ldm import unet_to_ldm

MODES = ("gguf_q8_0", "gguf_q5_1", "gguf_q5_0", "gguf_q4_1", "gguf_q4_0")
OTHERS = ("fp8_scaled", "bf16", "fp16", "fp32", "int8_weight_only", "nf4", "fp8_weight_only")
MIXED = Mixed(default="gguf_q8_0", keys={"up_blocks.*": "gguf_q4_0", "mid_block.*": "fp32"})
SUITE = f'''
from harness import Adapter, Candidate, DeepCache, Ensemble, Fused, Grid, Mixed, Prompt, Relay, Suite

MODES = {{name: name for name in {(*MODES, *OTHERS)!r}}}
MODES["mixed"] = Mixed(default={MIXED.default!r}, keys={dict(MIXED.keys)!r})
MODES["other mixed"] = Mixed(default="gguf_q8_0", keys={{"up_blocks.*": "nf4"}})
MODES["texts"] = {{"unet": "gguf_q8_0", "text_encoder": "nf4"}}
Q8 = {{"model": "zoo:photo", "quantization": "gguf_q8_0"}}
SUITE = Suite(name="bits", baseline="fp32", grid=Grid(prompts=[Prompt(id="a", text="a red ball")], seeds=[0],
              guidance_scales=[3.0], steps=2),
              candidates=[*(Candidate(name=name, model="zoo:photo", quantization=mode) for name, mode in MODES.items()),
                          Candidate(name="adapted", **Q8, adapters=(Adapter(path="zoo:sketch", weight=0.5),)),
                          Candidate(name="fused", model=Fused(model="zoo:photo", adapters=(Adapter(path="zoo:sketch"),)),
                                    quantization="gguf_q8_0"),
                          Candidate(name="saved", **Q8, savers=("sdpa_math", "vae_slicing"), step_cache=DeepCache()),
                          Candidate(name="saved bf16", model="zoo:photo", quantization="bf16",
                                    savers=("fuse_qkv", "channels_last"), step_cache=DeepCache()),
                          Candidate(name="cast", model="zoo:photo", savers=("layerwise_casting",)),
                          Candidate(name="relay", model=Relay(models=("zoo:photo", "zoo:anime"), at=(0.5,))),
                          Candidate(name="ensemble", model=Ensemble(models=("zoo:photo", "zoo:anime"), weights=(0.5, 0.5)))])
'''


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return Workbench(device="cpu", root=tmp_path_factory.mktemp("bench"), steps=2)


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "bits.py").write_text(SUITE)
    return tmp_path / "bits.py"


def quantize(suite: Path, name: str, file: str) -> int:
    return main(["quantize", str(suite), "--candidate", name, "--out", str(suite.parent / file)])


def written(suite: Path, name: str, file: str) -> Path:
    assert quantize(suite, name, file) == 0
    return suite.parent / file


def weights(unet: Any) -> dict[str, torch.Tensor]:
    """The float32 value of every weight, by its name in diffusers."""
    quantized = {f"{path.removesuffix('.quantized')}.weight": layer(torch.float32) for path, layer in unet.named_modules()
                 if isinstance(layer, QuantizedWeight)}
    return quantized | {name: parameter.detach().clone() for name, parameter in unet.named_parameters()}


def of(bench: Workbench, quantization: Any) -> dict[str, torch.Tensor]:
    return weights(bench.prepare(Candidate(name="c", model="zoo:photo", quantization=quantization)).pipeline.unet)


def read_back(bench: Workbench, path: Path) -> dict[str, torch.Tensor]:
    model = Merge(a="zoo:photo", b="zoo:photo", alpha=0.0, take={"unet": str(path)}, parts=("vae",), dtype="fp32")
    return weights(bench.prepare(Candidate(name="r", model=model)).pipeline.unet)


@pytest.mark.parametrize("mode", MODES)
def test_the_package_gguf_reads_the_weights_that_were_measured(suite: Path, bench: Workbench, mode: str) -> None:
    gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")
    reader = gguf.GGUFReader(written(suite, mode, "out.gguf"))
    live = of(bench, mode)
    names = unet_to_ldm(live)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert tensors.keys() == set(names.values())
    assert reader.fields["general.architecture"].contents() == "sd1"
    unet = bench.prepare(candidate := Candidate(name="c", model="zoo:photo", quantization=mode)).pipeline.unet
    assert quantized_file.written_bytes(candidate, unet) == sum(tensor.n_bytes for tensor in reader.tensors)
    kinds = [tensor.tensor_type.name for tensor in reader.tensors]
    assert kinds.count(mode.removeprefix("gguf_").upper()) == 78
    for key, name in names.items():
        values = gguf.dequantize(tensors[name].data, tensors[name].tensor_type)
        shape = reader.fields.get(f"comfy.gguf.orig_shape.{name}")
        if shape is not None:
            assert tuple(shape.contents()) == tuple(live[key].shape)
        assert np.array_equal(values.astype(np.float32).reshape(live[key].shape), live[key].numpy()), name


def test_the_file_predicts_the_same_bits_as_the_candidate_that_was_measured(suite: Path, bench: Workbench) -> None:
    path = written(suite, "gguf_q4_0", "out.gguf")
    model = Merge(a="zoo:photo", b="zoo:photo", alpha=0.0, take={"unet": str(path)}, parts=("vae",), dtype="fp32")
    predictions = []
    for candidate in (Candidate(name="q", model="zoo:photo", quantization="gguf_q4_0"), Candidate(name="r", model=model)):
        unet, draw = bench.prepare(candidate).pipeline.unet, torch.Generator().manual_seed(0)
        noise = torch.randn(2, unet.config.in_channels, 16, 16, generator=draw)
        states = torch.randn(2, 16, unet.config.cross_attention_dim, generator=draw)
        with torch.inference_mode():
            predictions.append(unet(noise, torch.tensor(500.0), encoder_hidden_states=states).sample)
    assert torch.equal(*predictions)


@pytest.mark.parametrize(("name", "quantization", "file"), [
    ("gguf_q5_0", "gguf_q5_0", "out.gguf"), ("mixed", MIXED, "out.gguf"), ("bf16", "bf16", "out.safetensors")])
def test_a_written_file_makes_the_candidate_that_was_measured(suite: Path, bench: Workbench, name: str, quantization: Any,
                                                             file: str) -> None:
    path, live = written(suite, name, file), of(bench, quantization)
    again = read_back(bench, path)
    assert again.keys() == live.keys()
    assert all(torch.equal(again[key], tensor.float()) for key, tensor in live.items())


def marked(root: Path, *markers: str) -> Path:
    """A suite on the photo model with markers among its tensors, and a header that says nothing."""
    tensors = load_file(zoo.resolve("zoo:photo"))
    save_file(tensors | {name: torch.zeros(0) for name in markers}, root / "marked.safetensors")
    (root / "marked.py").write_text(f'''
from harness import Candidate, Checkpoint, Grid, Prompt, Suite

MODEL = Checkpoint(path={str(root / "marked.safetensors")!r}, config="zoo:config")
SUITE = Suite(name="bits", baseline="bf16", clip="zoo:clip", grid=Grid(prompts=[Prompt(id="a", text="a red ball")], seeds=[0],
              guidance_scales=[3.0], steps=2), candidates=[Candidate(name=mode, model=MODEL, quantization=mode)
                                                           for mode in ("gguf_q4_0", "fp8_scaled", "bf16")])
''')
    return root / "marked.py"


@pytest.mark.parametrize(("mode", "file"), [("gguf_q4_0", "o.gguf"), ("fp8_scaled", "o.safetensors"), ("bf16", "o.safetensors")])
def test_a_file_says_what_the_denoiser_predicts_and_of_what_family_it_is(suite: Path, mode: str, file: str) -> None:
    model = open_model(written(suite, mode, file))
    assert (model.prediction, model.markers, model.family) == ("v_prediction", (), "sd1")
    assert model.metadata["modelspec.prediction_type"] == "v"
    assert said_family(model.metadata)[0] == "sd1"
    assert model.metadata["modelspec.merged_from"] == "zoo:photo"


@pytest.mark.parametrize(("mode", "file"), [("gguf_q4_0", "o.gguf"), ("fp8_scaled", "o.safetensors"), ("bf16", "o.safetensors")])
def test_markers_of_v_prediction_are_written_and_read_back_as_the_denoiser_of_their_model(
        tmp_path: Path, bench: Workbench, mode: str, file: str) -> None:
    path = written(marked(tmp_path, "v_pred", "ztsnr"), mode, file)
    model, whole = open_model(path), Checkpoint(path=str(tmp_path / "marked.safetensors"), config="zoo:config")
    assert model.markers == ("v_pred", "ztsnr")
    assert model.warnings == ()
    taken = Merge(a=whole, b=whole, alpha=0.0, take={"unet": str(path)}, parts=("vae",), dtype="fp32")
    config = bench.prepare(Candidate(name="r", model=taken)).pipeline.scheduler_config
    assert (config["prediction_type"], config["rescale_betas_zero_snr"]) == ("v_prediction", True)
    with pytest.raises(MaterialiseError, match="v_pred"):  # a frame of another kind, which would sample it wrongly
        bench.prepare(Candidate(name="r", model=replace(taken, a="zoo:photo", b="zoo:photo")))


def test_the_package_gguf_reads_a_file_with_markers(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")
    reader = gguf.GGUFReader(written(marked(tmp_path, "v_pred"), "gguf_q4_0", "o.gguf"))
    (marker,) = (tensor for tensor in reader.tensors if tensor.name == "v_pred")
    assert marker.data.size == 1  # older ggml reads no file with an empty tensor
    assert reader.fields["modelspec.prediction_type"].contents() == "v"


def test_scaled_fp8_codes_are_those_that_were_measured_and_described_as_comfyui_reads_them(suite: Path, bench: Workbench) -> None:
    path, live = written(suite, "fp8_scaled", "out.safetensors"), of(bench, "fp8_scaled")
    names = unet_to_ldm(live)
    with safe_open(path, "pt") as file:
        scaled = [name for name in file.keys() if name.endswith(".weight_scale")]  # noqa: SIM118  it is no dict
        assert len(scaled) == 48
        assert file.metadata()["_quantization_metadata"].count("float8_e4m3fn") == 48
        for key, name in names.items():
            tensor, scale = file.get_tensor(name), f"{name.removesuffix('.weight')}.weight_scale"
            if scale in scaled:
                assert tensor.dtype == torch.float8_e4m3fn
                assert file.get_tensor(scale).shape == ()
                tensor = tensor.float() * file.get_tensor(scale)
            assert torch.equal(tensor.float(), live[key]), name
    # Scaled codes are read as values of half precision.
    assert all(torch.allclose(tensor, live[key], rtol=1e-3, atol=1e-6) for key, tensor in read_back(bench, path).items())


def test_half_precision_is_written_where_no_cpu_runs_it(suite: Path, bench: Workbench) -> None:
    live = of(bench, "fp32")
    with safe_open(written(suite, "fp16", "out.safetensors"), "pt") as file:
        assert all(torch.equal(file.get_tensor(name), live[key].half()) for key, name in unet_to_ldm(live).items())


@pytest.mark.parametrize(("name", "file", "facts"), [
    ("nf4", "o.gguf", ["nf4", "gguf_q8_0"]), ("int8_weight_only", "o.gguf", ["int8_weight_only", "sweetspot merge"]),
    ("fp8_weight_only", "o.safetensors", ["fp8_scaled"]), ("other mixed", "o.gguf", ["nf4"]),
    ("texts", "o.gguf", ["text_encoder", "denoiser alone"]), ("adapted", "o.gguf", ["Fused"]),
    ("gguf_q4_0", "o.safetensors", [".gguf"]), ("bf16", "o.gguf", [".safetensors"]),
    ("cast", "o.safetensors", ["layerwise_casting"]), ("relay", "o.safetensors", ["relay", "a candidate of its own"]),
    ("ensemble", "o.safetensors", ["ensemble", "a candidate of its own"])])
def test_what_is_not_written_is_refused_by_name(suite: Path, capsys: pytest.CaptureFixture[str], name: str, file: str,
                                                facts: list[str]) -> None:
    assert quantize(suite, name, file) == 1
    said = capsys.readouterr().err
    assert all(fact in said for fact in facts), said
    assert not (suite.parent / file).exists()


@pytest.mark.parametrize(("name", "plain", "file"), [
    ("saved", "gguf_q8_0", "out.gguf"), ("saved bf16", "bf16", "out.safetensors")])
def test_savers_and_step_caches_make_no_difference_to_the_file(suite: Path, name: str, plain: str, file: str) -> None:
    saved = written(suite, name, file).read_bytes()
    assert saved == written(suite, plain, f"out{Path(file).suffix}").read_bytes()


@pytest.mark.parametrize("beside", [
    'controls=(Control(path="zoo:control-edges", picture="edges", start=0.5),)',
    'inpaint=Inpaint(picture="photo", mask="edges", strength=0.5)'])
def test_what_acts_in_some_steps_alone_makes_no_difference_to_the_file(suite: Path, beside: str) -> None:
    plain = written(suite, "gguf_q8_0", "out.gguf").read_bytes()
    suite.write_text(f'''
from harness import Candidate, Control, Grid, Inpaint, Prompt, Suite

PROMPT = Prompt(id="a", text="a star", pictures={{"edges": "zoo:edges-star-3", "photo": "zoo:picture-star-3"}})
MODEL = {{"model": "zoo:photo", "quantization": "gguf_q8_0"}}
SUITE = Suite(name="bits", baseline="plain", grid=Grid(prompts=[PROMPT], seeds=[0], guidance_scales=[3.0], steps=4, width=64,
              height=64), candidates=[Candidate(name="plain", **MODEL), Candidate(name="beside", **MODEL, {beside})])
''')
    assert written(suite, "beside", "out.gguf").read_bytes() == plain


@pytest.mark.parametrize("prompts", [("a red ball <lora:sketch:0.8>",), ("a red ball <lora:sketch:0.8>", "a blue ball")])
def test_adapters_of_prompts_are_refused_as_those_of_the_candidate_are(
        suite: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, prompts: tuple[str, ...]) -> None:
    (suite.parent / "loras").mkdir()
    shutil.copy(zoo.resolve("zoo:sketch"), suite.parent / "loras/sketch.safetensors")
    monkeypatch.chdir(suite.parent)
    named = ", ".join(f"Prompt(id='p{number}', text={text!r}, syntax='a1111')" for number, text in enumerate(prompts))
    tagged = suite.with_name("tagged.py")
    tagged.write_text(SUITE.replace('Prompt(id="a", text="a red ball")', named).replace("Grid(", "Grid(adapter_folder='loras', "))
    assert quantize(tagged, "gguf_q8_0", "o.gguf") == 1
    of_prompts = capsys.readouterr().err
    assert quantize(suite, "adapted", "o.gguf") == 1
    assert of_prompts == capsys.readouterr().err.replace("'adapted'", "'gguf_q8_0'")
    assert not (suite.parent / "o.gguf").exists()
    assert quantize(suite, "fused", "o.gguf") == 0  # what the refusal advises


def test_an_unknown_candidate_is_refused_with_the_nearest(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert quantize(suite, "gguf_q8", "o.gguf") == 2
    assert "gguf_q8_0" in capsys.readouterr().err


def test_a_file_that_reads_back_otherwise_never_gets_its_name(suite: Path, monkeypatch: pytest.MonkeyPatch,
                                                              capsys: pytest.CaptureFixture[str]) -> None:
    (suite.parent / "o.gguf").write_bytes(b"older")
    original = quantized_file.Live.values
    monkeypatch.setattr(quantized_file.Live, "values", lambda self, at: original(self, at) + 1)
    assert quantize(suite, "gguf_q4_0", "o.gguf") == 1
    assert "other values" in capsys.readouterr().err
    assert [file.name for file in suite.parent.glob("*o.gguf*")] == ["o.gguf"]
    assert (suite.parent / "o.gguf").read_bytes() == b"older"


def test_an_existing_file_is_kept_under_another_name(suite: Path) -> None:
    (suite.parent / "o.gguf").write_bytes(b"older")
    written(suite, "gguf_q4_0", "o.gguf")
    assert (suite.parent / "o.gguf.bak1").read_bytes() == b"older"


def test_a_name_that_readers_of_gguf_do_not_allow_is_refused(tmp_path: Path) -> None:
    from harness.weights.gguf_write import GgufTensor, save_gguf

    with pytest.raises(ModelFileError, match="at most 127"):
        save_gguf(tmp_path / "o.gguf", {"n" * 128: GgufTensor(type="F32", shape=(1,), data=torch.ones(1))}, {}, lambda _: None)


def test_layers_that_a_file_has_in_one_tensor_are_stacked_by_their_blocks_or_written_with_all_their_bits() -> None:
    torch.manual_seed(0)
    modules = {name: torch.nn.Linear(32, 8 * number) for number, name in enumerate("qkv", 1)}
    q, k, v = (f"{name}.weight" for name in modules)
    float_weight = torch.cat([modules[name].weight.detach() for name in "qkv"])
    denoiser = torch.nn.ModuleDict(modules)
    quantize_layers(denoiser, {"q": "gguf_q4_0", "k": "gguf_q4_0", "v": "gguf_q4_0"}, "float32")
    live = quantized_file.Live(denoiser)

    def placed(*keys: str, cut: tuple[int, int] | None = None) -> Placed:
        rows = sum(len(live.values(Placed(name="x", dtype="F32", shape=(-1, 32), pieces=(Piece(component="t", key=key),))))
                   for key in keys)
        return Placed(name="qkv.weight", dtype="F32", shape=(rows if cut is None else cut[1] - cut[0], 32),
                      pieces=tuple(Piece(component="t", key=key, cut=cut) for key in keys))

    stacked = live.gguf(placed(q, k, v))
    assert (stacked.type, stacked.shape) == ("Q4_0", (48, 32))
    assert torch.equal(stacked.data, joined("Q4_0", encoded("Q4_0", float_weight)))
    half = live.gguf(placed(q, cut=(4, 8)))
    assert half.type == "F32"
    assert torch.equal(half.data, live.values(placed(q))[4:])


def test_scaled_codes_of_several_layers_in_one_tensor_are_refused() -> None:
    denoiser = torch.nn.ModuleDict({name: torch.nn.Linear(32, 8) for name in "qk"})
    quantize_layers(denoiser, dict.fromkeys("qk", "fp8_scaled"), "float32")
    at = Placed(name="qk.weight", dtype="F32", shape=(16, 32), pieces=tuple(
        Piece(component="t", key=f"{name}.weight") for name in "qk"))
    with pytest.raises(MaterialiseError, match=r"'qk.weight' holds 2 layers .* GGUF"):
        quantized_file.Live(denoiser).safetensors([at], "")
