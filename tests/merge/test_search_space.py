"""The space of a search over block weights: names and presets for as many blocks as the models have."""

import pytest

from harness.declare import Merge, Search
from harness.merge.presets import PRESETS
from harness.merge.search_space import SearchError, preset_values, slots_of_search


def search(blocks: int) -> Search:
    return Search(merge=Merge(a="zoo:photo", b="zoo:anime", parts=("unet",)), guidance=3.0, blocks=blocks)


def test_presets_of_the_sizes_that_models_have() -> None:
    assert preset_values(search(26), "OUT12") == (0.0, *PRESETS["OUT12"])
    assert preset_values(search(26), "ALL_B") == (1.0,) * 26
    assert preset_values(search(26), "FLAT_50") == (0.0, *(0.5,) * 25)
    assert preset_values(search(25), "FLAT_75") == PRESETS["FLAT_75"]
    # SDXL under supermerger: without the three outermost blocks of each half.
    grad = PRESETS["GRAD_V"]
    assert preset_values(search(20), "GRAD_V") == (0.0, *(round(v, 3) for v in (*grad[:9], *grad[12:22])))
    assert preset_values(search(5), "GRAD_V") == (1.0, 0.5, 0.0, 0.5, 1.0)


def test_blocks_are_named_as_the_trade_names_them() -> None:
    assert slots_of_search(search(26))[:3] == ("BASE", "IN00", "IN01")
    assert slots_of_search(search(61))[:4] == ("CLIP", "T5", "IN", "D00")
    with pytest.raises(SearchError, match="no model has 0 block weights"):
        slots_of_search(search(0))
