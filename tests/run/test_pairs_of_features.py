"""Whatever a candidate is made of: any two features go together and keep every bit of an image in any batches, or are refused by
name before the first image. tests/benchmarks/pairs_of_features.py samples every pair."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch.compiler import set_stance

from harness.check import problems
from tests.features import (
    FEATURES,
    REFUSED,
    covering,
    declarable_pairs,
    differing,
    images,
    suite_of,
    write_files,
)

ROWS = list(covering())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("features")
    write_files(folder)
    return folder


def test_any_two_features_are_accepted_or_refused_by_name(root: Path) -> None:
    refused = {pair: problems(suite_of(*pair), root) for pair in declarable_pairs()}
    wrong = [(pair, said) for pair, said in refused.items() if bool(said) != (frozenset(pair) in REFUSED)
             or any(REFUSED[frozenset(pair)] not in one or pair[0] not in one for one in said)]
    assert not wrong
    assert REFUSED.keys() <= {frozenset(pair) for pair in refused}


def test_the_rows_have_every_feature_beside_every_other_kind() -> None:
    kinds = {feature.kind for feature in FEATURES.values()}
    missing = {(name, kind) for name in FEATURES for kind in kinds - {FEATURES[name].kind}} - {
        (name, FEATURES[other].kind) for row in ROWS for name in row for other in row}
    assert missing == {("other size", "control"), ("other size", "inpaint")}
    assert len(ROWS) < 20


@pytest.mark.parametrize("names", ROWS, ids=" + ".join)
def test_every_feature_keeps_every_bit_in_other_batches(names: tuple[str, ...], root: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.runtimes.compiling.shutil.which", lambda _: "c++")
    with set_stance("force_eager"):  # what is compiled is wrapped, and runs as it is
        assert not differing(images(names, root), images(names, root, otherwise=True))
