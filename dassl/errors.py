"""Errors as people read them: what a request got wrong, and "FILE: what is wrong, what to do".

The standard library alone: every package, and every program before torch is there, may use it.
"""

import contextlib
import errno
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec

__all__ = ["explain", "in_one_sentence", "naming", "read_text"]

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
