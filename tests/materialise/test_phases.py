"""Adapters by block and by step, words and emphasis: what is declared is what the denoiser and the encoder are given."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harness import Adapter, AestheticGradient, Alphas, Blocks, Candidate, Emphasis, Fused, Gradient
from harness.adapters import AdapterError
from harness.declare.syntax import plain_text
from harness.materialise import MaterialiseError, Phase, Prepared, Workbench
from harness.materialise.adapter_expressions import LORA_BLOCKS, _whole, weights_of
from harness.materialise.library import Library, checkpoint_of
from harness.materialise.phases import spans_of
from harness.materialise.text_treatment import text_projection
from harness.merge.blocks import unet_blocks
from harness.records import Cell
from harness.run.progress import Silent
from harness.run.suite_run import Options, SuiteRun
from harness.sampling import Denoising, batches, embedded, encode, entered, sample
from harness.weights import open_model
from harness.weights.ldm import unet_to_ldm
from harness.zoo import resolve
from tests.fakes import PROMPTS, tiny_grid, tiny_suite

SKETCH = Adapter(path="zoo:sketch")
CELL = Cell(prompt="star", seed=1, guidance=4)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return Workbench(device="cpu", root=tmp_path_factory.mktemp("root"), steps=4)


def candidate(*adapters: Adapter, **changes: object) -> Candidate:
    return Candidate(**{"name": "c", "model": "zoo:base", "adapters": adapters, **changes})  # type: ignore[arg-type]


def unet_says(prepared: Prepared) -> torch.Tensor:
    """What the denoiser makes of one noisy latent at one time: any change of a weight shows in it."""
    pipeline = prepared.pipeline
    drawn = torch.Generator().manual_seed(0)
    latents, states = torch.randn(1, 8, 8, 8, generator=drawn), torch.randn(1, 24, 96, generator=drawn)
    with torch.inference_mode():
        made: torch.Tensor = pipeline.unet(latents, 500, encoder_hidden_states=states).sample
    return made


def latents_of(phases: tuple[Phase, ...]) -> torch.Tensor:
    """Latents after all steps of one cell, phase by phase as the stream does it."""
    grid = tiny_grid(steps=4)
    run = Denoising(phases[0].enter(), grid, (CELL,))
    for phase, stop in zip(phases, [*(later.first for later in phases[1:]), grid.steps], strict=True):
        run.advance(entered(phase, embedded([phase], PROMPTS)), stop)
    return run.latents


@pytest.mark.parametrize(("adapters", "expected"), [
    ([Adapter(path="a")], [(0, ["a"])]),
    ([Adapter(path="a", end=0.5), Adapter(path="b", start=0.5)], [(0, ["a"]), (5, ["b"])]),
    ([Adapter(path="a"), Adapter(path="b", start=0.3, end=0.7)], [(0, ["a"]), (3, ["a", "b"]), (7, ["a"])]),
    ([Adapter(path="a", start=0.25)], [(0, []), (3, ["a"])]),
])
def test_steps_are_shared_out_by_their_place_on_the_way(adapters: list[Adapter], expected: list[tuple[int, list[str]]]) -> None:
    assert [(first, [a.path for a in at]) for first, at in spans_of(adapters, 10)] == expected


def test_an_adapter_for_less_than_a_step_is_refused_by_name() -> None:
    with pytest.raises(MaterialiseError, match=r"'a' from 0\.55 to 0\.7 .*none of the 4 steps"):
        spans_of([Adapter(path="a", start=0.55, end=0.7)], 4)


def test_an_adapter_for_some_steps_is_the_plain_model_in_all_others(bench: Workbench) -> None:
    """By hand: two steps of the plain model, then two with the adapter, on one trajectory."""
    made = latents_of(bench.prepare(candidate(Adapter(path="zoo:sketch", start=0.5))).phases)
    plain, styled = bench.prepare(candidate()).phases[0], None
    grid = tiny_grid(steps=4)
    run = Denoising(plain.enter(), grid, (CELL,))
    run.advance(entered(plain, embedded([plain], PROMPTS)), 2)
    styled = bench.prepare(candidate(SKETCH)).phases[0]
    run.advance(entered(styled, embedded([styled], PROMPTS)), 4)
    assert torch.equal(made, run.latents)
    assert not torch.equal(made, latents_of(bench.prepare(candidate(SKETCH)).phases))


def test_switched_batches_side_by_side_are_those_made_one_by_one(bench: Workbench) -> None:
    grid = tiny_grid(steps=4, seeds=(1, 2, 3))
    prepared = bench.prepare(candidate(Adapter(path="zoo:sketch", end=0.5), Adapter(path="zoo:sketch-peft", start=0.5, weight=2)))
    texts = embedded(prepared.phases, PROMPTS)
    todo = batches(grid)
    together = [images for _, images in sample(prepared.phases, grid, todo, texts)]
    alone = [next(sample(prepared.phases, grid, [batch], texts))[1] for batch in todo]
    assert len(together) == len(todo) > 6
    assert all((one == other).all() for one, other in zip(together, alone, strict=True))


def test_a_quantized_candidate_switches_styles_too(bench: Workbench) -> None:
    switched = candidate(Adapter(path="zoo:sketch", end=0.5), quantization="bf16")
    assert not torch.equal(latents_of(bench.prepare(switched).phases), latents_of(bench.prepare(candidate(
        SKETCH, quantization="bf16")).phases))


@pytest.mark.parametrize("blocks", [
    Blocks(values=(0.5, 1, 0, 0.25, 2, 0.5, 1, 0, 1, 0.75), base=1), Gradient(values=(0, 1)),
    Alphas(default=1, keys={"*attn2*": 0, "*conv1*": 0.5})])
def test_block_weights_at_run_time_are_those_fused_for_good(bench: Workbench, blocks: Blocks | Gradient | Alphas) -> None:
    count = len({key.split(".")[1] for key in _ldm_names() if key.startswith("input_blocks")})
    if isinstance(blocks, Blocks):
        blocks = Blocks(values=tuple((i % 4) / 2 for i in range(2 * count + 1)), base=1)
    adapter = Adapter(path="zoo:sketch", weight=0.8, blocks=blocks)
    live, fused = unet_says(bench.prepare(candidate(adapter))), unet_says(
        bench.prepare(Candidate(name="f", model=Fused(model="zoo:base", adapters=(adapter,)))))
    whole = unet_says(bench.prepare(candidate(Adapter(path="zoo:sketch", weight=0.8))))
    # Fused weights are rounded to the file's fp16, which moves the output far less than other block weights do.
    assert (live - fused).abs().max() < 0.02 * (live - whole).abs().max()


def attention_file(folder: Path) -> str:
    """A LoRA of attention alone, as most are: its names do not show how the U-Net's blocks are numbered."""
    drawn, tensors = torch.Generator().manual_seed(4), dict[str, torch.Tensor]()
    for key, info in open_model(resolve("zoo:base")).components["unet"].items():
        if key.endswith("attn2.to_k.weight"):
            stem = f"lora_unet_{key.removesuffix('.weight').replace('.', '_')}"
            tensors |= {f"{stem}.lora_down.weight": torch.randn(2, info.shape[1], generator=drawn),
                        f"{stem}.lora_up.weight": torch.randn(info.shape[0], 2, generator=drawn)}
    save_file(tensors, folder / "attention.safetensors")
    return "attention.safetensors"


@pytest.mark.parametrize("made", [lambda _: "zoo:sketch", attention_file])
def test_a_block_weight_reaches_the_blocks_that_the_whole_model_gives_this_number(
        tmp_path: Path, made: Callable[[Path], str]) -> None:
    """Each slot by itself, against the single-file names of all the model's keys."""
    names = unet_to_ldm(open_model(resolve("zoo:base")).components["unet"])
    steps = {tuple(name.split(".")[:2]) for name in names.values()}
    counts = (sum(step[0] == side for step in steps) for side in ("input_blocks", "output_blocks"))
    library, places = Library(tmp_path), unet_blocks(*counts)
    model, path = library.open(checkpoint_of("zoo:base")), made(tmp_path)
    for number, slot in enumerate(places):
        values = tuple(float(number == other) for other in range(len(places)))
        found = weights_of(Adapter(path=path, blocks=Blocks(values=values, base=0)), library.adapter(path, model), model)
        start = {"I": "input_blocks", "M": "middle_block", "O": "output_blocks"}[slot[0]]
        start += f".{int(slot.lstrip('INOUT'))}." if slot[0] != "M" else "."
        assert {place for place, value in found.items() if value} == {
            place for place in found if names[f"{place[1]}.weight"].startswith(start)}, slot


def _ldm_names() -> list[str]:
    return list(unet_to_ldm(open_model(resolve("zoo:base")).components["unet"]).values())


def test_the_seventeen_weights_of_lora_tools_name_the_blocks_that_a_lora_changes() -> None:
    """The order of the tools: BASE, IN01, IN02, IN04, IN05, IN07, IN08, MID, OUT03 to OUT11."""
    given = _whole(Blocks(values=tuple(range(17))))
    assert isinstance(given, Blocks)
    assert given.values == (0, 1, 1, 2, 1, 3, 4, 1, 5, 6, 1, 1, 1, 7, 1, 1, 1, 8, 9, 10, 11, 12, 13, 14, 15, 16)
    assert [len(LORA_BLOCKS[count][0]) for count in (17, 12)] == [26, 20]


@pytest.mark.parametrize(("blocks", "said"), [
    (Blocks(values=(1, 0.5, 1)), "3 block weights"),
    (Blocks(values=(1,) * 17), "The 17 values given .* Stable Diffusion 1, and stand for 26 blocks"),
    (Alphas(default=Blocks(values=(1,) * 12)), "The 12 values given .* Stable Diffusion XL, and stand for 20 blocks"),
    (Alphas(default=1, keys={"*attn9*": 0}), "'\\*attn9\\*': no key of unet matches")])
def test_block_weights_that_do_not_fit_are_an_error_before_the_first_image(bench: Workbench, blocks: Blocks | Alphas, said: str,
                                                                            ) -> None:
    with pytest.raises(AdapterError, match=f"zoo:sketch: blocks: .*{said}"):
        bench.inspect(candidate(Adapter(path="zoo:sketch", blocks=blocks)))


def word_file(folder: Path, name: str = "thing", vectors: int = 2) -> str:
    width = open_model(resolve("zoo:base")).components["text_encoder"]["embeddings.token_embedding.weight"].shape[1]
    drawn = torch.randn(vectors, width, generator=torch.Generator().manual_seed(5))
    save_file({f"<{name}>": drawn}, folder / f"{name}.safetensors")
    return f"{name}.safetensors"


def test_a_textual_inversion_changes_the_prompts_that_hold_its_word_and_no_weight(tmp_path: Path) -> None:
    bench = Workbench(device="cpu", root=tmp_path)
    plain = bench.prepare(candidate())
    before = unet_says(plain)
    prompts = [PROMPTS[0], type(PROMPTS[0])(id="w", text="a red <thing>")]
    without = encode(plain.pipeline, prompts).positive
    word = Adapter(path=word_file(tmp_path))
    (branch,) = bench.prepare(candidate(word)).phases[0].branches
    state = encode(branch.enter(), prompts, branch.treatment)
    assert torch.equal(state.positive[plain_text("a red star")].states, without[plain_text("a red star")].states)
    assert not torch.equal(state.positive[plain_text("a red <thing>")].states, without[plain_text("a red <thing>")].states)
    assert state.occurring == {"<thing>"}
    assert torch.equal(unet_says(bench.prepare(candidate(word))), before)


def test_negative_prompts_know_the_words_and_get_no_emphasis(tmp_path: Path) -> None:
    bench = Workbench(device="cpu", root=tmp_path)
    styled = candidate(Adapter(path=word_file(tmp_path)), emphasis=Emphasis(weights={"red": 0.5}))
    (branch,) = bench.prepare(styled).phases[0].branches
    prompt = type(PROMPTS[0])(id="n", text="a red star", negative="a red <thing>")
    treated, plain = encode(branch.enter(), [prompt], branch.treatment), encode(branch.enter(), [prompt])
    assert not torch.equal(treated.positive[plain_text("a red star")].states, plain.positive[plain_text("a red star")].states)
    words_only = encode(branch.enter(), [prompt], type(branch.treatment)(words=branch.treatment.words))
    negative = plain_text("a red <thing>")
    assert torch.equal(treated.negative[negative].states, words_only.negative[negative].states)
    assert not torch.equal(treated.negative[negative].states, plain.negative[negative].states)


def test_a_textual_inversion_takes_no_weight_and_cannot_be_fused(tmp_path: Path) -> None:
    bench, path = Workbench(device="cpu", root=tmp_path), word_file(tmp_path)
    with pytest.raises(MaterialiseError, match="textual inversion, which has no weight"):
        bench.inspect(candidate(Adapter(path=path, weight=0.5)))
    with pytest.raises(AdapterError, match="cannot be fused"):
        bench.inspect(Candidate(name="f", model=Fused(model="zoo:base", adapters=(Adapter(path=path),))))


def test_two_files_that_define_one_word_are_refused(tmp_path: Path) -> None:
    save_file({"<thing>": torch.ones(1, 96)}, tmp_path / "other.safetensors")
    adapters = (Adapter(path=word_file(tmp_path)), Adapter(path="other.safetensors"))
    with pytest.raises(MaterialiseError, match="'<thing>' is defined by two"):
        Workbench(device="cpu", root=tmp_path).prepare(candidate(*adapters))


def test_treatments_are_part_of_what_a_candidate_is(bench: Workbench, tmp_path: Path) -> None:
    candidates = [candidate(), candidate(SKETCH), candidate(Adapter(path="zoo:sketch", end=0.5)),
                  candidate(emphasis=Emphasis(weights={"red": 0.5})),
                  candidate(emphasis=Emphasis(weights={"red": 0.5}, method="comfyui"))]
    assert len({bench.weights(c).identity for c in candidates}) == len(candidates)


def test_a_renamed_file_whose_name_is_its_word_is_another_candidate(tmp_path: Path) -> None:
    bench = Workbench(device="cpu", root=tmp_path)
    for name in ("cat", "dog"):
        save_file({"emb_params": torch.ones(2, 96)}, tmp_path / f"{name}.safetensors")
        save_file({"<both>": torch.ones(2, 96)}, tmp_path / f"{name}_inside.safetensors")
    identities = {name: bench.weights(candidate(Adapter(path=f"{name}.safetensors"))).identity
                  for name in ("cat", "dog", "cat_inside", "dog_inside")}
    assert identities["cat"] != identities["dog"]
    assert identities["cat_inside"] == identities["dog_inside"]


def test_an_aesthetic_gradient_moves_the_embedding_and_leaves_the_encoder(tmp_path: Path) -> None:
    bench = Workbench(device="cpu", root=tmp_path)
    plain = encode(bench.prepare(candidate()).pipeline, PROMPTS[:1]).positive[plain_text("a red star")].states
    drawn = torch.randn(text_projection(resolve("zoo:clip")).shape[1], generator=torch.Generator().manual_seed(1))
    save_file({"mean": drawn}, tmp_path / "look.safetensors")
    (branch,) = bench.prepare(candidate(aesthetic=AestheticGradient(path="look.safetensors", rate=1e-3))).phases[0].branches
    moved = encode(branch.enter(), PROMPTS[:1], branch.treatment).positive[plain_text("a red star")].states
    assert not torch.allclose(moved, plain, atol=1e-3)
    assert torch.equal(encode(branch.enter(), PROMPTS[:1]).positive[plain_text("a red star")].states, plain)


def test_an_aesthetic_gradient_of_another_clip_is_refused_before_the_first_image(tmp_path: Path) -> None:
    save_file({"mean": torch.ones(17)}, tmp_path / "look.safetensors")
    with pytest.raises(MaterialiseError, match=r"'look\.safetensors' holds 17 numbers, .*'zoo:clip'"):
        Workbench(device="cpu", root=tmp_path).inspect(candidate(aesthetic=AestheticGradient(path="look.safetensors")))


def test_a_word_that_stands_in_no_prompt_fails_before_the_first_image(tmp_path: Path) -> None:
    suite = tiny_suite(candidates=(candidate(emphasis=Emphasis(weights={"zebra": 0.5})),), baseline="c", gates=(),
                       metrics=("exposure",))
    run = SuiteRun(suite, "suite.py", Options(root=tmp_path, runs=tmp_path / "runs"), Silent())
    try:
        (failure,) = run.candidate(suite.candidates[0])  # type: ignore[misc]
    finally:
        run.close()
    assert failure.error == MaterialiseError.__name__
    assert "'zebra'" in failure.message
    assert not list((tmp_path / "runs").rglob("*.png"))


def network_file(folder: Path, name: str = "net.pt", width: int = 96) -> str:
    """A hypernetwork in A1111's layout for the width of the zoo's text."""
    drawn = torch.Generator().manual_seed(2)

    def half(width: int = width) -> dict[str, torch.Tensor]:
        return {"linear.0.weight": torch.randn(2 * width, width, generator=drawn) * 0.1, "linear.0.bias": torch.zeros(2 * width),
                "linear.1.weight": torch.randn(width, 2 * width, generator=drawn) * 0.1, "linear.1.bias": torch.zeros(width)}

    torch.save({width: (half(), half()), 12: (half(12), half(12)), "layer_structure": [1, 2, 1],
                "activation_func": "linear"}, folder / name)
    return name


def test_a_hypernetwork_works_at_run_time_beside_a_lora_and_leaves_no_trace(tmp_path: Path) -> None:
    bench, net = Workbench(device="cpu", root=tmp_path), Adapter(path=network_file(tmp_path))
    plain, sketch = (unet_says(bench.prepare(candidate(*adapters))) for adapters in ((), (SKETCH,)))
    both = unet_says(bench.prepare(candidate(SKETCH, net)))
    alone = unet_says(bench.prepare(candidate(net)))
    assert len({round(float(made.square().sum()), 3) for made in (plain, sketch, both, alone)}) == 4
    assert torch.equal(unet_says(bench.prepare(candidate(Adapter(path=net.path, weight=0)))), plain)
    assert torch.equal(unet_says(bench.prepare(candidate())), plain)
    assert torch.equal(unet_says(bench.prepare(candidate(SKETCH))), sketch)


def test_the_networks_of_other_widths_are_said_to_do_nothing(tmp_path: Path) -> None:
    prepared = Workbench(device="cpu", root=tmp_path).prepare(candidate(Adapter(path=network_file(tmp_path))))
    (row,) = (row for row in prepared.coverage if row.stage == "adapter net.pt")
    assert {key.partition(".")[0] for key in row.keys["applied"]} == {"96"}
    assert {key.partition(".")[0] for key in row.keys["absent_component"]} == {"12"}


def test_a_hypernetwork_of_the_last_steps_is_said_to_do_nothing_where_it_does_not(tmp_path: Path) -> None:
    late = Adapter(path=network_file(tmp_path), start=0.5)
    prepared = Workbench(device="cpu", root=tmp_path, steps=4).prepare(candidate(late))
    (row,) = (row for row in prepared.coverage if row.stage == "adapter net.pt")
    assert {key.partition(".")[0] for key in row.keys["absent_component"]} == {"12"}


def test_a_hypernetwork_cannot_be_fused(tmp_path: Path) -> None:
    fused = Fused(model="zoo:base", adapters=(Adapter(path=network_file(tmp_path)),))
    with pytest.raises(AdapterError, match=r"net\.pt: is a hypernetwork"):
        Workbench(device="cpu", root=tmp_path).inspect(Candidate(name="f", model=fused))


def text_file(folder: Path) -> str:
    """A LoRA of the text encoder alone."""
    drawn, tensors = torch.Generator().manual_seed(6), dict[str, torch.Tensor]()
    for key, info in open_model(resolve("zoo:base")).components["text_encoder"].items():
        if key.endswith("q_proj.weight"):
            stem = f"lora_te_{key.removesuffix('.weight').replace('.', '_')}"
            tensors |= {f"{stem}.lora_down.weight": torch.randn(2, info.shape[1], generator=drawn),
                        f"{stem}.lora_up.weight": torch.randn(info.shape[0], 2, generator=drawn)}
    save_file(tensors, folder / "text.safetensors")
    return "text.safetensors"


def test_every_phase_of_a_quantized_candidate_has_its_own_text_encoder(tmp_path: Path) -> None:
    path, bench = text_file(tmp_path), Workbench(device="cpu", root=tmp_path, steps=4)
    early, late = (encode(phase.enter(), PROMPTS).positive[plain_text("a red star")].states for phase in bench.prepare(
        candidate(Adapter(path=path, start=0.5), quantization="bf16")).phases)
    plain, styled = (encode(bench.prepare(candidate(*adapters)).pipeline, PROMPTS).positive[plain_text("a red star")].states
                     for adapters in ((), (Adapter(path=path),)))
    assert torch.equal(early, plain)
    assert torch.equal(late, styled)
    assert not torch.equal(plain, styled)


def test_a_lora_before_a_dora_is_what_the_dora_sees_as_in_a_fused_model(bench: Workbench) -> None:
    dora = Adapter(path="zoo:sketch-dora")
    for adapters in ((SKETCH, dora), (dora, SKETCH)):
        live = unet_says(bench.prepare(candidate(*adapters)))
        fused = unet_says(bench.prepare(Candidate(name="f", model=Fused(model="zoo:base", adapters=adapters))))
        assert (live - fused).abs().max() < 0.005
