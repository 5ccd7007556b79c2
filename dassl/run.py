"""Run a script of another repository, such as CoOp's, on this dassl.

    python -m dassl.run PATH/TO/REPOSITORY train.py --root /data --trainer CoOp ...
    python THIS_PROJECT/dassl/run.py PATH/TO/REPOSITORY train.py ...

The first form is for this project's folder, the second for any. The script runs as after `cd
PATH/TO/REPOSITORY`, by which it finds its config files: give other paths in full. Its own packages
come first; of this project `dassl` alone can be imported, in loader processes and in programs that
the script starts too. The exit code is the script's.
"""

import argparse
import os
import runpy
import sys
from collections.abc import Iterable
from pathlib import Path

_DASSL = Path(__file__).resolve().parent
ONLY = _DASSL / "only"
_OURS = (_DASSL, _DASSL.parent, ONLY)
_IS_MODULE = bool(__package__)  # else it was called by its path, and `dassl` is yet to be found
if not _IS_MODULE:
    sys.path.insert(0, str(ONLY))

from dassl.errors import RequestError, in_one_sentence  # noqa: E402

__all__ = ["ONLY", "find_script", "prepare"]


def build_parser() -> argparse.ArgumentParser:
    """The parser of the first two words; all that follows is the script's."""
    parser = argparse.ArgumentParser(
        prog="dassl.run",
        usage="python -m dassl.run REPOSITORY SCRIPT [ARGUMENT ...]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("repository", type=Path, metavar="REPOSITORY", help="its folder")
    parser.add_argument("script", metavar="SCRIPT", help="such as train.py, from that folder")
    return parser


def find_script(repository: Path, name: str) -> Path:
    """The full path of a repository's script.

    Raises:
        FileNotFoundError: there is no such folder, or no such script in it.
        RequestError: the repository has a dassl of its own.
    """
    if not repository.is_dir():
        raise FileNotFoundError(f"No repository at {str(repository)!r}: give the folder of {name}")
    repository = repository.resolve()
    script = repository / name
    if not script.is_file():
        found = ", ".join(sorted(path.name for path in repository.glob("*.py"))) or "none"
        raise FileNotFoundError(f"No script {name!r} in {repository}; those at its top: {found}")
    for folder in (script.parent, repository):
        _check_has_no_dassl(folder)
    return script


def _check_has_no_dassl(folder: Path) -> None:
    for other in (folder / "dassl", folder / "dassl.py"):
        if other.exists() and not other.samefile(_DASSL):
            raise RequestError(
                f"{other} is a dassl of the repository's own, which could mix with this one: "
                "rename it, or run the script without dassl.run"
            )


def _without_ours(entries: Iterable[str]) -> list[str]:
    return [entry for entry in entries if entry and Path(entry).resolve() not in _OURS]


def _search(repository: Path, script: Path) -> None:
    """Let modules be looked for in the repository, then, for `dassl` alone, here."""
    # Python has put the current folder first, where it was asked for a module.
    has_current = _IS_MODULE and not getattr(sys.flags, "safe_path", False)
    others = _without_ours(sys.path[1:] if has_current else sys.path)
    own = dict.fromkeys([str(script.parent), str(repository)])
    # Loader processes that are spawned get this list; programs that the script starts, the other.
    sys.path[:] = [*own, str(ONLY), *others]
    inherited = _without_ours(os.environ.get("PYTHONPATH", "").split(os.pathsep))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ONLY), *inherited])


@in_one_sentence
def prepare(words: list[str]) -> int:
    """Arrange everything as the script expects it: folder, arguments, modules; 0 if that went well.

    What the script itself raises is not ours to explain, so it is run outside of this.
    """
    args = build_parser().parse_args(words[:2])
    script = find_script(args.repository, args.script)
    repository = args.repository.resolve()
    _search(repository, script)
    os.chdir(repository)
    sys.argv = [str(script), *words[2:]]
    return 0


if __name__ == "__main__":
    if code := prepare(sys.argv[1:]):
        raise SystemExit(code)
    runpy.run_path(sys.argv[0], run_name="__main__")
