"""Choose the Python that a sweep calls train.py with, and find one that has PyTorch.

The order is: `$PYTHON`; `python` on PATH, if an environment is active or it is not the system's;
the repository's `.venv`; the Python that is running. No candidate is ever called to find out what
it is: a wrapper that somebody put in its place sees the runs and nothing else.

This file keeps to the syntax of Python 3.6, since an old Python must be able to read it.
"""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

__all__ = [
    "REPOSITORY",
    "complaint",
    "hand_over",
    "python_for_runs",
    "require_torch",
    "runs_have_this_python",
]

REPOSITORY = Path(__file__).resolve().parent
OWN_PYTHON = REPOSITORY / ".venv" / "bin" / "python"
SYSTEM_FOLDERS = ("/usr/bin", "/bin", "/usr/local/bin")
NEEDED = ("torch", "torchvision", "yacs")
MIN_VERSION = (3, 10)
MARK = "MMRL_HANDED_OVER_BY"


def python_for_runs() -> str:
    """The Python to call train.py with, as a path or the name that `$PYTHON` gives."""
    if os.environ.get("PYTHON"):
        return os.environ["PYTHON"]
    found = shutil.which("python")
    if found and (_is_environment_active() or not _is_system(found)):
        return os.path.abspath(found)
    return str(OWN_PYTHON) if os.access(str(OWN_PYTHON), os.X_OK) else sys.executable


def runs_have_this_python() -> bool:
    """Whether runs are called with the Python that is running, in the same environment."""
    found = shutil.which(python_for_runs())
    if not found:
        return False
    # Two environments may link to one program, and a wrapper may stand in this one's folder.
    is_same = os.path.realpath(found) == os.path.realpath(sys.executable)
    return is_same and _is_this_prefix(Path(os.path.abspath(found)).parent.parent)


def hand_over() -> None:
    """Start the program again in a Python with PyTorch, if this one has none and another is known.

    Returns if this Python will do, or if no better one is known.
    """
    came_from_another = os.environ.pop(MARK, None)  # no second time: two could send in circles
    better = "" if came_from_another else _python_with_torch()
    if not _lacks() or not better:
        return
    print(f"note: {_lacks()}; going on with {better}", file=sys.stderr, flush=True)
    os.environ[MARK] = sys.executable
    os.execv(better, [better, *sys.argv])


def require_torch() -> None:
    """Continue only in a Python with PyTorch: hand over, or say what to do and exit with code 2."""
    hand_over()
    if complaint():
        print(f"error: {complaint()}", file=sys.stderr)
        sys.exit(2)


def complaint() -> str:
    """Why this Python cannot train or resolve a config, and what to do; empty if it can."""
    advice = "run `source .venv/bin/activate` if `make demo` has made .venv, else `make demo`"
    return f"{_lacks()}: {advice}" if _lacks() else ""


def _is_environment_active() -> bool:
    return bool(os.environ.get("VIRTUAL_ENV") or os.environ.get("CONDA_PREFIX"))


def _is_system(python: str) -> bool:
    # The folder counts, not what a link leads to: a venv's python may be a link into /usr/bin.
    folder = os.path.dirname(os.path.abspath(python))
    # pyenv, asdf and mise stand one `shims/python` before all versions, whatever these have.
    return folder in SYSTEM_FOLDERS or os.path.basename(folder) == "shims"


def _lacks() -> str:
    """Why this Python cannot run the project; empty if it can."""
    if sys.version_info < MIN_VERSION:
        return f"{sys.executable} is Python {sys.version.split()[0]}, and 3.10 or newer is needed"
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    return f"{missing[0]} is not installed for {sys.executable}" if missing else ""


def _python_with_torch() -> str:
    """The first Python in the order above with PyTorch among its files; empty if there is none."""
    for name in (os.environ.get("PYTHON"), "python", str(OWN_PYTHON)):
        python = shutil.which(name) if name else None
        if python and _has_torch(Path(os.path.abspath(python)).parent.parent):
            return os.path.abspath(python)
    return ""


def _has_torch(prefix: Path) -> bool:
    # The prefix that runs already is left out: to start it again would change nothing.
    if _is_this_prefix(prefix):
        return False
    folders = prefix.glob("lib/python3.[1-9][0-9]*/site-packages")  # of 3.10 and newer
    return any(all((folder / name).is_dir() for name in NEEDED) for folder in folders)


def _is_this_prefix(prefix: Path) -> bool:
    return os.path.realpath(str(prefix)) == os.path.realpath(sys.prefix)
