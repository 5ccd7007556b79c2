"""Claims on run folders: two sweeps on one output folder never do a run twice.

A claim is a file with its owner's token, machine and processes. It is made by an exclusive link,
kept alive by touching it, and taken over, by a rename that only one can win, when its processes
are dead, or, where they cannot be seen from here, when it was not touched for a minute.
"""

import contextlib
import json
import os
import socket
import subprocess
import threading
import uuid
from pathlib import Path
from typing import NamedTuple

from dassl.errors import RequestError

__all__ = ["Claim", "UnreadableClaim"]

FILE = ".claim"
HEARTBEAT_S, STALE_S = 5.0, 60.0
PROC = Path("/proc")


class UnreadableClaim(RequestError):
    """A claim file holds something other than a claim; the message says what to do."""


class Owner(NamedTuple):
    """Who holds a claim."""

    token: str
    machine: str  # boot and pid namespace, within which a pid means something; empty: unknown
    pids: dict[int, str]  # with their start times


class Claim:
    """Use as `with Claim(folder) as claim: if claim.is_mine: ...`.

    Raises:
        UnreadableClaim: the folder's claim file does not hold a claim.
        OSError: the folder cannot be made or written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.token = uuid.uuid4().hex
        self.is_mine = False
        self.is_lost = False  # after it was mine, to another sweep
        self._pids = [os.getpid()]
        self._process: subprocess.Popen | None = None
        self._done = threading.Event()

    def __enter__(self) -> "Claim":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.is_mine = self._create() or (self._take_over() and self._create())
        if self.is_mine:
            threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        # A claim that cannot be removed now is stale in a minute; the run's outcome stands.
        with contextlib.suppress(OSError, UnreadableClaim):
            if self._is_held():
                self.path.unlink()

    def add_process(self, process: subprocess.Popen) -> None:
        """Add the run's own process: the claim lives while it does, and it dies if that is lost."""
        self._process = process
        self._pids = [os.getpid(), process.pid]
        if self._is_held():
            os.replace(self._write(), self.path)

    def _write(self) -> Path:
        """The claim's content, whole and on the disk, under a name of its own."""
        partial = self.path.with_name(f"{FILE}.{self.token}")
        started = {str(pid): _start_time(pid) or "" for pid in self._pids}
        content = {"host": socket.gethostname(), "machine": _machine()}
        try:
            with open(partial, "w") as file:
                json.dump(content | {"token": self.token, "pids": started}, file)
                file.flush()
                os.fsync(file.fileno())  # else a power cut leaves an empty file
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        return partial

    def _create(self) -> bool:
        """Make the file with its content in it, if there is none."""
        partial = self._write()
        try:
            # A link fails where the name is taken, also over NFS, and nobody reads half a claim.
            os.link(partial, self.path)
        except FileExistsError:
            return False
        finally:
            partial.unlink()
        return True

    def _is_held(self) -> bool:
        owner = _read(self.path)
        return owner is not None and owner.token == self.token

    def _take_over(self) -> bool:
        """Remove a dead owner's claim; False if the owner lives, or another sweep was faster."""
        owner = _read(self.path)
        if owner is not None and self._is_alive(owner):
            return False
        grave = self.path.with_name(f"{FILE}.{self.token}.dead")
        try:
            # Of several who found the same dead owner, one succeeds here.
            os.rename(self.path, grave)
        except FileNotFoundError:
            return True
        try:
            if _read(grave) == owner:
                return True
            # Somebody new came between reading and renaming: give it back.
            with contextlib.suppress(FileExistsError):
                os.link(grave, self.path)
            return False
        finally:
            grave.unlink()

    def _is_alive(self, owner: Owner) -> bool:
        # Containers share a host's name, and may share its kernel, but not their process numbers.
        if owner.machine and owner.machine == _machine():
            signs = [_is_running(pid, start) for pid, start in owner.pids.items()]
            if True in signs:
                return True
            if None not in signs:
                return False
        return self._age() < STALE_S

    def _age(self) -> float:
        """Seconds since the last heartbeat, by the file system's clock instead of two machines'."""
        probe = self.path.with_name(f"{FILE}.{self.token}.now")
        probe.touch()
        try:
            # A heartbeat in the future, from a clock since mended, is as old as one in the past.
            return abs(probe.stat().st_mtime - self.path.stat().st_mtime)
        except FileNotFoundError:  # released while we looked
            return STALE_S
        finally:
            probe.unlink()

    def _beat(self) -> None:
        while not self._done.wait(HEARTBEAT_S):
            try:
                owner = _read(self.path)
                # Never touch what another has made there: it would look alive.
                if owner is not None and owner.token == self.token:
                    os.utime(self.path)
            except (OSError, UnreadableClaim):
                continue  # a full disk or a lost mount may come back before others take over
            if owner is not None and owner.token != self.token and not self._done.is_set():
                self._lose()
                return

    def _lose(self) -> None:
        """Another sweep has taken the run, as when this one was suspended: leave it the folder."""
        self.is_lost = True
        if self._process is not None:
            self._process.kill()


def _read(path: Path) -> Owner | None:
    """The owner of a claim file; None if there is no file."""
    try:
        content = json.loads(path.read_bytes())
        pids = {int(pid): str(start) for pid, start in content["pids"].items()}
        if not all(0 < pid < 2**31 for pid in pids):
            raise RequestError(f"process numbers {sorted(pids)}")
        return Owner(str(content["token"]), str(content.get("machine", "")), pids)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableClaim(
            f"{path} is not a sweep's claim; remove it if no other sweep is working there"
        ) from error


def _machine() -> str:
    """Boot and pid namespace: where both are equal, a pid is the same process; empty if unknown."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink(PROC / 'self/ns/pid')}"
    except OSError:
        return ""


def _is_running(pid: int, start: str) -> bool | None:
    """Whether a process of this machine lives; None: something has its pid, but cannot be seen."""
    seen = _start_time(pid)
    if seen is not None and start:
        return seen == start
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is another user's, and /proc may be mounted with hidepid
    return None


def _start_time(pid: int) -> str | None:
    """When a process started, in clock ticks: pids are reused, start times tell them apart.

    Empty if the process is a zombie; None if it cannot be seen.
    """
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return "" if fields[0] in "ZX" else fields[19]
