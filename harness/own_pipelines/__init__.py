"""Folders of diffusers whose model is of no built-in family, sampled by the pipeline that they name. Importing this imports
neither torch nor diffusers."""

from harness.own_pipelines.classes import AS_BUILT_IN, BUILT_IN, OWN, OwnClass, reason

__all__ = ["AS_BUILT_IN", "BUILT_IN", "OWN", "OwnClass", "reason"]
