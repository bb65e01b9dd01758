"""Trains the sketch once more as other kinds of adapters, for comparison with the LoRA: LoHa, LoKr and DoRA of half its size,
and a textual inversion, two vectors for a word that the text encoder has never seen.

Four stages of the training, with the LoRA's pictures; the first three also have its batches and steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, PeftConfig
from torch import nn
from torch.nn import functional

from harness.zoo.tokenizer import add_word
from harness.zoo.training.captions import WORD, WORD_PHRASES, Habits, caption
from harness.zoo.training.data import scenes
from harness.zoo.training.loop import Dice, Recipe, Setting, fit
from harness.zoo.training.packed import fill_in
from harness.zoo.training.unet import ADAPTED, SKETCH, Draw, denoising_loss, draw_sketches, from_base, train_sketch, tune

WHOLE = 10_000
"""A rank for LoKr above any width: both halves are then whole, and with alpha = rank PEFT's scale is 1, which is what LyCORIS
and the files mean; PEFT would otherwise scale whole halves by alpha / rank too."""

KINDS: dict[str, Callable[[], PeftConfig]] = {
    "loha": lambda: LoHaConfig(r=2, alpha=2, target_modules=ADAPTED),
    "lokr": lambda: LoKrConfig(r=WHOLE, alpha=WHOLE, decompose_factor=4, init_weights="lycoris", target_modules=ADAPTED),
    "dora": lambda: LoraConfig(r=4, lora_alpha=4, use_dora=True, init_lora_weights="gaussian", target_modules=ADAPTED),
}
"""86 016, 70 656 and 91 904 numbers; the LoRA has 172 032."""
INVERSION = Recipe(name="word", steps=600, batch=32, rate=1e-2, weight_decay=0.0, linear=True, average=0.98, seed=8)
VECTORS = 2


def train_adapter(setting: Setting, name: str) -> None:
    """One of the adapters, "sketch" being the LoRA; what is missing of the base and the latents is unpacked first."""
    fill_in(setting)
    if name == "sketch":
        train_sketch(setting)
    elif name == "word":
        train_word(setting)
    else:
        train_kind(setting, name)


def train_kind(setting: Setting, name: str) -> None:
    """The sketch as "loha", "lokr" or "dora": writes `<work>/<name>.pt` under PEFT's names."""
    begin = begin_as_lycoris if name == "loha" else None
    weights = tune(setting, replace(SKETCH, name=name), draw_sketches(setting.work), KINDS[name](), begin)
    torch.save(weights, setting.work / f"{name}.pt")


def begin_as_lycoris(unet: nn.Module) -> None:
    """Normal weights of deviation 0.1 (w1_a), 1 (w1_b, w2_b) and 0 (w2_a): larger than PEFT's own, and with them the first
    gradient, which is the product of the three others."""
    spread = {"hada_w1_a": 0.1, "hada_w1_b": 1.0, "hada_w2_a": 0.0, "hada_w2_b": 1.0}
    for path, weight in unet.named_parameters():
        if weight.requires_grad:
            nn.init.normal_(weight, std=spread[path.split(".")[-2]])


class WithWord(nn.Module):
    """A token embedding, frozen, and after its last row the vectors of a new word, which are trained."""

    def __init__(self, known: nn.Embedding, vectors: torch.Tensor) -> None:
        super().__init__()
        self.known = known.weight.detach()
        self.vectors = nn.Parameter(vectors.clone())

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Embeddings (texts, tokens, width) of ids (texts, tokens)."""
        return functional.embedding(ids, torch.cat([self.known, self.vectors]))


def draw_with_word(work: Path) -> Draw:
    """Batches of the inversion: sketches, all called by the new word and by nothing else that says what they are."""
    latents: torch.Tensor = torch.load(work / "latents" / "sketch.pt", weights_only=True)
    habits, shown = Habits(style=0.0, mistake=0.1, empty=0.0), scenes("sketch")

    def draw(dice: Dice, count: int) -> tuple[torch.Tensor, list[str]]:
        rows = dice.numpy.integers(len(shown), size=count)
        phrases = [WORD_PHRASES[i] for i in dice.numpy.integers(len(WORD_PHRASES), size=count)]
        said = [caption(shown[row], habits, dice.numpy) for row in rows]
        return latents[torch.from_numpy(rows)], [phrase.format(text) for phrase, text in zip(phrases, said, strict=True)]

    return draw


def train_word(setting: Setting) -> None:
    """The textual inversion: writes `<work>/word.pt`, {word: vectors (2, 96)}, begun at the embedding of "drawing"."""
    device = torch.device(setting.device)
    unet, encoder, texts = from_base(setting)
    unet.requires_grad_(False)
    begun = encoder.embeddings.token_embedding.weight[texts(["drawing"])[0, 1]].detach()
    word = WithWord(encoder.embeddings.token_embedding, begun.repeat(VECTORS, 1))
    encoder.embeddings.token_embedding = word
    tokens = add_word(texts.tokenizer, WORD, VECTORS)
    draw = draw_with_word(setting.work)

    def loss(dice: Dice) -> torch.Tensor:
        latents, captions = draw(dice, INVERSION.batch)
        hidden = encoder(texts([text.replace(WORD, tokens) for text in captions]).to(device)).last_hidden_state
        return denoising_loss(unet, latents.to(device), hidden, dice)

    fit(INVERSION, [(word, 1.0)], loss, setting)
    torch.save({WORD: word.vectors.detach().cpu()}, setting.work / "word.pt")
