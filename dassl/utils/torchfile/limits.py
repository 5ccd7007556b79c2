"""How much a file may ask for. Checkpoints of CLIP need some 50,000 steps and ten levels."""

from typing import Any

from torch import Tensor

from dassl.utils.torchfile.records import UnsafeFileError

__all__ = [
    "MAX_DIRECTORY",
    "MAX_ITEM_STEPS",
    "MAX_PICKLE",
    "MAX_STEPS",
    "check_element",
    "check_key",
    "check_tree",
    "max_tensor_bytes",
]

MAX_STEPS = 500_000  # opcodes, and elements that they copy
MAX_ITEM_STEPS = 1_500_000  # of a bare pickle; 16 shots of ImageNet take 450,000
MAX_DEPTH = 100  # containers in containers
MAX_PICKLE = 16 << 20  # bytes; tensors lie outside of it
MAX_DIRECTORY = 8 << 20  # bytes of the zip's list of entries
_MAX_ODD_KEYS = 1_000
_MAX_KEY_PARTS = 8
_PLAIN = (str, bytes, bool, float, type(None))
_CONTAINERS = (dict, list, tuple)


def max_tensor_bytes(file_bytes: int) -> int:
    """What all tensors may add up to: they may share storages, but not multiply a file's size."""
    return max(64 << 20, 8 * file_bytes)


def check_key(key: Any) -> int:
    """How many steps a key of a dict, or an element of a set, costs.

    Raises:
        UnsafeFileError: it is not a number, text, tensor or short flat tuple. Nested ones are out:
            the hash of one that shares its parts can take 2 to its depth steps.
    """
    if type(key) in _PLAIN or isinstance(key, Tensor) or (type(key) is int and abs(key) < 1 << 60):
        return 1
    parts = key if type(key) is tuple and len(key) <= _MAX_KEY_PARTS else [key]
    if all(type(part) in _PLAIN or type(part) is int for part in parts):
        # such hashes can be made equal, and then each key is compared with all before it
        return MAX_STEPS // _MAX_ODD_KEYS
    raise UnsafeFileError(f"a {type(key).__name__} is the key of a dict or is in a set")


def check_element(item: Any) -> None:
    """An element of a set is as a dict's key, but no tuple.

    Raises:
        UnsafeFileError: it is something else.
    """
    if check_key(item) > 1:
        raise UnsafeFileError(f"a {type(item).__name__} is in a set")


def check_tree(root: Any) -> None:
    """Let every later walk through `root` be short, also one that does not know of shared parts.

    Raises:
        UnsafeFileError: it contains itself, is nested too deeply, or is too large with each part
            counted as often as it is reached.
    """
    known: dict[int, tuple[int, int]] = {}

    def visit(value: Any, depth: int) -> tuple[int, int]:
        """The number of nodes below a container, and its height."""
        if depth <= MAX_DEPTH and id(value) not in known:
            children = value.values() if isinstance(value, dict) else value
            inner = [visit(c, depth + 1) for c in children if isinstance(c, _CONTAINERS)]
            nodes = len(children) + sum(count for count, _ in inner)
            known[id(value)] = nodes, 1 + max((height for _, height in inner), default=0)
        nodes, height = known.get(id(value), (0, 1))
        if depth + height > MAX_DEPTH:
            raise UnsafeFileError(f"its containers are nested more than {MAX_DEPTH} deep")
        if nodes > MAX_STEPS:
            raise UnsafeFileError(
                f"its containers, written out, hold more than {MAX_STEPS:,} items"
            )
        return nodes, height

    if isinstance(root, _CONTAINERS):
        visit(root, 0)
