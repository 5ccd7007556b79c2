"""Compare few-shot draws with the published ones: drawn items -> a hash, in published_draws.csv.

The file holds counts and hashes of the lists that github.com/linzhiqiu/cross_modal_adaptation
publishes under indices/ (eleven data sets, 1 to 16 shots, seeds 1 to 3), made from the same split
files by the same rule. A hash is sha256 over a line `LABEL<tab>PATH<newline>` an item, in order,
before base or new classes are chosen; PATH is relative to the data set's folder.
"""

import csv
import hashlib
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from dassl.data.datasets import Datum
from datasets.catalog import CATALOG

__all__ = [
    "PublishedDraw",
    "compare_with_published",
    "draw_sha256",
    "path_below",
    "published_differences",
    "published_draw",
    "published_settings",
]

PUBLISHED_FILE = Path(__file__).with_name("published_draws.csv")
# That project cuts ImageNet's validation shots from its training pictures: another rule.
OTHER_RULE = ("imagenet",)


class PublishedDraw(NamedTuple):
    """One part of a published draw."""

    pictures: int
    sha256: str


def path_below(item: Datum, folder: Path) -> str:
    """The item's path relative to `folder`, with forward slashes."""
    return item.impath.removeprefix(f"{folder}{os.sep}").replace(os.sep, "/")


def draw_sha256(items: Sequence[Datum], folder: Path) -> str:
    """The hash of a drawn list, in order."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(f"{item.label}\t{path_below(item, folder)}\n".encode())
    return digest.hexdigest()


@cache
def _read_published(path: Path) -> dict[tuple[str, int, int], dict[str, PublishedDraw]]:
    draws: dict[tuple[str, int, int], dict[str, PublishedDraw]] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            parts = draws.setdefault((row["dataset"], int(row["shots"]), int(row["seed"])), {})
            parts[row["part"]] = PublishedDraw(int(row["count"]), row["sha256"])
    return draws


def published_settings(name: str) -> list[tuple[int, int]]:
    """(shots, seed) of every published draw to compare with, of the registered data set `name`."""
    config = next((entry.config for entry in CATALOG if entry.name == name), "")
    if config in OTHER_RULE:
        return []
    return [key[1:] for key in _read_published(PUBLISHED_FILE) if key[0] == config]


def published_draw(name: str, num_shots: int, seed: int) -> dict[str, PublishedDraw]:
    """Part (train, val) -> what was published for it; empty where nothing was."""
    if (num_shots, seed) not in published_settings(name):
        return {}
    config = next(entry.config for entry in CATALOG if entry.name == name)
    return _read_published(PUBLISHED_FILE)[config, num_shots, seed]


def published_differences(
    name: str, num_shots: int, seed: int, drawn: dict[str, list[Datum]], folder: Path
) -> list[str]:
    """What of the draw `drawn` (part -> items, all classes) is not as published."""
    differences = []
    for part, want in published_draw(name, num_shots, seed).items():
        if len(drawn[part]) != want.pictures:
            differences.append(f"{part} has {len(drawn[part]):,} pictures, not {want.pictures:,}")
        elif draw_sha256(drawn[part], folder) != want.sha256:
            differences.append(f"{part} has other pictures, labels or another order")
    return differences


def compare_with_published(
    name: str, num_shots: int, seed: int, drawn: dict[str, list[Datum]], folder: Path
) -> str:
    """One sentence on a draw as above; empty where none was published."""
    published = published_draw(name, num_shots, seed)
    if not published:
        return ""
    if differences := published_differences(name, num_shots, seed, drawn, folder):
        return (
            f"The draw differs from the published one: {'; '.join(differences)}. "
            "The lists that it was drawn from are different."
        )
    counts = ", ".join(f"{want.pictures:,} {part}" for part, want in published.items())
    return f"The draw equals the published one ({counts})."
