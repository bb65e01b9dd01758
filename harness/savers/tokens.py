"""Token merging: similar tokens of a picture averaged before self-attention, and its result given to all of them."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from harness.savers.contract import SaverError, SaverReport, Use
from harness.weights.pipeline import latent_shape

if TYPE_CHECKING:
    import torch

SIDE: Final = 2
"""Of each square of this side, the token at the top left is one that others are merged into."""


@dataclass(frozen=True, kw_only=True)
class Matching:
    """Which tokens become one. `alone` (n, u) are the places of those that stay, `into` (d,) those of the ones that others are
    merged into, `shares` (n, d, t) what each merged token gives to a target, targets themselves included, and `place` (n, t)
    where each token is found among the u + d that are left."""

    alone: torch.Tensor
    into: torch.Tensor
    shares: torch.Tensor
    place: torch.Tensor

    def merge(self, x: torch.Tensor) -> torch.Tensor:
        """(n, t, c) to (n, u + d, c): tokens that stay, then the means of the others."""
        import torch

        staying = x.gather(1, self.alone.unsqueeze(-1).expand(-1, -1, x.shape[2]))
        return torch.cat([staying, torch.bmm(self.shares.to(x.dtype), x)], dim=1)

    def unmerge(self, x: torch.Tensor) -> torch.Tensor:
        """(n, u + d, c) to (n, t, c)."""
        return x.gather(1, self.place.unsqueeze(-1).expand(-1, -1, x.shape[2]))


def merged_count(height: int, width: int, ratio: float) -> int:
    """How many of a picture's tokens are merged into others: `ratio` of them, and at most those that are no targets."""
    targets = (height // SIDE) * (width // SIDE)
    return min(int(height * width * ratio), height * width - targets) if targets else 0


def matching(x: torch.Tensor, height: int, width: int, ratio: float) -> Matching:
    """Bipartite soft matching of the tokens x (n, height * width, c) of pictures (Bolya and Hoffman, arXiv 2303.17604), without
    its random choice: the token at the top left of each 2 x 2 square is a target, and of the others those are merged whose
    cosine similarity to a target is the highest, each into the most similar one. As tomesd with use_rand=False. No picture
    depends on its neighbours, and sums are products of matrices, so that they are the same each time."""
    import torch

    count, device = merged_count(height, width, ratio), x.device
    grid = torch.arange(height * width, device=device).reshape(height, width)
    is_target = torch.zeros(height, width, dtype=torch.bool, device=device)
    into = grid[:height // SIDE * SIDE:SIDE, :width // SIDE * SIDE:SIDE].reshape(-1)
    is_target.view(-1)[into] = True
    # By arithmetic, since a mask cannot choose among tensors without values.
    others = torch.argsort(is_target.reshape(-1).int(), stable=True)[:height * width - len(into)]
    unit = x / x.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
    similarity, nearest = (unit[:, others] @ unit[:, into].transpose(1, 2)).max(dim=-1)
    order = similarity.argsort(dim=-1, descending=True, stable=True)
    merged, alone = order[:, :count], order[:, count:]
    target = nearest.gather(1, merged)
    n, t, d, u = x.shape[0], height * width, len(into), alone.shape[1]
    chosen = torch.zeros(n, t, dtype=torch.long, device=device)
    chosen.scatter_(1, others[alone], torch.arange(u, device=device).expand(n, -1))
    chosen.scatter_(1, into.expand(n, -1), u + torch.arange(d, device=device).expand(n, -1))
    chosen.scatter_(1, others[merged], u + target)
    members = (chosen.unsqueeze(1) == (u + torch.arange(d, device=device)).reshape(1, d, 1)).float()
    return Matching(alone=others[alone], into=into, shares=members / members.sum(dim=2, keepdim=True), place=chosen)


_SIZE: Final[ContextVar[tuple[int, int]]] = ContextVar("size")
_MATCHING: Final[ContextVar[Matching | None]] = ContextVar("matching", default=None)
"""Of the layers that a thread runs: several threads run their batches on one denoiser."""


def merge_tokens(ratio: float, module: torch.nn.Module) -> SaverReport:
    """Lets the self-attention of a U-Net's finest blocks that have one see merged tokens. `ratio` is the share of them that is
    merged into others. Raises SaverError where no block has a self-attention."""
    names = {id(layer): name for name, layer in module.named_modules()}
    changed = []
    for transformer in _finest(module):
        transformer.register_forward_pre_hook(_see_size)
        for block in transformer.transformer_blocks:
            if not block.only_cross_attention:
                block.register_forward_pre_hook(partial(_match, ratio))
                block.attn1.register_forward_pre_hook(_merge)
                block.attn1.register_forward_hook(_unmerge)
                changed.append(names[id(block.attn1)])
    if not changed:
        raise SaverError("no block of this U-Net has a self-attention")
    return SaverReport(changed=tuple(changed), notes=(
        f"token merging: {ratio:.0%} of the tokens of these layers are merged into others, at the finest resolution that has a "
        "self-attention",))


def _finest(module: Any) -> list[Any]:
    """The transformers of the first block with attention on the way down, and of its counterpart on the way up."""
    for level, block in enumerate(module.down_blocks):
        if getattr(block, "has_cross_attention", False):
            return [*block.attentions, *getattr(module.up_blocks[-1 - level], "attentions", ())]
    return []


def _see_size(_: object, args: tuple[Any, ...]) -> None:
    _SIZE.set(tuple(args[0].shape[-2:]))


def _match(ratio: float, _: object, args: tuple[Any, ...]) -> None:
    _MATCHING.set(matching(args[0], *_SIZE.get(), ratio))


def _merge(_: object, args: tuple[Any, ...]) -> tuple[Any, ...]:
    found = _MATCHING.get()
    assert found is not None  # the block's hook comes first
    return found.merge(args[0]), *args[1:]


def _unmerge(_: object, __: object, output: Any) -> Any:
    found = _MATCHING.get()
    assert found is not None
    _MATCHING.set(None)
    return found.unmerge(output)


def few_tokens(ratio: float, use: Use) -> str:
    """Why merging would change nothing of pictures of this size."""
    if (pictures := use.decoding) is None:
        return ""
    level = next((n for n, block in enumerate(use.pipeline.unet.down_blocks) if getattr(block, "has_cross_attention", False)), 0)
    _, height, width = latent_shape(use.pipeline, pictures.width, pictures.height)
    for _ in range(level):
        height, width = -(-height // 2), -(-width // 2)
    if merged_count(height, width, ratio):
        return ""
    return (f"pictures of {pictures.width} x {pictures.height} have {height} x {width} tokens where attention sees the most of "
            f"them, too few to merge {ratio:.0%}")
