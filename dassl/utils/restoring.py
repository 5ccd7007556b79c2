"""A checkpoint's content -> whether it is one, and this run's schedule set to the one in it."""

from typing import Any

from dassl.utils.torchfile import Record

__all__ = ["check_checkpoint", "restore_schedule"]

_NEEDED = {"state_dict": dict, "epoch": int}


def check_checkpoint(checkpoint: dict[str, Any], fpath: str) -> None:
    """Check that weights and epoch are there.

    Raises:
        ValueError: one of them is missing.
    """
    for key, kind in _NEEDED.items():
        if not isinstance(checkpoint.get(key), kind):
            raise ValueError(f"{fpath!r} is not a checkpoint: it has no {key!r}")


def restore_schedule(scheduler: Any, state: dict[str, Any], fpath: str) -> None:
    """Set a scheduler to a checkpoint's state, in which Dassl 0.6.3 has pickled its successor.

    Raises:
        ValueError: one of the two has a warm-up, the other has none.
    """
    if "successor" in state and not hasattr(scheduler, "successor"):
        raise ValueError(
            f"{fpath!r} was written with a warm-up, this run has none. Set OPTIM.WARMUP_EPOCH to "
            f"{state.get('warmup_epoch')}, or start afresh in another folder."
        )
    scheduler.load_state_dict(_without_objects(state))


def _without_objects(state: dict[str, Any]) -> dict[str, Any]:
    """The state with objects as their own attributes; this run has an optimizer of its own."""
    return {
        name: _without_objects(value) if isinstance(value, Record) else value
        for name, value in state.items()
        if name != "optimizer"
    }
