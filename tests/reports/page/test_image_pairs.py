"""Example pairs of a fidelity suite: the right cells, a difference computed by hand, and a reason where none is shown."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reports.page.image_pairs import difference, example_pairs
from reports.read.run import Run


@pytest.fixture
def run(quantization_run: Run) -> Run:
    """Image number i of bf16 has 40 + i dB; all images of int8 are exact."""
    table = quantization_run.images.copy()
    bf16 = table.index[table["candidate"] == "bf16"]
    table.loc[bf16, "psnr_db"] = 40.0 + np.arange(len(bf16))
    int8 = table["candidate"] == "int8"
    table.loc[int8, "psnr_db"], table.loc[int8, "exact_match"] = np.nan, 1.0
    return replace(quantization_run, images=table)


def modes(run: Run) -> dict[str, Any]:
    found = example_pairs(run)
    assert found is not None
    return {m["name"]: m for m in found["modes"]}


def decoded(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"))


def test_the_pairs_are_those_of_the_median_and_of_the_lowest_psnr(run: Run) -> None:
    pairs = modes(run)["bf16"]["pairs"]
    assert [(p["kind"], p["psnr"]) for p in pairs] == [("median PSNR", "51.00 dB"), ("lowest PSNR", "40.00 dB")]


def test_the_three_pictures_are_the_reference_the_mode_and_their_difference(run: Run) -> None:
    reference, mine, apart = (decoded(uri).astype(int) for uri in modes(run)["bf16"]["pairs"][1]["pictures"])
    row = run.images[run.images["candidate"] == "bf16"].iloc[0]
    assert (mine == np.asarray(Image.open(run.folder / row["path"]))).all()
    assert (apart == np.minimum(255, 8 * abs(reference - mine))).all()


def test_the_difference_is_eight_times_as_strong_and_cut_off() -> None:
    one, other = Image.new("RGB", (1, 1), (10, 100, 0)), Image.new("RGB", (1, 1), (13, 60, 0))
    assert difference(one, other).getpixel((0, 0)) == (24, 255, 0)


def test_a_mode_whose_images_are_all_exact_says_so(run: Run) -> None:
    assert modes(run)["int8"]["note"].startswith("All 24 images equal the reference's bit for bit")


def test_a_picture_that_leads_out_of_the_folder_is_not_shown(run: Run) -> None:
    pair = modes(replace(run, images=run.images.assign(path="../../etc/passwd")))["bf16"]["pairs"][0]
    assert (pair["pictures"], pair["why"]) == ((), "picture not shown: its path leads out of the run folder")


def test_a_cell_without_a_reference_says_so(run: Run) -> None:
    rows = run.images[run.images["candidate"] != "fp32"]
    assert modes(replace(run, images=rows))["bf16"]["pairs"][0]["why"] == "the reference has no image of this cell"


def test_a_suite_of_one_precision_has_no_pairs(merge_run: Run) -> None:
    assert example_pairs(merge_run) is None
