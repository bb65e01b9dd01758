"""What a module's tensors do to its weight, worked out in numpy and float64 from the formulas of the papers and of the
trainers: no line of it is the harness's. Every function draws tensors, and gives them by role with their effect on w0."""

import math

import numpy as np


def new(rng, *shape):
    """float32 values, as files hold them."""
    return (rng.standard_normal(shape) * 0.5).astype(np.float32)


def wide(array):
    return array.astype(np.float64)


def lora(rng, shape, rank, scale):
    down, up = new(rng, rank, *shape[1:]), new(rng, shape[0], rank, *(1 for _ in shape[2:]))
    delta = scale * np.tensordot(wide(up).reshape(shape[0], rank), wide(down), 1)
    return {"down": down, "up": up}, lambda w0: delta


def tucker(rng, shape, rank, scale):
    down, up, mid = new(rng, rank, shape[1], 1, 1), new(rng, shape[0], rank, 1, 1), new(rng, rank, rank, *shape[2:])
    delta = scale * np.einsum("mnkl,om,ni->oikl", wide(mid), wide(up)[:, :, 0, 0], wide(down)[:, :, 0, 0])
    return {"down": down, "up": up, "mid": mid}, lambda w0: delta


def loha(rng, shape, rank, scale):
    flat = math.prod(shape[1:])
    made = {"w1_a": new(rng, shape[0], rank), "w1_b": new(rng, rank, flat), "w2_a": new(rng, shape[0], rank),
            "w2_b": new(rng, rank, flat)}
    one, two = (wide(made[f"w{n}_a"]) @ wide(made[f"w{n}_b"]) for n in (1, 2))
    return made, lambda w0: (scale * one * two).reshape(shape)


def loha_tucker(rng, shape, rank, scale):
    made, halves = {}, []
    for n in (1, 2):
        t, a, b = new(rng, rank, rank, *shape[2:]), new(rng, rank, shape[0]), new(rng, rank, shape[1])
        made |= {f"t{n}": t, f"w{n}_a": a, f"w{n}_b": b}
        halves.append(np.einsum("ijkl,jr,ip->prkl", wide(t), wide(b), wide(a)))
    return made, lambda w0: scale * halves[0] * halves[1]


def lokr(rng, shape, rank, scale):
    """Halves (2, 4) and the rest, the second a product."""
    out, width = shape[0] // 2, shape[1] // 4 * math.prod(shape[2:])
    made = {"w1": new(rng, 2, 4), "w2_a": new(rng, out, rank), "w2_b": new(rng, rank, width)}
    second = (wide(made["w2_a"]) @ wide(made["w2_b"])).reshape(out, shape[1] // 4, *shape[2:])
    first = wide(made["w1"]).reshape(2, 4, *(1 for _ in shape[2:]))
    return made, lambda w0: scale * np.kron(first, second)


def lokr_both_products(rng, shape, rank, scale):
    made = {"w1_a": new(rng, 2, rank), "w1_b": new(rng, rank, 4), "w2_a": new(rng, shape[0] // 2, rank),
            "w2_b": new(rng, rank, shape[1] // 4)}
    return made, lambda w0: scale * np.kron(wide(made["w1_a"]) @ wide(made["w1_b"]), wide(made["w2_a"]) @ wide(made["w2_b"]))


def lokr_tucker(rng, shape, rank, scale):
    made = {"w1": new(rng, 2, 4), "t2": new(rng, rank, rank, *shape[2:]), "w2_a": new(rng, rank, shape[0] // 2),
            "w2_b": new(rng, rank, shape[1] // 4)}
    second = np.einsum("ijkl,ip,jr->prkl", wide(made["t2"]), wide(made["w2_a"]), wide(made["w2_b"]))
    return made, lambda w0: scale * np.kron(wide(made["w1"])[:, :, None, None], second)


def lokr_whole(rng, shape, rank, scale):
    made = {"w1": new(rng, 2, 4), "w2": new(rng, shape[0] // 2, shape[1] // 4)}
    return made, lambda w0: np.kron(wide(made["w1"]), wide(made["w2"]))


def full(rng, shape, rank, scale):
    diff = new(rng, *shape)
    return {"diff": diff}, lambda w0: wide(diff)


def norm(rng, shape, rank, scale):
    diff = new(rng, *shape)
    return {"w_norm": diff}, lambda w0: wide(diff)


def glora(rng, shape, rank, scale):
    ends = [1 for _ in shape[2:]]
    made = {"a1": new(rng, shape[1], rank, *ends), "a2": new(rng, rank, shape[1], *ends), "b1": new(rng, shape[0], rank, *ends),
            "b2": new(rng, rank, *shape[1:])}
    flat = {role: wide(tensor).reshape(len(tensor), -1) for role, tensor in made.items()}

    def effect(w0):
        turned = np.moveaxis(np.tensordot(w0, flat["a1"] @ flat["a2"], (1, 0)), -1, 1)
        return scale * (turned + np.tensordot(flat["b1"], wide(made["b2"]), 1))
    return made, effect


def ia3(rng, shape, rank, scale):
    weight = new(rng, shape[0])
    return {"weight": weight, "on_input": np.array(0.0, np.float32)}, lambda w0: (w0.T * wide(weight)).T


def ia3_on_input(rng, shape, rank, scale):
    weight = new(rng, shape[1])
    return {"weight": weight, "on_input": np.array(1.0, np.float32)}, lambda w0: np.moveaxis(
        np.moveaxis(w0, 1, -1) * wide(weight), -1, 1)


def turns(blocks, limit=None):
    """(I + Q)(I - Q)^-1 of every block, Q antisymmetric and of no larger norm than the limit."""
    q = wide(blocks) - np.swapaxes(wide(blocks), -1, -2)
    size = np.sqrt((q ** 2).sum())
    q = q * (limit / size) if limit is not None and size > limit else q
    eye = np.eye(q.shape[-1])
    return (eye + q) @ np.linalg.inv(eye - q)


def oft(rng, shape, rank, scale):
    """Blocks of half the outputs, each turned, with the norm of Q at most alpha * out = 0.25 * out."""
    blocks = new(rng, 2, shape[0] // 2, shape[0] // 2)
    rotation = turns(blocks, 0.25 * shape[0])

    def effect(w0):
        rows = w0.reshape(2, shape[0] // 2, -1)
        return np.stack([rotation[k].T @ rows[k] for k in range(2)]).reshape(shape) - w0
    return {"oft_blocks": blocks, "alpha": np.array(0.25, np.float32)}, effect


def boft(rng, shape, rank, scale):
    """Two stages of blocks of 4: rows 2 apart meet in the first, rows 4 apart in the second."""
    blocks = new(rng, 2, shape[0] // 4, 4, 4)
    rotation = turns(blocks)

    def effect(w0):
        rows = w0.reshape(shape[0], -1)
        for stage in range(2):
            meeting = np.arange(shape[0]).reshape(-1, 2, 2 ** stage * 2).transpose(0, 2, 1).ravel()
            turned = np.concatenate([rotation[stage][n] @ rows[meeting[4 * n:4 * n + 4]] for n in range(shape[0] // 4)])
            rows = np.empty_like(rows)
            rows[meeting] = turned
        return rows.reshape(shape) - w0
    return {"oft_blocks": blocks, "alpha": np.array(0.0, np.float32)}, effect


def with_dora(effect, magnitude, axis):
    """g V / ||V|| - W0 for V = W0 + change, over each row (axis 0) or each column (axis 1)."""
    def dora(w0):
        changed = w0 + effect(w0)
        others = tuple(number for number in range(w0.ndim) if number != axis)
        lengths = np.sqrt((changed ** 2).sum(others, keepdims=True))
        by_axis = [-1 if number == axis else 1 for number in range(w0.ndim)]
        return wide(magnitude).reshape(by_axis) * changed / lengths - w0
    return dora
