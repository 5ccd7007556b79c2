"""The cache of decoded pictures is optional: what it cannot have, a run does without."""

import collections
import shutil

import pytest
import torch
from PIL import Image

from dassl.data.cache import PixelCache

Usage = collections.namedtuple("Usage", "total used free")


@pytest.fixture
def paths(tmp_path):
    names = [str(tmp_path / f"{number}.png") for number in range(2)]
    for name in names:
        Image.new("RGB", (100, 100), (1, 2, 3)).save(name)
    return names


def refuse(*_):
    raise RuntimeError("unable to allocate shared memory(shm)")


@pytest.mark.parametrize("fault", ["small", "refused"])
def test_too_little_shared_memory_is_said_and_nothing_is_kept(fault, paths, monkeypatch, capsys):
    assert PixelCache.if_it_fits(paths, limit_mb=1).read(0).getpixel((0, 0)) == (1, 2, 3)
    if fault == "small":
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**16, 0, 2**16))
    else:
        monkeypatch.setattr(torch.Tensor, "share_memory_", refuse)
    assert PixelCache.if_it_fits(paths, limit_mb=1) is None
    text = capsys.readouterr().out
    assert text.count("Decoded pictures are not kept") == 1
    assert "--shm-size" in text
