"""The nodes of a ComfyUI graph: how they are linked, and what they do with texts, by the names of their classes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

TEXTS: Final[Mapping[str, tuple[str, ...]]] = {
    "CLIPTextEncode": ("text",), "CLIPTextEncodeSDXL": ("text_g", "text_l"), "CLIPTextEncodeSDXLRefiner": ("text",),
    "CLIPTextEncodeSD3": ("clip_g", "clip_l", "t5xxl"), "CLIPTextEncodeFlux": ("t5xxl", "clip_l"),
}
"""Nodes that encode texts, with the inputs that hold them, the encoder that matters most first."""
LOADERS: Final = frozenset(("Efficient Loader",))
"""Nodes that hold a positive and a negative text of their own, in inputs of these names."""
CONDITIONING: Final[Mapping[str, str]] = {
    "Reroute": "", "Reroute (rgthree)": "", "ReroutePrimitive|pysssss": "value", "ConditioningReroute": "conditioning",
    "FluxGuidance": "conditioning", "ControlNetApply": "conditioning", "unCLIPConditioning": "conditioning",
    "StyleModelApply": "conditioning", "ReferenceLatent": "conditioning", "CLIPTextEncodeControlnet": "conditioning",
}
"""Nodes that leave the text of a conditioning as it is, with the input that they pass on."""
PAIRS: Final = frozenset((
    "ControlNetApplyAdvanced", "ControlNetApplySD3", "ControlNetInpaintingAliMamaApply", "InpaintModelConditioning",
    "InstructPixToPixConditioning", "ACN_AdvancedControlNetApply", "ACN_AdvancedControlNetApply_v2"))
"""Nodes that pass on a positive and a negative conditioning, as their outputs 0 and 1."""
MIXING: Final = frozenset((
    "ConditioningCombine", "ConditioningConcat", "ConditioningAverage", "ConditioningSetArea", "ConditioningSetAreaPercentage",
    "ConditioningSetMask", "ConditioningSetTimestepRange", "GLIGENTextBoxApply", "PairConditioningCombine",
    "PairConditioningSetProperties"))
"""Nodes whose conditioning is more than one text for all of the picture and all steps."""
ZEROED: Final = frozenset(("ConditioningZeroOut",))
LITERALS: Final[Mapping[str, tuple[str, ...]]] = {
    "PrimitiveNode": ("value",), "PrimitiveString": ("value",), "PrimitiveStringMultiline": ("value",),
    "PrimitiveInt": ("value",), "PrimitiveFloat": ("value",), "Reroute": ("",), "Reroute (rgthree)": ("",),
    "String Literal": ("string",), "StringConstant": ("string",), "StringConstantMultiline": ("string",),
    "INTConstant": ("value",), "FloatConstant": ("value",), "CR Text": ("text",), "CR Prompt Text": ("prompt",),
    "Text Multiline": ("text",), "Text String": ("text",), "Text box": ("text",), "ttN text": ("text",), "JWString": ("text",),
    "JWStringMultiline": ("text",), "Simple String": ("string",), "easy positive": ("positive",),
    "easy negative": ("negative",), "ShowText|pysssss": ("text",), "Seed (rgthree)": ("seed",), "easy seed": ("seed",),
    "easy int": ("value",), "easy float": ("value",), "CR Seed": ("seed",), "ImpactWildcardProcessor": ("populated_text",),
}
"""Nodes that hold a value, with the input that holds it."""
SCHEDULES: Final[Mapping[str, str]] = {
    "KarrasScheduler": "karras", "ExponentialScheduler": "exponential", "PolyexponentialScheduler": "polyexponential",
    "LaplaceScheduler": "laplace", "BetaSamplingScheduler": "beta", "SDTurboScheduler": "sd_turbo", "VPScheduler": "vp",
    "AlignYourStepsScheduler": "align_your_steps", "GITSScheduler": "gits",
}
"""Nodes that make a schedule of their own, by the schedule's name."""
DETAILERS: Final = re.compile("detailer", re.IGNORECASE)
"""Nodes that draw a part of a finished picture again, such as its faces."""
WIDGETS: Final[Mapping[str, tuple[str, ...]]] = {
    "CLIPTextEncode": ("text",),
    "CLIPTextEncodeSDXL": ("width", "height", "crop_w", "crop_h", "target_width", "target_height", "text_g", "text_l"),
    "CLIPTextEncodeSDXLRefiner": ("ascore", "width", "height", "text"),
    "CLIPTextEncodeSD3": ("clip_l", "clip_g", "t5xxl", "empty_padding"), "CLIPTextEncodeFlux": ("clip_l", "t5xxl", "guidance"),
    "KSampler": ("seed", "after", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": ("add_noise", "noise_seed", "after", "steps", "cfg", "sampler_name", "scheduler", "start_at_step",
                         "end_at_step", "return_with_leftover_noise"),
    "SamplerCustom": ("add_noise", "noise_seed", "after", "cfg"), "RandomNoise": ("noise_seed", "after"), "CFGGuider": ("cfg",),
    "KSamplerSelect": ("sampler_name",), "BasicScheduler": ("scheduler", "steps", "denoise"), "KarrasScheduler": ("steps",),
    "ExponentialScheduler": ("steps",), "EmptyLatentImage": ("width", "height", "batch_size"),
    "EmptySD3LatentImage": ("width", "height", "batch_size"), "CheckpointLoaderSimple": ("ckpt_name",),
    "UNETLoader": ("unet_name", "weight_dtype"), "LoraLoader": ("lora_name", "strength_model", "strength_clip"),
    "LoraLoaderModelOnly": ("lora_name", "strength_model"), "CLIPSetLastLayer": ("stop_at_clip_layer",),
    "FluxGuidance": ("guidance",), "ControlNetApply": ("strength",),
    "ControlNetApplyAdvanced": ("strength", "start_percent", "end_percent"), "PrimitiveNode": ("value",),
    "PrimitiveString": ("value",), "PrimitiveStringMultiline": ("value",), "PrimitiveInt": ("value",),
    "PrimitiveFloat": ("value",), "StringConcatenate": ("string_a", "string_b", "delimiter"), "String Literal": ("string",),
    "StringConstantMultiline": ("string",), "CR Text": ("text",), "Text Multiline": ("text",), "ShowText|pysssss": (),
}
"""The values of a node in the order in which a workflow lists them; "after" is the seed's control."""


@dataclass(kw_only=True)
class Graph:
    """Nodes by id. `others` collects what was found on the way and has no field of its own."""

    nodes: Mapping[str, Mapping[str, Any]]
    others: dict[str, str] = field(default_factory=dict)
    steps: int = 0

    def inputs(self, name: str) -> Mapping[str, Any]:
        """The inputs of a node; empty for a damaged node."""
        inputs = self.nodes[name].get("inputs")
        return inputs if isinstance(inputs, Mapping) else {}

    def kind(self, name: str) -> str:
        """The class of a node."""
        return str(self.nodes[name].get("class_type", ""))

    def called(self, name: str) -> str:
        """A node in words."""
        return f"node {name[:40]!r} ({self.kind(name)[:80]!r})"

    def link(self, value: object) -> tuple[str, int] | None:
        """Node and output that an input is linked to; None if it is not linked to a node of this graph."""
        if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
            name, output = str(value[0]), value[1]
            if name in self.nodes and isinstance(output, int):
                return name, output
        return None

    def linked(self, name: str, *inputs: str) -> tuple[str, int] | None:
        """The link of the first of these inputs that has one."""
        links = (self.link(self.inputs(name).get(one)) for one in inputs)
        return next((link for link in links if link is not None), None)

    def behind(self, *starts: str) -> Iterator[str]:
        """The nodes and all that they depend on, the nearest first."""
        seen, queue = set(starts), list(starts)
        for name in queue:
            yield name
            for value in self.inputs(name).values():
                if (link := self.link(value)) is not None and link[0] not in seen:
                    seen.add(link[0])
                    queue.append(link[0])
