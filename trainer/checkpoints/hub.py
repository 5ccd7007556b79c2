"""Checkpoints on the Hugging Face hub: hf:USER/REPO[@REVISION] -> a file in the hub's own cache.

Taken are .safetensors of `export` at the top, or the checkpoints of a run under their published
names. What is in the cache is used if the hub cannot be reached, or HF_HUB_OFFLINE is set.
"""

import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dassl.errors import RequestError

__all__ = ["PREFIX", "fetch"]

PREFIX = "hf:"
_NAME = re.compile(r"hf:([\w.-]+/[\w.-]+)(?:@([\w.][\w./-]*))?")
_MAIN = "main"
_TIMEOUT_S = 10.0  # without an answer


@functools.cache  # a command asks several times, of what should be one version
def fetch(name: str, epoch: int | None = None) -> Path:
    """The checkpoint of `epoch`, else the exported file, else the best checkpoint, else the last.

    Raises:
        RequestError: `name` is none, or the repository holds several runs.
        FileNotFoundError: the repository or the file is not there, or the hub cannot be reached.
    """
    repository, revision = _parse(name)
    hub = _package()
    api = hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        # one request without the client's minute of retries, should nobody answer
        siblings = api.model_info(repository, revision=revision, timeout=_TIMEOUT_S).siblings
    except Exception as error:  # the client raises a dozen kinds
        _check_answer(error, name)
        cached = _cached(repository, revision)
        if not cached:
            raise _unreachable(name, error) from error
        return cached[_choose(name, list(cached), epoch)]
    chosen = _choose(name, [file.rfilename for file in siblings or ()], epoch)
    try:
        return Path(api.hf_hub_download(repository, chosen, revision=revision))
    except Exception as error:
        _check_answer(error, name)
        raise _unreachable(name, error) from error


def _parse(name: str) -> tuple[str, str]:
    if not (match := _NAME.fullmatch(name)):
        raise RequestError(f"{name!r} is no repository; give hf:USER/REPO or hf:USER/REPO@REVISION")
    return match[1], match[2] or _MAIN


def _package() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise RequestError(
            f"{PREFIX} names need the package huggingface_hub, which is not installed: "
            "pip install huggingface_hub"
        ) from error
    return huggingface_hub


def _check_answer(error: Exception, name: str) -> None:
    """That the hub itself has not said no, by a status from 400 to 499."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if 400 <= status < 500:
        raise FileNotFoundError(
            f"The hub does not give {name!r} (status {status}): check user, repository and "
            "revision; for a private one, log in by 'hf auth login'"
        ) from error
    if isinstance(error, ValueError):  # of names that no repository may have
        raise RequestError(f"{name!r} is no repository: {str(error).splitlines()[0]}") from error


def _unreachable(name: str, error: Exception) -> FileNotFoundError:
    return FileNotFoundError(
        f"Cannot download {name!r} ({type(error).__name__}), and it is not in the cache; set "
        "HF_ENDPOINT for a mirror, or give the path of a file"
    )


def _cached(repository: str, revision: str) -> dict[str, Path]:
    """The files of a revision that were downloaded before, by their names in the repository."""
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        known = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return {}
    for repo in known:
        for version in repo.revisions if repo.repo_id == repository else ():
            if revision in version.refs or version.commit_hash.startswith(revision):
                paths = [file.file_path for file in version.files]
                return {p.relative_to(version.snapshot_path).as_posix(): p for p in paths}
    return {}


def _choose(name: str, files: Sequence[str], epoch: int | None) -> str:
    """One of the repository's files."""
    numbered = {
        f: int(m[1]) for f in files if (m := re.search(r"(?:^|/)model\.pth\.tar-(\d+)$", f))
    }
    if epoch is not None:
        return _only(name, [f for f in numbered if numbered[f] == epoch], f"model.pth.tar-{epoch}")
    exported = [f for f in files if f.endswith(".safetensors") and "/" not in f]
    best = [f for f in files if re.search(r"(?:^|/)model-best\.pth\.tar$", f)]
    last = [f for f in numbered if numbered[f] == max(numbered.values())]
    return _only(name, exported or best or last, "a .safetensors file, model-best.pth.tar")


def _only(name: str, found: Sequence[str], wanted: str) -> str:
    if not found:
        raise FileNotFoundError(f"{name!r} has no checkpoint of this project: {wanted}")
    if len(found) > 1:
        raise RequestError(
            f"{name!r} holds {len(found)} checkpoints ({', '.join(sorted(found)[:3])}); download "
            "one of them, and give its path"
        )
    return found[0]
