"""A checkpoint's content -> whether it is one, and this run's state set to the one in it."""

import contextlib
from collections.abc import Iterator
from typing import Any

from dassl.errors import RequestError
from dassl.utils.torchfile import Record

__all__ = ["check_checkpoint", "check_kinds", "restore_schedule", "restoring"]

_NEEDED = {"state_dict": dict, "epoch": int}
_UNFIT = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def check_checkpoint(checkpoint: dict[str, Any], fpath: str) -> None:
    """Check that weights and epoch are there.

    Raises:
        ValueError: one of them is missing.
    """
    for key, kind in _NEEDED.items():
        if not isinstance(checkpoint.get(key), kind):
            raise RequestError(f"{fpath!r} is not a checkpoint: it has no {key!r}")


@contextlib.contextmanager
def restoring(part: str, fpath: str) -> Iterator[None]:
    """Around what sets this run's `part` to that of a file, whose values may be of any kind.

    Raises:
        ValueError: they do not fit; it names the file.
    """
    try:
        yield
    except _UNFIT as error:
        raise RequestError(
            f"{fpath!r} cannot be resumed from: its {part!r} does not fit this run. Remove it to "
            "go on from the newest checkpoint beside it, or to start afresh."
        ) from error


def check_kinds(found: Any, own: Any) -> None:
    """That a stored value can stand where this run has `own`: numbers, lists of equal length, ...

    Entries that one of two dicts lacks are not looked at: versions of torch differ in them.

    Raises:
        TypeError: it cannot.
    """
    if isinstance(own, dict) and isinstance(found, dict):
        for name in own.keys() & found.keys():
            check_kinds(found[name], own[name])
    elif isinstance(own, (list, tuple)) and isinstance(found, (list, tuple)):
        if len(found) != len(own):
            raise TypeError
        for value, own_value in zip(found, own, strict=True):
            check_kinds(value, own_value)
    elif _kind(found) != _kind(own):
        raise TypeError


def _kind(value: Any) -> type:
    if value is None or isinstance(value, bool):
        return bool  # torch leaves a choice open with None
    return float if isinstance(value, int) else type(value)


def restore_schedule(scheduler: Any, state: dict[str, Any], fpath: str) -> None:
    """Set a scheduler to a checkpoint's state, in which Dassl 0.6.3 has pickled its successor.

    Raises:
        ValueError: one of the two has a warm-up, the other has none, or a value is of another kind.
    """
    with restoring("scheduler", fpath):
        state = _without_objects(state)
        if "successor" in state and hasattr(scheduler, "successor"):
            check_kinds(state["successor"], scheduler.successor.state_dict())
        own = scheduler.state_dict()
        check_kinds({k: v for k, v in state.items() if k != "successor"}, own)
    if "successor" in state and not hasattr(scheduler, "successor"):
        raise RequestError(
            f"{fpath!r} was written with a warm-up, this run has none. Set OPTIM.WARMUP_EPOCH to "
            f"{state.get('warmup_epoch')}, or start afresh in another folder."
        )
    scheduler.load_state_dict(state)


def _without_objects(state: dict[str, Any]) -> dict[str, Any]:
    """The state with objects as their own attributes; this run has an optimizer of its own."""
    return {
        name: _without_objects(value) if isinstance(value, Record) else value
        for name, value in state.items()
        if name != "optimizer"
    }
