"""Files, seeds, environment: small helpers without tensors."""

import difflib
import functools
import json
import os
import random
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlretrieve

from dassl.errors import RequestError, is_text, parse_json, read_text
from dassl.utils.pictures import read_image
from dassl.whole_files import write_text

__all__ = [
    "check_availability",
    "check_isfile",
    "collect_env_info",
    "download_url",
    "get_most_similar_str_to_a_from_b",
    "listdir_nohidden",
    "mkdir_if_missing",
    "num_cores",
    "read_image",
    "read_json",
    "set_random_seed",
    "system_lines",
    "tolist_if_not",
    "write_json",
]


def mkdir_if_missing(dirname: str) -> None:
    """Make the folder and its parents; an empty name is the current folder."""
    Path(dirname).mkdir(parents=True, exist_ok=True)


def check_isfile(fpath: str) -> bool:
    """Whether `fpath` is a file; warns with the path if not."""
    found = os.path.isfile(fpath)
    if not found:
        warnings.warn(f"No file found at {fpath!r}", stacklevel=2)
    return found


def read_json(fpath: str) -> Any:
    """The object in a JSON file.

    Raises:
        RequestError: it is not JSON, a key is there twice, or a string is not text; the message
            has the path.
    """
    text = read_text(Path(fpath))
    try:
        value = parse_json(text)
        # Half a surrogate pair can come from an escape alone.
        if "\\ud" in text.lower() and not is_text(json.dumps(value, ensure_ascii=False)):
            raise ValueError("a string has half of a surrogate pair, which is no character")
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{fpath!r} is not sound JSON ({error}). Get the file again.") from error
    return value


def write_json(obj: Any, fpath: str) -> None:
    """Write `obj` as JSON with an indent of 4, making the folder."""
    write_text(fpath, json.dumps(obj, indent=4, separators=(",", ": ")))


def num_cores() -> int:
    """How many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))  # Linux; respects taskset and containers
    except (AttributeError, OSError):
        return os.cpu_count() or 1


def system_lines(path: str) -> list[str]:
    """The lines of a file in /proc; none where the system has no such file, or hides it."""
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def set_random_seed(seed: int) -> None:
    """Seed Python's `random`, NumPy and torch with all CUDA devices.

    Raises:
        RequestError: `seed` is negative.
    """
    import numpy as np
    import torch

    if seed < 0:
        raise RequestError(
            f"A seed must be 0 or more, got {seed}; leave SEED at -1 for an unseeded run"
        )
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.cuda.manual_seed_all(seed)


def download_url(url: str, dst: str) -> None:
    """Fetch `url` into the file `dst`, with a progress line."""
    print(f"* url: {url}\n* destination: {dst}")

    def report(blocks: int, block_size: int, total: int) -> None:
        done = blocks * block_size
        share = f"{min(100, 100 * done // total)}%, " if total > 0 else ""
        print(f"\r... {share}{done / 2**20:.1f} MiB", end="", flush=True)

    urlretrieve(url, dst, report)
    print()


@functools.cache  # it asks a dozen programs, which would say the same again
def collect_env_info() -> str:
    """torch's environment report and Pillow's version; never fails."""
    import PIL
    from torch.utils.collect_env import get_pretty_env_info

    try:
        report = get_pretty_env_info()
    except Exception as error:  # a report must not stop a run
        report = f"(torch's environment report failed: {error})"
    return f"{report}\n        Pillow ({PIL.__version__})"


def listdir_nohidden(path: str, sort: bool = False) -> list[str]:
    """The names in a folder that do not start with a dot."""
    names = [name for name in os.listdir(path) if not name.startswith(".")]
    return sorted(names) if sort else names


def get_most_similar_str_to_a_from_b(a: str, b: Iterable[str]) -> str | None:
    """The element of `b` nearest to `a` (difflib's ratio; of equals the later), None if empty."""
    best, best_ratio = None, 0.0
    for candidate in b:
        ratio = difflib.SequenceMatcher(None, a, candidate).ratio()
        if ratio >= best_ratio:
            best, best_ratio = candidate, ratio
    return best


def check_availability(requested: str, available: Sequence[str]) -> None:
    """Refuse a name that does not exist.

    Raises:
        RequestError: lists what exists and the most similar name.
    """
    if requested not in available:
        same = (name for name in available if name.lower() == requested.lower())
        nearest = next(same, None) or get_most_similar_str_to_a_from_b(requested, available)
        raise RequestError(
            f"The requested one is expected to belong to {list(available)}, but got "
            f"[{requested}] (do you mean [{nearest}]?)"
        )


def tolist_if_not(x: Any) -> list:
    """`x` itself if it is a list, else a list that holds it."""
    return x if isinstance(x, list) else [x]
