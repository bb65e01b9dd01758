"""Notes that list names are shown with the first few and the number of the others."""

import pytest

from harness.records.short_notes import MOST_NAMES, with_few_names


@pytest.mark.parametrize("count", [1, MOST_NAMES, MOST_NAMES + 1, 700])
def test_a_list_has_the_first_names_and_the_number_of_the_others(count):
    names = [f"'block.{n}.weight'" for n in range(count)]
    note = with_few_names(f"unet: kept from A, as others lack them: {', '.join(names)}")
    assert note.count("'block.") == min(count, MOST_NAMES)
    assert (f"and {count - MOST_NAMES} more" in note) == (count > MOST_NAMES)
    assert len(note) < 300


def test_notes_without_a_list_stay_as_they_are():
    note = "unet: 'conv_in.weight' merged in its first 4 input channels, the others are A's"
    assert with_few_names(note) == note
