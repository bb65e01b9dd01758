import pytest

from harness.declare import Adapter, Candidate, Ensemble, Fused, Merge, Relay
from harness.declare.candidate_words import described, networks_of, scheme_of
from harness.declare.guiding import Canny, Control, Inpaint, Reference
from harness.declare.post_steps import ColourTransfer, Lut, Temperature, Upscale
from harness.declare.stages import Stage

MERGE = Merge(a="a", b="b", alpha=0.5)
EDGES = Control(path="nets/edges.safetensors", picture="edges", weight=0.8, end=0.7)
FACE = Reference(path="ip.bin", picture="face", weight=0.6)
CANDIDATES = {
    "single model": (Candidate(name="x", model="a"), "1 denoiser"),
    "merge": (Candidate(name="x", model=Fused(model=MERGE, adapters=(Adapter(path="l"),))), "1 denoiser"),
    "relay": (Candidate(name="x", model=Relay(models=("a", MERGE), at=(0.4,))), "2 denoisers"),
    "ensemble": (Candidate(name="x", model=Ensemble(models=("a", "b", "c"), weights=(0.5, 0.5, 0))), "2 denoisers"),
    "two stages": (Candidate(name="x", model="a", stages=(Stage(model="b", strength=0.5),)), "2 denoisers"),
    "two stages (single model, then merge)": (Candidate(name="x", model="a", stages=(Stage(model=MERGE, strength=0.5),)),
                                              "2 denoisers"),
    "three stages": (Candidate(name="x", model="a", stages=(Stage(strength=0.5), Stage(model="b", strength=0.3))), "2 denoisers"),
    "two stages + adapters": (Candidate(name="x", model="a", stages=(Stage(strength=0.5, adapters=(Adapter(path="l"),)),)),
                              "2 denoisers"),
    "merge + control + reference": (Candidate(name="x", model=MERGE, controls=(EDGES,), references=(FACE,)),
                                    "1 denoiser, 1 control, 1 reference"),
    "single model + inpainting + post-steps": (Candidate(
        name="x", model="a", inpaint=Inpaint(picture="photo", mask="mask"), post=(Upscale(factor=2),)), "1 denoiser"),
}


@pytest.mark.parametrize("scheme", CANDIDATES)
def test_the_scheme_and_the_networks_of_a_candidate_follow_from_its_declaration(scheme: str) -> None:
    candidate, networks = CANDIDATES[scheme]
    assert scheme_of(candidate) == scheme
    assert networks_of(candidate).text == networks


def test_a_single_model_and_a_merge_need_no_further_words() -> None:
    assert described(Candidate(name="x", model="a")) == described(Candidate(name="x", model=MERGE)) == ()
    assert networks_of(Candidate(name="x", model=MERGE)).further == 0


@pytest.mark.parametrize(("candidate", "facts"), [
    (Candidate(name="x", model=Relay(models=("dir/a.safetensors", "b"), at=(0.4,), vae="last")),
     ["a.safetensors", "b from 0.4", "VAE of the last"]),
    (Candidate(name="x", model=Ensemble(models=("a", MERGE), weights=(0.25, 0.75), texts="first")),
     ["a at 0.25", "a merge of a and b at 0.75", "texts read by the first"]),
    (Candidate(name="x", model="a", controls=(EDGES,)), ["edges.safetensors", "'edges'", "weight 0.8", "from 0 to 0.7"]),
    (Candidate(name="x", model="a", controls=(Control(path="c", picture=Canny(of="photo"), guess=True),)),
     ["edges made of 'photo'", "guess mode"]),
    (Candidate(name="x", model="a", references=(FACE,)), ["ip.bin", "'face'", "weight 0.6"]),
    (Candidate(name="x", model="a", inpaint=Inpaint(picture="photo", mask="hole", strength=0.7)), ["'photo'", "'hole'", "0.7"]),
    (Candidate(name="x", model="a", stages=(Stage(
        model="b", strength=0.55, prompt="{prompt}, night", through="pixels", resize="nearest", colour="transfer",
        before=(Lut("d/teal.cube", strength=0.5),), controls=(EDGES,)),)),
     ["stage 2: b", "strength 0.55", "'{prompt}, night'", "as pixels", "by nearest", "teal.cube at 0.5", "colours transferred",
      "stage 2: control by edges.safetensors"]),
    (Candidate(name="x", model="a", post=(ColourTransfer("refs/neon.png", method="histogram", strength=0.6), Lut("t.cube"),
                                          Temperature(max_kelvin=6500), Upscale(factor=1.5, method="bicubic"))),
     ["colours of neon.png (histogram) at 0.6", "t.cube at 1", "6500 K", "1.5 times", "bicubic"]),
])
def test_a_candidate_of_several_models_or_pictures_is_described_in_full(candidate: Candidate, facts: list[str]) -> None:
    text = "; ".join(described(candidate))
    assert [fact for fact in facts if fact not in text] == []
