"""Tiny text encoders of three kinds with the tokenizer of Stable Diffusion 1, all of different widths."""

import pytest

from harness.weights import sd1_tokenizer
from harness.weights.pipeline import TextEncoder

WIDTH, DIM = 16, 12


@pytest.fixture(scope="session")
def tokenizer():
    return sd1_tokenizer()


@pytest.fixture(scope="session")
def second_tokenizer(tokenizer):
    """SDXL's second tokenizer: the same words, but padded with "!", whose id is 0."""
    from transformers import CLIPTokenizer

    merges = [tuple(pair) for pair in tokenizer._merges]
    return CLIPTokenizer(vocab=tokenizer.get_vocab(), merges=merges, model_max_length=77, pad_token="!")


def config(width=WIDTH, end=49407):
    from transformers import CLIPTextConfig

    return CLIPTextConfig(vocab_size=49408, hidden_size=width, intermediate_size=20, num_hidden_layers=3, num_attention_heads=2,
                          max_position_embeddings=77, bos_token_id=49406, eos_token_id=end, pad_token_id=1, projection_dim=DIM)


def shaken(module):
    """Norms and biases of new models are ones and zeros, which hides mistakes."""
    import torch

    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return module.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def encoder(tokenizer):
    import torch
    from transformers import CLIPTextModel

    torch.set_num_threads(1)
    torch.manual_seed(3)
    return TextEncoder(component="text_encoder", module=shaken(CLIPTextModel(config())), tokenizer=tokenizer)


@pytest.fixture(scope="session")
def second(second_tokenizer):
    """As SDXL's second encoder: penultimate layer, pooled, "!" for padding."""
    import torch
    from transformers import CLIPTextModelWithProjection

    torch.manual_seed(4)
    return TextEncoder(component="text_encoder_2", module=shaken(CLIPTextModelWithProjection(config(20))),
                       tokenizer=second_tokenizer, layer="penultimate", pooled=True)


@pytest.fixture(scope="session")
def vectors():
    """(n, width) -> vectors, the same ones every time."""
    import torch

    def made(count, width=WIDTH, seed=0):
        return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) * 0.2

    return made
