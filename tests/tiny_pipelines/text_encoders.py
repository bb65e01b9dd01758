"""Tiny text encoders that fit the tiny tokenizers. Their weights are drawn where a pipeline is written."""

from __future__ import annotations

from typing import Any

from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    LlamaConfig,
    LlamaForCausalLM,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLModel,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from tests.tiny_pipelines.tokenizers import (
    BYTES,
    LETTERS,
    QWEN_SPECIAL,
    byt5_tokenizer,
    gemma_tokenizer,
    llama3_tokenizer,
    mistral_tokenizer,
    qwen_tokenizer,
    t5_tokenizer,
)

_QWEN_VISION = {number: len(BYTES) + QWEN_SPECIAL.index(token) for number, token in (
    ("vision_start_token_id", "<|vision_start|>"), ("vision_end_token_id", "<|vision_end|>"),
    ("image_token_id", "<|image_pad|>"), ("video_token_id", "<|video_pad|>"))}


def clip(width: int, layers: int, projected: bool = False, length: int = 9, projection: int | None = None) -> Any:
    count = len(LETTERS) * 2
    config = CLIPTextConfig(hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers, num_attention_heads=2,
                            vocab_size=count + 2, max_position_embeddings=length, bos_token_id=count, eos_token_id=count + 1,
                            pad_token_id=0, projection_dim=projection or width + 2, hidden_act="gelu")
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def t5(width: int) -> T5EncoderModel:
    return T5EncoderModel(T5Config(vocab_size=len(t5_tokenizer()), feed_forward_proj="gated-gelu", **_t5_sizes(width)))


def umt5(width: int) -> UMT5EncoderModel:
    return UMT5EncoderModel(UMT5Config(vocab_size=len(t5_tokenizer()), **_t5_sizes(width)))


def byt5(width: int) -> T5EncoderModel:
    return T5EncoderModel(T5Config(vocab_size=len(byt5_tokenizer()), feed_forward_proj="gated-gelu", **_t5_sizes(width)))


def gemma2(width: int) -> Gemma2Model:
    return Gemma2Model(Gemma2Config(vocab_size=len(gemma_tokenizer()), query_pre_attn_scalar=4, sliding_window=512,
                                    **decoder_sizes(width)))


def qwen3(width: int, layers: int = 2, causal: bool = False) -> Any:
    config = Qwen3Config(vocab_size=len(qwen_tokenizer()), **decoder_sizes(width, layers))
    return (Qwen3ForCausalLM if causal else Qwen3Model)(config)


def llama3(width: int, layers: int = 2) -> LlamaForCausalLM:
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(llama3_tokenizer()), **decoder_sizes(width, layers)))


def mistral3(width: int, layers: int = 2) -> Mistral3ForConditionalGeneration:
    vision = {"model_type": "pixtral", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
              "head_dim": 4, "image_size": 32, "patch_size": 16}
    tokenizer = mistral_tokenizer()
    text = {"model_type": "mistral", "vocab_size": len(tokenizer), "sliding_window": None, **decoder_sizes(width, layers)}
    return Mistral3ForConditionalGeneration(Mistral3Config(text_config=text, vision_config=vision,
                                                           image_token_index=tokenizer.convert_tokens_to_ids("[IMG]")))


def qwen2_vl(width: int) -> Qwen2_5_VLForConditionalGeneration:
    rotary = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 0]}
    text = {**decoder_sizes(width), "vocab_size": len(qwen_tokenizer()), "rope_parameters": rotary}
    text.pop("head_dim")
    vision = {"depth": 1, "hidden_size": 8, "intermediate_size": 8, "num_heads": 2, "out_hidden_size": width}
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision, **_QWEN_VISION))


def qwen3_vl(width: int, layers: int = 2, causal: bool = True) -> Any:
    rotary = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 0]}
    text = {**decoder_sizes(width, layers), "vocab_size": len(qwen_tokenizer()), "rope_parameters": rotary}
    vision = {"depth": 1, "hidden_size": 8, "intermediate_size": 8, "num_heads": 2, "out_hidden_size": width,
              "num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    config = Qwen3VLConfig(text_config=text, vision_config=vision, **_QWEN_VISION)
    return (Qwen3VLForConditionalGeneration if causal else Qwen3VLModel)(config)


def decoder_sizes(width: int, layers: int = 2) -> dict[str, Any]:
    """Of a language model: heads of four numbers, and of those for keys and values half as many."""
    return {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers, "num_attention_heads": width // 4,
            "num_key_value_heads": width // 8, "head_dim": 4, "max_position_embeddings": 4096, "bos_token_id": 0,
            "eos_token_id": 1, "pad_token_id": 1}


def _t5_sizes(width: int) -> dict[str, Any]:
    return {"d_model": width, "d_kv": 4, "d_ff": 12, "num_layers": 2, "num_heads": 2}
