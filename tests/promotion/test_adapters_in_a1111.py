"""A candidate's adapters as A1111's tags and as hashes by which Civitai finds them; what has no words there is said."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harness.declare import Adapter, Alphas
from harness.declare.syntax.tags import without_tags
from harness.promotion.adapters_in_a1111 import AdaptersInA1111, adapters_in_a1111, network_hash
from harness.weights import content_hash

UNET = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
TEXT = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"


def lora(path: Path, *, text: bool = True, **header: str) -> Path:
    """A LoRA of rank 1 of one layer of the U-Net, and of one of the text encoder."""
    tensors = {f"{module}.{role}.weight": torch.ones(shape) for module, width in ((UNET, 320), *(((TEXT, 768),) if text else ()))
               for role, shape in (("lora_down", (1, width)), ("lora_up", (width, 1)))}
    save_file(tensors, path, metadata=header or None)
    return path


def words(*adapters: Adapter) -> AdaptersInA1111:
    return adapters_in_a1111(adapters, {a.path: content_hash(Path(a.path)) for a in adapters if Path(a.path).exists()})


@pytest.fixture
def ink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    lora(Path("ink.safetensors"))
    return "ink.safetensors"


def test_the_hash_is_of_the_tensors_alone_so_that_a_description_does_not_change_it(ink: str, tmp_path: Path) -> None:
    described = lora(tmp_path / "described.safetensors", ss_output_name="ink", note="another header")
    content = Path(ink).read_bytes()
    data = content[8 + int.from_bytes(content[:8], "little"):]
    assert network_hash(Path(ink)) == network_hash(described) == hashlib.sha256(data).hexdigest()[:12]
    assert content != described.read_bytes()


def test_the_hash_of_another_format_is_of_all_bytes(tmp_path: Path) -> None:
    (tmp_path / "ink.pt").write_bytes(b"12345678 and more")
    assert network_hash(tmp_path / "ink.pt") == hashlib.sha256(b"12345678 and more").hexdigest()[:12]


@pytest.mark.parametrize(("weight", "blocks", "tag"), [
    (0.8, None, "<lora:ink:0.8>"), (1.0, None, "<lora:ink:1>"), (1 / 3, None, f"<lora:ink:{1 / 3!r}>"),
    (0.8, Alphas(default=1, parts={"text_encoder": 0}), "<lora:ink:0:0.8>"),
    (1.0, Alphas(default=0.5, parts={"unet": 0.9}), "<lora:ink:0.5:0.9>"),
    (2.0, Alphas(default=0.5), "<lora:ink:1>")])
def test_a_tag_says_the_weights_and_is_read_back_as_them(weight: float, blocks: Alphas | None, tag: str, ink: str) -> None:
    written = words(Adapter(path=ink, weight=weight, blocks=blocks))
    assert (written.tags, written.hashes, written.differences) == ((tag,), {"ink": network_hash(Path(ink))}, ())
    (read,) = without_tags(tag)[1]
    of = blocks or Alphas(default=1)
    assert read.weight == weight * of.parts.get("unet", of.default)
    assert (read.weight if read.text_weight is None else read.text_weight) == weight * of.parts.get("text_encoder", of.default)


@pytest.mark.parametrize(("change", "why"), [
    ({"end": 0.5}, "of the steps"), ({"start": 0.2}, "of the steps"),
    ({"blocks": Alphas(default=1, keys={"unet.*attn2*": 0.5})}, "weights differ")])
def test_what_a_tag_cannot_say_has_none_and_the_file_is_still_named_by_its_hash(
        change: dict[str, object], why: str, ink: str) -> None:
    written = words(Adapter(path=ink, **change))
    assert (written.tags, written.hashes) == ((), {"ink": network_hash(Path(ink))})
    assert [why in sentence and "'ink'" in sentence for sentence in written.differences] == [True]


def test_a_file_that_is_gone_or_another_one_has_neither_tag_nor_hash(ink: str) -> None:
    adapter = Adapter(path=ink)
    before = {ink: content_hash(Path(ink))}
    lora(Path(ink), text=False)
    for inputs in (before, {}):
        written = adapters_in_a1111([adapter], inputs)
        assert (written.tags, dict(written.hashes or {}), len(written.differences)) == ((), {}, 1)


def test_names_that_end_a_tag_or_are_used_twice_make_no_tag(ink: str) -> None:
    Path("a").mkdir()
    odd, twin = lora(Path("in,k>.safetensors")), lora(Path("a/ink.safetensors"))
    assert words(Adapter(path=str(odd))).tags == ()
    both = words(Adapter(path=ink), Adapter(path=str(twin)))
    assert (both.tags, len(both.differences)) == ((), 2)


def test_a_textual_inversion_has_no_tag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEETSPOT_CACHE", str(tmp_path))
    from harness import zoo

    inputs = {"zoo:sketch-word": content_hash(zoo.resolve("zoo:sketch-word"))}
    written = adapters_in_a1111([Adapter(path="zoo:sketch-word")], inputs)
    assert (written.tags, dict(written.hashes or {}), len(written.differences)) == ((), {}, 1)
