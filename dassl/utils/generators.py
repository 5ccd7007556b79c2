"""The random generators of Python, NumPy and torch -> their states, which checkpoints hold."""

import random
from typing import Any

import numpy as np
import torch

from dassl.errors import RequestError

__all__ = ["random_states", "restore_random_states"]


def random_states() -> dict[str, Any]:
    """The states of Python's, NumPy's and torch's generators as plain containers and tensors."""
    numpy_state: Any = np.random.get_state()  # a tuple, unless it is asked for a dict
    name, keys, *rest = numpy_state
    state = {
        "python": list(random.getstate()),
        "numpy": [name, keys.tolist(), *rest],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_random_states(state: dict[str, Any]) -> None:
    """Undo everything drawn since `random_states()`; call it `with restoring(...)` on a file's.

    Raises:
        KeyError, RuntimeError, TypeError, ValueError: the state is none.
    """
    version, internal, gauss = state["python"]
    if not isinstance(gauss, (float, type(None))):  # Python looks at it in the next draw only
        raise TypeError(f"The next Gaussian number must be a float, got {gauss!r}")
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, *rest = state["numpy"]
    if not 0 <= position <= len(keys):  # NumPy would read whatever is behind its keys
        raise RequestError(f"NumPy's position must be in its {len(keys)} keys, got {position}")
    np.random.set_state((name, np.asarray(keys, dtype=np.uint32), position, *rest))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
