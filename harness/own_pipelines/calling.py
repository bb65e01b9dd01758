"""Calls a pipeline of the folder's own class for a batch of texts, with the scheduler at its beginning."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Any, Final

from harness.own_pipelines.loading import called_pipeline
from harness.own_pipelines.truncation import Watch, watching

if TYPE_CHECKING:
    import numpy as np
    import torch

    from harness.weights.pipeline import Pipeline

_NOT_AS_ASKED: Final = re.compile(r"truncated|will be resized|(is|are|be) ignored", re.IGNORECASE)
"""What diffusers logs where it does something else than it was asked for."""


class OwnCallError(RuntimeError):
    """A pipeline did something else than it was asked for."""


@dataclass(frozen=True, kw_only=True)
class OwnCall:
    """One batch: a text and a negative text for each image, its generator, and one guidance scale for all."""

    prompts: tuple[str, ...]
    negatives: tuple[str, ...]
    generators: Sequence[torch.Generator]
    guidance: float
    steps: int
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What was seen of a call: what diffusers logged of what it does not do as asked, and what the tokenizers cut off."""

    logged: list[str] = field(default_factory=list)
    tokenizers: Watch


def call_own(pipeline: Pipeline, call: OwnCall, scheduler: Any) -> np.ndarray[Any, Any]:
    """The images of a batch as numbers from 0 to 1, (n, height, width, 3) in float32. `scheduler` makes one for each call, which
    counts the steps. Raises OwnCallError where the pipeline cuts off a text, leaves out an option or makes another size."""
    import numpy as np

    assert pipeline.own is not None
    whole = range(len(call.prompts))
    groups = [[*whole]] if pipeline.own.row.batches else [[place] for place in whole]
    made = []
    for places in groups:
        called = called_pipeline(pipeline, drawn_by(scheduler(), [call.generators[place] for place in places]))
        with watched(pipeline, [call.prompts[place] for place in places]) as seen, _drawing(pipeline, call.generators[places[0]]):
            images = _images(called(**options(pipeline, call, places)))
        cut = cut_off(seen)
        if problem := f"a text is too long: {cut}" if cut else next(iter(not_as_asked(seen)), ""):
            raise OwnCallError(f"{pipeline.own.name}: {problem}")
        images = images[..., :3] if pipeline.own.row.alpha else images
        if images.shape != (len(places), call.height, call.width, 3):
            raise OwnCallError(f"{pipeline.own.name} made images of the shape {list(images.shape)}; expected "
                               f"{[len(places), call.height, call.width, 3]}. Give width and height that it can make")
        made.append(images)
    return np.concatenate(made)


def drawn_by(scheduler: Any, generators: Sequence[torch.Generator]) -> Any:
    """The scheduler, whose noise at its steps each image's own generator draws, also where the pipeline gives it none."""
    step = scheduler.step
    if "generator" not in signature(step).parameters:
        return scheduler

    @wraps(step)
    def drawing(*args: Any, **kwargs: Any) -> Any:
        given = signature(step).bind(*args, **kwargs).arguments
        return step(*args, **kwargs) if given.get("generator") is not None else step(
            *args, **{**kwargs, "generator": generators[0] if len(generators) == 1 else list(generators)})

    scheduler.step = drawing
    return scheduler


def options(pipeline: Pipeline, call: OwnCall, places: Sequence[int]) -> dict[str, Any]:
    """The arguments of a call for some images of a batch."""
    own = pipeline.own
    assert own is not None
    row = own.row
    guided = call.guidance != 1

    def each(values: Sequence[Any]) -> Any:
        return [values[place] for place in places] if row.batches else values[places[0]]

    given: dict[str, Any] = {"prompt": each(call.prompts), "num_inference_steps": call.steps, "width": call.width,
                             "height": call.height, "generator": each(call.generators), "output_type": "np", **row.settings}
    if row.guidance:
        given[row.guidance] = call.guidance if guided else row.off
    if row.negative and guided:
        given["negative_prompt"] = each(call.negatives)
    return given


@contextmanager
def watched(pipeline: Pipeline, texts: Sequence[str]) -> Iterator[Watched]:
    """Within the block everything is noted that diffusers does otherwise than asked; it is called with these texts."""
    assert pipeline.own is not None
    with ExitStack() as stack:
        seen = Watched(tokenizers=stack.enter_context(watching(pipeline.own.tokenizers, texts, _longest(pipeline))))
        stack.enter_context(_logged(seen.logged))
        yield seen


def not_as_asked(seen: Watched) -> list[str]:
    """What diffusers logged, without what it says of texts."""
    return [message for message in seen.logged if not _is_of_texts(message)]


def cut_off(seen: Watched) -> str:
    """What no tokenizer read whole, or a pipeline cut off by itself; empty if nothing."""
    if seen.tokenizers.problem or seen.tokenizers.in_part:
        return seen.tokenizers.problem
    return next((f"{message.splitlines()[0][:200]}; shorten it" for message in seen.logged if _is_of_texts(message)), "")


def _is_of_texts(message: str) -> bool:
    return "truncated" in message.lower()


def _longest(pipeline: Pipeline) -> int | None:
    from harness.own_pipelines.declared import default_of

    assert pipeline.own is not None
    longest = default_of(pipeline.own.kind, "max_sequence_length")
    return longest if isinstance(longest, int) else None


@contextmanager
def _logged(messages: list[str]) -> Iterator[None]:
    logger = logging.getLogger("diffusers")

    class Noting(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            text = record.getMessage()
            if _NOT_AS_ASKED.search(text):
                messages.append(text)
            return True

    handler = logging.NullHandler()
    handler.handle = lambda record: bool(Noting().filter(record))  # type: ignore[method-assign]  # a handler that only notes
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def _drawing(pipeline: Pipeline, generator: torch.Generator) -> Iterator[None]:
    """Within the block torch's global generators begin at the seed of an image: some pipelines sample tokens with them. They are
    afterwards what they were."""
    import torch

    cuda = [pipeline.device] if pipeline.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), torch.inference_mode():
        torch.manual_seed(generator.initial_seed())
        yield


def _images(result: Any) -> np.ndarray[Any, Any]:
    import numpy as np

    first = result[0]
    images = np.asarray(first if not isinstance(first, list) else np.stack([np.asarray(image) for image in first]))
    return images.astype(np.float32, copy=False)


