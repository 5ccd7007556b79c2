"""The one reader of pictures: a path -> a PIL image in RGB, 8 bits a channel."""

import os
from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np

from dassl.errors import RequestError

__all__ = ["IMAGE_SUFFIXES", "Ignored", "own_suffixes", "read_image", "to_rgb", "turned_note"]

# Of the published data sets; what counts must not depend on the Pillow that is installed.
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
# Of pictures that people have besides, where Pillow reads them.
_MORE_SUFFIXES = {
    ".apng", ".avif", ".dib", ".heic", ".heif", ".hif", ".icns", ".ico", ".j2k", ".jfif", ".jp2",
    ".jpe", ".jpf", ".jpx", ".mpo", ".pbm", ".pcx", ".pnm", ".psd", ".sgi", ".tga", ".xbm", ".xpm",
}  # fmt: skip
_ORIENTATION, _BITS_PER_SAMPLE = 0x0112, 258  # EXIF and TIFF tags


@cache
def own_suffixes() -> frozenset[str]:
    """The suffixes of pictures, in lower case, that the installed Pillow reads."""
    from PIL import Image

    Image.init()
    kinds = Image.registered_extensions()
    read = {suffix for suffix in _MORE_SUFFIXES if kinds.get(suffix) in Image.OPEN}
    return frozenset(IMAGE_SUFFIXES | read)


class Ignored:
    """Counts what is there and not used, by suffix; as text, "3 files ignored: .heic 2, .txt 1"."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.subfolders = 0

    def add(self, names: Iterable[str]) -> None:
        """Take in the names of files that were ignored; hidden ones are no loss."""
        shown = (name for name in names if not name.startswith("."))
        self.counts.update(os.path.splitext(name)[1].lower() or "no suffix" for name in shown)

    def update(self, other: "Ignored") -> None:
        """Take in what another has counted."""
        self.counts.update(other.counts)
        self.subfolders += other.subfolders

    def __bool__(self) -> bool:
        return bool(self.counts or self.subfolders)

    def __str__(self) -> str:
        kinds = [f"{suffix} {count}" for suffix, count in self.counts.most_common()]
        kinds += [f"subfolders {self.subfolders}"] if self.subfolders else []
        remedy = "" if not self.subfolders else "; put pictures directly into their class's folder"
        if set(self.counts) & (_MORE_SUFFIXES | {".svg", ".raw", ".cr2", ".nef", ".dng"}):
            remedy += "; save pictures of these kinds as .png or .jpg"
        return f"{self.counts.total()} files ignored: {', '.join(kinds)}{remedy}"

    def brackets(self) -> str:
        """The same in brackets, to end a sentence; empty if nothing was ignored."""
        return f" ({self})" if self else ""


def read_image(path: str) -> Any:
    """The picture at `path` as a PIL image in RGB, not turned: an EXIF rotation is not applied.

    Raises:
        FileNotFoundError: there is no such file.
        RequestError: PIL cannot read it, or not to 8 bits; the message has the path.
    """
    from PIL import Image

    if not os.path.isfile(path):
        raise FileNotFoundError(f"No image file at {path!r}")
    try:
        with Image.open(path) as image:
            return to_rgb(image)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers raise a dozen kinds; the remedy is one
        raise RequestError(f"Cannot read the image {path!r}: {error}. Replace the file.") from error


def to_rgb(image: Any) -> Any:
    """A PIL image of any mode in RGB; grey of 9 to 16 bits is scaled, where PIL would cut it off.

    Raises:
        RequestError: its samples have more bits, or are not whole numbers, so no scale is known.
    """
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        kind = "float" if image.mode == "F" else "32-bit"
        raise RequestError(f"it has {kind} samples, whose range is not known; save it with 8 bits")
    if image.mode != "I" and not image.mode.startswith("I;"):
        return image.convert("RGB")
    from PIL import Image

    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))[0]
    grey = np.asarray(image, dtype=np.float64) * 255 / (2**bits - 1)
    return Image.fromarray(grey.round().clip(0, 255).astype(np.uint8)).convert("RGB")


def turned_note(paths: Iterable[str]) -> str:
    """A sentence if EXIF data ask viewers to turn one of the pictures; empty if none does."""
    turned = next((path for path in paths if _is_turned(path)), None)
    if turned is None:
        return ""
    return (
        f"Note: {turned} has an EXIF rotation. Rotations are not applied, as in the published "
        "program; rotate the pixels themselves if these pictures look turned."
    )


def _is_turned(path: str) -> bool:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.getexif().get(_ORIENTATION, 1) != 1
    except Exception:  # read_image names what is wrong when the picture is asked for
        return False
