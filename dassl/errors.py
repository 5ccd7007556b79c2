"""Errors as people read them: what a request got wrong, and "FILE: what is wrong, what to do".

The standard library alone: every package, and every program before torch is there, may use it.
"""

import contextlib
import errno
import functools
import json
import reprlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec

__all__ = [
    "RequestError",
    "explain",
    "in_one_sentence",
    "is_text",
    "naming",
    "parse_json",
    "quote",
    "read_text",
]

P = ParamSpec("P")
_REMEDIES = {
    errno.ENOSPC: "the disk is full; make room, then run the same command again",
    errno.EDQUOT: "your disk quota is used up; make room, then run the same command again",
    errno.EFBIG: "a file may not be that large here; raise the limit with 'ulimit -f unlimited'",
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.EACCES: "permission denied; choose another place, or change its permissions",
    errno.EPERM: "permission denied; choose another place, or change its permissions",
    errno.ENOTDIR: "a file is where a folder is needed; choose another folder",
    errno.EEXIST: "a file is where a folder is needed; choose another folder",
    errno.EISDIR: "it is a folder, and a file is needed",
    errno.ENOENT: "there is no such file or folder",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.EMFILE: "too many files are open; raise the limit with 'ulimit -n 4096'",
    errno.ELOOP: "the links lead round in a circle; remove them",
}
# What the machine lacks, rather than what the request got wrong.
_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE)
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_QUOTED_CHARACTERS = 300
_REPR = reprlib.Repr()
_REPR.maxlevel = 3
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = _QUOTED_CHARACTERS


class RequestError(ValueError):
    """Something that the user asked for, or a file given, is wrong; its message is one sentence.

    Programs catch this and file errors alone: a traceback is left to what only a bug can raise.
    """


def explain(error: OSError | RequestError) -> str:
    """One sentence; errors raised with a sentence of their own keep it."""
    if not isinstance(error, OSError) or error.errno is None:
        return str(error).strip().splitlines()[-1]  # a loader process puts its traceback before
    reason = _REMEDIES.get(error.errno, error.strerror or "cannot be used")
    # A file that is renamed is our own partial one: what the user knows is where it goes.
    name = error.filename2 or error.filename
    return f"{name}: {reason}" if name else reason


def in_one_sentence(main: Callable[P, int]) -> Callable[P, int]:
    """Make a program answer wrong requests and file errors with a sentence.

    Its exit code is then 1 if the machine was at fault, such as a full disk, and else 2.
    """

    @functools.wraps(main)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            return main(*args, **kwargs)
        except BrokenPipeError:
            raise  # whoever reads our output has gone; that is no file of ours
        except (OSError, RequestError) as error:
            print(f"error: {explain(error)}", file=sys.stderr)
            return 1 if getattr(error, "errno", None) in _MACHINE else 2

    return guarded


@contextlib.contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Let file errors name `path`, rather than the partial file behind it or nothing at all."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, with or without a byte order mark; line ends become newlines.

    Raises:
        RequestError: it is in another encoding; with the line.
    """
    stored = path.read_bytes()
    if stored.startswith(_UTF16):
        raise RequestError(f"{str(path)!r} is UTF-16 text; save it as UTF-8")
    try:
        text = stored.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = stored.count(b"\n", 0, error.start) + 1
        raise RequestError(
            f"{str(path)!r}, line {line}: this is not UTF-8 text; save the file as UTF-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise RequestError(f"{str(path)!r}, line {line}: a zero byte; this is not a text file")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parse_json(text: str) -> Any:
    """The value that JSON text holds.

    Raises:
        ValueError: it is not JSON, or an object has a key twice.
        RecursionError: it is nested too deep.
    """
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {quote(twice)} is there twice")
    return found


def is_text(text: str) -> bool:
    """Whether it can be written to a file as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def quote(value: Any) -> str:
    """A value from a file, for a message: cut short, since it may be of any size."""
    return _REPR.repr(value)[:_QUOTED_CHARACTERS]
