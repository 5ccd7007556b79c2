"""Outputs that are whole or not there at all: `write_whole(path, write)` is the only writer.

The standard library alone: every package, and every program before torch is there, may use it.
A killed writer leaves its `.partial-*` file behind. It held a lock on it, which the system gave
back with the process, so that whoever writes into the folder next can tell it from one in use.
"""

import contextlib
import errno
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from dassl.errors import RequestError, naming

__all__ = ["check_writable", "put_in_place", "remove_partials", "write_text", "write_whole"]

_PREFIX = ".partial-"
# It renames and removes no file that is open, and opens no folders.
_IS_WINDOWS = os.name == "nt"
_NO_SUCH_CALL = (errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.ENOSYS, errno.EACCES)


def write_whole(path: str | Path, write: Callable[[BinaryIO], Any]) -> None:
    """Let `write` fill a file beside `path`, put it on the disk, then rename it to `path`.

    Missing folders are made. A link stays one, and what it points to is replaced.

    Raises:
        OSError: the disk refuses; names `path`, whatever `write` makes of the refusal.
    """
    target = Path(path)
    if _is_stream(target):
        with open(target, "wb") as stream:
            write(stream)
        return
    target = Path(os.path.realpath(target))
    with naming(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_partials(target.parent)
        partial, file = _open_partial(target.parent)
        try:
            with file:
                _fill(file, write)
                if _IS_WINDOWS:
                    file.close()
                put_in_place(partial, target)  # elsewhere it is still locked
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def write_text(path: str | Path, text: str) -> None:
    """As `write_whole`, of UTF-8 text; its line ends stay as they are."""
    write_whole(path, lambda file: file.write(text.encode()))


def _is_stream(path: Path) -> bool:
    """Whether it is a pipe or a device, such as /dev/stdout, which is written as it comes."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _open_partial(folder: Path) -> tuple[Path, BinaryIO]:
    """A new file of ours alone, locked."""
    while True:
        partial = folder / f"{_PREFIX}{secrets.token_hex(8)}"
        file = open(partial, "xb")
        # Between the two calls, another writer may have taken it for a dead one's.
        if _lock(file) is not False and os.fstat(file.fileno()).st_nlink:
            return partial, file
        file.close()


def _fill(file: BinaryIO, write: Callable[[BinaryIO], Any]) -> None:
    try:
        write(file)
    except Exception as error:
        # torch answers a full disk with an "unexpected pos" of its zip archive.
        if refusal := _refusal_behind(error):
            raise OSError(refusal.errno, refusal.strerror) from error
        raise
    file.flush()
    os.fsync(file.fileno())


def _refusal_behind(error: BaseException | None) -> OSError | None:
    while error is not None and not (isinstance(error, OSError) and error.errno):
        error = error.__cause__ or error.__context__
    return error


def put_in_place(partial: Path, path: Path) -> None:
    """Rename a file that is on the disk, and put the new name there too."""
    os.replace(partial, path)
    if _IS_WINDOWS:
        return
    folder = None
    try:
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
    except OSError as error:
        # Some network disks do not know the call; a folder may be open to writers alone.
        if error.errno not in _NO_SUCH_CALL:
            raise
    finally:
        if folder is not None:
            os.close(folder)


def remove_partials(folder: str | Path) -> None:
    """Remove what killed writers left in `folder`; what is being written stays."""
    for partial in Path(folder).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # gone, or not ours: it is in nobody's way
            if partial.is_file() and not partial.is_symlink():
                _remove_if_dead(partial)


def _remove_if_dead(partial: Path) -> None:
    if _IS_WINDOWS:
        partial.unlink()
        return
    with open(partial, "r+b") as file:  # locks over NFS take a file open for writing
        if _lock(file):
            partial.unlink()


def _lock(file: BinaryIO) -> bool | None:
    """Whether the file is locked by us now, and not by another; None: the disk has no locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def check_writable(path: Path) -> None:
    """That a file can be put at `path`, before any work is done for it.

    Raises:
        RequestError: `path` is a folder.
        OSError: its folder is not there, or nothing can be written into it.
    """
    if path.is_dir():
        raise RequestError(f"{str(path)!r} is a folder; give the name of a file")
    if _is_stream(path):
        return
    with naming(path):
        partial, file = _open_partial(Path(os.path.realpath(path)).parent)
        file.close()
        partial.unlink()
