"""What every test of the plugin needs."""

import importlib

import pytest


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    """pytester forgets modules that were first imported inside it, and numpy or torch cannot be imported twice."""
    for name in ("diffusers", "open_clip", "pandas", "peft.tuners.lora", "plotly.graph_objects", "reports.page.build",
                 "sklearn.cluster", "torchao.quantization", "torchmetrics.image", "transformers", "harness.session.session"):
        importlib.import_module(name)
