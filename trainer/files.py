"""Write text files so that they are whole, or do not exist."""

import os
from pathlib import Path

__all__ = ["write_atomically"]


def write_atomically(text: str, path: Path) -> None:
    """Write under another name, flush to the disk, rename: the file is whole or does not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with open(partial, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
