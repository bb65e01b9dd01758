"""The node graph that ComfyUI writes into its pictures (`prompt`): from the sampler along its links to texts, model and size.
What cannot be followed is an error that names the node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from harness.declare.listing import first_of
from harness.declare.picture_nodes import (
    CONDITIONING,
    DETAILERS,
    LITERALS,
    LOADERS,
    MIXING,
    PAIRS,
    SCHEDULES,
    TEXTS,
    ZEROED,
    Graph,
)
from harness.declare.picture_text import PictureText, number, whole_number

_MOST_HOPS: Final = 1000
_MOST_NODES: Final = 10_000
_MOST_SAMPLERS: Final = 100
_MOST_STEPS: Final = 200
"""Nodes that a text is put together from: two inputs that lead back to one node double it each time."""
_LONGEST_TEXT: Final = 100_000
_SAMPLING: Final = ("seed", "noise_seed", "steps", "sampler_name", "sigmas", "noise")
"""A node with one of these inputs and a link to a conditioning or guider is a sampler, whoever wrote it."""


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The texts that a conditioning is made of, one per text encoder, and the node that encoded them."""

    first: str
    second: str = ""
    node: str = ""

    @property
    def both(self) -> tuple[str, str]:
        """The texts without their node, by which conditionings are compared."""
        return self.first, self.second


def from_graph(data: object) -> PictureText:
    """What a graph in the format of ComfyUI's API says. Raises ValueError that names the node that cannot be followed."""
    if not isinstance(data, Mapping) or not data or not all(isinstance(node, Mapping) for node in data.values()):
        raise ValueError("its ComfyUI prompt is not a table of nodes")
    if len(data) > _MOST_NODES:
        raise ValueError(f"its ComfyUI graph has {len(data):,} nodes; at most {_MOST_NODES:,} are followed")
    graph = Graph(nodes={str(name): node for name, node in data.items()})
    samplers = _samplers(graph)
    texts = [_texts_of(graph, name) for name in samplers]
    if unlike := next((at for at, both in enumerate(texts) if _compared(both) != _compared(texts[0])), 0):
        raise ValueError(f"the samplers {graph.called(samplers[0])} and {graph.called(samplers[unlike])} have different texts, "
                         "and the graph does not say which of them drew the picture")
    first = [name for name in samplers if not any(other in samplers for other in _images_behind(graph, name))] or samplers
    positive, negative = texts[0]
    for name in first:
        _note_sources(graph, name)
    width, height = _agreed(graph, first, "size", _size) or (None, None)
    model = _agreed(graph, first, "model", _model)
    return PictureText(
        tool="ComfyUI", syntax="comfyui", prompt=positive.first, negative=negative.first, second_prompt=positive.second,
        second_negative=negative.second, width=width, height=height, model=model or "",
        seed=_agreed(graph, first, "seed", lambda g, n: whole_number(_value(g, n, "seed", "noise_seed", "noise"))),
        steps=_agreed(graph, first, "steps", lambda g, n: whole_number(_value(g, n, "steps", "sigmas"), 1)),
        guidance=_agreed(graph, first, "cfg", lambda g, n: number(_value(g, n, "cfg", "guider"))),
        sampler=_agreed(graph, first, "sampler", _sampler) or "", schedule=_agreed(graph, first, "scheduler", _schedule) or "",
        clip_skip=_clip_skip(graph, positive.node), others=graph.others)


def _compared(conditionings: tuple[Texts, Texts]) -> tuple[tuple[str, str], ...]:
    return tuple(texts.both for texts in conditionings)


def _samplers(graph: Graph) -> list[str]:
    """The samplers behind the pictures that the graph saves, the last one first; those that only touch up a part come under
    `others`. Raises ValueError if no sampler is behind them."""
    pointed = {link[0] for name in graph.nodes for value in graph.inputs(name).values() if (link := graph.link(value))}
    ends = [name for name in graph.nodes if name not in pointed]
    saving = [name for name in ends if graph.linked(name, "images", "image")]
    samplers = [name for name in graph.behind(*(saving or ends)) if _is_sampler(graph, name)]
    if len(samplers) > _MOST_SAMPLERS:
        raise ValueError(f"its ComfyUI graph has {len(samplers)} samplers; at most {_MOST_SAMPLERS} are followed")
    for name in (name for name in samplers if DETAILERS.search(graph.kind(name))):
        graph.others[graph.called(name)] = "draws a part of the picture again"
    whole = [name for name in samplers if not DETAILERS.search(graph.kind(name))]
    if not whole:
        raise ValueError(f"its ComfyUI graph has no sampler that can be followed, among {first_of(sorted(_kinds(graph)))}")
    return whole


def _kinds(graph: Graph) -> set[str]:
    return {repr(graph.kind(name)) for name in graph.nodes}


def _is_sampler(graph: Graph, name: str) -> bool:
    inputs = graph.inputs(name)
    return any(one in inputs for one in _SAMPLING) and graph.linked(name, "positive", "guider") is not None


def _images_behind(graph: Graph, sampler: str) -> Iterator[str]:
    """The nodes that the latents of a sampler come from."""
    link = graph.linked(sampler, "latent_image", "latent", "samples", "image", "images")
    if link is not None:
        yield from graph.behind(link[0])


def _texts_of(graph: Graph, sampler: str) -> tuple[Texts, Texts]:
    """The texts of a sampler's positive and negative conditioning; those of a guider where it has one."""
    guider = graph.linked(sampler, "guider")
    at = sampler if guider is None else guider[0]
    if guider is not None and graph.kind(at) == "BasicGuider":
        return _conditioning(graph, at, "conditioning", "positive"), Texts(first="")
    if guider is not None and graph.kind(at) != "CFGGuider":
        raise ValueError(f"{graph.called(at)} cannot be followed to one positive and one negative text")
    return _conditioning(graph, at, "positive", "positive"), _conditioning(graph, at, "negative", "negative")


def _conditioning(graph: Graph, start: str, entry: str, role: str) -> Texts:
    """The texts behind an input, through nodes that leave the text as it is."""
    at, link = start, graph.linked(start, entry)
    for _ in range(_MOST_HOPS):
        if link is None:
            if role == "negative" and entry == "negative" and at == start:
                return Texts(first="")
            raise ValueError(f"{graph.called(at)}: its input {entry!r} is not linked to a text")
        at, output = link
        kind = graph.kind(at)
        if kind in TEXTS:
            return _encoded(graph, at)
        if kind in LOADERS:
            return Texts(first=_string(graph, at, role), node=at)
        if kind in ZEROED:
            graph.others[graph.called(at)] = f"sets the {role} text to zero"
            return Texts(first="", node=at)
        if kind in MIXING:
            raise ValueError(f"{graph.called(at)} makes a conditioning of several texts or a part of the picture, and a Prompt "
                             "is one text")
        if kind in PAIRS:
            entry = ("positive", "negative")[output] if output in (0, 1) else role
        elif kind in CONDITIONING:
            entry = CONDITIONING[kind]
        else:
            raise ValueError(f"{graph.called(at)} is not known, and may change the {role} text")
        _note(graph, at)
        link = graph.linked(at, entry)
    raise ValueError(f"{graph.called(start)}: its {role} conditioning leads in a circle")


def _note(graph: Graph, name: str) -> None:
    """Says under `others` that a node on the way took part in the picture."""
    if "eroute" not in graph.kind(name):
        values = {key: value for key, value in graph.inputs(name).items() if isinstance(value, int | float | str)}
        graph.others[graph.called(name)] = first_of([f"{key} {value}" for key, value in values.items()] or ["used"])


def _encoded(graph: Graph, name: str) -> Texts:
    """The texts of a node that encodes them. A second text that is empty, or the same as the first, is left out."""
    texts = [_string(graph, name, key) for key in TEXTS[graph.kind(name)] if key in graph.inputs(name)]
    if not texts:
        raise ValueError(f"{graph.called(name)} has no text")
    different = list(dict.fromkeys(text for text in texts if text.strip()))
    if len(different) > 2:
        raise ValueError(f"{graph.called(name)} gives three text encoders different texts, and a Prompt is one text")
    return Texts(first=different[0] if different else "", second=different[1] if len(different) > 1 else "", node=name)


def _string(graph: Graph, name: str, key: str) -> str:
    """The text of an input: its own, or that of a node that holds or joins texts."""
    value = graph.inputs(name).get(key)
    link = graph.link(value)
    if link is None:
        if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
            raise ValueError(f"{graph.called(name)}: its input {key!r} is not a text of at most {_LONGEST_TEXT:,} characters")
        return value
    at = link[0]
    graph.steps += 1
    if graph.steps > _MOST_STEPS:
        raise ValueError(f"{graph.called(name)}: its input {key!r} leads in a circle, or through more than {_MOST_STEPS} nodes")
    if graph.kind(at) == "StringConcatenate":
        parts = [_string(graph, at, part) for part in ("string_a", "string_b")]
        return (_string(graph, at, "delimiter") if "delimiter" in graph.inputs(at) else "").join(parts)
    for literal in LITERALS.get(graph.kind(at), ()):
        if literal in graph.inputs(at):
            return _string(graph, at, literal)
    raise ValueError(f"{graph.called(at)} is not known, and {graph.called(name)} takes its {key} from it")


def _value(graph: Graph, name: str, *keys: str) -> object:
    """The value of the first of these inputs that a node has, through nodes that hold it under the same or a literal's name."""
    for _ in range(_MOST_HOPS):
        key = next((key for key in keys if key in graph.inputs(name)), None)
        if key is None:
            return None
        link = graph.link(graph.inputs(name)[key])
        if link is None:
            return graph.inputs(name)[key]
        name, keys = link[0], (*keys, *LITERALS.get(graph.kind(link[0]), ()))
    return None


def _agreed(graph: Graph, samplers: Sequence[str], what: str, value_of: Any) -> Any:
    """The value that the samplers share; if they do not, None, and the values come under `others`."""
    values = list(dict.fromkeys(value_of(graph, name) for name in samplers))
    if len(values) == 1:
        return values[0]
    graph.others[what] = first_of(values)
    return None


def _sampler(graph: Graph, name: str) -> str:
    value = _value(graph, name, "sampler_name", "sampler")
    return value if isinstance(value, str) else ""


def _schedule(graph: Graph, name: str) -> str:
    value = _value(graph, name, "scheduler", "sigmas")
    link = graph.linked(name, "sigmas")
    return value if isinstance(value, str) else SCHEDULES.get(graph.kind(link[0]), "") if link else ""


def _size(graph: Graph, sampler: str) -> tuple[int, int] | None:
    """Width and height of the latents that a sampler starts from."""
    for name in _images_behind(graph, sampler):
        width, height = (whole_number(_value(graph, name, key, f"empty_latent_{key}"), 1) for key in ("width", "height"))
        if width and height:
            return width, height
    return None


def _model(graph: Graph, sampler: str) -> str:
    """The file of the model behind a sampler; what changes the model on the way comes under `others`."""
    link = graph.linked(sampler, "model", "guider")
    for _ in range(_MOST_HOPS):
        if link is None:
            return ""
        at, inputs = link[0], graph.inputs(link[0])
        for key in ("ckpt_name", "unet_name"):
            if isinstance(inputs.get(key), str):
                return str(inputs[key])
        if isinstance(inputs.get("lora_name"), str):
            graph.others[f"lora {inputs['lora_name']}"] = str(inputs.get("strength_model", ""))
        elif "uider" not in graph.kind(at):
            _note(graph, at)
        link = graph.linked(at, "model", "MODEL", "")
    return ""


def _note_sources(graph: Graph, sampler: str) -> None:
    """Says under `others` that a sampler began with a picture, and how much of it was drawn again."""
    for name in _images_behind(graph, sampler):
        if graph.kind(name).startswith("LoadImage"):
            _note(graph, name)
    denoise = number(_value(graph, sampler, "denoise", "sigmas"))
    if denoise is not None and denoise < 1:
        graph.others["denoise"] = f"{denoise:g}"


def _clip_skip(graph: Graph, encoder: str) -> int | None:
    """How many layers from the end the text encoder stops, as A1111 counts: ComfyUI writes -2 for 2."""
    at = encoder
    for _ in range(_MOST_HOPS if at else 0):
        for stop in (graph.inputs(at).get(name) for name in ("stop_at_clip_layer", "clip_skip")):
            if isinstance(stop, int) and -100 < stop < 0:
                return -stop
        link = graph.linked(at, "clip", "CLIP", "")
        if link is None:
            return None
        at = link[0]
    return None
