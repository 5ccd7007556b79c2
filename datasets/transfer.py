"""One file over HTTP: URL -> a file that is whole. Resumes where the server's file is the same."""

import os
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dassl.errors import naming
from dassl.whole_files import put_in_place

__all__ = ["TIMEOUT_S", "transfer"]

TIMEOUT_S = 60.0  # without a byte; then the server is silent, and the command can be run again
_CHUNK = 1 << 20
_NOT_SATISFIABLE = 416


def transfer(url: str, path: Path) -> None:
    """Download `url`; `path` appears when all of it is there.

    Meanwhile `.NAME.part` holds the bytes, and `.NAME.part-of` which version they are of.

    Raises:
        ConnectionError: the server cannot be reached, is silent, refuses, or stops before the end.
        OSError: the disk refuses.
    """
    part = path.with_name(f".{path.name}.part")
    version = path.with_name(f".{path.name}.part-of")
    try:
        with _open(url, part, version) as response, naming(path):
            _receive(response, part, version)
    except (urllib.error.URLError, HTTPException, TimeoutError) as error:
        raise ConnectionError(f"{type(error).__name__}: {error}") from error
    with naming(path):
        put_in_place(part, path)
    version.unlink(missing_ok=True)


def _open(url: str, part: Path, version: Path) -> Any:
    """The server's answer: the rest of a file that has not changed, else all of it."""
    headers = {"User-Agent": "Mozilla/5.0"}  # some servers refuse Python's own
    if part.is_file() and version.is_file() and part.stat().st_size:
        headers |= {"Range": f"bytes={part.stat().st_size}-", "If-Range": version.read_text()}
    try:
        return urllib.request.urlopen(urllib.request.Request(url, None, headers), None, TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != _NOT_SATISFIABLE:
            raise
        # Nothing is left to send: the part is whole already, or longer than the file.
        part.unlink()
        return _open(url, part, version)


def _receive(response: Any, part: Path, version: Path) -> None:
    is_rest = response.status == 206
    start = part.stat().st_size if is_rest else 0
    length = response.headers.get("Content-Length")
    total = start + int(length) if length else None
    tag = response.headers.get("ETag", "")
    # A weak tag may stand for other bytes.
    tag = response.headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag
    version.write_text(tag) if tag else version.unlink(missing_ok=True)
    with (
        open(part, "ab" if is_rest else "wb") as file,
        tqdm(total=total, initial=start, unit="B", unit_scale=True) as progress,
    ):
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            progress.update(len(chunk))
        file.flush()
        os.fsync(file.fileno())
    if total is not None and part.stat().st_size != total:
        raise ConnectionError(f"{part.stat().st_size:,} of {total:,} bytes came")
