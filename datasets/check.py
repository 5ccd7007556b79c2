"""Check whether a data set is usable: root, name -> a status, and what to do about it."""

import contextlib
import io
import os
import re
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm
from yacs.config import CfgNode

import datasets
from dassl.data.datasets import DATASET_REGISTRY, Datum
from dassl.errors import RequestError
from dassl.utils import read_image
from dassl.utils.tools import num_cores
from datasets.base import Reader, Split, check_labels, draw_split, shared_names
from datasets.catalog import Entry, find
from datasets.draw_cache import cached_draw, compare_draws
from datasets.draws import published_differences, published_settings

__all__ = ["OWN", "Report", "check_dataset", "check_own", "expected_tree"]

OWN = Entry("folder", "Folder", "", "", "", "", 0, 0, 0, 0, ())  # own pictures: no size is wrong


class Report(NamedTuple):
    """The result of checking one data set."""

    entry: Entry
    status: str  # found, missing, incomplete, wrong counts, unreadable
    sentences: list[str]

    @property
    def is_usable(self) -> bool:
        """Whether training and evaluation can go ahead."""
        return self.status == "found"


def check_dataset(
    root: Path, name: str, deep: bool = False, allow_official: bool = False
) -> Report:
    """Read the lists, look for every file, count; `deep`: decode every picture.

    Raises:
        RequestError: no data set has that name.
    """
    entry = find(name)
    assert datasets  # importing the package registers the readers
    reader = DATASET_REGISTRY.get(entry.name)
    bare = reader.__new__(reader)  # its lists are wanted, not its draw
    bare.name = entry.name
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            folder = Reader.locate(bare, root.expanduser().absolute())
            split = bare.read(folder, allow_official)
    except (FileNotFoundError, RequestError) as error:
        status = "incomplete" if (root / entry.folder).is_dir() else "missing"
        return Report(entry, status, [str(error), *sources(entry)])
    report = _check_split(entry, folder, split, deep)
    if report.status in ("found", "wrong counts"):
        report.sentences.extend(draw_notes(entry, folder, split, reader.draws_val))
    return report


def check_own(root: Path, csv: str = "", names: str = "", deep: bool = False) -> Report:
    """As `check_dataset`, of pictures of one's own, through the reader that training has.

    The sentences say what is ignored, turned, or there twice; `csv` and `names` are DATASET.CSV
    and DATASET.CLASSNAMES.
    """
    cfg = CfgNode({"ROOT": str(root), "CSV": csv, "CLASSNAMES": names, "NUM_SHOTS": -1})
    cfg.update(LABEL="", SUBSAMPLE_CLASSES="all", OFFICIAL_LISTS=False, FEWSHOT_CACHE=False)
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            data = DATASET_REGISTRY.get(OWN.name)(CfgNode({"DATASET": cfg, "SEED": -1}))
    except (FileNotFoundError, RequestError) as error:
        return Report(OWN, "incomplete", [*said.getvalue().splitlines(), str(error)])
    parts = {"training": data.train_x, "validation": data.val or [], "test": data.test}
    counts = ", ".join(f"{len(items)} {part}" for part, items in parts.items())
    notes = [f"{data.num_classes} classes; pictures: {counts}.", *said.getvalue().splitlines()]
    items = [item for part in parts.values() for item in part]
    if deep and (bad := unreadable_files(items)):
        return Report(OWN, "unreadable", [*notes, f"{len(bad)} pictures cannot be read.", *bad[:3]])
    return Report(OWN, "found", notes)


def draw_notes(entry: Entry, folder: Path, split: Split, draws_val: bool) -> list[str]:
    """How our few-shot draws compare with published ones, and with caches in `folder`."""
    with contextlib.redirect_stdout(io.StringIO()):
        notes = _published_notes(entry, folder, split)
        for path in sorted(folder.glob("split_fewshot/shot_*-seed_*.pkl")):
            notes.append(_cache_note(path, folder, split, draws_val))
    if (folder / "preprocessed.pkl").exists():
        notes.append("Note: preprocessed.pkl is never read; the lists are made from the folders.")
    return notes


def _published_notes(entry: Entry, folder: Path, split: Split) -> list[str]:
    settings, wrong = published_settings(entry.name), []
    for shots, seed in settings:
        drawn = draw_split(split, shots, seed)._asdict()
        if differences := published_differences(entry.name, shots, seed, drawn, folder):
            wrong.append(f"{shots} shots, seed {seed}: {'; '.join(differences)}.")
    if not settings:
        return []
    equal = len(settings) - len(wrong)
    return [f"Draws: {equal} of {len(settings)} equal the published ones.", *wrong[:1]]


def _cache_note(path: Path, folder: Path, split: Split, draws_val: bool) -> str:
    name = re.fullmatch(r"shot_(\d+)-seed_(\d+)\.pkl", path.name)
    if name is None:
        return f"Note: {path} is not named shot_N-seed_S.pkl; it is not compared."
    parts = ("train", "val") if draws_val else ("train",)
    drawn = draw_split(split, int(name[1]), int(name[2]), draws_val)
    try:
        cached = cached_draw(path, folder, {part: getattr(split, part) for part in parts})
    except (FileNotFoundError, RequestError) as error:
        return f"Note: a cached draw is not compared: {error}"
    return compare_draws(path, drawn._asdict(), cached)


def _check_split(entry: Entry, folder: Path, split: Split, deep: bool) -> Report:
    notes = _notes(folder, split)
    try:
        check_labels(split, entry.name)
    except RequestError as error:
        return Report(entry, "incomplete", [str(error), *notes])
    items = [*split.train, *({id(i): i for i in [*split.val, *split.test]}.values())]
    if missing := missing_files(items):
        return Report(entry, "incomplete", [*_missing(missing, len(items)), *sources(entry)])
    if deep and (bad := unreadable_files(items)):
        shown = [f"{error} Get the file from the archive again." for error in bad[:3]]
        return Report(entry, "unreadable", [f"{len(bad)} pictures cannot be read.", *shown])
    if wrong := _wrong_counts(entry, split):
        return Report(entry, "wrong counts", [*wrong, *sources(entry), *notes])
    return Report(entry, "found", notes)


def _missing(missing: list[str], total: int) -> list[str]:
    folders = Counter(os.path.dirname(path) for path in missing)
    gone = [folder for folder in folders if not os.path.isdir(folder)]
    text = f"{len(missing):,} of {total:,} pictures are missing, the first is {missing[0]!r}."
    if len(missing) == total:
        return [text, "Does the split file belong to another data set? Fetch it again."]
    if gone:
        return [text, f"{len(gone)} class folders are gone, the first is {gone[0]!r}."]
    return [text]


def _wrong_counts(entry: Entry, split: Split) -> list[str]:
    val = [] if entry.val == 0 else split.val
    classes = len({item.label for item in split.train})
    found = (classes, len(split.train), len(val), len(split.test))
    wanted = (entry.classes, entry.train, entry.val, entry.test)
    names = ("classes", "train", "val", "test")
    return [
        f"{name}: found {have:,}, the published data set has {want:,}."
        for name, have, want in zip(names, found, wanted, strict=True)
        if have != want
    ]


def _notes(folder: Path, split: Split) -> list[str]:
    notes = [
        f"Note: labels {', '.join(map(str, labels[:3]))} share the name {name!r}; they stay apart."
        for name, labels in shared_names(split.train).items()
    ]
    for path in sorted(folder.glob("*.txt")) + sorted(folder.glob("*/*.txt")):
        with open(path, "rb") as file:
            if b"\r\n" in file.read(4096):
                notes.append(f"Note: {path} has CR LF line ends; they are read as LF.")
    if not os.access(folder, os.W_OK):
        notes.append(f"Note: {folder} is read-only; nothing is ever written there.")
    return notes + [
        f"Note: {path} is not a class folder; it is ignored." for path in _strays(split)
    ]


def _strays(split: Split) -> list[str]:
    """The first files that lie among the class folders."""
    parents = {os.path.dirname(os.path.dirname(item.impath)) for item in split.train[:1]}
    return [
        entry.path
        for parent in parents
        for entry in os.scandir(parent)
        if entry.is_file() and any(e.is_dir() for e in os.scandir(parent))
    ][:3]


def missing_files(items: Iterable[Datum]) -> list[str]:
    """The paths that do not exist; each folder is listed once, rather than each file looked up."""
    names_in: dict[str, set[str]] = {}
    missing = []
    for item in items:
        folder, name = os.path.split(item.impath)
        if folder not in names_in:
            names_in[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        if name not in names_in[folder]:
            missing.append(item.impath)
    return missing


def unreadable_files(items: list[Datum]) -> list[str]:
    """Decode all pictures, on all cores; a sentence for each that cannot be decoded."""
    paths = sorted({item.impath for item in items})
    with ProcessPoolExecutor(num_cores()) as pool:
        results = pool.map(_fault_of, paths, chunksize=64)
        return [fault for fault in tqdm(results, total=len(paths), desc="decode") if fault]


def _fault_of(path: str) -> str:
    try:
        read_image(path)
    except (RequestError, FileNotFoundError) as error:
        return str(error)
    return ""


def sources(entry: Entry) -> list[str]:
    """Where the missing pieces come from, and where they go."""
    lines = [f"Images: {source}; below {entry.folder}/{entry.images}" for source in entry.sources]
    if entry.drive_id:
        lines.append(f"{entry.list_file}: gdown {entry.drive_id}, into {entry.folder}/")
    return lines


def expected_tree(entry: Entry, root: Path) -> str:
    """What belongs below the root, and whether it is there, as lines of text."""
    names = ("", f"{entry.images}/", entry.list_file)
    wanted = [f"{entry.folder}/{name}" for name in names]
    lines = [f"  {'there' if (root / path).exists() else 'ABSENT':<7} {path}" for path in wanted]
    folder = root / entry.folder
    found = sorted(p.name for p in folder.iterdir())[:8] if folder.is_dir() else []
    return "\n".join([*lines, f"  found in {folder}: {', '.join(found) or 'nothing'}"])
