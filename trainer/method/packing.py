"""Prompts without their padding: tokens (C, T) -> a common prefix, and each class's suffix.

The suffixes of all classes lie behind each other in one (M, D) batch, class by class, and linear
layers see those M rows alone. Attention sees them as (C, S, D), S the longest suffix: padding comes
last, so the causal mask that every class needs anyway keeps it from being read.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["PackedPrompts", "SuffixRows", "cut_classes", "pack_prompts", "suffix_rows"]

_MIN_LENGTH = 4  # with fewer queries attention on a CPU takes a detour; padding costs less


class SuffixRows(NamedTuple):
    """Where the suffix tokens of C classes are among M packed rows; index tensors."""

    slots: Tensor  # (C, S) the row of each class's s-th token; padding shows its last row
    rows: Tensor  # (M,) the place of each row in the flattened (C, S)
    ends: Tensor  # (C,) the row of each class's EOT
    mask: Tensor  # (S, S) 0 where a token sees another of its class, -inf elsewhere
    end_mask: Tensor  # (C, 1, 1, S) the same for each class's EOT

    def behind(self, length: int, dtype: torch.dtype) -> "SuffixRows":
        """The same with masks in `dtype` for keys behind a prefix of `length`, which all see."""
        mask, end_mask = (F.pad(m.to(dtype), (length, 0)) for m in (self.mask, self.end_mask))
        return self._replace(mask=mask, end_mask=end_mask)


class PackedPrompts(NamedTuple):
    """The prompts of C classes with M suffix tokens in all."""

    prefix: Tensor  # (P,) tokens that all prompts begin with
    suffix: Tensor  # (M,) tokens
    positions: Tensor  # (M,) of the suffix tokens in their prompts
    lengths: Tensor  # (C,) of the suffixes


def pack_prompts(prompts: Tensor) -> PackedPrompts:
    """Cut (C, T) after EOT and before the first token in which two prompts differ.

    Every class keeps at least one token of its own, EOT, so that its feature can be read.
    """
    lengths = prompts.argmax(-1) + 1  # up to and with EOT; what follows is never read
    # the first column in which two prompts differ ends what can be shared
    differs = (prompts != prompts[0]).any(0)
    prefix = min(int((differs.cumsum(0) == 0).sum()), int(lengths.min()) - 1)
    positions = torch.arange(prompts.shape[1], device=prompts.device).expand_as(prompts)
    is_suffix = (positions >= prefix) & (positions < lengths[:, None])
    return PackedPrompts(
        prefix=prompts[0, :prefix],
        suffix=prompts[is_suffix],
        positions=positions[is_suffix],
        lengths=lengths - prefix,
    )


def suffix_rows(lengths: Tensor) -> SuffixRows:
    """Index tensors of suffixes of these lengths (C,), packed class by class."""
    ends = lengths.cumsum(0) - 1  # (C,)
    # the one look at values on the host; it happens once per class list
    longest = max(int(lengths.max()), _MIN_LENGTH)
    steps = torch.arange(longest, device=lengths.device)  # (S,)
    slots = (ends - lengths + 1)[:, None] + steps  # (C, S)
    is_token = steps < lengths[:, None]
    return SuffixRows(
        slots.minimum(ends[:, None]),
        is_token.flatten().nonzero()[:, 0],
        ends,
        _hide(steps > steps[:, None]),
        _hide(~is_token)[:, None, None],
    )


def _hide(is_hidden: Tensor) -> Tensor:
    """-inf where True, 0 elsewhere: what attention adds to its scores."""
    return torch.zeros(is_hidden.shape, device=is_hidden.device).masked_fill(is_hidden, -math.inf)


def cut_classes(lengths: Tensor, size: int) -> Iterator[tuple[slice, SuffixRows]]:
    """(packed rows, their index tensors) of at most `size` classes at a time."""
    start = 0
    for part in lengths.split(size):
        stop = start + int(part.sum())
        yield slice(start, stop), suffix_rows(part)
        start = stop
