"""Turns a candidate into a live pipeline on a device, or into a file on disk. Both use one plan and one arithmetic, and have
the same bits."""

from harness.materialise.describing import describe
from harness.materialise.file_layout import place
from harness.materialise.library import Library, MaterialiseError
from harness.materialise.live_stages import LiveStage
from harness.materialise.phases import Branch, Phase
from harness.materialise.plan_recipe import plan_recipe
from harness.materialise.recipe_plan import PartPlan, RecipePlan
from harness.materialise.saving import save
from harness.materialise.wider_format import Overflow, WiderFormats, declared_wider
from harness.materialise.workbench import Prepared, Workbench

__all__ = ["Branch", "Library", "LiveStage", "MaterialiseError", "Overflow", "PartPlan", "Phase", "Prepared", "RecipePlan",
           "WiderFormats", "Workbench", "declared_wider", "describe", "place", "plan_recipe", "save"]
