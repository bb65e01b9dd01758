"""Token merging merges the tokens that tomesd merges with use_rand=False, and nothing that it would do in vain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harness import Candidate
from harness.check.savers import saver_problems
from harness.materialise import MaterialiseError, Workbench
from harness.savers import SAVERS
from harness.savers.tokens import matching, merge_tokens, merged_count
from harness.weights.placing import layers_copied
from tests.fakes import tiny_grid
from tests.weights.pipelines import theirs

# Of each token, the first one with which it shares its value: tomesd 0.1.3, bipartite_soft_matching_random2d(x, w, h, 2, 2, r,
# no_rand=True), for the input of `tokens`.
TOMESD = {
    (6, 6, 0.25): [
        0, 1, 1, 3, 4, 0, 6, 7, 8, 9, 10, 11, 3, 13, 10, 15, 6, 17, 18, 19, 20, 0, 22, 23, 24, 4, 26, 27, 28, 4, 30,
        28, 32, 33, 34, 35],
    (6, 6, 0.5): [
        0, 1, 1, 3, 4, 0, 6, 7, 8, 9, 8, 11, 3, 13, 8, 15, 6, 17, 0, 19, 20, 0, 22, 23, 23, 4, 17, 6, 28, 4, 8, 28,
        17, 3, 23, 35],
    (5, 7, 0.5): [
        0, 1, 1, 1, 4, 5, 0, 7, 8, 9, 10, 11, 11, 1, 7, 15, 11, 17, 8, 19, 4, 1, 22, 1, 24, 11, 1, 0, 7, 1, 30, 31,
        32, 33, 1]}


def tokens(height: int, width: int) -> torch.Tensor:
    return torch.randn(2, height * width, 24, generator=torch.Generator().manual_seed(height * width))


@pytest.mark.parametrize(("height", "width", "ratio"), TOMESD)
def test_tokens_are_merged_as_by_tomesd(height: int, width: int, ratio: float) -> None:
    found = matching(tokens(height, width), height, width, ratio)
    each = torch.eye(height * width).expand(2, -1, -1)
    merged = found.merge(each)
    assert merged.shape[1] == height * width - merged_count(height, width, ratio)
    assert torch.allclose(merged.sum(dim=2), torch.ones(()), atol=1e-6)
    assert (found.unmerge(merged)[0] > 0).float().argmax(1).tolist() == TOMESD[height, width, ratio]


def test_merged_tokens_are_means_and_others_stay_bit_for_bit() -> None:
    x = tokens(6, 6)
    found = matching(x, 6, 6, 0.25)
    back = found.unmerge(found.merge(x))
    whose = (found.unmerge(found.merge(torch.eye(36).expand(2, -1, -1))) > 0).float()
    means = torch.bmm(whose, x) / whose.sum(dim=2, keepdim=True)
    assert torch.allclose(back, means, atol=1e-6)
    alone = whose.sum(dim=2) == 1
    assert torch.equal(back[alone], x[alone])


def test_neither_neighbours_nor_runs_before_matter() -> None:
    x = tokens(8, 8)
    first = matching(x, 8, 8, 0.5).merge(x)
    other = torch.cat([x[:1], torch.randn(1, 64, 24)])
    assert torch.equal(matching(other, 8, 8, 0.5).merge(other)[0], first[0])
    assert torch.equal(matching(x, 8, 8, 0.5).merge(x), first)


@pytest.mark.parametrize(("height", "width", "ratio", "count"), [
    (8, 8, 0.5, 32), (8, 8, 0.75, 48), (8, 8, 0.9, 48), (8, 8, 0.0, 0), (1, 8, 0.5, 0), (2, 2, 0.1, 0), (2, 2, 0.25, 1)])
def test_how_many_tokens_are_merged(height: int, width: int, ratio: float, count: int) -> None:
    assert merged_count(height, width, ratio) == count


@pytest.mark.parametrize(("family", "level"), [("sd1", 0), ("sdxl", 1)])
def test_the_finest_self_attention_sees_fewer_tokens_and_no_other_layer_does(family: str, level: int) -> None:
    """Stable Diffusion XL has no attention at full resolution, where tomesd by default looks for it alone."""
    plain = theirs(family).unet
    seen: dict[str, dict[str, int]] = {"plain": {}, "merged": {}}

    def count(unet: Any, into: dict[str, int]) -> None:
        for name, layer in unet.named_modules():
            if name.endswith((".attn1.to_q", ".attn2.to_q", ".ff")):
                layer.register_forward_pre_hook(lambda _, args, name=name: into.__setitem__(name, args[0].shape[1]))

    unets = {"plain": layers_copied(plain), "merged": layers_copied(plain)}
    report = merge_tokens(0.5, unets["merged"])
    given = {"added_cond_kwargs": {"text_embeds": torch.randn(2, 22), "time_ids": torch.ones(2, 6)}} if family == "sdxl" else {}
    with torch.inference_mode():
        for name, unet in unets.items():
            count(unet, seen[name])
            unet(torch.randn(2, 4, 16, 12), 300, torch.randn(2, 9, plain.config.cross_attention_dim), **given)
    fewer = {name for name, tokens_ in seen["merged"].items() if tokens_ != seen["plain"][name]}
    assert fewer == {f"{name}.to_q" for name in report.changed}
    assert {seen["plain"][name] for name in fewer} == {16 * 12 // 4 ** level}
    assert {seen["merged"][name] for name in fewer} == {16 * 12 // 4 ** level // 2}
    with torch.inference_mode():  # the hooks are the copy's alone
        assert not any(layer._forward_pre_hooks for layer in plain.modules())


def test_pictures_with_too_few_tokens_are_refused_by_name(tmp_path: Path) -> None:
    bench = Workbench.for_grid(tiny_grid(width=8, height=8), device="cpu", root=tmp_path)
    with pytest.raises(MaterialiseError, match=r"token_merging_50.*8 x 8"):
        bench.inspect(Candidate(name="c", model="zoo:photo", savers=("token_merging_50",)))


def test_the_share_is_part_of_the_name_and_one_is_enough() -> None:
    (refused,) = saver_problems(Candidate(name="c", model="zoo:photo", savers=("token_merging",)))
    assert "token_merging_50" in refused
    (both,) = saver_problems(Candidate(name="c", model="zoo:photo", savers=("token_merging_25", "token_merging_50")))
    assert "give one of them" in both
    assert not [*saver_problems(Candidate(name="c", model="zoo:photo", savers=("token_merging_25", "sdpa_math")))]
    assert not SAVERS["token_merging_75"].refused
