"""Fixtures for tests of a whole run of the zoo, which the fixture `run` gives: its advice, and whether its images obey."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reports import recommend
from reports.read.run import Run
from reports.verdict.recommendation import Recommendation
from tests.zoo import oracle


@pytest.fixture(scope="module")
def advice(run: Run) -> Recommendation:
    """What the run recommends."""
    return recommend(run)


@pytest.fixture(scope="module")
def judged(run: Run) -> pd.DataFrame:
    """The run's table with a column `obeyed`: the colour of the main part is that of the prompt; NaN where that names none."""
    table = run.images.copy()
    table["colour"] = table["prompt"].map({p.id: p.tags.get("colour") for p in run.suite.grid.prompts})
    table["found"] = [oracle.main_colour(np.asarray(Image.open(run.folder / path))).name for path in table["path"]]
    table["obeyed"] = (table["found"] == table["colour"]).astype(float).where(table["colour"].notna())
    return table
