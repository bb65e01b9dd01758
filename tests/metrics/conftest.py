"""A tiny untrained CLIP for the metric tests; no weights are read from anywhere."""

import pytest

TINY = {"embed_dim": 16,
        "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16},
        "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}}


def new_tiny_clip():
    import open_clip
    import torch

    torch.manual_seed(0)
    return open_clip.CLIP(**TINY).eval()


@pytest.fixture(scope="session")
def tiny_clip():
    import torch
    from open_clip.tokenizer import SimpleTokenizer

    from harness.metrics.clip import ClipScorer, Preprocess

    torch.set_num_threads(1)
    preprocess = Preprocess(image_size=32, mean=(0.48, 0.46, 0.41), std=(0.27, 0.26, 0.28))
    return ClipScorer(name="tiny", model=new_tiny_clip(), tokenizer=SimpleTokenizer(context_length=8),
                      preprocess=preprocess)
