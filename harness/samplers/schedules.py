"""SCHEDULES: the noise levels of a sampler's steps, as k-diffusion, A1111 and ComfyUI publish them.

`sigmas` are the noise levels that a model was trained on: float64, one for each training timestep, rising.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    import numpy as np

    Levels: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"

RHO: Final = 7.0
"""The exponent of Karras et al., which all tools use."""
_BETA: Final = 0.6


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """`levels(sigmas, steps)` gives the noise level at the beginning of every step, falling; the last step ends at 0. `says` is
    the formula in words. `same_as` are the tools that publish these numbers; `most_steps` is how many steps it has levels for."""

    levels: Callable[[Levels, int], Levels]
    says: str
    same_as: tuple[str, ...] = ("A1111", "ComfyUI")
    most_steps: int = 1000


def _normal(sigmas: Levels, steps: int) -> Levels:
    import numpy as np

    return _at(sigmas, np.linspace(len(sigmas) - 1, 0, steps))


def _sgm_uniform(sigmas: Levels, steps: int) -> Levels:
    import numpy as np

    return _at(sigmas, np.linspace(len(sigmas) - 1, 0, steps + 1)[:-1])


def _karras(sigmas: Levels, steps: int) -> Levels:
    """Karras et al. 2022, https://arxiv.org/abs/2206.00364, equation 5."""
    import numpy as np

    first, last = sigmas[-1] ** (1 / RHO), sigmas[0] ** (1 / RHO)
    levels: Levels = (first + np.linspace(0, 1, steps) * (last - first)) ** RHO
    return levels


def _exponential(sigmas: Levels, steps: int) -> Levels:
    import numpy as np

    levels: Levels = np.exp(np.linspace(np.log(sigmas[-1]), np.log(sigmas[0]), steps))
    return levels


def _simple(sigmas: Levels, steps: int) -> Levels:
    import numpy as np

    stride = len(sigmas) / steps
    return np.array([sigmas[-(1 + int(step * stride))] for step in range(steps)])


def _beta(sigmas: Levels, steps: int) -> Levels:
    """Lee et al. 2024, https://arxiv.org/abs/2407.12173, by timesteps. Raises ValueError where two steps fall on one timestep."""
    import numpy as np
    from scipy.stats import beta

    shares = 1 - np.linspace(0, 1, steps, endpoint=False)
    timesteps = np.rint(beta.ppf(shares, _BETA, _BETA) * (len(sigmas) - 1)).astype(int)
    different = len(set(timesteps.tolist()))
    if different < steps:
        raise ValueError(f"schedule 'beta' has only {different} different timesteps for {steps} steps; give fewer steps, or "
                         "another schedule, such as 'karras'")
    levels: Levels = sigmas[timesteps]
    return levels


def _at(sigmas: Levels, timesteps: Levels) -> Levels:
    """The levels at timesteps between those of the training, by interpolation of their logarithm."""
    import numpy as np

    levels: Levels = np.exp(np.interp(timesteps, np.arange(len(sigmas)), np.log(sigmas)))
    return levels


def nearest_timesteps(sigmas: Levels, levels: Levels) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The training timestep whose level is nearest to each of `levels`, by logarithm, as ComfyUI chooses it; of two
    equally near ones the first."""
    import numpy as np

    distances = np.abs(np.log(sigmas)[:, None] - np.log(levels)[None, :])
    nearest: np.ndarray[Any, np.dtype[np.int64]] = np.argmin(np.round(distances, 9), axis=0)  # no tie hangs on the last bit
    return nearest


SCHEDULES: Final[dict[str, Schedule]] = {
    "normal": Schedule(levels=_normal, says="timesteps evenly spaced from the last to the first"),
    "karras": Schedule(levels=_karras, says="levels evenly spaced in their 7th root"),
    "exponential": Schedule(levels=_exponential, says="levels evenly spaced in their logarithm"),
    "sgm_uniform": Schedule(levels=_sgm_uniform, says="timesteps evenly spaced from the last; the first is left out"),
    "beta": Schedule(levels=_beta, says="timesteps at the quantiles of Beta(0.6, 0.6)", same_as=("ComfyUI",), most_steps=138),
    "simple": Schedule(levels=_simple, says="every n-th level of the training"),
}
