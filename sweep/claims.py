"""Claims on run folders: two schedulers on one output folder never do a run twice.

A claim is a file with its owner's host, processes and token. It is made by an exclusive create,
kept alive by touching it, and taken over, by a rename that only one can win, when its processes
are dead, or on another host when it was not touched for a minute.
"""

import json
import os
import socket
import threading
import time
import uuid
from pathlib import Path

__all__ = ["Claim"]

FILE = ".claim"
HEARTBEAT_S, STALE_S = 5.0, 60.0


class Claim:
    """Use as `with Claim(folder) as claim: if claim.is_mine: ...`."""

    def __init__(self, folder: str) -> None:
        self.path = Path(folder, FILE)
        self.token = uuid.uuid4().hex
        self.is_mine = False
        self.pids = [os.getpid()]
        self._done = threading.Event()

    def __enter__(self) -> "Claim":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.is_mine = self._create() or (self._take_over() and self._create())
        if self.is_mine:
            threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        if self.is_mine:
            self.path.unlink(missing_ok=True)

    def add_process(self, pid: int) -> None:
        """The run's own process: the claim is alive while it lives."""
        self.pids.append(pid)
        partial = self.path.with_name(f"{FILE}.{self.token}")
        partial.write_text(self._text())
        os.replace(partial, self.path)

    def _text(self) -> str:
        started = {str(pid): _start_time(pid) for pid in self.pids}
        return json.dumps({"host": socket.gethostname(), "token": self.token, "pids": started})

    def _create(self) -> bool:
        """Make the file with its content in it, if there is none."""
        partial = self.path.with_name(f"{FILE}.{self.token}")
        partial.write_text(self._text())
        try:
            os.link(partial, self.path)
        except FileExistsError:
            return False
        finally:
            partial.unlink()
        return True

    def _take_over(self) -> bool:
        """Remove a dead owner's claim; False if it lives, or another was faster."""
        owner = _read(self.path)
        if owner is not None and _is_alive(owner, self.path):
            return False
        grave = self.path.with_name(f"{FILE}.{self.token}.dead")
        try:
            os.rename(self.path, grave)
        except FileNotFoundError:
            return True
        buried = _read(grave)
        if owner is not None and buried is not None and buried["token"] != owner["token"]:
            os.link(grave, self.path)  # somebody new had come between; give it back
            grave.unlink()
            return False
        grave.unlink()
        return True

    def _beat(self) -> None:
        while not self._done.wait(HEARTBEAT_S):
            if self.path.exists():
                os.utime(self.path)


def _read(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


def _is_alive(owner: dict, path: Path) -> bool:
    if owner["host"] == socket.gethostname():
        return any(_start_time(int(pid)) == start for pid, start in owner["pids"].items() if start)
    try:
        return time.time() - path.stat().st_mtime < STALE_S
    except FileNotFoundError:
        return False


def _start_time(pid: int) -> str:
    """When a process started, in clock ticks, since pids are given again; empty: it is dead."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] == "Z" else fields[19]
