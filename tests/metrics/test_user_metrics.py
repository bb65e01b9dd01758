"""A metric of one's own costs only its own values: what breaks its contract is an error that names it."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from harness.metrics import METRICS, ImageScore, ImageSet, Metric, ValueSpec
from harness.metrics.user_metrics import MetricError, adopt_metric

NAME = "mine:BRIGHTNESS"
IMAGES = np.full((2, 4, 4, 3), 51, dtype=np.uint8)


def brightness(image_set):
    return [ImageScore(values={"brightness": image.mean() / 255}) for image in image_set.images]


BRIGHTNESS = Metric(measure=brightness, version=1, values=(
    ValueSpec(name="brightness", title="Brightness", unit="share", better="nearer", kind="share", definition="mean level"),))


def measured(measure):
    return adopt_metric(NAME, replace(BRIGHTNESS, measure=measure)).measure(ImageSet(images=IMAGES, texts=("a", "b")))


def giving(*changes, **fields):
    """A metric whose second score is another one."""
    return lambda image_set: [brightness(image_set)[0], changes[0] if changes else ImageScore(**fields)]


def test_a_sound_metric_gives_numbers_of_python():
    assert [score.values for score in measured(brightness)] == [{"brightness": 0.2}] * 2
    assert type(measured(brightness)[0].values["brightness"]) is float


@pytest.mark.parametrize(("measure", "facts"), [
    (lambda image_set: 1 / 0, ["ZeroDivisionError", "test_user_metrics.py, line"]),
    (lambda image_set: sys.exit(1), ["SystemExit"]),
    (lambda image_set: None, ["a NoneType"]),
    (lambda image_set: brightness(image_set)[:1], ["1 scores", "2 images"]),
    (giving(0.5), ["a float", "ImageScore"]),
    (giving(), ["'brightness'", "missing"]),
    (giving(values={"brightness": 0.5, "contrast": 1.0}), ["'contrast'", "ValueSpec"]),
    (giving(values={"brightness": 0.5}, missing={"brightness": "dark"}), ["'brightness'", "both"]),
    (giving(missing={"brightness": ""}), ["no reason"]),
    (giving(values={"brightness": float("nan")}), ["brightness = nan"]),
    (giving(values={"brightness": float("-inf")}), ["brightness = -inf"]),
    (giving(values={"brightness": None}), ["brightness = None"]),
    (giving(values={"brightness": 1.01}), ["1.01", "from 0 to 1"]),
    (giving(values={"brightness": 0.5}, details={"of": object()}), ["JSON"])])
def test_whatever_goes_wrong_is_an_error_that_names_the_metric(measure, facts):
    with pytest.raises(MetricError) as error:
        measured(measure)
    assert all(fact in str(error.value) for fact in [repr(NAME), *facts]), error.value


def test_a_value_that_rounding_put_outside_of_its_range_is_put_on_the_border():
    assert measured(giving(values={"brightness": 1 + 1e-8}))[1].values == {"brightness": 1.0}


def test_a_value_may_be_missing_with_a_reason():
    assert measured(giving(missing={"brightness": "too dark"}))[1].missing == {"brightness": "too dark"}


def test_a_metric_that_paints_over_its_images_changes_no_others():
    def painting(image_set):
        image_set.images[:] = 255
        return brightness(image_set)

    assert measured(painting)[0].values == {"brightness": 1.0}
    assert (IMAGES == 51).all()


def test_an_interruption_goes_through():
    def stop(image_set):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured(stop)


@pytest.mark.parametrize(("changes", "fact"), [
    ({"measure": 3}, "measure is 3"), ({"version": 0}, "version is 0"), ({"values": ()}, "values is"),
    ({"values": ("brightness",)}, "values is"), ({"values": BRIGHTNESS.values * 2}, "given 2 times"),
    ({"values": (replace(BRIGHTNESS.values[0], name="a b"),)}, "'a b'"),
    ({"values": (replace(BRIGHTNESS.values[0], unit=""),)}, "no title, unit or definition")])
def test_a_row_that_contradicts_itself_is_refused(changes, fact):
    with pytest.raises(ValueError, match=fact):
        adopt_metric(NAME, replace(BRIGHTNESS, **changes))


@pytest.mark.parametrize("name", sorted(METRICS))
def test_a_built_in_row_could_be_a_users(name):
    assert adopt_metric(NAME, METRICS[name]).values == METRICS[name].values
