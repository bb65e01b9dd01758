"""A recipe as text: every merge with its numbers and rules, and below it its models by letter."""

from __future__ import annotations

from collections.abc import Sequence

from harness.declare import Alpha, Alphas, Blocks, Ensemble, Fused, Gradient, Merge, Model, Relay
from harness.materialise.library import checkpoint_of, name_of
from harness.merge.match_keys import model_names


def describe(model: Model) -> Sequence[str]:
    """The recipe as indented lines of text."""
    def lines(inner: Model, depth: int, label: str) -> list[str]:
        pad = "  " * depth + label
        if isinstance(inner, Fused):
            head = f"{pad}with {', '.join(f'{a.path} at {a.weight:g}' for a in inner.adapters)} fused into"
            return [head, *lines(inner.model, depth + 1, "")]
        if isinstance(inner, Relay):
            ends = [f"until {share:g}" for share in inner.at] + ["to the end"]
            return [f"{pad}relay of", *(line for end, model in zip(ends, inner.models, strict=False)
                                        for line in lines(model, depth + 1, f"{end}  "))]
        if isinstance(inner, Ensemble):
            return [f"{pad}ensemble of", *(line for weight, model in zip(inner.weights, inner.models, strict=False)
                                           for line in lines(model, depth + 1, f"{weight:g}  "))]
        if not isinstance(inner, Merge):
            return [f"{pad}{name_of(checkpoint_of(inner))}"]
        names = model_names(len(inner.models), inner.c is not None)
        parents = [line for name, parent in zip(names, inner.models, strict=True)
                   for line in lines(parent, depth + 1, f"{name}  ")]
        part_lines = [line for part, source in inner.take.items() for line in lines(source, depth + 1, f"{part} from  ")]
        return [pad + _head(inner), *parents, *part_lines]
    return lines(model, 0, "")


def _head(merge: Merge) -> str:
    """One merge with everything that differs from the defaults."""
    phrases = [f"{merge.method} of {', '.join(merge.parts)}"]
    of_b = " of B" if merge.method == "weighted_sum" else ""
    phrases += [f"alpha {_said(merge.alpha)}{of_b}"] if merge.alpha is not None else []
    phrases += [f"beta {_said(merge.beta)}"] if merge.beta is not None else []
    phrases += [f"weights {', '.join(f'{weight:g}' for weight in merge.weights)}"] if merge.weights else []
    phrases += [f"{name} {value:g}" for name, value in merge.settings.items()]
    phrases += [f"stored as {merge.dtype}"] if merge.dtype != "a" else []
    phrases += [f"computed in {merge.precision}"] if merge.precision != "auto" else []
    phrases += ["keys that other models lack are kept from A"] if merge.missing == "keep_a" else []
    return "; ".join([*phrases, *(f"forced: {word}" for word in merge.force)])


def _said(alpha: Alpha) -> str:
    if isinstance(alpha, Alphas):
        others = [f"{part} {_said(rule)}" for part, rule in alpha.parts.items()]
        return ", ".join([_said(alpha.default), *others, *(f"{pattern!r} {value:g}" for pattern, value in alpha.keys.items())])
    if isinstance(alpha, Blocks):
        values = f"preset {alpha.preset}" if alpha.preset else f"{len(alpha.values)} values by block"
        return f"{values} ({alpha.convention}{'' if alpha.base is None else f', base {alpha.base:g}'})"
    if isinstance(alpha, Gradient):
        return f"{' to '.join(f'{value:g}' for value in alpha.values)} along the depth"
    return f"{alpha:g}"
