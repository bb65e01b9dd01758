"""Known files that cannot be applied as changes of weights, each with advice."""

from __future__ import annotations

import re
from typing import Final

from harness.adapters.adapter_file import Stored
from harness.weights.known_files import most_probably

_MERGE: Final = "merge it into its model with PEFT first"
_NETWORK: Final = ("a separate network, not a change of weights; load it together with the model in a tool that "
                   "supports it")
_IP_ADAPTER: Final = ("an IP-Adapter: not a change of weights but keys and values for a reference picture; give it to "
                      "Candidate(references=...)")
_CONTROLLING: Final = "a separate network, not a change of weights; give it to Candidate(controls=...) of a suite"
_COMPONENT: Final = "a model's component, not an adapter; give it as a model"
_CONTROL: Final = ("a Flux control LoRA of Black Forest Labs, which replaces norms and widens the input; load it when "
                   "sampling, with its control image")
_FACTOR: Final = re.compile(r"lora_|\.lora\.")
_MARKS: Final[tuple[tuple[str, str], ...]] = (
    (r"\.(q_layer|p_layer|lambda_layer)(\.weight)?$",
     "T-LoRA, whose strength depends on the timestep; train a plain LoRA instead"),
    (r"(^|\.)lora_[AEB]\.ranknum$|\.ranknum$|\.lora_E(\.|$)", f"AdaLoRA (PEFT); {_MERGE}"),
    (r"\.(vera_lambda|vera_[AB])", f"VeRA (PEFT), whose matrices are drawn from a seed; {_MERGE}"),
    (r"\.(hra_u|vblora|fourierft|poly_lora|xlora|ln_tuning|waveft|road_)",
     f"an adapter of an unsupported PEFT kind; {_MERGE}"),
    (r"\.(oft_R|boft_R|boft_s)(\.|$)", f"OFT or BOFT saved by PEFT, which rotates the input; {_MERGE}"),
    (r"\.ia3_l(\.|$)", f"(IA)^3 saved by PEFT, which scales biases too; {_MERGE}"),
    (r"\.oft_diag$", "OFT of an early LyCORIS, which stores rotations themselves; save it again with LyCORIS 2 or later"),
    (r"\.(set_weight|reshape_weight)$", "a ComfyUI patch that replaces weights or changes their shape; merge it in ComfyUI"),
    (r"\.modules_to_save\.|\.original_module\.", f"a PEFT folder with whole layers (modules_to_save); {_MERGE}"),
    (r"^lora_controlnet$|^input_hint_block\.", f"ControlLoRA of Stability AI: {_CONTROLLING}"),
    (r"^lllite_", f"ControlNet-LLLite: {_NETWORK}"),
    (r"^(ip_adapter|image_proj|ip_adapter_proj_model)\.|\.to_[kv]_ip\.|\.processor\.ip_adapter_", _IP_ADAPTER),
    (r"^(control_model|controlnet_cond_embedding|controlnet_blocks|controlnet_down_blocks|zero_convs)\.",
     f"a ControlNet: {_CONTROLLING}"),
    (r"^(adapter\.)?body\.\d+\.(block[12]|resnets|body|in_conv|skep)\b", f"a T2I-Adapter: {_CONTROLLING}"),
    (r"^(single_blocks\.\d+\.norm|double_blocks\.\d+\.img_attn\.norm)\.(key|query)_norm\.scale$",
     _CONTROL),
    (r"^(model\.diffusion_model|first_stage_model|cond_stage_model|conditioner)\.(?!.*\.(lora|hada|lokr|diff|alpha))",
     "a checkpoint, not an adapter; give it as a model"),
    (r"^(down_blocks|up_blocks|mid_block|transformer_blocks|double_blocks|joint_blocks|encoder|text_model)\.(?:(?!lora|hada|lokr).)*"
     r"(?<!\.a1)(?<!\.a2)(?<!\.b1)(?<!\.b2)(?<!\.bm)\.(weight|bias)$", _COMPONENT),
    (r"^dummy_weights$", "a file with dummy weights; download the real one"),
)
"""(regular expression to search for in a key, what a file with such a key is)."""
_PEFT_TYPES: Final = ("LORA", "LOHA", "LOKR")


def refusal(stored: Stored) -> str:
    """What a known but unsupported file is, and what to do; otherwise empty."""
    if stored.bare == "tensor":
        shape = list(stored.entries[""].shape)
        if len(shape) == 1 or (len(shape) == 2 and shape[0] == 1):
            return (f"an aesthetic gradient (a bare tensor of shape {shape}), not an adapter: the mean CLIP embedding of some "
                    "images. Give it to a candidate of a suite: aesthetic=AestheticGradient(path=...). A textual inversion needs "
                    "a name for its vectors; save it as .safetensors with one")
        return (f"a bare tensor of shape {shape} without a name, neither an aesthetic gradient, which has one row, nor an "
                "adapter. A textual inversion needs a name for its vectors; save it as .safetensors with one")
    if stored.config is not None:
        kind = str(stored.config.get("peft_type", "")).rpartition(".")[2].upper()
        if kind not in _PEFT_TYPES:
            return f"a PEFT folder of kind {kind[:40]!a}; supported are {', '.join(_PEFT_TYPES)}. For others, {_MERGE}"
        if stored.config.get("modules_to_save"):
            return f"a PEFT folder with whole layers (modules_to_save); {_MERGE}"
    factors = any(_FACTOR.search(key) for key in stored.entries)
    for mark, what in _MARKS:
        if (factors or what != _CONTROL) and any(re.search(mark, key) for key in stored.entries if len(key) < 1000):
            row = most_probably(stored.entries) if what == _COMPONENT else None
            return row.sentence if row else what
    return ""
