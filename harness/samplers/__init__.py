"""SAMPLERS: the names a Grid may use, each a diffusers scheduler with the settings the name stands for. SCHEDULES: how the
noise falls along the steps. Importing this imports neither torch nor diffusers."""

from harness.samplers.beginning import begin_at, history_options, noised
from harness.samplers.building import build_scheduler, evaluations, first_evaluation, set_steps, step_options
from harness.samplers.guided_steps import guided_steps
from harness.samplers.image_work import candidate_work, image_work
from harness.samplers.problems import (
    FLOW_FAMILIES,
    called_by_diffusers,
    is_pipeline,
    sampler_problem,
    zero_snr_problem,
)
from harness.samplers.schedules import SCHEDULES, Schedule
from harness.samplers.table import SAMPLERS, Sampler

__all__ = ["FLOW_FAMILIES", "SAMPLERS", "SCHEDULES", "Sampler", "Schedule", "begin_at", "build_scheduler", "called_by_diffusers",
           "candidate_work", "evaluations", "first_evaluation", "guided_steps", "history_options", "image_work", "is_pipeline",
           "noised", "sampler_problem", "set_steps", "step_options", "zero_snr_problem"]
