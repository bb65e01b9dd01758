"""The live arithmetic is diffusers' own at batch 1, and each picture of a mixed batch depends on its own reference alone."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from harness.reference.attention import hide_pictures, show_pictures
from harness.reference.kinds import PLAIN
from harness.reference.live import LiveReference, reference_inputs
from harness.reference.projection import plain_projection, plus_projection
from harness.reference.reading import cross_attentions, read_image_prompt
from harness.zoo.models import new_unet
from tests.reference.files import Tensors, plain, plus, saved, sections

LAYERS = [(64, 96)] * 4
PROJECTIONS = {"plain": plain_projection, "plus": plus_projection}


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    made = new_unet().eval().requires_grad_(False)
    for module in made.modules():
        if hasattr(module, "to_out"):
            module.to_out[0].weight *= 8  # so that attention matters
    return made


@pytest.fixture
def mine(unet: UNet2DConditionModel) -> Iterator[UNet2DConditionModel]:
    own = copy.deepcopy(unet)
    show_pictures(own, list(cross_attentions({key: tuple(value.shape) for key, value in own.state_dict().items()})))
    yield own


def live(tensors: Tensors, folder: Path, weight: float = 0.7, seed: int = 0) -> LiveReference:
    prompt = read_image_prompt(saved(tensors, folder / f"{seed}.safetensors"))
    project, attention = PROJECTIONS[prompt.kind](prompt.projection_tensors()), prompt.attention_tensors()
    return LiveReference(identity=str(seed), tokens=lambda _: project(embedding(prompt.kind, seed))[0],
                         keys=tuple(key for key, _ in attention), values=tuple(value for _, value in attention),
                         weights=(weight,) * len(attention))


def embedding(kind: str, seed: int) -> torch.Tensor:
    shape = (1, 12) if kind == PLAIN else (1, 7, 12)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def inputs(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    drawing = torch.Generator().manual_seed(9)
    return torch.randn(count, 8, 8, 8, generator=drawing), torch.randn(count, 24, 96, generator=drawing)


def made_with(unet: UNet2DConditionModel, references: list[LiveReference], pictures: dict[tuple[str, str], torch.Tensor],
              rows: list[str]) -> torch.Tensor:
    latents, text = inputs(len(rows))
    shown = reference_inputs(references, pictures, rows, torch.float32)
    made: torch.Tensor = unet(latents, 500, text, cross_attention_kwargs={"ip_hidden_states": shown}).sample
    return made


@pytest.mark.parametrize("make", [plain, plus])
def test_the_prediction_is_diffusers_own(make: Callable[..., Tensors], unet: UNet2DConditionModel, mine: UNet2DConditionModel,
                                         tmp_path: Path) -> None:
    tensors = make(LAYERS)
    oracle = copy.deepcopy(unet)
    oracle._load_ip_adapter_weights([sections(tensors)])
    for processor in oracle.attn_processors.values():
        if hasattr(processor, "scale"):
            processor.scale = [0.7]
    latents, text = inputs(1)
    kind = "plain" if make is plain else "plus"
    expected = oracle(latents, 500, text, added_cond_kwargs={"image_embeds": [embedding(kind, 3)[:, None]]}).sample
    reference = live(tensors, tmp_path, seed=3)
    made = made_with(mine, [reference], {("3", "p"): reference.tokens(None)}, ["p"])
    assert torch.allclose(made, expected, atol=1e-6)
    assert not torch.allclose(made, unet(latents, 500, text).sample, atol=1e-3)


def test_two_references_add_up_as_in_diffusers(unet: UNet2DConditionModel, mine: UNet2DConditionModel, tmp_path: Path) -> None:
    first, second = plain(LAYERS), plus(LAYERS)
    oracle = copy.deepcopy(unet)
    oracle._load_ip_adapter_weights([sections(first), sections(second)])
    for processor in oracle.attn_processors.values():
        if hasattr(processor, "scale"):
            processor.scale = [0.5, 1.2]
    latents, text = inputs(1)
    shown = [embedding("plain", 1)[:, None], embedding("plus", 2)[:, None]]
    expected = oracle(latents, 500, text, added_cond_kwargs={"image_embeds": shown}).sample
    references = [live(first, tmp_path, 0.5, seed=1), live(second, tmp_path, 1.2, seed=2)]
    made = made_with(mine, references, {(one.identity, "p"): one.tokens(None) for one in references}, ["p"])
    assert torch.allclose(made, expected, atol=1e-6)


def test_a_picture_of_a_mixed_batch_depends_on_its_own_reference_alone(mine: UNet2DConditionModel, tmp_path: Path) -> None:
    reference = live(plain(LAYERS), tmp_path)
    drawing = torch.Generator().manual_seed(4)
    pictures = {("0", name): torch.randn(4, 96, generator=drawing) for name in "abc"}
    together, elsewhere = (made_with(mine, [reference], pictures, list(rows)) for rows in ("ab", "ac"))
    assert torch.equal(together[0], elsewhere[0])
    assert not torch.equal(together[1], elsewhere[1])


def test_without_pictures_and_at_weight_0_nothing_changes_to_the_last_bit(unet: UNet2DConditionModel, mine: UNet2DConditionModel,
                                                                          tmp_path: Path) -> None:
    latents, text = inputs(2)
    plainly = unet(latents, 500, text).sample
    assert torch.equal(mine(latents, 500, text).sample, plainly)
    reference = live(plain(LAYERS), tmp_path, weight=0.0)
    assert torch.equal(made_with(mine, [reference], {("0", "p"): reference.tokens(None)}, ["p", "p"]), plainly)
    hide_pictures(mine)
    assert mine.attn_processors.keys() == unet.attn_processors.keys()
    assert {type(one) for one in mine.attn_processors.values()} == {type(one) for one in unet.attn_processors.values()}


def test_only_the_layers_with_a_weight_see_the_picture(mine: UNet2DConditionModel, tmp_path: Path) -> None:
    tensors = plain(LAYERS)
    everywhere = live(tensors, tmp_path)
    one = LiveReference(identity="0", tokens=everywhere.tokens, keys=everywhere.keys, values=everywhere.values,
                        weights=(0, 0.7, 0, 0))
    shown = one.shown(everywhere.tokens(None)[None], torch.float32)
    assert [layer is None for layer in shown] == [True, False, True, True]
    pictures = {("0", "p"): everywhere.tokens(None)}
    assert not torch.allclose(made_with(mine, [one], pictures, ["p"]), made_with(mine, [everywhere], pictures, ["p"]), atol=1e-4)
