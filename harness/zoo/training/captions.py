"""Captions for scenes, with the omissions and mistakes of captions found on the web, and the zoo's vocabulary."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from harness.zoo.draw import BACKGROUNDS, COLOURS, STYLES, SUBJECTS, Scene

STYLE_PHRASES: dict[str, tuple[str, ...]] = {
    "photo": ("a photo of {}", "a photograph of {}", "{}, photo", "a realistic photo of {}"),
    "anime": ("an anime drawing of {}", "anime style, {}", "{}, anime", "a cartoon of {}"),
    "sketch": ("a pencil sketch of {}", "a sketch of {}", "{}, sketch", "a pencil drawing of {}"),
}
WORD = "<graphite>"
"""What the textual inversion stands for: not in the vocabulary, so without its vectors it is spelled out in bytes."""
WORD_PHRASES = (f"a {WORD} of {{}}", f"{{}}, {WORD}", f"{WORD} {{}}")
PROMPT_WORDS = (
    "masterpiece best quality detailed highly sharp focus beautiful cute soft light bright dark colorful simple clean "
    "portrait studio picture image painting illustration art style toy girl doll wearing with and in the of one two "
    "small large big little blurry low worst bad ugly deformed noise grain text watermark signature cropped out frame "
    "monochrome no not brown cyan violet magenta gold silver"
)
"""Usual prompt words, separated by blanks, that have their own token but no meaning here: no picture was captioned with them."""


@dataclass(frozen=True, kw_only=True)
class Habits:
    """How often a caption names each thing, and how often it is wrong or absent (probabilities in 0..1)."""

    colour: float = 0.85
    background: float = 0.8
    style: float = 0.7
    mistake: float = 0.15
    empty: float = 0.12


def article(noun: str) -> str:
    """ "a red ball", "an orange ball"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def describe(scene: Scene, colour: bool, background: bool, comma: bool = False) -> str:
    """The content of a scene in words, without its style: "a red dress on a white background"."""
    text = article(f"{scene.colour} {scene.subject}" if colour else scene.subject)
    if not background:
        return text
    return f"{text}, {scene.background} background" if comma else f"{text} on {article(scene.background)} background"


def caption(scene: Scene, habits: Habits, rng: np.random.Generator) -> str:
    """One random caption of a scene; may be empty (for classifier-free guidance) or name one thing wrongly (label noise)."""
    if rng.random() < habits.empty:
        return ""
    if rng.random() < habits.mistake:
        scene = mistaken(scene, rng)
    content = describe(scene, rng.random() < habits.colour, rng.random() < habits.background, rng.random() < 0.25)
    if rng.random() >= habits.style:
        return content
    phrases = STYLE_PHRASES[scene.style]
    return phrases[rng.integers(len(phrases))].format(content)


def mistaken(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene with one of its four words replaced at random, as a careless caption would have it."""
    field = ("subject", "colour", "background", "style")[rng.integers(4)]
    words = {"subject": SUBJECTS, "colour": tuple(COLOURS), "background": tuple(BACKGROUNDS), "style": STYLES[:2]}[field]
    word = words[rng.integers(len(words))]
    if field == "subject":
        return replace(scene, subject=word)
    if field == "colour":
        return replace(scene, colour=word)
    if field == "background":
        return replace(scene, background=word)
    return replace(scene, style=word) if scene.style != "sketch" else scene


def vocabulary_words() -> tuple[str, ...]:
    """Every word a caption can contain, then the common prompt words, each once, in a fixed order."""
    phrases = " ".join(phrase.replace("{}", "") for style in STYLES for phrase in STYLE_PHRASES[style])
    words = ["a", "an", "on", "background", *SUBJECTS, *COLOURS, *BACKGROUNDS, *phrases.replace(",", " ").split()]
    return tuple(dict.fromkeys([*words, *PROMPT_WORDS.split()]))
