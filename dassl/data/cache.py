"""Decoded pictures of a small data set, in memory that all workers share."""

import os
import shutil
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from dassl.utils import read_image

__all__ = ["PixelCache"]

_SHARED_MEMORY = "/dev/shm"


class PixelCache:
    """Each picture is decoded once, by whoever first asks for it; the pixels are the file's."""

    def __init__(self, paths: Sequence[str], sizes: Sequence[tuple[int, int]]) -> None:
        self.paths, self.sizes = paths, sizes
        ends = np.cumsum([3 * width * height for width, height in sizes])
        self.starts = [0, *ends.tolist()]
        self.pixels = torch.empty(int(ends[-1]), dtype=torch.uint8).share_memory_()
        self.filled = torch.zeros(len(paths), dtype=torch.bool).share_memory_()

    @classmethod
    def if_it_fits(cls, paths: Sequence[str], limit_mb: int) -> "PixelCache | None":
        """A cache for all of `paths`, or None if their pixels take more than `limit_mb` MiB."""
        sizes, left = [], limit_mb * 2**20
        for path in paths:
            size = _size_of(path)
            left -= 3 * size[0] * size[1]
            if left < 0:
                return None
            sizes.append(size)
        return cls._if_memory_allows(paths, sizes) if sizes else None

    @classmethod
    def _if_memory_allows(
        cls, paths: Sequence[str], sizes: Sequence[tuple[int, int]]
    ) -> "PixelCache | None":
        """The cache, or None and a line of text if the system has too little shared memory."""
        wanted = sum(3 * width * height for width, height in sizes)
        try:
            # Half is left to the loader's batches. A full /dev/shm would kill whoever writes to it.
            if wanted <= _free_shared_memory() // 2:
                return cls(paths, sizes)
        except (AttributeError, OSError, RuntimeError):  # no `statvfs`, or no memory
            pass  # the system's limit may be another one: without a cache all works as well
        print(
            f"Decoded pictures are not kept: {_SHARED_MEMORY} is too small for their "
            f"{wanted / 2**20:.0f} MiB (in Docker, set --shm-size)"
        )
        return None

    def read(self, index: int) -> Image.Image:
        """The picture in RGB."""
        width, height = self.sizes[index]
        pixels = self.pixels[self.starts[index] : self.starts[index + 1]].view(height, width, 3)
        if not self.filled[index]:
            image = read_image(self.paths[index])
            pixels.copy_(torch.from_numpy(np.array(image)))
            self.filled[index] = True
            return image
        return Image.fromarray(pixels.numpy())


def _free_shared_memory() -> int:
    """Free bytes where tensors are shared; more than anyone needs where the system has no folder.

    Raises:
        OSError: the system does not say.
    """
    return shutil.disk_usage(_SHARED_MEMORY).free if os.path.isdir(_SHARED_MEMORY) else 2**62


def _size_of(path: str) -> tuple[int, int]:
    """(width, height) from the file's header; nothing is decoded. An unreadable file is 0 x 0."""
    try:
        with Image.open(path) as image:
            return image.size
    except Exception:  # Pillow's readers raise a dozen kinds
        return 0, 0  # read_image names it when it is asked for
