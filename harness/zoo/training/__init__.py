"""The stages that make the zoo's weights: drawing, captions and training, in the order of `plan.STAGES`.

This folder is not part of the wheel: using the finished weights needs nothing of it, and no module outside imports it.
"""
