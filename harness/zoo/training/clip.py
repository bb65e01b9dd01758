"""Trains the tiny open_clip model contrastively on pictures and captions. Pictures are augmented so that generated ones are not
out of distribution.

The text encoder of the diffusion models starts from this model's text tower.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from harness.zoo.draw import BACKGROUNDS, COLOURS, STYLES, SUBJECTS, Scene
from harness.zoo.models import new_clip
from harness.zoo.tokenizer import learn_merges, load_clip_tokenizer, vocabulary, write_tokenizer
from harness.zoo.training.captions import STYLE_PHRASES, Habits, describe, vocabulary_words
from harness.zoo.training.data import Pictures, load_pictures, scenes
from harness.zoo.training.loop import Dice, Recipe, Setting, fit
from harness.zoo.training.vae import to_tensor

RECIPE = Recipe(name="clip", steps=1700, batch=96, rate=1.2e-3, beta2=0.98, weight_decay=0.05, seed=3)
HABITS = Habits(colour=0.9, background=0.7, style=0.6, mistake=0.0, empty=0.0)
SETS = ("base", "sketch")
Flags = NDArray[np.bool_]


def make_tokenizer(work: Path) -> int:
    """Learns and writes the tokenizer to `<work>/tokenizer`; returns the size of its vocabulary."""
    merges = learn_merges(vocabulary_words())
    write_tokenizer(merges, work / "tokenizer")
    return len(vocabulary(merges))


def facts(scene: Scene) -> list[int]:
    """A scene as four numbers: subject, colour, background, style."""
    return [
        SUBJECTS.index(scene.subject),
        list(COLOURS).index(scene.colour),
        list(BACKGROUNDS).index(scene.background),
        STYLES.index(scene.style),
    ]


def say(scene: Scene, flags: Flags, rng: np.random.Generator) -> str:
    """The true caption that names colour, background and style as `flags` say."""
    content = describe(scene, bool(flags[0]), bool(flags[1]), rng.random() < 0.25)
    phrases = STYLE_PHRASES[scene.style]
    return phrases[rng.integers(len(phrases))].format(content) if flags[2] else content


def fitting(rows: NDArray[np.int64], flags: Flags) -> Flags:
    """[i, j]: caption j is also true of picture i; such pairs must not be pushed apart."""
    same = rows[:, None, :] == rows[None, :, :]
    agree: Flags = same[..., 0] & (same[..., 1:] | ~flags[None]).all(axis=-1)
    return agree


def roughen(pictures: torch.Tensor, dice: Dice) -> torch.Tensor:
    """Half of a batch with noise, contrast, tint or blur, so that a faulty picture is still in the model's experience."""
    n = len(pictures)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=dice.torch)

    rough = pictures * (0.75 + 0.5 * draw(n, 1, 1, 1)) + 0.3 * (draw(n, 3, 1, 1) - 0.5)
    blurred = functional.avg_pool2d(functional.pad(rough, (1, 1, 1, 1), mode="replicate"), 3, 1)
    rough = torch.where(draw(n, 1, 1, 1) < 0.5, blurred, rough)
    rough = rough + 0.25 * draw(n, 1, 1, 1) * torch.randn(pictures.shape, generator=dice.torch)
    return torch.where(draw(n, 1, 1, 1) < 0.5, rough.clamp(-1, 1), pictures)


def train_clip(setting: Setting) -> None:
    """Trains and writes `<work>/clip.pt`."""
    work, device = setting.work, torch.device(setting.device)
    size = make_tokenizer(work)
    tokenizer = load_clip_tokenizer(work / "tokenizer")
    torch.manual_seed(12)
    model = new_clip(size).to(device)
    pixels: Pictures = np.concatenate([load_pictures(work, name) for name in SETS])
    everything = [scene for name in SETS for scene in scenes(name)]
    rows = np.array([facts(scene) for scene in everything])

    def loss(dice: Dice) -> torch.Tensor:
        picked = dice.numpy.integers(len(pixels), size=RECIPE.batch)
        chances = np.array([HABITS.colour, HABITS.background, HABITS.style])
        flags = dice.numpy.random((RECIPE.batch, 3)) < chances
        flags[:, 1] &= rows[picked, 3] != STYLES.index("sketch")  # on paper there is no background to name
        texts = [say(everything[i], flag, dice.numpy) for i, flag in zip(picked, flags, strict=True)]
        image, text, scale = model(roughen(to_tensor(pixels[picked]), dice).to(device), tokenizer(texts).to(device))
        logits = scale.clamp(max=54.6) * image @ text.T
        also = torch.from_numpy(fitting(rows[picked], flags)).to(device)
        also.fill_diagonal_(False)
        target = torch.arange(len(picked), device=device)
        by_image = functional.cross_entropy(logits.masked_fill(also, -1e4), target)
        return 0.5 * (by_image + functional.cross_entropy(logits.T.masked_fill(also.T, -1e4), target))

    fit(RECIPE, [(model, 1.0)], loss, setting)
    torch.save(model.cpu().state_dict(), work / "clip.pt")
