"""train.py in a child of this process, ended at an exact moment: a write half done, say."""

import contextlib
import errno
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import dassl.utils
import datasets  # noqa: F401
import train
from clip import tokenize
from dassl.utils import load_checkpoint
from run_files import RESULTS_FILE, RunResults
from trainer.checkpoints.identity import _code_version
from trainer.engine import RepresentationTrainer

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
# Of results.json: how a run went, not what it found. The digest covers them.
_CIRCUMSTANCES = ("seconds", "images_per_second", "run_seconds", "peak_memory_mib")


def kill() -> None:
    """kill -9."""
    os.kill(os.getpid(), signal.SIGKILL)


def refuse() -> None:
    """As a disk that is full."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Moments:
    """Counts what passes in this process and its folder; at number `fatal` comes the `end`."""

    def __init__(
        self, folder: Path, record: Path, fatal: int | None, end: Callable[[], None]
    ) -> None:
        self.folder, self.fatal, self.end = str(folder), fatal, end
        self.passed = 0
        self._process = os.getpid()
        # A line a moment, there before the process may end.
        self._record = open(record, "w", buffering=1)

    def reach(self, name: str, last_act: Callable[[], Any] = lambda: None) -> None:
        """A moment: where it is the fatal one, `last_act` is all that is still done."""
        if os.getpid() != self._process:
            return  # a loader's process
        self.passed += 1
        self._record.write(f"{name}\n")
        if self.passed == self.fatal:
            last_act()
            self.end()

    def watch(self, owner: Any, name: str) -> None:
        """Make the starts and ends of a function's calls moments."""
        function = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            if name == "unlink" and not os.fspath(args[0]).startswith(self.folder):
                return function(*args, **kwargs)
            self.reach(f"before {name}")
            result = function(*args, **kwargs)
            self.reach(f"after {name}")
            return result

        setattr(owner, name, watched)

    def watch_fsync(self) -> None:
        """As `watch`; amid it, half of the file's bytes are on the disk."""
        function = os.fsync

        def watched(number: int) -> None:
            is_folder = os.path.isdir(f"/proc/self/fd/{number}")
            self.reach("before fsync")
            if not is_folder:
                half = os.fstat(number).st_size // 2
                self.reach("amid fsync", lambda: os.ftruncate(number, half))
            function(number)
            self.reach("after fsync")

        os.fsync = watched


def run(
    arguments: list[str],
    folder: Path,
    fatal: int | None = None,
    end: Callable[[], None] = kill,
) -> tuple[int, list[str]]:
    """(exit code or minus the signal, the moments that passed) of train.py on its output folder.

    What it prints is in `console(folder)`.
    """
    record = folder.with_suffix(".moments")
    # Once for all children: what is slow, and git's word, which a commit meanwhile would change.
    with contextlib.suppress(ImportError):
        import torch.utils.tensorboard  # noqa: F401
    tokenize("")
    _code_version()
    child = os.fork()
    if not child:
        _run_and_end(arguments, Moments(folder, record, fatal, end))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), record.read_text().splitlines()


def console(folder: Path) -> Path:
    """Where the newest run on this folder has printed to."""
    return folder.with_suffix(".console")


def _run_and_end(arguments: list[str], moments: Moments) -> None:
    code = 99
    try:
        printed = os.open(console(Path(moments.folder)), _NEW_FILE)
        for stream in (1, 2):
            os.dup2(printed, stream)
        sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
        for owner, name in (
            (os, "replace"), (os, "unlink"), (torch, "save"), (RepresentationTrainer, "test"),
        ):  # fmt: skip
            moments.watch(owner, name)
        moments.watch_fsync()
        dassl.utils.collect_env_info = str  # asks a dozen programs
        code = train.main(arguments)
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(code)  # this is a copy of the tests: nothing of theirs may go on here


def outcome(folder: Path) -> dict[str, Any]:
    """All that a run has left, without what says how it went: content by relative path."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or name.startswith(("log.txt", "tensorboard")):
            continue
        if path.name == RESULTS_FILE:
            values = RunResults.read(folder).values
            found[name] = {k: v for k, v in values.items() if k not in _CIRCUMSTANCES}
            found[name]["identity"].pop("digest")
        elif "model" in path.name or path.name == "resume.pt":
            # of every parameter, the optimizer and all random states
            found[name] = load_checkpoint(str(path))["identity"]["digest"]
        else:
            found[name] = path.read_bytes()
    return found


def clear(folder: Path) -> None:
    """Make room for the next run: its path is part of what a run writes."""
    shutil.rmtree(folder, ignore_errors=True)
