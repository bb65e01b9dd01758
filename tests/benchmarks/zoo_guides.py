"""The tables of docs/zoo.md on the edge ControlNet and the image prompt, measured again with diffusers' own networks and printed
as Markdown; all seeds are fixed.

    python tests/benchmarks/zoo_guides.py
    python tests/benchmarks/zoo_guides.py --tables control
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from diffusers import ControlNetModel

from harness.control.edge_map import edge_f1, edges_of
from harness.zoo import models, resolve, store
from harness.zoo.draw import COLOURS, SUBJECTS, Scene, render
from harness.zoo.pictures import scene_of
from harness.zoo.training.captions import article, describe
from harness.zoo.training.vae import encode, to_tensor
from tests.benchmarks.zoo_tables import Scorer, clipped, obedience, row
from tests.zoo import oracle
from tests.zoo.plain_sampler import Pictures, Studio, Weights, _hidden, blend, open_studio, unet_of, unet_weights

PICTURES = 48
GUIDANCE, STEPS = 3.0, 10
SCALES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
Predict = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, bool], torch.Tensor]
"""(latents, time, hidden states, whether it is the positive branch) to v."""


@torch.no_grad()
def painted(studio: Studio, predict: Predict, prompts: Sequence[str]) -> Pictures:
    """One picture per prompt, seeds 0, 1, 2 ..., by DPM-Solver++ 2M with guidance."""
    hidden = _hidden(studio, list(prompts))
    empty = _hidden(studio, [""]).expand_as(hidden)
    shape = (models.LATENT_CHANNELS, models.LATENT_SIZE, models.LATENT_SIZE)
    drawing = [torch.Generator().manual_seed(seed) for seed in range(len(prompts))]
    latents = torch.stack([torch.randn(shape, generator=generator) for generator in drawing])
    studio.scheduler.set_timesteps(STEPS)
    for time in studio.scheduler.timesteps:
        free = predict(latents, time, empty, False)
        guided = free + GUIDANCE * (predict(latents, time, hidden, True) - free)
        latents = studio.scheduler.step(guided, time, latents).prev_sample
    pixels = studio.vae.decode(latents / studio.vae.config.scaling_factor).sample
    return np.asarray(((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())


def shown_scenes() -> list[Scene]:
    """The scenes of the drawn pictures that guide: four of each subject."""
    return [scene_of(SUBJECTS[i % len(SUBJECTS)], 3 * (i // len(SUBJECTS)) + i % len(SUBJECTS)) for i in range(PICTURES)]


def tested_models() -> dict[str, Weights]:
    """The base and the half merge."""
    return {"base": unet_weights("base"), "merge 0.5": blend(unet_weights("photo"), unet_weights("anime"), 0.5)}


def control_table(studio: Studio) -> None:
    """How far pictures follow the edges that they are given, and what disagreeing prompts lose."""
    net = ControlNetModel.from_pretrained(resolve("zoo:control-edges-diffusers")).eval()
    scenes, scorer = shown_scenes(), Scorer()
    maps = np.stack([edges_of(render(scene)) for scene in scenes])
    hints = torch.from_numpy(maps)[:, None].float().expand(-1, 3, -1, -1)
    others = [replace(scene, subject=SUBJECTS[(SUBJECTS.index(scene.subject) + 5) % len(SUBJECTS)]) for scene in scenes]
    print(f"ceiling, the autoencoder of the true pictures: {ceiling(studio, scenes, maps):.3f}")
    row("model", "prompt", "scale", "n", "edge F1", "F1 by chance", "CLIP", "colour", "subject", "clipped")
    row(*["---"] * 10)
    for name, weights in tested_models().items():
        unet = unet_of(weights)
        for kind, asked in (("agrees", scenes), ("another subject", others)):
            texts = [describe(scene, True, False) for scene in asked]
            for scale in SCALES if (name, kind) == ("base", "agrees") else (0.0, 0.5, 1.0, 1.5):

                def predict(latents: torch.Tensor, time: torch.Tensor, hidden: torch.Tensor, _: bool,
                            scale: float = scale, unet=unet) -> torch.Tensor:  # type: ignore[no-untyped-def]
                    down, middle = net(latents, time, hidden, hints, conditioning_scale=scale, return_dict=False)
                    made: torch.Tensor = unet(latents, time, hidden, down_block_additional_residuals=down,
                                              mid_block_additional_residual=middle).sample
                    return made

                pictures = painted(studio, predict, texts)
                row(name, kind, scale, len(pictures), mean_f1(pictures, maps), mean_f1(pictures, np.roll(maps, 1, axis=0)),
                    scorer.score(pictures, texts), *obedience(pictures, asked), clipped(pictures))


def mean_f1(pictures: Pictures, maps: np.ndarray) -> float:
    """Mean edge F1 of pictures with the lines of their maps."""
    values = [edge_f1(edges_of(picture), lines) for picture, lines in zip(pictures, maps, strict=True)]
    return float(np.mean([value for value in values if value is not None]))


def ceiling(studio: Studio, scenes: Sequence[Scene], maps: np.ndarray) -> float:
    """The F1 of true pictures after the autoencoder."""
    true = np.stack([render(scene) for scene in scenes])
    pixels = studio.vae.decode(encode(studio.vae, true)).sample
    return mean_f1(((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).detach().numpy(), maps)


def reference_table(studio: Studio) -> None:
    """How near pictures come to their reference, and what prompts that name another colour lose."""
    scenes, scorer = shown_scenes(), Scorer()
    references = np.stack([render(scene) for scene in scenes])
    with torch.no_grad():
        shown = scorer._model.encode_image(to_tensor(references))
    wrong = [replace(scene, colour=tuple(COLOURS)[(list(COLOURS).index(scene.colour) + 3) % len(COLOURS)]) for scene in scenes]
    part = store.load_tensors(store.PARTS / "image-prompt.safetensors")
    state: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in part.items():
        section, _, name = key.partition(".")
        state.setdefault(section, {})[name] = torch.from_numpy(value).float()
    row("model", "prompt", "weight", "n", "likeness", "to others", "recognised", "CLIP", "reference's colour", "prompt's colour",
        "clipped")
    row(*["---"] * 11)
    for name, weights in tested_models().items():
        unet = unet_of(weights)
        unet._load_ip_adapter_weights([state])
        for kind, texts in (("subject alone", [article(scene.subject) for scene in scenes]),
                            ("another colour", [describe(scene, True, False) for scene in wrong])):
            for scale in SCALES if name == "base" else (0.0, 0.5, 1.0):
                for module in unet.modules():
                    if hasattr(module, "to_k_ip"):
                        module.scale = [scale]

                def predict(latents: torch.Tensor, time: torch.Tensor, hidden: torch.Tensor, positive: bool,
                            unet=unet) -> torch.Tensor:  # type: ignore[no-untyped-def]
                    images = (shown if positive else torch.zeros_like(shown))[:, None]
                    made: torch.Tensor = unet(latents, time, hidden, added_cond_kwargs={"image_embeds": [images]}).sample
                    return made

                pictures = painted(studio, predict, texts)
                own, others, recognised = likeness(scorer, pictures, references)
                colours = [oracle.main_colour(picture).name for picture in pictures]
                row(name, kind, scale, len(pictures), own, others, recognised, scorer.score(pictures, texts),
                    share(colours, scenes), share(colours, wrong), clipped(pictures))


def likeness(scorer: Scorer, pictures: Pictures, references: Pictures) -> tuple[float, float, float]:
    """100 x cosine to the own reference, the mean of that to the others, and the share whose nearest is its own."""
    cosines = 100 * (scorer._images(pictures) @ scorer._images(references).T).numpy()
    own = np.diag(cosines)
    others = (cosines.sum(axis=1) - own) / (len(cosines) - 1)
    return float(own.mean()), float(others.mean()), float((cosines.argmax(axis=1) == np.arange(len(cosines))).mean())


def share(colours: Sequence[str | None], scenes: Sequence[Scene]) -> float:
    """Share of pictures whose main colour is the scene's."""
    return float(np.mean([colour == scene.colour for colour, scene in zip(colours, scenes, strict=True)]))


TABLES: dict[str, Callable[[Studio], None]] = {"control": control_table, "reference": reference_table}


def main() -> None:
    """Prints the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    studio = open_studio()
    for name in parser.parse_args().tables:
        print(f"\n{name}\n")
        TABLES[name](studio)


if __name__ == "__main__":
    main()
