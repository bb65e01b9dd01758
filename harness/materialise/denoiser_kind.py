"""What the U-Net of a recipe predicts, and by which noise schedule: as the model says that gives it, not the one that gives the
rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.adapters import Reading
from harness.declare import Fused, Merge, Model
from harness.declare.ways_out import FORCE_PREDICTION
from harness.materialise.library import MaterialiseError, checkpoint_of, name_of
from harness.materialise.recipe_plan import RecipePlan
from harness.merge import MERGE_METHODS, Altered, Expression, Source
from harness.weights import ModelFile
from harness.weights.prediction import TELLING, prediction_by_value


@dataclass(frozen=True, kw_only=True)
class DenoiserKind:
    """`prediction` is "epsilon", "v_prediction" or "" if nothing states it; `markers` are the marker tensors that a single file
    of this kind has; `giver` is the name of the model that says so."""

    giver: str
    prediction: str
    markers: frozenset[str]

    def describe(self) -> str:
        """"no prediction said, markers: none"."""
        return f"{self.prediction or 'no prediction said'}, markers: {', '.join(sorted(self.markers)) or 'none'}"

    def differs(self, other: DenoiserKind) -> bool:
        """Whether two kinds contradict each other. One that states no prediction contradicts none by that."""
        return self.markers != other.markers or bool(
            self.prediction and other.prediction and self.prediction != other.prediction)


def kind_of_file(name: str, file: ModelFile) -> DenoiserKind:
    """The kind of one model file."""
    return DenoiserKind(giver=name, prediction=file.prediction, markers=frozenset(file.sampling_markers))


def kind_of_result(recipe: RecipePlan) -> DenoiserKind:
    """The kind of a planned result: that of the model whose U-Net comes out as it is, also of a merge at alpha 1, and otherwise
    `denoiser_kind`."""
    givers = {_giver(expression) for expression in recipe.parts["unet"].keys.values()} if "unet" in recipe.parts else set()
    if len(givers) == 1 and (giver := givers.pop()):
        return kind_of_file(giver, recipe.files[giver])
    return denoiser_kind(recipe.model, recipe.files)


def _giver(expression: Expression) -> str:
    """The model whose tensor it is, with or without adapters; "" for a merged one."""
    while isinstance(expression, Altered):
        expression = expression.input
    return expression.model if isinstance(expression, Source) else ""


def denoiser_kind(model: Model, files: Mapping[str, ModelFile]) -> DenoiserKind:
    """The kind of a recipe's result: that of the model whose U-Net is taken or kept; of merged U-Nets A's, which is completed
    by what the others state."""
    if isinstance(model, Fused):
        return denoiser_kind(model.model, files)
    if not isinstance(model, Merge):
        name = name_of(checkpoint_of(model))
        return kind_of_file(name, files[name])
    if "unet" in model.take:
        return denoiser_kind(model.take["unet"], files)
    own = denoiser_kind(model.a, files)
    if own.prediction or "unet" not in model.parts or "prediction" in model.force or (
            MERGE_METHODS[model.method].adds_difference):
        return own
    others = (denoiser_kind(other, files).prediction for other in model.models[1:])
    return replace(own, prediction=next(filter(None, others), ""))


def foreign_prediction(reading: Reading, kind: DenoiserKind, family: str) -> list[str]:
    """A note on an adapter that was trained on a U-Net of another prediction than the one it changes. What states none
    predicts noise, but for Stable Diffusion 2."""
    trained = reading.facts.get("prediction", "")
    own = kind.prediction or ("" if family == "sd2" else "epsilon")
    if not trained or not own or trained == own or not any(component == "unet" for component, _ in reading.changes):
        return []
    return [f"its header says that it was trained on a model with {trained}; the U-Net that it changes is one with {own}"]


def refuse_unlike_kinds(kinds: Sequence[DenoiserKind], files: Mapping[str, ModelFile]) -> None:
    """Raises MaterialiseError for U-Nets that predict different things. A model without a header entry does not conflict
    with one that has it, since many tools drop headers, unless its values do, as in Stable Diffusion 2. A model without a marker
    tensor does conflict with one that has it, since loaders then assume epsilon."""
    marked = any("v_pred" in kind.markers for kind in kinds)
    predictions = {kind.giver: kind.prediction or ("epsilon" if marked else "") for kind in kinds}
    by_value = {name: prediction_by_value(files[name]) for name, word in predictions.items() if not word}
    shown = predictions | {name: f"{word} by the values of {TELLING!r}" for name, word in by_value.items() if word}
    schedules = {kind.giver: ", ".join(sorted(kind.markers - {"v_pred"})) or "no other marker" for kind in kinds}
    do = f"Their merge would produce noise: merge models of one kind, or set {FORCE_PREDICTION}."
    if len({word for word in (predictions | by_value).values() if word}) > 1:
        refuse_unlike("predictions", {name: word for name, word in shown.items() if word}, do)
    refuse_unlike("noise schedules", schedules, do)


def refuse_unlike(what: str, shown_values: Mapping[str, str], do: str) -> None:
    """Raises MaterialiseError if the values of the named models differ."""
    if len(set(shown_values.values())) > 1:
        listed = "; ".join(f"{name}: {value}" for name, value in shown_values.items())
        raise MaterialiseError(f"the parents have different {what} ({listed}). {do}")


def refuse_foreign_kind(recipe: RecipePlan) -> None:
    """Raises MaterialiseError for a recipe whose U-Net is not to be sampled as its frame says, which gives the scheduler."""
    frame = name_of(recipe.frame)
    kind, own = kind_of_result(recipe), kind_of_file(frame, recipe.files[frame])
    if kind.giver != frame and kind.differs(own):
        raise MaterialiseError(
            f"the U-Net is that of {kind.giver} ({kind.describe()}), but it would be sampled as {frame} says ({own.describe()}). "
            "Write it with sweetspot merge, which writes the right markers, and give that file as the model")
