"""What the metrics of one image cost, beside the loop over images that everyone writes; nothing decides a test.

    python tests/benchmarks/metrics.py
    python tests/benchmarks/metrics.py --clip ViT-B-32-quickgelu --rounds 5
    python tests/benchmarks/metrics.py --size 64 --images 32 --threads 1

Ours: every row of METRICS over a batch of --images pictures with a reference each, divided by their number. The loop: image by
image torchmetrics' PSNR in float64, the same CLIP model through open_clip's own transform (image and prompt embedded for every
picture), scikit-learn's KMeans on all pixels of the picture and of its reference (5 clusters, k-means++ with --n-init starts,
in the same scaled CIE Lab), and numpy for the exposure. CLIP is the zoo's, or an open_clip architecture with random weights:
the time is that of the trained ones.

Contenders take turns; every figure is the median of --rounds, after one round that does not count. Agreement: the largest
difference of PSNR and of CLIP score, and the earth mover's distance (dE2000, shares matched) between our palette and the loop's,
and from both to the best clusters of all pixels that were found, by ten starts (--oracle) or from ours on: one start's palette
differs from the next's. Last line: JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.metrics import METRICS, ImageScore, ImageSet
from harness.metrics.clip import ClipScorer, Preprocess, load_scorer
from harness.metrics.lab import Floats, chroma, lab_from_srgb
from harness.metrics.palette import CLUSTERS, LIGHTNESS_SCALE, Palette, palette, palette_drift
from tests.metrics.scenes import Picture, altered, photographs, scene, stripes

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Loop:
    """The rival: one method per metric, each for one picture. `palettes` keeps what the last round found."""

    scorer: ClipScorer
    n_init: int
    palettes: dict[int, Palette] = field(default_factory=dict)

    def psnr(self, images: ImageSet, number: int) -> float:
        """torchmetrics in float64; in float32 the sums round."""
        import torch
        from torchmetrics.image import PeakSignalNoiseRatio

        assert images.references is not None
        metric = PeakSignalNoiseRatio(data_range=255.0)
        metric.update(*(torch.from_numpy(a[number]).double() for a in (images.images, images.references)))
        return float(metric.compute())

    def clip_score(self, images: ImageSet, number: int) -> float:
        """open_clip as its README has it."""
        import torch
        from PIL import Image

        model: Any = self.scorer.model
        with torch.no_grad():
            pixels = self.transform(Image.fromarray(images.images[number]))[None]
            seen, said = model.encode_image(pixels), model.encode_text(self.scorer.tokenizer([images.texts[number]]))
            return 100 * float(torch.cosine_similarity(seen, said)[0])

    def transform(self, picture: object) -> torch.Tensor:
        """open_clip's own preprocessing of the scorer's size, mean and standard deviation."""
        import open_clip

        pre = self.scorer.preprocess
        made: Any = open_clip.image_transform(pre.image_size, is_train=False, mean=pre.mean, std=pre.std)
        return made(picture)  # type: ignore[no-any-return]

    def palette(self, images: ImageSet, number: int) -> float:
        """Palette of the picture, and its drift from the reference's."""
        assert images.references is not None
        self.palettes[number] = full_palette(images.images[number], self.n_init)
        return palette_drift(self.palettes[number], full_palette(images.references[number], self.n_init))

    def exposure(self, images: ImageSet, number: int) -> float:
        """Shares of burnt and drowned pixels, and HSV's saturation."""
        image = images.images[number]
        high, low = image.max(axis=-1).astype(np.float64), image.min(axis=-1).astype(np.float64)
        over, under = high >= 254, low <= 1
        shares = (over.mean(), under.mean(), (over | under).mean())
        return float(((high - low) / np.maximum(high, 1)).mean() + 0 * sum(shares))


def full_palette(image: Picture, n_init: int, also: Palette | None = None) -> Palette:
    """scikit-learn's KMeans on every pixel, in our colour space; `also` starts it from a palette too, and the better stays."""
    from sklearn.cluster import KMeans

    lab = lab_from_srgb(image).reshape(-1, 3)
    points = lab * (LIGHTNESS_SCALE, 1, 1)
    fits = [KMeans(CLUSTERS, n_init=n_init, random_state=0).fit(points)]
    if also is not None and len(also.centres) == CLUSTERS:
        fits.append(KMeans(CLUSTERS, init=also.centres * (LIGHTNESS_SCALE, 1, 1), n_init=1).fit(points))
    labels = min(fits, key=lambda fit: float(fit.inertia_)).labels_
    counts = np.bincount(labels, minlength=CLUSTERS)
    order = [int(c) for c in np.argsort(-counts) if counts[c]]
    centres: Floats = np.stack([lab[labels == cluster].mean(axis=0) for cluster in order])
    return Palette(centres=centres, shares=counts[order] / len(lab), members=labels.reshape(image.shape[:2]),
                   mean_chroma=float(chroma(lab).mean()))


def pictures(count: int, size: int) -> list[Picture]:
    """Four crops of photographs, two kinds of stripes, and drawn scenes for the rest."""
    made = [*photographs(size), stripes(1, size), stripes(max(2, size // 16), size)]
    return (made + [scene(seed, size) for seed in range(max(0, count - len(made)))])[:count]


def scorer_of(name: str) -> ClipScorer:
    """The zoo's CLIP, or an open_clip architecture with random weights, which cost what trained ones do."""
    if name == "zoo:clip":
        return load_scorer()
    import open_clip
    import torch

    torch.manual_seed(0)
    model = open_clip.create_model(name, pretrained=None).eval()
    pre = model.visual.preprocess_cfg
    size = pre["size"] if isinstance(pre["size"], int) else pre["size"][0]
    return ClipScorer(name=name, model=model, tokenizer=open_clip.get_tokenizer(name),
                      preprocess=Preprocess(image_size=size, mean=tuple(pre["mean"]), std=tuple(pre["std"])))


def main() -> None:
    """Measures, prints the table, the agreement and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clip", default="zoo:clip", help="zoo:clip, or an open_clip architecture such as ViT-B-32-quickgelu")
    parser.add_argument("--n-init", type=int, default=1, help="the loop's k-means starts (1 is scikit-learn's own choice)")
    parser.add_argument("--threads", type=int, help="torch's threads (default: its own choice)")
    parser.add_argument("--oracle", type=int, default=10, help="starts of the k-means that palettes are compared with; 0: none")
    given = parser.parse_args()
    import torch

    if given.threads:
        torch.set_num_threads(given.threads)
    scorer, made = scorer_of(given.clip), pictures(given.images, given.size)
    images = ImageSet(images=np.stack(made), references=np.stack([altered(p, n) for n, p in enumerate(made)]), clip=scorer,
                      texts=tuple(f"a photo of a thing, number {n}" for n in range(len(made))))
    loop = Loop(scorer=scorer, n_init=given.n_init)
    theirs: dict[str, Callable[[ImageSet, int], float]] = {
        "clip_score": loop.clip_score, "psnr": loop.psnr, "palette": loop.palette, "exposure": loop.exposure}
    seconds, scores, values = by_turns(images, theirs, given.rounds)
    print(f"{given.images} pictures of {given.size} x {given.size}, {given.clip}, {torch.get_num_threads()} threads, load "
          f"{os.getloadavg()[0]:.1f}\n{'ms per image':12} {'ours':>9} {'loop':>9} {'ratio':>7}")
    for name, (own, other) in seconds.items():
        print(f"{name:12} {own * 1000:9.2f} {other * 1000:9.2f} {own / other:7.3f}")
    found = agreement(images, scores, values, loop, given.oracle)
    for name, said in found.items():
        print(f"{name}: {said}")
    print(json.dumps({"settings": vars(given), "load": os.getloadavg(), "seconds_per_image": seconds, "agreement": found}))


def by_turns(images: ImageSet, theirs: dict[str, Callable[[ImageSet, int], float]], rounds: int,
             ) -> tuple[dict[str, tuple[float, float]], dict[str, list[ImageScore]], dict[str, list[float]]]:
    """Median seconds per image of ours and of the loop by metric and in all, our scores and the loop's values."""
    taken: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in (*theirs, "all")}
    scores: dict[str, list[ImageScore]] = {}
    values: dict[str, list[float]] = {}
    count = len(images.images)
    for number in range(rounds + 1):
        spent = {name: [0.0, 0.0] for name in theirs}
        for name, one in theirs.items():
            if images.clip is not None:
                images.clip._texts.clear()  # prompts are embedded anew in every round
            started = time.perf_counter()
            scores[name] = METRICS[name].measure(images)
            between = time.perf_counter()
            values[name] = [one(images, n) for n in range(count)]
            spent[name] = [(between - started) / count, (time.perf_counter() - between) / count]
        if number:
            for name, pair in (*spent.items(), ("all", [sum(p[side] for p in spent.values()) for side in (0, 1)])):
                for side in (0, 1):
                    taken[name][side].append(pair[side])
    return {n: (statistics.median(own), statistics.median(other)) for n, (own, other) in taken.items()}, scores, values


def agreement(images: ImageSet, scores: dict[str, list[ImageScore]], values: dict[str, list[float]], loop: Loop,
              oracle: int) -> dict[str, float]:
    """Largest differences to the loop, and palette distances in dE2000."""
    def largest(metric: str, value: str) -> float:
        return max(abs(s.values[value] - v) for s, v in zip(scores[metric], values[metric], strict=True))

    own = [palette(image) for image in images.images]
    found = {"psnr_db, largest difference": largest("psnr", "psnr_db"),
             "clip_score, largest difference (points of 100)": largest("clip_score", "clip_score"),
             "saturation, largest difference": largest("exposure", "saturation")}
    pairs = {"ours to the loop's": [palette_drift(p, loop.palettes[n]) for n, p in enumerate(own)]}
    if oracle:
        best = [full_palette(image, oracle, p) for image, p in zip(images.images, own, strict=True)]
        pairs["ours to the best"] = [palette_drift(p, b) for p, b in zip(own, best, strict=True)]
        pairs["the loop's to the best"] = [palette_drift(loop.palettes[n], b) for n, b in enumerate(best)]
    for name, distances in pairs.items():
        found[f"palette dE2000, {name}, median"] = statistics.median(distances)
        found[f"palette dE2000, {name}, largest"] = max(distances)
    return {name: round(value, 7) for name, value in found.items()}


if __name__ == "__main__":
    import warnings

    # Stripes have fewer colours than clusters, which scikit-learn reports for every one of them.
    warnings.filterwarnings("ignore", message="Number of distinct clusters")
    main()
