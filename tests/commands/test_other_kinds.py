"""Files and folders that are not models, or not whole: every use names the file and what it is, or uses it for what it is for."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from harness import Adapter, AestheticGradient, Candidate, Merge
from harness.check import problems
from harness.cli import main
from harness.materialise import Workbench
from tests.commands.file_kinds import State, model, save, write
from tests.fakes import tiny_suite

NETWORK = {"linear.0.weight": torch.ones(24, 12), "linear.0.bias": torch.zeros(24), "linear.1.weight": torch.ones(12, 24),
           "linear.1.bias": torch.zeros(12)}
CONV = torch.ones(8, 8, 1, 1)
CONTROLNETS = {
    "of the original code": {"control_model.input_blocks.0.0.weight": CONV, "control_model.zero_convs.0.0.weight": CONV},
    "without prefix": {"input_hint_block.0.weight": CONV, "zero_convs.0.0.weight": CONV, "input_blocks.0.0.weight": CONV},
    "of diffusers": {"controlnet_cond_embedding.conv_in.weight": CONV, "conv_in.weight": CONV,
                     "down_blocks.0.resnets.0.conv1.weight": CONV},
    "of Flux": {"controlnet_x_embedder.weight": CONV, "transformer_blocks.0.attn.to_q.weight": CONV, "x_embedder.weight": CONV},
    "union": {"control_add_embedding.linear_1.weight": CONV, "task_embedding": CONV, "conv_in.weight": CONV}}
T2I = {"original": {"body.0.block1.weight": CONV, "conv_in.weight": CONV},
       "diffusers": {"adapter.body.0.resnets.0.block1.weight": CONV, "adapter.conv_in.weight": CONV}}
Write = Callable[[Path], Path]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How it is written, a word that names it where a model is expected, and the uses it has all the same."""

    write: Write
    says: str
    uses: tuple[str, ...] = ()


def raw(data: bytes, name: str = "m.safetensors") -> Write:
    def written(path: Path) -> Path:
        (path / name).write_bytes(data)
        return path / name
    return written


def tensors(state: State, name: str = "m.safetensors") -> Write:
    return lambda path: save(path / name, state)


def pickled(content: object, name: str = "m.pt") -> Write:
    def written(path: Path) -> Path:
        torch.save(content, path / name)
        return path / name
    return written


def cut(form: str) -> Write:
    def written(path: Path) -> Path:
        file = write("sd1", form, path)
        file = next(file.rglob("*-00001-of-00002.safetensors")) if file.is_dir() else file
        file.write_bytes(file.read_bytes()[:-100])
        return path / "folder" if (path / "folder").is_dir() else file
    return written


def in_folder(change: Callable[[Path], None]) -> Write:
    """A diffusers folder with a change of its U-Net's folder."""
    def written(path: Path) -> Path:
        folder = write("sd1", "folder", path)
        change(folder / "unet")
        return folder
    return written


def replaced(data: bytes, name: str) -> Callable[[Path], None]:
    def change(unet: Path) -> None:
        next(unet.glob("*.safetensors")).unlink()
        (unet / name).write_bytes(data)
    return change


def four_bit(unet: Path) -> None:
    state = model("sd1", 1).parts["unet"] | {"mid_block.attentions.0.proj_in.weight": torch.zeros(32, 1, dtype=torch.uint8),
                                             "mid_block.attentions.0.proj_in.weight.absmax": torch.zeros(1)}
    save(unet / "diffusion_pytorch_model.safetensors", state)


def with_controlnet(unet: Path) -> None:
    save(unet.parent / "controlnet" / "diffusion_pytorch_model.safetensors", CONTROLNETS["of diffusers"])


def moved(*places: str) -> Write:
    def written(path: Path) -> Path:
        write("sd1", "folder", path).rename((path / "repo").joinpath(*places[:-1]).mkdir(parents=True) or
                                            (path / "repo").joinpath(*places))
        return path / "repo"
    return written


def zipped(path: Path) -> Path:
    with zipfile.ZipFile(path / "m.zip", "w") as archive:
        archive.writestr("m.safetensors", "x")
    return path / "m.zip"


def linked(target: str) -> Write:
    def written(path: Path) -> Path:
        (path / "m.safetensors").symlink_to(path / target)
        return path / "m.safetensors"
    return written


def empty_folder(path: Path) -> Path:
    (path / "folder").mkdir()
    return path / "folder"


def lora(path: Path) -> Path:
    a, b, out = write("sd1", "single file", path / "a"), write("sd1", "single file", path / "b", 2), path / "lora.safetensors"
    assert main(["adapter", "extract", "--base", str(a), "--tuned", str(b), "--rank", "2", "--parts", "unet",
                 "-o", str(out)]) == 0
    return out


KINDS = {
    "empty": Kind(write=raw(b""), says="an empty file"),
    "web page": Kind(write=raw(b"<!DOCTYPE html><html>"), says="a web page"),
    "LFS pointer": Kind(write=raw(b"version https://git-lfs.github.com/spec/v1\n"), says="git lfs pull"),
    "JSON": Kind(write=raw(b'{"a": 1}', "m.json"), says="a JSON text"), "zeros": Kind(write=raw(bytes(999)), says="unfinished"),
    "noise": Kind(write=raw(b"\xff" * 99), says="ff ff ff"), "text": Kind(write=raw(b"import os\n", "m.py"), says="a text"),
    "GGUF": Kind(write=raw(b"GGUF" + bytes(99), "m.gguf"), says="a GGUF file"), "zip": Kind(write=zipped, says="a zip archive"),
    "image": Kind(write=raw(b"\x89PNG\r\n\x1a\n", "m.png"), says="an image"),
    "cut safetensors": Kind(write=cut("single file"), says="truncated"),
    "cut ckpt": Kind(write=cut("ckpt"), says="Download it again"),
    "cut legacy": Kind(write=cut("legacy pt"), says="Download it again"),
    "cut shard": Kind(write=cut("shards"), says="truncated"),
    "missing": Kind(write=lambda path: path / "m.safetensors", says="no such file"),
    "dangling link": Kind(write=linked("gone"), says="does not exist"),
    "circle": Kind(write=linked("m.safetensors"), says="symbolic"),
    "empty folder": Kind(write=empty_folder, says="no unet/"),
    "no weights": Kind(write=in_folder(lambda unet: next(unet.glob("*.safetensors")).unlink()), says="found 'config.json'"),
    "LFS in a folder": Kind(write=in_folder(replaced(b"version https://git-lfs", "diffusion_pytorch_model.safetensors")),
                            says="git lfs pull"),
    "GGUF in a folder": Kind(write=in_folder(replaced(b"GGUF" + bytes(99), "model-Q4_K.gguf")), says="a GGUF file"),
    "4 bits in a folder": Kind(write=in_folder(four_bit), says="bitsandbytes"),
    "ControlNet in a folder": Kind(write=in_folder(with_controlnet), says="a ControlNet"),
    "repository": Kind(write=moved("v1"), says="in it: 'v1'"),
    "cache": Kind(write=moved("snapshots", "0f"), says="in it: 'snapshots/0f'"),
    "textual inversion": Kind(write=tensors({"emb_params": torch.ones(2, 12)}, "word.safetensors"), says="a textual inversion",
                              uses=("inspect", "suite adapter")),
    "hypernetwork": Kind(write=pickled({12: [NETWORK, NETWORK], "layer_structure": [1, 2, 1]}), says="a hypernetwork",
                         uses=("inspect", "suite adapter")),
    "aesthetic gradient": Kind(write=pickled(torch.ones(1, 96)), says="an aesthetic gradient",
                               uses=("inspect", "suite aesthetic")),
    "LoRA": Kind(write=lora, says="a LoRA", uses=("inspect", "convert", "add", "resize", "fuse", "suite adapter")),
    "optimizer": Kind(write=pickled({"optimizer": {"state": {0: torch.ones(1)}}, "epoch": 1}, "o.bin"), says="an optimizer"),
    **{f"ControlNet {name}": Kind(write=tensors(state), says="a ControlNet") for name, state in CONTROLNETS.items()},
    "ControlNet pickle": Kind(write=pickled({"state_dict": CONTROLNETS["of the original code"]}, "c.pth"), says="a ControlNet"),
    "ControlNet folder": Kind(write=lambda path: save(path / "cn" / "diffusion_pytorch_model.safetensors",
                                                      CONTROLNETS["of diffusers"]).parent, says="a ControlNet"),
    **{f"T2I-Adapter {name}": Kind(write=tensors(state), says="a T2I-Adapter") for name, state in T2I.items()},
}
AS_MODEL = {
    "inspect": "inspect {file}", "a": "merge --a {file} --b {model} --alpha 0.5 -o {out}",
    "b": "merge --a {model} --b {file} --alpha 0.5 --missing keep_a -o {out}",
    "take": "merge --a {model} --b {second} --alpha 0.5 --take vae={file} -o {out}",
    "base": "adapter extract --base {file} --tuned {model} --rank 2 -o {out}",
    "model": "adapter convert --model {file} {lora} -o {out}"}
AS_ADAPTER = {"convert": "adapter convert --model {model} {file} -o {out}",
              "add": "adapter merge --model {model} {file}=1 -o {out}",
              "resize": "adapter resize --model {model} {file} --rank 1 -o {out}",
              "fuse": "merge --a {model} --adapter {file}=1 -o {out}"}
AS_RECORD = {"replay": "replay {file}", "verify": "verify {file}", "recipe": "merge {file} -o {out}"}


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two sound models and an adapter."""
    root = tmp_path_factory.mktemp("beside")
    return {"lora": lora(root), "model": root / "a" / "m.safetensors", "second": root / "b" / "m.safetensors",
            "whole": write("sd1", "folder", root / "c")}


def run(line: str, capsys: pytest.CaptureFixture[str], **places: Path) -> tuple[int, str]:
    capsys.readouterr()
    code = main([word.format(**places) for word in line.split()])
    assert places["out"].exists() == (code == 0 and "{out}" in line), line
    places["out"].unlink(missing_ok=True)
    return code, capsys.readouterr().err


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_model_is_refused_where_a_model_is_expected(tmp_path, beside, capsys, kind):
    file = KINDS[kind].write(tmp_path)
    for use, line in AS_MODEL.items():
        code, error = run(line, capsys, file=file, out=tmp_path / "out.safetensors", **beside)
        assert code == (0 if use in KINDS[kind].uses else 1), (use, error)
        if code:
            assert KINDS[kind].says in error or f"{file}' does not exist" in error, (use, error)
            assert file.name in error, (use, error)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_adapter_is_refused_where_an_adapter_is_expected(tmp_path, beside, capsys, kind):
    file = KINDS[kind].write(tmp_path)
    for use, line in (AS_ADAPTER | AS_RECORD).items():
        code, error = run(line, capsys, file=file, out=tmp_path / "out.safetensors", **beside)
        assert (code == 0) == (use in KINDS[kind].uses), (use, error)
        assert not code or file.name in error, (use, error)


def said_by_a_suite(file: Path, whole: Path) -> Iterator[tuple[str, str]]:
    """What a suite says of the file in each place before the first image: by its declaration, else by the run's own check."""
    merge = Merge(a=str(whole), b=str(file), alpha=0.5, missing="keep_a")
    places = {"suite model": Candidate(name="x", model=str(file)), "suite parent": Candidate(name="x", model=merge),
              "suite adapter": Candidate(name="x", model=str(whole), adapters=(Adapter(path=str(file)),)),
              "suite aesthetic": Candidate(name="x", model="zoo:photo", aesthetic=AestheticGradient(path=str(file)))}
    for use, candidate in places.items():
        text = "; ".join(problems(tiny_suite(gates=(), candidates=(candidate,), baseline="x", clip="zoo:clip"), Path("/")))
        try:
            Workbench(device="cpu", root=Path("/")).inspect(candidate)
        except ValueError as error:
            text = text or str(error)
        yield use, text


@pytest.mark.parametrize("kind", KINDS)
def test_a_suite_refuses_before_the_first_image_what_it_cannot_use(tmp_path, beside, kind):
    file = KINDS[kind].write(tmp_path)
    for use, text in said_by_a_suite(file, beside["whole"]):
        assert (text == "") == (use in KINDS[kind].uses), (use, text)
        assert not text or file.name in text, (use, text)
    (clip,) = problems(tiny_suite(clip=f"ViT-B-32-quickgelu:{file}"), Path("/"))
    assert file.name in clip
