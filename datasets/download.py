"""Download data sets: name -> split file, class names and pictures in their places.

Downloads resume, and appear only when they are whole; archives are unpacked beside their place and
then moved there.
"""

import hashlib
import os
import shutil
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

from dassl.errors import RequestError, read_text
from dassl.utils import read_json
from datasets.catalog import find
from datasets.transfer import TIMEOUT_S, transfer

__all__ = ["ARCHIVES", "Archive", "download_dataset"]

_WORK = ".partial-unpack"
# What Python's readers raise at a file that is no archive, or only the beginning of one.
_NO_ARCHIVE = (shutil.ReadError, tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError)


class Archive(NamedTuple):
    """An archive of one data set."""

    url: str  # or a Google Drive id
    md5: str  # empty: unknown
    file: str
    inside: str  # the folder in the unpacked archive whose content is wanted
    target: str  # where that goes, below the data set's folder


_VGG = "https://www.robots.ox.ac.uk/~vgg/data"
ARCHIVES = {
    "Caltech101": Archive(
        "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
        "3138e1922a9193bfa496528edbbc45d0", "caltech-101.zip",
        "caltech-101/101_ObjectCategories.tar.gz/101_ObjectCategories", "101_ObjectCategories",
    ),
    "OxfordPets": Archive(
        f"{_VGG}/pets/data/images.tar.gz", "5c4f3ee8e5d25df40f4fd59a7f44e54c", "images.tar.gz",
        "images", "images",
    ),
    "OxfordFlowers": Archive(
        f"{_VGG}/flowers/102/102flowers.tgz", "52808999861908f626f3c1f4e79d11fa",
        "102flowers.tgz", "jpg", "jpg",
    ),
    "Food101": Archive(
        "http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz", "85eeb15f3717b99a5da872d97d918f87",
        "food-101.tar.gz", "food-101/images", "images",
    ),
    "FGVCAircraft": Archive(
        f"{_VGG}/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz", "",
        "fgvc-aircraft-2013b.tar.gz", "fgvc-aircraft-2013b/data", "",
    ),
    "DescribableTextures": Archive(
        f"{_VGG}/dtd/download/dtd-r1.0.1.tar.gz", "fff73e5086ae6bdbea199a49dfb8a4c1",
        "dtd-r1.0.1.tar.gz", "dtd/images", "images",
    ),
    "EuroSAT": Archive(
        "https://huggingface.co/datasets/torchgeo/eurosat/resolve/"
        "c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
        "c8fa014336c82ac7804f0398fcb19387", "EuroSAT.zip", "2750", "2750",
    ),
    "UCF101": Archive(
        "10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O", "", "UCF-101-midframes.zip", "UCF-101-midframes",
        "UCF-101-midframes",
    ),
    "ImageNetV2": Archive(
        "https://s3-us-west-2.amazonaws.com/imagenetv2public/imagenetv2-matched-frequency.tar.gz",
        "", "imagenetv2-matched-frequency.tar.gz", "imagenetv2-matched-frequency-format-val",
        "imagenetv2-matched-frequency-format-val",
    ),
    "ImageNetA": Archive(
        "https://people.eecs.berkeley.edu/~hendrycks/imagenet-a.tar", "", "imagenet-a.tar",
        "imagenet-a", "imagenet-a",
    ),
    "ImageNetR": Archive(
        "https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar", "", "imagenet-r.tar",
        "imagenet-r", "imagenet-r",
    ),
}  # fmt: skip


def download_dataset(root: Path, name: str, mirror: str = "", md5: str | None = None) -> list[str]:
    """Download what is offered of one data set; returns the steps that are left to do by hand.

    `mirror`: a URL below which the files lie under their own names, instead of the original
    places. Files that exist already are left alone.

    Raises:
        ConnectionError: a download failed; the message names the file and how to get it by hand.
        RequestError: what came is damaged or something else, and was removed.
    """
    entry = find(name)
    folder = root.expanduser() / entry.folder
    folder.mkdir(parents=True, exist_ok=True)
    if entry.drive_id:
        fetch_list(entry.drive_id, folder / entry.list_file, mirror)
    archive = ARCHIVES.get(entry.name)
    if archive is None:
        return [f"{entry.config}: by hand: {source}" for source in entry.sources]
    target = folder / archive.target
    if (archive.target and target.is_dir()) or (target / "variants.txt").is_file():
        print(f"{entry.config}: {target} exists already")
        return []
    path = folder / archive.file
    fetch(archive.url, path, mirror)
    check_md5(path, archive.md5 if md5 is None else md5)
    try:
        unpack(path, archive.inside, target)
    except _NO_ARCHIVE as error:
        path.unlink()
        shutil.rmtree(folder / _WORK, ignore_errors=True)
        raise RequestError(
            f"What came as {path.name} is not the archive, or is torn ({error}); it was removed. "
            "Run again; if it comes again, fetch it by hand."
        ) from error
    path.unlink()
    return []


def fetch(source: str, path: Path, mirror: str = "") -> None:
    """Download into `path`, resuming an earlier try; the file appears only when it is whole."""
    if path.is_file():
        return
    is_url = "://" in source
    url = f"{mirror.rstrip('/')}/{path.name}" if mirror else source if is_url else ""
    try:
        transfer(url, path) if url else _from_drive(source, path)
    except ConnectionError as error:
        raise ConnectionError(
            f"Cannot download {path.name} ({error}). Try again: the "
            f"download resumes. Or fetch {url or 'https://drive.google.com/file/d/' + source} by "
            f"hand and put it at {path}."
        ) from error


def _from_drive(file_id: str, path: Path) -> None:
    """A file of Google Drive, anew: its parts do not say which version they are of."""
    import gdown

    for part in path.parent.glob(f"{path.name}*.part"):
        part.unlink()
    try:
        gdown.download(id=file_id, output=str(path), quiet=False, timeout=TIMEOUT_S)
    except Exception as error:  # gdown and requests raise many kinds; the remedy is one
        raise ConnectionError(f"{type(error).__name__}: {error}") from error


def fetch_list(source: str, path: Path, mirror: str = "") -> None:
    """Download a split file or class names; one that is none is removed and fetched again.

    Raises:
        RequestError: what came is a web page, or empty, or torn; it was removed.
    """
    if path.is_file() and not _is_list(path):
        print(f"{path} is damaged, or a web page; it is fetched again")
        path.unlink()
    fetch(source, path, mirror)
    if not _is_list(path):
        path.unlink()
        raise RequestError(
            f"What came as {path.name} is no list but a web page, or empty, or torn; it was "
            "removed. Does the server ask for a login, or is it the wrong --mirror?"
        )


def _is_list(path: Path) -> bool:
    try:
        if path.suffix == ".json":
            return isinstance(read_json(str(path)), dict)
        text = read_text(path).strip()
    except ValueError:
        return False
    return bool(text) and not text.startswith("<")


def check_md5(path: Path, wanted: str) -> None:
    """Refuse, and remove, a file whose checksum differs."""
    if not wanted:
        return
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != wanted:
        path.unlink()
        raise RequestError(
            f"{path} has md5 {digest.hexdigest()}, not {wanted}; it was removed, run again"
        )


def unpack(path: Path, inside: str, target: Path) -> None:
    """Unpack beside `target`, then move the folder `inside` there; archives in archives too."""
    work = path.parent / _WORK
    shutil.rmtree(work, ignore_errors=True)
    extract(path, work)
    current = work
    for part in inside.split("/"):
        current = current / part
        if current.is_file():
            extract(current, current.with_name(f"{part}.d"))
            current = current.with_name(f"{part}.d")
    if not current.is_dir():
        raise shutil.ReadError(f"it has no folder {inside}")
    if target == path.parent:  # the folder's content goes beside the archive
        for child in current.iterdir():
            os.replace(child, target / child.name)
    else:
        os.replace(current, target)
    shutil.rmtree(work)


def extract(path: Path, folder: Path) -> None:
    """Extract an archive; nothing lands outside `folder`."""
    if path.name.endswith(".zip"):
        shutil.unpack_archive(path, folder, "zip")
    else:
        shutil.unpack_archive(
            path, folder, "gztar" if "gz" in path.suffix else "tar", filter="data"
        )
