"""Tiny tokenizers made on the spot: a token for each letter or byte, the special ones, and a chat template where it counts."""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    ByT5Tokenizer,
    CLIPTokenizer,
    GemmaTokenizer,
    LlamaTokenizer,
    PixtralImageProcessorPil,
    PixtralProcessor,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
    Qwen2VLImageProcessorPil,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    T5Tokenizer,
)

LETTERS = [chr(code) for code in range(ord("!"), ord("~") + 1)]
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
QWEN_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
                "<|image_pad|>", "<|video_pad|>", "<think>", "</think>"]
LLAMA_SPECIAL = ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
MISTRAL_SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[IMG]",
                   "[IMG_BREAK]", "[IMG_END]"]

# Whole words, as Qwen has them: pipelines drop a fixed number of tokens, so that a template must have as many as in nature.
QWEN_WORDS = ("system user assistant Describe  the  image  by  detailing  color  shape  size  texture  quantity  text  spatial "
              " relationships  of  objects  and  background").replace("  ", " Ġ").split()

_CONTENT = ("{%- macro text(content) -%}{%- if content is string -%}{{ content }}{%- else -%}{%- for piece in content -%}"
            "{%- if piece['type'] == 'text' -%}{{ piece['text'] }}{%- else -%}{{ IMAGE }}{%- endif -%}{%- endfor -%}"
            "{%- endif -%}{%- endmacro -%}")
QWEN_CHAT = _CONTENT.replace("IMAGE", "'<|vision_start|><|image_pad|><|vision_end|>'") + (
    "{%- for message in messages -%}{{ '<|im_start|>' + message['role'] + '\n' + text(message['content']) + '<|im_end|>\n' }}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}"
    "{%- if enable_thinking is defined and not enable_thinking -%}{{ '<think>\n\n</think>\n\n' }}{%- endif -%}{%- endif -%}")
MISTRAL_CHAT = _CONTENT.replace("IMAGE", "'[IMG]'") + (
    "{{ bos_token }}{%- for message in messages -%}{%- if message['role'] == 'system' -%}"
    "{{ '[SYSTEM_PROMPT]' + text(message['content']) + '[/SYSTEM_PROMPT]' }}"
    "{%- else -%}{{ '[INST]' + text(message['content']) + '[/INST]' }}{%- endif -%}{%- endfor -%}")


def clip_tokenizer(pad: str = "<|endoftext|>", length: int = 9) -> CLIPTokenizer:
    """Single letters, at the end of a word and before it, then start and end; "!" has the number 0 as in CLIP."""
    words = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab=numbered(words), merges=[], model_max_length=length)
    tokenizer.pad_token = pad
    return tokenizer


def t5_tokenizer(length: int = 16) -> T5Tokenizer:
    """Single letters; also the tokenizer of UMT5."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((piece, -1.0) for piece in ("▁", *LETTERS))]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=length)


def byt5_tokenizer() -> ByT5Tokenizer:
    return ByT5Tokenizer(extra_ids=0)


def gemma_tokenizer(**options: Any) -> GemmaTokenizer:
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"]
    return GemmaTokenizer(vocab=numbered([*special, "▁", "\n", *LETTERS]), merges=[], padding_side="right",
                          **{"add_bos_token": True, **options})


def llama_tokenizer(**options: Any) -> LlamaTokenizer:
    """As of Llama 2: SentencePiece's letters."""
    return LlamaTokenizer(vocab=numbered(["<unk>", "<s>", "</s>", "▁", "\n", *LETTERS]), merges=[], pad_token="</s>",
                          **{"add_bos_token": True, **options})


def llama3_tokenizer(length: int = 128) -> PreTrainedTokenizerFast:
    """As of Llama 3: bytes, opened by its first special token."""
    return of_bytes(LLAMA_SPECIAL, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>", pad_token="<|eot_id|>",
                     model_max_length=length)


def qwen_tokenizer(**options: Any) -> Qwen2Tokenizer:
    """Of Qwen 2, 2.5 and 3, with a chat template."""
    merges = [(word[:end], word[end]) for word in QWEN_WORDS for end in range(1, len(word))]
    merged = [first + second for first, second in merges]
    tokenizer = Qwen2Tokenizer(vocab=numbered(list(dict.fromkeys([*BYTES, *QWEN_SPECIAL, *merged]))),
                               merges=list(dict.fromkeys(merges)), chat_template=QWEN_CHAT, **options)
    tokenizer.add_special_tokens({"additional_special_tokens": QWEN_SPECIAL[1:8]})
    tokenizer.add_tokens(QWEN_SPECIAL[8:])
    return tokenizer


def mistral_tokenizer(**options: Any) -> PreTrainedTokenizerFast:
    """Of Mistral Small 3, with a chat template."""
    return of_bytes(MISTRAL_SPECIAL, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>",
                     chat_template=MISTRAL_CHAT, **options)


def mistral_processor() -> PixtralProcessor:
    """Of Mistral Small 3, which also reads pictures."""
    images = PixtralImageProcessorPil(size={"longest_edge": 32}, patch_size={"height": 16, "width": 16})
    return PixtralProcessor(image_processor=images, tokenizer=mistral_tokenizer(), patch_size=16, chat_template=MISTRAL_CHAT)


def qwen3_vl_processor() -> Qwen3VLProcessor:
    """Of Qwen 3 VL, which also reads pictures."""
    return Qwen3VLProcessor(image_processor=Qwen2VLImageProcessorPil(patch_size=16), tokenizer=qwen_tokenizer(),
                            video_processor=Qwen3VLVideoProcessor(), chat_template=QWEN_CHAT)


def of_bytes(special: list[str], bos_token: str, **options: Any) -> PreTrainedTokenizerFast:
    vocabulary = numbered([*special, *BYTES])
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{bos_token} $A",
                                                             special_tokens=[(bos_token, vocabulary[bos_token])])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos_token,
                                   additional_special_tokens=[token for token in special if token != bos_token], **options)


def numbered(tokens: list[str]) -> dict[str, int]:
    return {token: number for number, token in enumerate(tokens)}
