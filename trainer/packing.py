"""Prompts without their padding: tokens (C, T) -> a common prefix, and each class's own tokens.

The own tokens of all classes lie behind each other in one (M, D) batch, shortest class first, so
that the classes of one length are a contiguous slice. Linear layers see M rows; attention runs
group by group.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "Chunk",
    "Group",
    "PackedPrompts",
    "attend_to_prefix",
    "cut_groups",
    "pack_prompts",
]


class Group(NamedTuple):
    """Classes that have equally many own tokens."""

    num_classes: int
    length: int


class Chunk(NamedTuple):
    """A run of classes in the packed batch."""

    classes: slice
    rows: slice
    groups: list[Group]


class PackedPrompts(NamedTuple):
    """The prompts of C classes with M own tokens in all."""

    prefix: Tensor  # (P,) tokens that all prompts begin with
    own: Tensor  # (M,) tokens
    positions: Tensor  # (M,) of the own tokens in their prompts
    place: Tensor  # (C,) of each class in the packed order
    ends: Tensor  # (C,) the row of each class's EOT, in the packed order
    groups: list[Group]


def pack_prompts(prompts: Tensor) -> PackedPrompts:
    """Cut (C, T) after EOT and before the first token in which two prompts differ.

    Every class keeps at least one token of its own, EOT, so that its feature can be read.
    """
    lengths = prompts.argmax(-1) + 1  # up to and with EOT; what follows is never read
    differs = (prompts != prompts[0]).any(0)
    prefix = min(int((differs.cumsum(0) == 0).sum()), int(lengths.min()) - 1)
    order = lengths.argsort(stable=True)
    positions = torch.arange(prompts.shape[1], device=prompts.device).expand_as(prompts)[order]
    is_own = (positions >= prefix) & (positions < lengths[order, None])
    sizes, counts = (lengths - prefix).unique(return_counts=True)
    return PackedPrompts(
        prefix=prompts[0, :prefix],
        own=prompts[order][is_own],
        positions=positions[is_own],
        place=order.argsort(),
        ends=(lengths[order] - prefix).cumsum(0) - 1,
        groups=[Group(*pair) for pair in zip(counts.tolist(), sizes.tolist(), strict=True)],
    )


def cut_groups(groups: list[Group], size: int) -> Iterator[Chunk]:
    """Cut the packed batch into chunks of at most `size` classes each, all of one length."""
    first, row = 0, 0
    for count, length in groups:
        for start in range(0, count, size):
            part = Group(min(size, count - start), length)
            last, end = first + part.num_classes, row + part.num_classes * length
            yield Chunk(slice(first, last), slice(row, end), [part])
            first, row = last, end


def attend_to_prefix(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    prefix_k: Tensor,
    prefix_v: Tensor,
    groups: list[Group],
    later: Tensor,
) -> Tensor:
    """Causal attention of own tokens to the prefix and to their own class's tokens before them.

    Queries (M, D), or (C, D) for the last token of each class; keys and values (M, D); those of the
    prefix (H, S, D / H); `later` (T, T) is True where a key comes after the query.
    Returns one row a query, (., D).
    """
    queries_per_class = [1 if len(q) < len(k) else length for _, length in groups]
    rows = [count * length for count, length in groups]
    query_rows = [g.num_classes * n for g, n in zip(groups, queries_per_class, strict=True)]
    parts = zip(groups, q.split(query_rows), k.split(rows), v.split(rows), strict=True)
    return torch.cat([_attend_in_group(*part, prefix_k, prefix_v, later) for part in parts])


def _attend_in_group(
    group: Group, q: Tensor, k: Tensor, v: Tensor, prefix_k: Tensor, prefix_v: Tensor, later: Tensor
) -> Tensor:
    """Two products instead of one over joined keys: the prefix's are not copied for each class."""
    num_heads, num_prefix, _ = prefix_k.shape
    q, k, v = (x.unflatten(1, (num_heads, -1)) for x in (q, k, v))
    q, k, v = (x.unflatten(0, (group.num_classes, -1)) for x in (q, k, v))
    to_prefix = torch.einsum("cqhd,hsd->chqs", q, prefix_k)
    to_own = torch.einsum("cqhd,ckhd->chqk", q, k)
    hidden = later[group.length - q.shape[1] : group.length, : group.length]  # (q, k)
    scores = torch.cat([to_prefix, to_own.masked_fill(hidden, float("-inf"))], dim=-1)
    weights = (scores * q.shape[-1] ** -0.5).softmax(-1, dtype=torch.float32).to(v.dtype)
    of_prefix, of_own = weights.split([num_prefix, group.length], dim=-1)
    x = torch.einsum("chqs,hsd->cqhd", of_prefix, prefix_v)
    x = x + torch.einsum("chqk,ckhd->cqhd", of_own, v)
    return x.flatten(2).flatten(0, 1)
