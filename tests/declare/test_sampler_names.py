"""Names of samplers as the tools write them mean one sampler and one schedule."""

import pytest

from harness.declare.sampler_names import AUTOMATIC, SAMPLER_NAMES, SCHEDULE_NAMES, sampler_named, schedule_named
from harness.samplers import SAMPLERS, SCHEDULES


def test_every_row_has_its_names_and_no_other_has() -> None:
    assert list(SAMPLER_NAMES) == list(SAMPLERS)
    assert list(SCHEDULE_NAMES) == list(SCHEDULES)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_row_is_called_by_its_own_name(sampler: str) -> None:
    assert sampler_named(sampler) == (sampler, "")


@pytest.mark.parametrize(("text", "sampler", "schedule"), [
    ("DPM++ 2M Karras", "dpmpp_2m", "karras"), ("DPM++ 2M", "dpmpp_2m", ""), ("dpmpp_2m karras", "dpmpp_2m", "karras"),
    ("k_dpmpp_2m_ka", "dpmpp_2m", "karras"), ("dpmpp_2m_sde_gpu", "dpmpp_2m_sde", ""), ("DPM++ 2M SDE", "dpmpp_2m_sde", ""),
    ("DPM++ 2M SDE Exponential", "dpmpp_2m_sde", "exponential"), ("DPM++ 2M SDE Heun Karras", "dpmpp_2m_sde_heun", "karras"),
    ("DPM++ 3M SDE Karras", "dpmpp_3m_sde", "karras"), ("DPM++ SDE Karras", "dpmpp_sde", "karras"),
    ("DPM++ 2S a Karras", "dpmpp_2s_a", "karras"), ("dpmpp_2s_ancestral", "dpmpp_2s_a", ""),
    ("Euler a", "euler_a", ""), ("euler_ancestral", "euler_a", ""), ("Euler", "euler", ""), ("euler_k", "euler", "karras"),
    ("Euler SGM Uniform", "euler", "sgm_uniform"), ("LMS Karras", "lms", "karras"), ("Heun", "heun", ""),
    ("DPM2 a Karras", "dpm2_a", "karras"), ("dpm_2_ancestral", "dpm2_a", ""), ("kdpm_2_a_k", "dpm2_a", "karras"),
    ("DPM2", "dpm2", ""), ("PLMS", "plms", ""), ("pndm", "plms", ""), ("UniPC", "unipc", ""), ("uni_pc_bh2", "unipc", ""),
    ("LCM", "lcm", ""), ("TCD", "tcd", ""), ("DDIM", "ddim", ""), ("DEIS", "deis", ""),
    ("DPM++ 2M Automatic", "dpmpp_2m", "karras"), ("DPM++ 2M SDE Automatic", "dpmpp_2m_sde", "exponential"),
    ("Euler a Automatic", "euler_a", "normal"), ("DDIM Automatic", "ddim", "")])
def test_a_tools_name_means_a_sampler_and_a_schedule(text: str, sampler: str, schedule: str) -> None:
    assert sampler_named(text) == (sampler, schedule)


@pytest.mark.parametrize("text", ["DPM adaptive", "euler_cfg_pp", "ipndm_v", "res_multistep", "Restart"])
def test_a_sampler_that_diffusers_lacks_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="diffusers does not have it"):
        sampler_named(text)


def test_a_mistyped_sampler_gets_the_nearest_name() -> None:
    with pytest.raises(ValueError, match="did you mean 'dpmpp_2m'"):
        sampler_named("dmpp_2m")


@pytest.mark.parametrize(("text", "schedule"), [("SGM Uniform", "sgm_uniform"), ("Karras", "karras"), ("Uniform", "normal"),
                                                ("Beta", "beta"), ("simple", "simple"), ("Normal", "normal")])
def test_a_tools_schedule_is_one_of_ours(text: str, schedule: str) -> None:
    assert schedule_named(text) == schedule


@pytest.mark.parametrize("text", ["KL Optimal", "Align Your Steps", "kerras"])
def test_another_schedule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="karras"):
        schedule_named(text)


def test_automatic_names_rows_and_schedules_that_fit() -> None:
    assert all(schedule in SAMPLERS[sampler].schedules for sampler, schedule in AUTOMATIC.items())
