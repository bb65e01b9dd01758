"""Every saver acts on what it says, or is refused by name, and the next candidate is as if it had not been there."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import Adapter, Candidate, Merge
from harness.declare import Grid
from harness.materialise import MaterialiseError, Prepared, Workbench
from harness.records import Cell
from harness.records.costs import DENOISER_WEIGHTS, STORED_DENOISER, WRITTEN_DENOISER
from harness.run.latency import stored_readings
from harness.sampling import Denoising, decode, embedded, entered
from harness.sampling.at_once import workers_of
from harness.savers import SAVERS
from harness.weights.placing import layers_copied, lent
from tests.fakes import PROMPTS, tiny_grid
from tests.savers.settings import process_settings

CELLS = tuple(Cell(prompt=prompt, seed=1, guidance=4) for prompt in ("star", "car"))
ON_A_CPU = ("attention_slicing", "channels_last", "fuse_qkv", "layerwise_casting", "sdpa_math", "token_merging_10",
            "vae_slicing")
"""The savers that act on small pictures of the zoo's models."""


def candidate(alpha: float = 0.5, *savers: str, **changes: Any) -> Candidate:
    return Candidate(**{"name": "c", "model": Merge(a="zoo:photo", b="zoo:anime", alpha=alpha), "savers": savers, **changes})


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return Workbench.for_grid(tiny_grid(steps=3), device="cpu", root=tmp_path_factory.mktemp("root"))


def sampled(prepared: Prepared, grid: Grid | None = None) -> tuple[torch.Tensor, Any]:
    """Latents after all steps of two cells, and their pictures, as the stream makes them."""
    grid = tiny_grid(steps=3) if grid is None else grid
    run = Denoising(prepared.phases[0].enter(), grid, CELLS)
    for phase, stop in zip(prepared.phases, [*(later.first for later in prepared.phases[1:]), grid.steps], strict=True):
        run.advance(entered(phase, embedded([phase], PROMPTS)), stop)
    return run.latents, decode(prepared.phases[0].enter(), run.latents).images()


def test_every_row_acts_or_is_refused() -> None:
    assert {*ON_A_CPU} <= {*SAVERS}
    for name, row in SAVERS.items():
        assert (row.apply is None) == bool(row.refused), name
        assert row.changes_pictures in ("no", "within rounding", "yes")
        assert row.refused or row.lacks("cpu") or name in (*ON_A_CPU, "vae_tiling") or name.startswith("token_merging_")


@pytest.mark.parametrize("name", ON_A_CPU)
def test_the_candidates_before_and_after_have_the_same_bits(bench: Workbench, name: str) -> None:
    settings = process_settings()
    latents, images = sampled(bench.prepare(candidate()))
    with_saver, pictures = sampled(bench.prepare(candidate(0.5, name)))
    again, after = sampled(bench.prepare(candidate()))
    assert torch.equal(latents, again)
    assert (images == after).all()
    assert process_settings() == settings
    error = float((with_saver - latents).norm() / latents.norm())
    if SAVERS[name].changes_pictures == "yes":
        assert 1e-3 < error < 0.5
    else:
        assert error < 1e-4
        assert abs(pictures.astype(int) - images).max() <= 1


@pytest.mark.parametrize("name", ON_A_CPU)
def test_no_picture_comes_from_the_weights_of_another_candidate(bench: Workbench, name: str) -> None:
    first, _ = sampled(bench.prepare(candidate(0.0, name)))
    middle, _ = sampled(bench.prepare(candidate(0.5, name)))
    again, _ = sampled(bench.prepare(candidate(0.0, name)))
    plain, _ = sampled(bench.prepare(candidate(0.0)))
    limit = 0.5 if SAVERS[name].changes_pictures == "yes" else 1e-4
    assert torch.equal(first, again)
    assert not torch.allclose(first, middle, atol=0.05)
    assert float((first - plain).norm() / plain.norm()) < limit


@pytest.mark.parametrize("name", [name for name in ON_A_CPU if name != "fuse_qkv"])
def test_adapters_for_some_of_the_steps_act_beside_a_saver(bench: Workbench, name: str) -> None:
    late = (Adapter(path="zoo:sketch", start=0.5),)
    saved, _ = sampled(bench.prepare(candidate(0.5, name, adapters=late)))
    plain, _ = sampled(bench.prepare(candidate(0.5, adapters=late)))
    without, _ = sampled(bench.prepare(candidate(0.5)))
    share = 0.5 if SAVERS[name].changes_pictures == "yes" else 1e-3
    assert float((saved - plain).norm()) < share * float((without - plain).norm())


@pytest.mark.parametrize("name", ON_A_CPU)
def test_a_saver_says_what_it_changed(bench: Workbench, name: str) -> None:
    rows = {row.stage: row for row in bench.prepare(candidate(0.5, name)).coverage}
    assert rows[f"saver {name}"].keys["applied"]
    assert rows[f"saver {name}"].component == ("vae" if name.startswith("vae") else "unet")


def test_nothing_is_sampled_beside_a_kernel_that_is_chosen_for_the_whole_process(bench: Workbench,
                                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.sampling.at_once.side_by_side", lambda *_: 3)
    workers = {name: workers_of(bench.prepare(candidate(0.5, name)).pipeline, tiny_grid()) for name in ON_A_CPU}
    assert workers == {**dict.fromkeys(ON_A_CPU, 3), "sdpa_math": 1}
    assert workers_of(bench.prepare(candidate()).pipeline, tiny_grid()) == 3
    assert {name for name, row in SAVERS.items() if row.whole_process} == {"sdpa_flash", "sdpa_efficient", "sdpa_math"}


def test_savers_act_after_a_forward_that_failed(bench: Workbench) -> None:
    settings = process_settings()
    unet = bench.prepare(candidate(0.5, "sdpa_math")).pipeline.unet
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        unet(torch.randn(1, 8, 8, 8), 500, encoder_hidden_states=torch.randn(1, 24, 7))
    assert process_settings() == settings


def test_the_named_kernel_computes_the_attention(bench: Workbench) -> None:
    assert kernels(bench.prepare(candidate(0.5))) == {"flash"}
    assert kernels(bench.prepare(candidate(0.5, "sdpa_math"))) == {"math"}
    assert kernels(bench.prepare(candidate(0.5))) == {"flash"}


def kernels(prepared: Prepared) -> set[str]:
    """The attention kernels that one forward calls."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile, torch.inference_mode():
        prepared.pipeline.unet(torch.randn(1, 8, 8, 8), 500, encoder_hidden_states=torch.randn(1, 24, 96))
    called = {event.key for event in profile.key_averages()}
    return {kernel for kernel, operation in (("flash", "flash_attention_for_cpu"), ("math", "attention_math"))
            if f"aten::_scaled_dot_product_{operation}" in called}


def test_layerwise_casting_is_that_of_diffusers(bench: Workbench) -> None:
    theirs = copy.deepcopy(bench.prepare(candidate(0.5)).pipeline.unet)
    theirs.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    ours = bench.prepare(candidate(0.5, "layerwise_casting")).pipeline.unet
    inputs = torch.randn(2, 8, 8, 8), 500, torch.randn(2, 24, 96)
    with torch.inference_mode():
        assert torch.equal(ours(*inputs).sample, theirs(*inputs).sample)


def test_the_decoder_takes_tiles_where_pictures_are_larger(tmp_path: Path) -> None:
    grid = tiny_grid(steps=1, width=640, height=520)
    bench = Workbench.for_grid(grid, device="cpu", root=tmp_path)
    tiled = bench.prepare(candidate(0.5, "vae_tiling")).pipeline.vae
    plain = bench.prepare(candidate(0.5)).pipeline.vae
    latents = torch.randn(1, 8, 65, 80, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert not torch.allclose(tiled.decode(latents).sample, plain.decode(latents).sample, atol=1e-3)


@pytest.mark.parametrize(("savers", "changes", "named"), [
    (("vae_tiling",), {}, ["vae_tiling", "64 x 64", "512 x 512"]),
    (("sdpa_flash",), {}, ["sdpa_flash", "by itself"]),
    (("sdpa_efficient",), {}, ["sdpa_efficient", "CUDA"]),
    (("fuse_qkv",), {"adapters": (Adapter(path="zoo:sketch"),)}, ["fuse_qkv", "Fused"]),
    (("channels_last",), {"quantization": "int8_weight_only"}, ["channels_last", "int8_weight_only"]),
    (("layerwise_casting",), {"quantization": "int4_weight_only"}, ["layerwise_casting", "int4_weight_only"]),
])
def test_what_would_change_nothing_is_refused_before_the_first_image(
        bench: Workbench, savers: tuple[str, ...], changes: dict[str, Any], named: list[str]) -> None:
    with pytest.raises(MaterialiseError) as refused:
        bench.inspect(candidate(0.5, *savers, **changes))
    assert all(word in str(refused.value) for word in named)


def test_batches_of_one_picture_have_no_slices(tmp_path: Path) -> None:
    bench = Workbench.for_grid(tiny_grid(batch_size=1), device="cpu", root=tmp_path)
    with pytest.raises(MaterialiseError, match="one picture"):
        bench.inspect(candidate(0.5, "vae_slicing"))


def test_the_order_of_savers_declares_nothing(bench: Workbench) -> None:
    one, other = (candidate(0.5, *names) for names in (("vae_slicing", "channels_last"), ("channels_last", "vae_slicing")))
    assert one.key == other.key
    identities = {bench.weights(which).identity for which in (candidate(), one, other, candidate(0.5, "vae_slicing"))}
    assert len(identities) == 3


def test_copies_share_what_the_live_model_has_after_it_was_moved(tmp_path: Path) -> None:
    bench = Workbench.for_grid(tiny_grid(steps=3), device="cpu", root=tmp_path)
    live = bench.prepare(candidate()).pipeline
    prepared = bench.prepare(candidate(0.5, "attention_slicing", "vae_slicing"))
    for part in ("unet", "vae"):
        for layer in live.parts[part].modules():
            for name, parameter in layer._parameters.items():
                if parameter is not None:
                    layer._parameters[name] = torch.nn.Parameter(parameter.detach() * 2, requires_grad=False)
        mine = prepared.pipeline.parts[part]
        assert all(torch.equal(one, other) for one, other in zip(mine.parameters(), live.parts[part].parameters(), strict=True))
        assert all(one.data_ptr() == other.data_ptr() for one, other in zip(
            mine.parameters(), live.parts[part].parameters(), strict=True))


def test_what_shares_memory_still_does_after_a_move() -> None:
    layer = torch.nn.Linear(3, 3, device="cpu")
    twin = layers_copied(layer)
    with lent([layer, twin], torch.device("meta")):
        assert layer.weight is twin.weight
    assert layer.weight.data_ptr() == twin.weight.data_ptr()


def test_weights_are_counted_as_a_model_in_use_alone_would_have_them_and_written_without_joined_copies(bench: Workbench) -> None:
    def counted(*savers: str) -> dict[str, float | None]:
        return {reading.name: reading.value for reading in stored_readings(bench.prepare(candidate(0.5, *savers)))}

    plain, fused, cast = counted(), counted("fuse_qkv"), counted("layerwise_casting")
    assert counted("channels_last") == plain
    own = plain[STORED_DENOISER]
    assert own is not None
    assert (fused[STORED_DENOISER] or 0) > own
    assert fused[WRITTEN_DENOISER] == plain[WRITTEN_DENOISER] == own
    assert fused[DENOISER_WEIGHTS] == plain[DENOISER_WEIGHTS] == cast[DENOISER_WEIGHTS]
    assert 0.2 < (cast[STORED_DENOISER] or 0) / own < 0.3
    assert cast[WRITTEN_DENOISER] is None
