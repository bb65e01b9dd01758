"""The figures of a page: tidy data in, a plotly Figure out, or None when there is nothing to draw. Each row says the title and
the question the figure answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from reports.figures.along_axis import along_candidates, along_guidance
from reports.figures.batches import batch_curve
from reports.figures.blocks import block_effects, block_weights
from reports.figures.colours import dominant_colours, palette_drift
from reports.figures.cost import seconds_by_phase
from reports.figures.gates import against_limits
from reports.figures.heatmap import objective_heatmap
from reports.figures.latency_rounds import rounds_over_time
from reports.figures.memory import memory_over_time
from reports.figures.pareto import psnr_against_bytes, quality_against_cost
from reports.figures.steps import quality_along_steps
from reports.figures.styles import leanings
from reports.figures.two_axes import two_axes
from reports.read.run import Run
from reports.verdict.recommendation import Recommendation


@dataclass(frozen=True)
class Row:
    """One figure: its title, the question it answers, how it is read, and how it is drawn."""

    title: str
    question: str
    reading: str
    build: Callable[[Run, Recommendation], Any]


FIGURES: Final = {
    "limits": Row("Gates against their limits", "How close is each gate, and how sure?",
                  "Dotted: the limit; shaded: the wrong side. A gate passes when its whole interval is on the right side, fails "
                  "when it is wholly on the wrong one, and is inconclusive when the limit lies within. Each has its own "
                  "axis.",
                  against_limits),
    "heatmap": Row("Every cell", "Where is the sweet spot, and how sharp is it?",
                   "Brighter is better. The star is the pick, which need not be the brightest cell: of the cells that did about "
                   "as well it is the one that the objective prefers. The orange outline holds the cells whose objective cannot "
                   "be distinguished from the best one's, whichever value is shown. Select prompts, mean over "
                   "prompts.", objective_heatmap),
    "plane": Row("Any two axes", "How do two of the axes act together?",
                 "Everything else is set as in the pick. Outline and star as above. Select prompts, mean over "
                 "prompts.", two_axes),
    "blocks": Row("Alpha by block", "Which blocks are taken from which model?",
                  "As declared, from the first block to the last; 0 is model a, 1 is model b.", block_weights),
    "effects": Row("What one block does", "Which block moves the objective when only that block is changed?",
                   "Mean paired difference from the baseline over the select prompts at the pick's guidance, with a separate "
                   "95 % interval for each bar: of twenty bars without any effect, one is expected to exclude zero.",
                   block_effects),
    "candidates": Row("Along the candidates", "How do all candidates score at the recommended CFG?",
                      "Mean and 95 % band over the select prompts at the pick's guidance. Open diamonds: the confirm "
                      "prompts. The shaded range is tied with the best; the dotted line is the pick; dashed: the parents, or the "
                      "baseline where there are none.", along_candidates),
    "guidance": Row("Along the guidance", "What does more guidance buy, and what does it cost?",
                    "The same for the picked candidate. CLIP score alone tends to reward guidance that burns images "
                    "out, so read it with the panels below it.", along_guidance),
    "colours": Row("Dominant colours", "Which colour does each candidate give a prompt?",
                   "Images counted by their dominant colour, over all seeds of the prompt, at the pick's guidance.",
                   dominant_colours),
    "drift": Row("Palette drift", "How far do the colours move from the baseline's?",
                 "Mean colour distance (dE00) from the baseline's image of the same prompt, seed and guidance; about 2 "
                 "is just noticeable. All prompts.", palette_drift),
    "leanings": Row("Styles", "Which style do the parents and the pick have?",
                    "Mean probability of every style that the suite names, estimated by CLIP from the image alone (zero-shot); "
                    "every prompt counts once. This is CLIP's guess, not a measurement of taste.", leanings),
    "front": Row("Quality against cost", "Which candidates are beaten in quality and cost at once?",
                 "Left is cheaper, up is better. Beaten: another candidate is significantly better at no higher cost, or "
                 "significantly cheaper and no worse; perhaps beaten: only the means say so. Intervals of quality hold for all "
                 "pairs together; bars across are the fastest and the slowest round. Names that would cover another are left "
                 "out; point at a mark to see its own.", quality_against_cost),
    "psnr_bytes": Row("PSNR against bytes", "How much fidelity does each byte buy?",
                      "Left is smaller, up is nearer to the baseline. Marks as above; those on the front are the sweet spots of "
                      "bits. The baseline and candidates whose images are all equal to its have no PSNR and are left out. Which "
                      "layers cost most is said by sweetspot sensitivity.", psnr_against_bytes),
    "steps": Row("Quality against seconds", "How many steps are enough, and with which sampler?",
                 "A line per sampler; the numbers are steps, and the star is the pick. Bars up: 95 % interval of the mean over "
                 "the select prompts, for each alone; differences along a line are paired and surer (see the reasons). Bars "
                 "across: the fastest and the slowest round. Numbers that would cover another are left out; point at a mark "
                 "to see its own.", quality_along_steps),
    "cost": Row("Seconds", "Where does the time go?",
                "Median of the timed rounds; the dots are the single rounds. A switch makes another candidate's weights live "
                "in the same pipeline; the first one may merge and read files.", seconds_by_phase),
    "memory": Row("Memory over time", "When is the most memory in use, and how much?",
                  "One switch to the candidate (to make it) and one untimed image at batch 1 (to run it), with their phases "
                  "shaded. The axis does not start at zero.", memory_over_time),
    "batches": Row("Batch size", "What do larger batches give, and where does memory end?",
                   "Median of the timed batches; text encoding is not in them. A cross marks a batch that was refused.",
                   batch_curve),
    "rounds": Row("Rounds over time", "Did the machine change while it was measured?",
                  "Every candidate takes its turn in every round, in a new random order, so a slow machine slows all of "
                  "them alike. Below is one fixed small computation just before each: where it rises, the machine was "
                  "busy with something else. The axes do not start at zero. The pick and the baseline are highlighted.",
                  rounds_over_time),
}
