"""Operations that reach the device in one training step: a callable -> count, by name.

A large card waits for launches at few classes, so their number is its time. Views and allocations
launch nothing and are left out.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["count_operations"]

_FREE = frozenset(
    "view t transpose unsqueeze expand slice select split split_with_sizes detach alias permute "
    "_unsafe_view unbind as_strided squeeze _reshape_alias reshape chunk lift_fresh empty "
    "empty_like empty_strided new_empty".split()
)


class _Counting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        name = func._schema.name.partition("::")[2]
        if name not in _FREE:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


def count_operations(step: Callable[[], Any]) -> Counter[str]:
    """Operations of one call, forward, backward and optimizer, by name."""
    with _Counting() as counting:
        step()
    return counting.counts
