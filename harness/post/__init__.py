"""Post-steps: what is done to a finished picture, each by a row of POST_STEPS."""

from harness.post.process import POST_STEPS, PostError, PostProcess, files_of, process_of, size_after

__all__ = ["POST_STEPS", "PostError", "PostProcess", "files_of", "process_of", "size_after"]
