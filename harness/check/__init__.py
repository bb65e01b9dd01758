"""All problems of a declaration that can be found before any work, at once and without torch."""

from harness.check.prompt_adapters import resolved, with_prompt_adapters
from harness.check.suite import extent, model_problems, problems, remarks, same_name
from harness.check.user_rows import load_rows

__all__ = ["extent", "load_rows", "model_problems", "problems", "remarks", "resolved", "same_name", "with_prompt_adapters"]
