"""References through a workbench: weight 0, spans of steps, mixed batches, quantization, and adapters beside them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import Adapter, Alphas, Candidate, Control, Prompt
from harness.declare.guiding import Reference
from harness.materialise import MaterialiseError, Workbench
from harness.records import Cell
from harness.sampling import Denoising, embedded, entered
from harness.weights import ModelFileError
from tests.fakes import tiny_grid
from tests.reference.files import plain, saved

FACES = {"fish": "zoo:picture-fish-3", "cat": "zoo:picture-cat-5", "cup": "zoo:picture-cup-6"}
PROMPTS = tuple(Prompt(id=name, text=f"a {name}", pictures={"face": file}) for name, file in FACES.items())
FACE = Reference(path="zoo:image-prompt", picture="face", encoder="zoo:clip")


@pytest.fixture(scope="module")
def bench() -> Workbench:
    return Workbench.for_grid(grid(), device="cpu", root=Path.cwd())


def grid(**changes: Any) -> Any:
    return tiny_grid(**{"prompts": PROMPTS, "steps": 4, "guidance_scales": (3,), **changes})


def latents(bench: Workbench, candidate: Candidate, shown: str = "fish", **changes: Any) -> torch.Tensor:
    """The latents of one batch, a cell for each of the prompts."""
    own = grid(**changes)
    phases = bench.prepare(candidate).phases
    texts = embedded(phases, own.prompts, steps=own.steps)
    run = Denoising(phases[0].enter(), own, tuple(Cell(prompt=name, seed=1, guidance=3) for name in shown.split()))
    for phase, stop in zip(phases, [*(later.first for later in phases[1:]), own.steps], strict=True):
        run.advance(entered(phase, texts), stop)
    return run.latents


def of(*references: Reference, **fields: Any) -> Candidate:
    return Candidate(**{"name": "c", "model": "zoo:photo", "references": references, **fields})


def changed(**fields: Any) -> Reference:
    return Reference(**{"path": FACE.path, "picture": "face", "encoder": "zoo:clip", **fields})


def test_weight_0_is_the_model_alone_to_the_last_bit_and_another_weight_is_not(bench: Workbench) -> None:
    alone = latents(bench, of())
    assert torch.equal(latents(bench, of(changed(weight=0))), alone)
    assert torch.equal(latents(bench, of(changed(blocks=Alphas(default=0)))), alone)
    shown = latents(bench, of(changed(weight=0.5)))
    assert not torch.allclose(shown, alone, atol=0.1)
    assert torch.equal(latents(bench, of()), alone)


def test_both_forms_of_the_file_make_the_same_picture(bench: Workbench) -> None:
    assert torch.equal(latents(bench, of(FACE)), latents(bench, of(changed(path="zoo:image-prompt-bin"))))


def test_a_picture_of_a_mixed_batch_depends_on_its_own_reference_alone(bench: Workbench) -> None:
    other = (PROMPTS[0], Prompt(id="cat", text="a cat", pictures={"face": FACES["cup"]}), PROMPTS[2])
    together, elsewhere = latents(bench, of(FACE), "fish cat"), latents(bench, of(FACE), "fish cat", prompts=other)
    assert torch.equal(together[0], elsewhere[0])
    assert not torch.allclose(together[1], elsewhere[1], atol=0.1)


def test_a_reference_acts_in_its_span_of_the_steps_alone(bench: Workbench) -> None:
    late = latents(bench, of(changed(start=0.5)))
    assert not torch.allclose(late, latents(bench, of()), atol=0.01)
    assert not torch.allclose(late, latents(bench, of(FACE)), atol=0.01)
    pair = of(changed(end=0.5), changed(start=0.5))
    assert torch.equal(latents(bench, pair), latents(bench, of(FACE)))


def test_it_acts_beside_a_lora_and_neither_drops_the_other(bench: Workbench) -> None:
    sketch = (Adapter(path="zoo:sketch"),)
    both = latents(bench, of(FACE, adapters=sketch))
    for one in (of(FACE), of(adapters=sketch), of()):
        assert not torch.allclose(both, latents(bench, one), atol=0.05)
    assert torch.equal(latents(bench, of(FACE, adapters=sketch)), both)


def test_a_quantized_unet_sees_the_picture_too(bench: Workbench) -> None:
    quantized, plainly = (latents(bench, of(FACE, quantization=mode)) for mode in ("int8_weight_only", "fp32"))
    assert torch.allclose(quantized, plainly, atol=0.5)
    assert not torch.allclose(quantized, latents(bench, of(quantization="int8_weight_only")), atol=0.5)


def test_blocks_choose_the_cross_attentions_that_see_the_picture(bench: Workbench) -> None:
    up = changed(blocks=Alphas(default=0, keys={"*up_blocks.1*": 1}))
    assert not torch.allclose(latents(bench, of(up)), latents(bench, of(FACE)), atol=0.01)
    assert not torch.allclose(latents(bench, of(up)), latents(bench, of()), atol=0.01)
    with pytest.raises(MaterialiseError, match=r"'\*up_blocks.7\*'.*attn2"):
        bench.inspect(of(changed(blocks=Alphas(default=0, keys={"*up_blocks.7*": 1}))))


def test_the_coverage_has_a_row_with_every_tensor_and_what_is_cropped(bench: Workbench, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (96, 64)).save(tmp_path / "wide.png")
    wide = (Prompt(id="w", text="a", pictures={"face": str(tmp_path / "wide.png")}),)
    own = Workbench.for_grid(grid(prompts=wide), device="cpu", root=tmp_path)
    row = next(row for row in own.prepare(of(FACE)).coverage if row.component == "reference")
    assert len(row.keys["applied"]) == 12
    assert any("33%" in note and "wide.png" in note for note in row.notes)


def test_what_does_not_fit_is_refused_before_anything_is_sampled(bench: Workbench, tmp_path: Path) -> None:
    other = saved(plain([(64, 96)] * 3, width=96), tmp_path / "other.safetensors")
    wide = saved(plain([(64, 96)] * 4, width=1024), tmp_path / "wide.safetensors")
    for reference, words in ((changed(path=str(other)), "3 cross attentions"), (changed(path=str(wide)), "ViT-H-14"),
                             (changed(path="zoo:sketch"), "adapters="), (changed(path="zoo:control-edges"), "controls=")):
        with pytest.raises(ModelFileError, match=words):
            bench.inspect(of(reference))
    with pytest.raises(MaterialiseError, match="none of the 4 steps"):
        bench.inspect(of(changed(start=0.3, end=0.4)))


def test_the_identity_knows_the_file_the_encoder_and_the_weight_by_content(bench: Workbench, tmp_path: Path) -> None:
    from harness.zoo import resolve

    copy = tmp_path / "renamed.safetensors"
    copy.write_bytes(resolve("zoo:image-prompt").read_bytes())
    identity = bench.weights(of(FACE)).identity
    assert bench.weights(of(changed(path=str(copy)))).identity == identity
    for other in (of(), of(changed(weight=0.5)), of(changed(end=0.5)), of(changed(path="zoo:image-prompt-bin"))):
        assert bench.weights(other).identity != identity
    assert np.all([len(bench.weights(of(FACE)).inputs) > len(bench.weights(of()).inputs)])


def test_a_hypernetwork_and_a_reference_act_together(tmp_path: Path) -> None:
    drawing = torch.Generator().manual_seed(0)
    halves = [{"linear.0.weight": torch.randn(192, 96, generator=drawing) * 0.1, "linear.0.bias": torch.zeros(192),
               "linear.1.weight": torch.randn(96, 192, generator=drawing) * 0.1, "linear.1.bias": torch.zeros(96)} for _ in "kv"]
    torch.save({96: halves, "layer_structure": [1, 2, 1], "activation_func": "linear", "is_layer_norm": False}, tmp_path / "h.pt")
    own = Workbench.for_grid(grid(), device="cpu", root=tmp_path)
    hyper = (Adapter(path="h.pt"),)
    both = latents(own, of(FACE, adapters=hyper))
    for one in (of(FACE), of(adapters=hyper)):
        assert not torch.allclose(both, latents(own, one), atol=0.05)


def test_a_control_and_a_reference_act_together(tmp_path: Path) -> None:
    pictured = tuple(Prompt(id=p.id, text=p.text, pictures={**p.pictures, "edges": f"zoo:edges-{p.id}-3"}) for p in PROMPTS)
    own = Workbench.for_grid(grid(prompts=pictured), device="cpu", root=tmp_path)
    control = (Control(path="zoo:control-edges", picture="edges"),)
    both = latents(own, of(FACE, controls=control), prompts=pictured)
    for one in (of(FACE), of(controls=control)):
        assert not torch.allclose(both, latents(own, one, prompts=pictured), atol=0.05)
