"""The page of models: what is merged, from ARCHITECTURES; what is sampled, from OWN; what is refused, and why."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import diffusers

from harness.own_pipelines import AS_BUILT_IN, BUILT_IN, OWN, reason
from harness.own_pipelines.classes import OwnClass
from harness.weights.architectures import ARCHITECTURES, PREFIXES, Architecture
from tests.api_page.docstrings import table

FILE: Final = Path(__file__).parent.parent.parent / "docs" / "models.md"
_TOP: Final = """# Models

This page is made of the tables of the code: `make docs`. It has three parts: which models [merge](#what-merges), which are
[sampled](#what-is-sampled), and [which are not, and why](#what-is-refused). Stable Diffusion 1, 2 and XL are not in the tables:
they are what the rest of this manual is about.

## What merges

Two or more files or folders of one architecture merge by the names and shapes of their tensors, whatever it is: `sweetspot
merge` says "Qwen-Image: 1,933 of 1,933 keys match", or "unknown family, ..." for one that is not in the table. All methods
work, with one number, a `Gradient` along the numbered layers in the order in which they are executed, or numbers for patterns
of keys; maps of blocks and presets are those of Stable Diffusion and Flux.1 alone. `inspect`, `replay` and `adapter extract`
take the same models.

Files that hold only a U-Net or a transformer are models like others. Before their names may stand one of {prefixes}, or
nothing. Text encoders and VAE beside the denoiser are merged if the recipe names them. Two models of different rows are refused
with the number of keys that they share. A file in its authors' names merges with a folder in diffusers' names where diffusers
has a converter for it; the result has the names of A. Quantized files of other tools are read as their values, see
[merging](merging.md), and the result is written in 16 bits.

{architectures}

"Tells apart" are models that names or shapes tell from the others of the row; of the rest nothing in a file says which it is.

## What is sampled

A diffusers folder whose `model_index.json` names one of these classes is sampled by that pipeline, with `sampler="own"` or a
sampler that fits, see [models of other families](sampling.md#models-of-other-families). A single file of the denoiser is
sampled with such a folder: `Checkpoint(path="z-image.safetensors", base="Z-Image")`, see [merging](merging.md).

{sampled}

- "Guidance" is the argument that gets the grid's guidance scale. Guidance 1 is passed as the value in brackets, which is none.
- Z-Image and Krea 2 count from 0: their pipelines compute `positive + g * (positive - negative)`, so that a guidance of 3 there
  is as strong as one of 4 elsewhere. Numbers other than 1 are passed as they are, as in their cards.
- "Distilled" models take the number as a condition; there is no value for none.
- "One by one": a longer text in the batch would change the picture, so that each image is a call of its own.

Folders of these classes are sampled as another class, because what they add is an option that no suite declares: {as_built_in}.
The classes {built_in} are sampled by Sweetspot's own loop, or with texts that it embeds.

## What is refused

All other pipeline classes of diffusers {version} are refused by name before the first image. Their denoisers can be merged all
the same.

{refused}
"""


def page() -> str:
    """The whole page, in Markdown."""
    parts = {
        "prefixes": ", ".join(f"`{prefix}`" for prefix in PREFIXES), "version": diffusers.__version__,
        "architectures": table(("model", "tells apart", "names of", "layers, as executed", "used with", "sampled"),
                               map(_architecture, ARCHITECTURES)),
        "sampled": table(("class", "guidance", "negative texts", "batches", "besides"),
                         (_sampled(name, row) for name, row in OWN.items())),
        "as_built_in": ", ".join(f"`{name}` (as `{other}`)" for name, other in AS_BUILT_IN.items()),
        "built_in": ", ".join(f"`{name}`" for name in BUILT_IN),
        "refused": table(("why", "classes"), _refused())}
    return re.sub(r"\{(\w+)\}", lambda match: parts[match[1]], _TOP)


def classes() -> set[str]:
    """All pipeline classes of the installed diffusers, without importing them."""
    names = {name for name in dir(diffusers) if re.search(r"Pipeline(Legacy|Safe)?$|PipelineStableDiffusion", name)}
    return names - {"DiffusionPipeline", "ModularPipeline"}


def _architecture(row: Architecture) -> tuple[str, ...]:
    told = "; ".join(dict.fromkeys(variant.name for variant in row.variants))
    layers = "; ".join(dict.fromkeys(", ".join(f"`{layer}`" for layer in names.layers) for names in row.names))
    but = [f"{variant.name}: no, {variant.unsampled}" for variant in row.variants if variant.unsampled]
    sampled = f"no: {row.unsampled}" if row.unsampled else "; ".join(["yes", *but])
    by = "; ".join(dict.fromkeys(names.by for names in row.names))
    return row.name, ". ".join(filter(None, (told, row.note))), by, layers, f"{row.encoders}; VAE {row.vae}", sampled


def _sampled(name: str, row: OwnClass) -> tuple[str, ...]:
    guidance = "none" if not row.guidance else f"`{row.guidance}`" + (", distilled" if row.distilled else f" ({row.off:g})")
    besides = [f"`{setting}={value!r}`" for setting, value in row.settings.items()]
    besides += ["transparency is left out"] if row.alpha else []
    return (f"`{name}`", guidance, "yes" if row.negative else "no", "yes" if row.batches else "one by one", ", ".join(besides))


def _refused() -> Iterator[tuple[str, str]]:
    by_reason: dict[str, list[str]] = {}
    for name in sorted(classes()):
        if why := reason(name):
            by_reason.setdefault(why, []).append(name)
    for why, names in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0])):
        yield why, ", ".join(f"`{name}`" for name in names)
