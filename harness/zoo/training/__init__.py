"""The stages that make the zoo's weights, in the order of `harness.zoo.training.plan.STAGES`.

Called by `python -m harness.zoo train`; nothing here is needed to use the finished weights.
"""
