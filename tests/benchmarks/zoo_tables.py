"""The tables of docs/zoo.md, measured again and printed as Markdown; all seeds are fixed.

    python tests/benchmarks/zoo_tables.py
    python tests/benchmarks/zoo_tables.py --tables truth kinds

Tables: drawn pictures, guidance by alpha, default dresses, adapter scale, kinds of adapters, quantization.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import numpy as np
import torch

from harness.zoo import load_clip
from harness.zoo.draw import STYLES, SUBJECTS, Scene, random_scene, render
from harness.zoo.training.captions import STYLE_PHRASES, WORD, article, describe
from tests.zoo import oracle
from tests.zoo.plain_sampler import (
    Pictures,
    Studio,
    Weights,
    blend,
    open_studio,
    paint,
    unet_of,
    unet_weights,
    with_adapter,
    with_word,
)

PICTURES = 96
GUIDANCE = (1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0)
DRESS = "a dress on a white background"


class Scorer:
    """The tiny CLIP as a judge: 100 x cosine to a caption, and the style it sees."""

    def __init__(self) -> None:
        self._model, self._tokenizer, self._pixels = load_clip()

    @torch.no_grad()
    def _images(self, pictures: Pictures) -> torch.Tensor:
        mean, std = (torch.tensor(self._pixels[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
        pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255.0
        encoded: torch.Tensor = self._model.encode_image((pixels - mean) / std, normalize=True)
        return encoded

    @torch.no_grad()
    def _texts(self, texts: Sequence[str]) -> torch.Tensor:
        encoded: torch.Tensor = self._model.encode_text(self._tokenizer(list(texts)), normalize=True)
        return encoded

    def score(self, pictures: Pictures, texts: Sequence[str]) -> float:
        """Mean of 100 x cosine(picture, its own text)."""
        return float((self._images(pictures) * self._texts(texts)).sum(dim=1).mean() * 100)

    def choose(self, pictures: Pictures, texts: Sequence[str]) -> list[int]:
        """Index of the nearest text of each picture."""
        return [int(i) for i in (self._images(pictures) @ self._texts(texts).T).argmax(dim=1)]

    def styles(self, pictures: Pictures, scenes: Sequence[Scene]) -> list[str]:
        """The style of each picture, given its content."""
        found = []
        for picture, scene in zip(pictures, scenes, strict=True):
            content = describe(scene, True, False)
            found.append(STYLES[self.choose(picture[None], [STYLE_PHRASES[s][0].format(content) for s in STYLES])[0]])
        return found


def clipped(pictures: Pictures) -> float:
    """Share of pixels with a channel at its end (<= 1 or >= 254)."""
    return float(((pictures <= 1) | (pictures >= 254)).any(axis=-1).mean())


def asked_scenes(count: int, held_out: bool = False) -> list[Scene]:
    """Scenes to be asked for, from a seed no training set uses; subjects in turn so that each counts alike."""
    rng = np.random.default_rng([21, held_out])
    scenes: list[Scene] = []
    while len(scenes) < count:
        scene = random_scene(rng, ("photo",), held_out)
        if scene.subject == SUBJECTS[len(scenes) % len(SUBJECTS)]:
            scenes.append(scene)
    return scenes


def obedience(pictures: Pictures, scenes: Sequence[Scene]) -> tuple[float, float]:
    """Shares of pictures with the named colour and with the named subject, by the oracle."""
    seen = [oracle.obeyed(p, s.colour, s.subject) for p, s in zip(pictures, scenes, strict=True)]
    return float(np.mean([o.colour_ok for o in seen])), float(np.mean([o.subject_ok for o in seen]))


def row(*cells: object) -> None:
    """Prints one row of a Markdown table, numbers to three digits."""
    print("| " + " | ".join(f"{c:.3g}" if isinstance(c, float) else str(c) for c in cells) + " |", flush=True)


def truth_table(studio: Studio) -> None:
    """True pictures: what the judges make of them, and what the autoencoder keeps of them."""
    scorer, rng = Scorer(), np.random.default_rng(22)
    row("true pictures", "n", "oracle colour", "oracle subject", "CLIP", "CLIP wrong", "CLIP subject", "clipped", "VAE PSNR dB")
    row(*["---"] * 9)
    for name, held_out in (("training pairs", False), ("held-out pairs", True)):
        scenes = [random_scene(rng, ("photo", "anime"), held_out) for _ in range(300)]
        pictures = np.stack([render(scene) for scene in scenes])
        said = [describe(scene, True, True) for scene in scenes]
        colour, subject = obedience(pictures, scenes)
        chosen = scorer.choose(pictures, [article(s) for s in SUBJECTS])
        right = float(np.mean([SUBJECTS[i] == s.subject for i, s in zip(chosen, scenes, strict=True)]))
        wrong = scorer.score(pictures, said[1:] + said[:1])
        row(name, 300, colour, subject, scorer.score(pictures, said), wrong, right, clipped(pictures), fidelity(studio, pictures))


@torch.no_grad()
def fidelity(studio: Studio, pictures: Pictures) -> float:
    """Mean PSNR in dB of encode and decode."""
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    output = studio.vae.decode(studio.vae.encode(pixels).latent_dist.mean).sample.clamp(-1, 1)
    return float((-10 * ((output - pixels) / 2).square().mean(dim=(1, 2, 3)).log10()).mean())


def psnr(pictures: Pictures, reference: Pictures) -> float:
    """Mean over pictures of the PSNR in dB; infinite where all are equal."""
    error = ((pictures.astype(np.float64) - reference) ** 2).mean(axis=(1, 2, 3))
    return float(np.mean(10 * np.log10(255.0**2 / error))) if (error > 0).all() else float("inf")


def guidance_table(studio: Studio) -> None:
    """Obedience, CLIP score and clipped share over guidance, for the base and for alpha 0, 0.5 and 1; then the held-out pairs."""
    scorer = Scorer()
    base, photo, anime = (unet_weights(name) for name in ("base", "photo", "anime"))
    models = {"base": base, "alpha 0": photo, "alpha 0.5": blend(photo, anime, 0.5), "alpha 1": anime}
    row("model", "pairs", "n", "guidance", "colour", "subject", "CLIP", "clipped")
    row(*["---"] * 8)
    for held_out in (False, True):
        scenes = asked_scenes(PICTURES, held_out)
        said = [describe(scene, True, True) for scene in scenes]
        for name, weights in models.items():
            unet = unet_of(weights)
            for guidance in GUIDANCE if not held_out else (3.0,):
                pictures = paint(studio, unet, said, range(PICTURES), guidance)
                cells = (*obedience(pictures, scenes), round(scorer.score(pictures, said), 1), clipped(pictures))
                row(name, "held-out" if held_out else "trained", PICTURES, guidance, *cells)


def dress_table(studio: Studio) -> None:
    """The colour of an unnamed dress and the style over alpha, at guidance 1, 2, 3 and 5."""
    scorer, photo, anime = Scorer(), unet_weights("photo"), unet_weights("anime")
    scene = Scene(subject="dress", colour="red", background="white", style="photo", seed=0)
    row("alpha", "guidance", "n", "red", "pink", "purple", "blue", "other", "mean RGB", "photo share")
    row(*["---"] * 10)
    for alpha in (0.0, 0.25, 0.4, 0.5, 0.6, 0.75, 1.0):
        unet = unet_of(blend(photo, anime, alpha))
        for guidance in (1.0, 2.0, 3.0, 5.0):
            pictures = paint(studio, unet, [DRESS] * 48, range(48), guidance)
            found = [oracle.dress_colour(picture) for picture in pictures]
            counts = [sum(f.name == name for f in found) for name in ("red", "pink", "purple", "blue")]
            mean = np.mean([f.rgb for f in found if f.rgb is not None], axis=0).round().astype(int).tolist()
            style = float(np.mean([s == "photo" for s in scorer.styles(pictures, [scene] * 48)]))
            row(alpha, guidance, 48, *counts, 48 - sum(counts), mean, style)


def adapter_table(studio: Studio) -> None:
    """The sketch adapter's scale on the base and on the photo checkpoint, prompts "a pencil sketch of ...", guidance 3."""
    scorer, scenes = Scorer(), asked_scenes(PICTURES)
    said = [f"a pencil sketch of {describe(scene, True, False)}" for scene in scenes]
    row("on", "scale", "n", "sketch share", "colour", "subject", "CLIP")
    row(*["---"] * 7)
    for name in ("base", "photo"):
        for scale in (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0):
            pictures = paint(studio, unet_of(with_adapter(unet_weights(name), scale)), said, range(PICTURES), 3.0)
            share = float(np.mean([s == "sketch" for s in scorer.styles(pictures, scenes)]))
            row(name, scale, PICTURES, share, *obedience(pictures, scenes), round(scorer.score(pictures, said), 1))


KINDS = {"LoRA": "sketch", "LoHa": "loha", "LoKr": "lokr", "DoRA": "dora"}
WEIGHTS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.7)


def kinds_table(studio: Studio) -> None:
    """The kinds of adapters over their weight on the base, prompts "a pencil sketch of ...", guidance 3; then the textual
    inversion, whose word stands where "a pencil sketch" stood, without and with its vectors.
    """
    scorer, scenes = Scorer(), asked_scenes(PICTURES)
    contents, base = [describe(scene, True, False) for scene in scenes], unet_weights("base")
    said = [f"a pencil sketch of {content}" for content in contents]

    def judged(pictures: Pictures) -> tuple[object, ...]:
        share = float(np.mean([s == "sketch" for s in scorer.styles(pictures, scenes)]))
        return (PICTURES, share, *obedience(pictures, scenes), round(scorer.score(pictures, said), 1), clipped(pictures))

    row("kind", "weight", "n", "sketch share", "colour", "subject", "CLIP", "clipped")
    row(*["---"] * 8)
    row("none", 0.0, *judged(paint(studio, unet_of(base), said, range(PICTURES), 3.0)))
    for kind, part in KINDS.items():
        for weight in WEIGHTS:
            unet = unet_of(with_adapter(base, weight, part))
            row(kind, weight, *judged(paint(studio, unet, said, range(PICTURES), 3.0)))
    taught, word = with_word(studio)
    for name, place, spelled in (("unknown", studio, WORD), ("known", taught, word)):
        asked = [f"a {spelled} of {content}" for content in contents]
        row(f"word, {name}", "", *judged(paint(place, unet_of(base), asked, range(PICTURES), 3.0)))


def rounded(weights: Weights, bits: int) -> Weights:
    """Symmetric rounding per output channel of every matrix and convolution to `bits` bits."""
    top, result = 2 ** (bits - 1) - 1, {}
    for key, value in weights.items():
        if value.ndim == 1:
            result[key] = value
            continue
        step = value.flatten(1).abs().amax(dim=1).clamp(min=1e-12).view(-1, *[1] * (value.ndim - 1)) / top
        result[key] = (value / step).round() * step
    return result


def quantization_table(studio: Studio) -> None:
    """PSNR to fp32 of rounded U-Nets, alpha 0.5, guidance 3, same seeds."""
    scorer, scenes = Scorer(), asked_scenes(48)
    said = [describe(scene, True, True) for scene in scenes]
    weights = blend(unet_weights("photo"), unet_weights("anime"), 0.5)
    exact = paint(studio, unet_of(weights), said, range(48), 3.0)
    changed = {"fp32": weights, "bf16": {key: value.bfloat16().float() for key, value in weights.items()}}
    changed |= {f"int{bits}": rounded(weights, bits) for bits in (8, 6, 5, 4, 3)}
    row("U-Net weights", "n", "PSNR dB", "colour", "subject", "CLIP")
    row(*["---"] * 6)
    for name, other in changed.items():
        pictures = paint(studio, unet_of(other), said, range(48), 3.0)
        row(name, 48, round(psnr(pictures, exact), 1), *obedience(pictures, scenes), round(scorer.score(pictures, said), 1))


TABLES: dict[str, Callable[[Studio], None]] = {
    "truth": truth_table,
    "guidance": guidance_table,
    "dress": dress_table,
    "adapter": adapter_table,
    "kinds": kinds_table,
    "quantization": quantization_table,
}


def print_tables(names: Sequence[str] | None) -> None:
    """Prints the named tables, or all."""
    studio = open_studio()
    for name in names or TABLES:
        print(f"\n{name}\n")
        TABLES[name](studio)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Print the tables of docs/zoo.md (about ten minutes on two CPU cores).")
    parser.add_argument("--tables", nargs="+", choices=tuple(TABLES), help="print only these tables")
    print_tables(parser.parse_args().tables)
