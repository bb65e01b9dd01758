"""Tiny text encoders and tokenizers that single pipelines ask for: of BERT, GLM, Gemma, Qwen 3 VL, SmolLM 3, XLM-RoBERTa."""

from __future__ import annotations

from typing import Any

import transformers
from transformers.models.t5gemma import T5GemmaModuleConfig
from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

from tests.tiny_pipelines import text_encoders as encoders
from tests.tiny_pipelines import tokenizers
from tests.tiny_pipelines.text_encoders import decoder_sizes

BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def bert_tokenizer(length: int = 16) -> transformers.BertTokenizer:
    letters = [*tokenizers.LETTERS, *("##" + letter for letter in tokenizers.LETTERS)]
    return transformers.BertTokenizer(vocab=tokenizers.numbered([*BERT_SPECIAL, *letters]), model_max_length=length)


def bert(width: int) -> transformers.BertModel:
    return transformers.BertModel(transformers.BertConfig(
        vocab_size=len(bert_tokenizer()), hidden_size=width, num_hidden_layers=2, num_attention_heads=2, intermediate_size=width,
        max_position_embeddings=77))


def gemma(width: int) -> transformers.GemmaModel:
    return transformers.GemmaModel(transformers.GemmaConfig(vocab_size=len(tokenizers.gemma_tokenizer()), **decoder_sizes(width)))


def t5_gemma(width: int) -> Any:
    """The encoder alone, saved as its hub folders are: with the config of both halves."""
    half = T5GemmaModuleConfig(vocab_size=len(tokenizers.gemma_tokenizer()), layer_types=["full_attention"] * 2, dropout_rate=0.0,
                               query_pre_attn_scalar=4, sliding_window=512, **decoder_sizes(width))
    encoder = T5GemmaEncoder(half)
    encoder.config = transformers.T5GemmaConfig(encoder=half, decoder=half, is_encoder_decoder=False)
    return encoder


def glm(width: int) -> transformers.GlmModel:
    return transformers.GlmModel(transformers.GlmConfig(vocab_size=len(tokenizers.llama3_tokenizer()), **decoder_sizes(width)))


def smol_lm3() -> transformers.SmolLM3ForCausalLM:
    """As narrow as it gets: Bria Fibo gives an empty prompt the number 128,000."""
    return transformers.SmolLM3ForCausalLM(transformers.SmolLM3Config(
        **decoder_sizes(2) | {"num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 2, "vocab_size": 128_001,
                              "tie_word_embeddings": True}))


def qwen2_vl_processor() -> transformers.Qwen2VLProcessor:
    images = transformers.Qwen2VLImageProcessorPil(size={"shortest_edge": 56 * 56, "longest_edge": 56 * 56})
    return transformers.Qwen2VLProcessor(image_processor=images, tokenizer=tokenizers.qwen_tokenizer(),
                                         video_processor=transformers.Qwen2VLVideoProcessor(), chat_template=tokenizers.QWEN_CHAT)


def mistral3_model(width: int) -> transformers.Mistral3Model:
    return transformers.Mistral3Model(encoders.mistral3(width).config)


def siglip2() -> transformers.Siglip2VisionModel:
    return transformers.Siglip2VisionModel(transformers.Siglip2VisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, num_patches=16, patch_size=4))


def glm_image() -> transformers.GlmImageForConditionalGeneration:
    """Draws sixteen codes of pictures and never ends early."""
    text = decoder_sizes(16) | {
        "vocab_size": len(glm_image_tokenizer()), "vision_vocab_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}}
    for name in ("bos_token_id", "eos_token_id", "head_dim"):
        del text[name]
    vision = {"depth": 1, "hidden_size": 8, "num_heads": 2, "image_size": 32, "patch_size": 8, "intermediate_size": 8}
    return transformers.GlmImageForConditionalGeneration(transformers.GlmImageConfig(
        text_config=text | {"eos_token_id": None}, vision_config=vision, image_token_id=6, image_start_token_id=16,
        image_end_token_id=17, vq_config={"embed_dim": 8, "num_embeddings": 16, "latent_channels": 8}))


def glm_image_tokenizer() -> transformers.PreTrainedTokenizerFast:
    special = {"image_token": "<|image|>", "grid_bos_token": "<grid>", "grid_eos_token": "</grid>"}
    return tokenizers.of_bytes(["<bos>", "<eos>", "<pad>", "<grid>", "</grid>", "<|user|>", "<|image|>"], bos_token="<bos>",
                               eos_token="<eos>", pad_token="<pad>", padding_side="left", extra_special_tokens=special)


def glm_image_processor() -> transformers.GlmImageProcessor:
    chat = ("{%- for message in messages -%}<|user|>{%- for piece in message['content'] -%}{{ piece['text'] }}{%- endfor -%}"
            "{%- endfor -%}")
    return transformers.GlmImageProcessor(image_processor=transformers.GlmImageImageProcessorPil(), chat_template=chat,
                                          tokenizer=glm_image_tokenizer())


def xlm_roberta_tokenizer(length: int = 77) -> transformers.XLMRobertaTokenizer:
    pieces = [(piece, -1.0) for piece in ("<s>", "<pad>", "</s>", "<unk>", "▁", *tokenizers.LETTERS, "<mask>")]
    return transformers.XLMRobertaTokenizer(vocab=pieces, model_max_length=length)


def multilingual_clip(width: int, joined: int) -> Any:
    from diffusers.pipelines.kandinsky.text_encoder import MCLIPConfig, MultilingualCLIP

    return MultilingualCLIP(MCLIPConfig(
        transformerDimSize=width, imageDimSize=joined, vocab_size=len(xlm_roberta_tokenizer()), hidden_size=width,
        num_hidden_layers=2, num_attention_heads=2, intermediate_size=width, max_position_embeddings=80, pad_token_id=1))
