"""Command lines: a parser that answers in one line, and numbers that know their range.

The standard library alone: a sweep reads its options with a Python that may have no PyTorch.
"""

import argparse
import math
import os
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

__all__ = [
    "MAX_NUMBER",
    "Parser",
    "add_module_options",
    "fraction",
    "minutes",
    "module_words",
    "whole_number",
    "whole_numbers",
]

MAX_NUMBER = 2**32 - 1  # the largest seed
_DIGITS = len(str(MAX_NUMBER))
_MAX_SENTENCE = 500
_YEAR_MINUTES = 366 * 24 * 60


class Parser(argparse.ArgumentParser):
    """Shows the module's docstring as it is, and answers a mistake in one line."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and exit with code 2."""
        sentence = " ".join(message.removeprefix("argument ").split())
        self.exit(2, f"error: {sentence[:_MAX_SENTENCE]} (--help lists the options)\n")


def add_module_options(parser: argparse._ActionsContainer, *kinds: str) -> None:
    """Add --trainer-module and --dataset-module, or those of `kinds`; all may be given again."""
    registers = {"trainer": "a trainer", "dataset": "a data set"}
    for kind in kinds or registers:
        parser.add_argument(
            f"--{kind}-module",
            action="append",
            type=_absolute,
            default=[],
            metavar="FILE.py",
            help=f"file of your own that registers {registers[kind]}; may be given again",
        )


def module_words(trainer_modules: Iterable[str], dataset_modules: Iterable[str]) -> list[str]:
    """The options of `add_module_options` as words of a command line."""
    words = [("--trainer-module", path) for path in trainer_modules]
    words += [("--dataset-module", path) for path in dataset_modules]
    return [word for pair in words for word in pair]


def _absolute(path: str) -> str:
    # Programs that start others do so from another folder.
    return os.path.abspath(os.path.expanduser(path))


def whole_number(least: int = 0, most: int = MAX_NUMBER) -> Callable[[str], int]:
    """A whole number from `least` to `most`."""

    def read(text: str) -> int:
        number = _decimal(text)
        if number is None or not least <= number <= most:
            raise argparse.ArgumentTypeError(
                f"takes a whole number from {least} to {most}, got {text[:40]!r}"
            )
        return number

    return read


def whole_numbers(least: int = 0, most: int = MAX_NUMBER) -> Callable[[str], list[int]]:
    """Such numbers with commas between them, each once; none for an empty text."""
    read_one = whole_number(least, most)

    def read(text: str) -> list[int]:
        names = [name.strip() for name in text.split(",") if name.strip()]
        return list(dict.fromkeys(map(read_one, names)))

    return read


def minutes(text: str) -> float:
    """Minutes, more than none and up to a year."""
    number = _float(text)
    if not 0 < number <= _YEAR_MINUTES:
        raise argparse.ArgumentTypeError(
            f"takes minutes, more than 0 and up to {_YEAR_MINUTES}, got {text[:40]!r}"
        )
    return number


def fraction(text: str) -> float:
    """A finite number that is not negative."""
    number = _float(text)
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"takes a number, 0 or more, got {text[:40]!r}")
    return number


def _decimal(text: str) -> int | None:
    """None for all but a few ASCII digits, with a minus perhaps."""
    digits = text.strip().removeprefix("-")
    is_plain = digits.isascii() and digits.isdecimal() and len(digits) <= _DIGITS
    return int(text) if is_plain else None


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
