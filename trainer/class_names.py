"""Class names as CLIP reads them, and lists of them as people give them."""

import re
from collections.abc import Sequence
from pathlib import Path

from dassl.errors import RequestError, read_text

__all__ = ["are_among", "as_read", "read_classes"]


def as_read(classname: str) -> str:
    """A class name as CLIP reads it: without case, underscores and doubled blanks."""
    return " ".join(classname.replace("_", " ").lower().split())


def are_among(classnames: Sequence[str], others: Sequence[str]) -> list[bool]:
    """Of each class name, whether it gives the prompt that one of `others` gives."""
    known = set(map(as_read, others))  # in one template, names alike are prompts alike
    return [as_read(name) in known for name in classnames]


def read_classes(text: str | None, option: str = "--classes") -> list[str] | None:
    """Class names from a comma-separated list or a file's lines; None means those of the run.

    Raises:
        FileNotFoundError: `text` looks like a file that is not there.
        RequestError: no name is left, or two give the same prompt.
    """
    if text is None:
        return None
    if Path(text).is_file():
        words = read_text(Path(text)).split("\n")
    elif "," not in text and re.search(r"^[.~/]|\.\w{1,5}$", text):
        raise FileNotFoundError(f"No file of class names at {text!r} ({option})")
    else:
        words = text.split(",")
    names = [word.strip() for word in words if word.strip()]
    if not names:
        raise RequestError(f"{option} {text!r} names no class; leave it out for the run's classes")
    check_distinct(names, option)
    return names


def check_distinct(names: list[str], option: str) -> None:
    """Refuse names that CLIP cannot tell apart: their probabilities would be halved.

    Raises:
        RequestError: quotes two of them.
    """
    seen: dict[str, str] = {}
    for name in names:
        if (twin := seen.setdefault(as_read(name), name)) is not name:
            raise RequestError(f"{option} has {twin!r} and {name!r}, which CLIP reads alike")
