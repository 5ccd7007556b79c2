"""One command at a time in a run's folder: a lock that ends with its process, however it ends."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from dassl.errors import RequestError, naming

__all__ = ["LOCK_FILE", "alone_in"]

LOCK_FILE = ".lock"


@contextlib.contextmanager
def alone_in(directory: str) -> Iterator[None]:
    """Keep other commands out of the folder, which is made, for as long as the context lasts.

    Where the system or the disk has no locks, nothing is kept out.

    Raises:
        RequestError: another command works in the folder.
    """
    path = Path(directory or ".", LOCK_FILE)
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with naming(path):
        file = open(path, "ab")
    with file:
        if not _lock(file.fileno()):
            raise RequestError(
                f"{path.parent} is in use by another command; wait for its end, or use another "
                f"--output-dir. If none runs, on no machine, remove {path}."
            )
        yield


def _lock(descriptor: int) -> bool:
    """Whether the file is now this process's, or cannot be locked at all."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        # Not flock: processes of the loader would inherit that, and outlive a killed command.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # a network disk without locks
        return True
    return True
