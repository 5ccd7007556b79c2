"""File errors end in one sentence with the file."""

import errno
import os

import pytest

from dassl.errors import in_one_sentence, read_text
from dassl.utils import read_image
from trainer.config import build_config


def raising(error):
    @in_one_sentence
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (errno.ENOSPC, 1, "a.pt: the disk is full; make room"),
        (errno.EROFS, 2, "a.pt: the disk is read-only"),
        (errno.EACCES, 2, "a.pt: permission denied"),
        (errno.ENOTDIR, 2, "a.pt: a file is where a folder is needed"),
    ],
)
def test_a_file_error_is_a_sentence_and_a_code(number, code, words, capsys):
    assert raising(OSError(number, os.strerror(number), "a.pt"))() == code
    assert capsys.readouterr().err.startswith(f"error: {words}")


def test_an_own_sentence_is_kept_and_bugs_keep_their_traceback(capsys):
    assert raising(FileNotFoundError("No checkpoint at 'x'"))() == 2
    assert capsys.readouterr().err == "error: No checkpoint at 'x'\n"
    with pytest.raises(ZeroDivisionError):
        raising(ZeroDivisionError())()


def test_text_in_another_encoding_is_named_with_the_line(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes("a\r\nb\r\n".encode("utf-8-sig"))
    assert read_text(path) == "a\nb\n"
    for stored, words in (
        (b"a\ncaf\xe9\n", r"names\.txt', line 2: this is not UTF-8"),
        ("a".encode("utf-16"), r"names\.txt' is UTF-16"),
        (b"a\n\0", r"line 2: a zero byte"),
    ):
        path.write_bytes(stored)
        with pytest.raises(ValueError, match=words):
            read_text(path)


def test_a_config_file_is_never_executed(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ncfg = {{}}\n")
    with pytest.raises(ValueError, match=r"own\.py' is not a \.yaml file"):
        build_config("MMRL", "", str(path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "text", ["A: [", "A: 1: 2", "- 1", "just words", "D: 2001-99-99", "a: \x01"]
)
def test_bad_yaml_is_named(tmp_path, text):
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"own\.yaml'") as refused:
        build_config("MMRL", "", str(path))
    assert "\n" not in str(refused.value)


def test_a_picture_that_unpacks_to_gigabytes_is_named(tmp_path, monkeypatch):
    from PIL import Image

    Image.new("RGB", (50, 50)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"Cannot read the image '.*bomb\.png'.*Replace the file"):
        read_image(str(tmp_path / "bomb.png"))
