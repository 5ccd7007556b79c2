"""Twelve planted faults: each one is named with its path and what to do; none shifts a label."""

import json
import os

import pytest
from PIL import Image

import trees
from conftest import REPOSITORY, build_cfg
from dassl.data.datasets import build_dataset
from datasets import check
from datasets.catalog import CATALOG, find
from scripts.check_data import main

SIZES = {"classes": 2, "train": 12, "val": 4, "test": 6}


@pytest.fixture
def dtd(tmp_path, monkeypatch):
    """A complete small DTD, whose table says so."""
    folder = tmp_path / "dtd"
    split = {"train": [], "val": [], "test": []}
    for part, count in (("train", 6), ("val", 2), ("test", 3)):
        for label, name in enumerate(("banded", "dotted")):
            for number in range(count):
                path = folder / "images" / name / f"{part}_{number}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8, 8), (40 * number, 90, 90)).save(path)
                split[part].append([f"{name}/{path.name}", label, name])
    (folder / "split_zhou_DescribableTextures.json").write_text(json.dumps(split))
    small = find("dtd")._replace(**SIZES)
    monkeypatch.setattr(check, "find", lambda name: small if name in small else find(name))
    return folder


def run(root, *names, capsys):
    code = main(["--root", str(root), *names])
    return code, capsys.readouterr().out


def test_a_complete_data_set_is_found(dtd, capsys):
    code, text = run(dtd.parent, "dtd", "--deep", capsys=capsys)
    assert (code, text.splitlines()[:2]) == (
        0,
        ["dtd              found", "    Draws: 0 of 15 equal the published ones."],
    )


def edit_split(dtd, change):
    path = dtd / "split_zhou_DescribableTextures.json"
    split = json.loads(path.read_text())
    change(split)
    path.write_text(json.dumps(split))


def remove_class(dtd):
    for path in (dtd / "images" / "dotted").iterdir():
        path.unlink()
    (dtd / "images" / "dotted").rmdir()


def empty_class(dtd):
    for path in (dtd / "images" / "dotted").iterdir():
        path.unlink()


def swap_split(dtd):
    rows = {part: [["AnnualCrop/1.jpg", 0, "a"]] for part in ("train", "val", "test")}
    (dtd / "split_zhou_DescribableTextures.json").write_text(json.dumps(rows))


def absolute_path(dtd):
    edit_split(dtd, lambda s: s["train"][0].__setitem__(0, "/home/zhou/banded/1.jpg"))


def label_gap(dtd):
    edit_split(dtd, lambda s: [row.__setitem__(1, 2 * row[1]) for p in s.values() for row in p])


def two_names(dtd):
    edit_split(dtd, lambda s: s["train"][0].__setitem__(2, "striped"))


FAULTS = [
    (remove_class, "incomplete", ["dtd/images/dotted", "class folders are gone", "dtd-r1.0.1"]),
    (empty_class, "incomplete", ["11 of 22 pictures are missing", "dotted/", "dtd-r1.0.1"]),
    (swap_split, "incomplete", ["AnnualCrop/1.jpg", "another data set", "Fetch it again"]),
    (absolute_path, "incomplete", ["/home/zhou/banded/1.jpg", "outside", "fetch the published"]),
    (label_gap, "incomplete", ["no training image has label 1", "Get the split file"]),
]


@pytest.mark.parametrize(("plant", "status", "parts"), FAULTS)
def test_faults_of_split_and_folders(dtd, capsys, plant, status, parts):
    plant(dtd)
    code, text = run(dtd.parent, "dtd", capsys=capsys)
    assert code == 1
    assert text.startswith(f"dtd              {status}\n")
    assert [part for part in parts if part not in text] == []
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        build_dataset(build_cfg(dtd.parent, -1, "all", name="DescribableTextures"))
    assert len(str(error.value).splitlines()) == 1


def test_a_truncated_picture_is_named(dtd, capsys):
    path = dtd / "images" / "dotted" / "test_1.jpg"
    path.write_bytes(path.read_bytes()[:200])
    assert run(dtd.parent, "dtd", capsys=capsys)[0] == 0
    code, text = run(dtd.parent, "dtd", "--deep", capsys=capsys)
    assert code == 1
    assert "unreadable" in text
    assert f"Cannot read the image '{path}'" in text
    assert "Replace the file" in text


def test_a_stray_file_and_a_read_only_root_are_noted_and_harm_nothing(dtd, capsys, monkeypatch):
    (dtd / "images" / "Thumbs.db").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # root may write anywhere
    code, text = run(dtd.parent, "dtd", capsys=capsys)
    assert code == 0
    assert "Thumbs.db is not a class folder; it is ignored" in text
    assert "read-only; nothing is ever written there" in text


def test_carriage_returns_are_noted_and_read_as_line_ends(tmp_path, capsys):
    trees.write_pets(tmp_path)
    code, text = run(tmp_path, "oxford_pets", "--official", capsys=capsys)
    assert "trainval.txt has CR LF line ends; they are read as LF" in text
    assert code == 1  # the small tree is not the published one
    assert "wrong counts" in text


def test_duplicate_class_names_are_noted(tmp_path, capsys):
    trees.write_imagenet(tmp_path)
    _, text = run(tmp_path, "imagenet", capsys=capsys)
    assert "labels 1, 3 share the name 'missile'; they stay apart" in text


def test_a_root_one_level_too_low_is_recognised(dtd, capsys):
    code, text = run(dtd, "dtd", capsys=capsys)
    assert code == 1
    assert f"--root must be the folder above, {dtd.parent}" in text
    with pytest.raises(FileNotFoundError, match="must be the folder above"):
        build_dataset(build_cfg(dtd, -1, "all", name="DescribableTextures"))


def test_what_is_not_there_comes_with_its_sources(tmp_path, capsys):
    code, text = run(tmp_path, capsys=capsys)
    assert code == 1
    for entry in CATALOG:
        assert f"{entry.config:<16} missing\n" in text
        assert entry.drive_id in text
    assert "7545" in text  # where Stanford Cars' substitutes are listed


def test_an_unknown_name_lists_the_known(tmp_path, capsys):
    assert main(["--root", str(tmp_path), "eurosatt"]) == 2
    assert "choose from imagenet, caltech101" in capsys.readouterr().err


def test_the_script_runs_from_anywhere(tmp_path):
    import subprocess
    import sys

    command = [sys.executable, REPOSITORY / "scripts" / "check_data.py", "--root", tmp_path, "dtd"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout[:24]) == (1, "dtd              missing"), done.stderr


def test_own_pictures_are_checked_as_training_reads_them(tmp_path, capsys):
    for number, name in enumerate(["train/a/1", "train/b/1", "test/a/1", "test/b/1"]):
        path = tmp_path / f"{name}.jpg"
        path.parent.mkdir(parents=True)
        exif = Image.Exif()
        exif[0x0112] = 6 if name == "train/b/1" else 1
        Image.new("RGB", (2, 1), (60 * number, 0, 0)).save(path, exif=exif)
    (tmp_path / "train" / "a" / "sub").mkdir()
    (tmp_path / "train" / "a" / "raw.heic").touch()
    code, text = run(tmp_path, "folder", "--deep", capsys=capsys)
    assert code == 0
    assert "2 classes; pictures: 2 training, 0 validation, 2 test." in text
    assert "1 files ignored: .heic 1, subfolders 1; put pictures directly into" in text
    assert "1.jpg has an EXIF rotation. Rotations are not applied, as in the published" in text
    (tmp_path / "test" / "b" / "1.jpg").write_bytes(b"torn")
    code, text = run(tmp_path, "folder", "--deep", capsys=capsys)
    assert (code, "unreadable" in text, "b/1.jpg" in text) == (1, True, True)
    code, text = run(tmp_path, "folder", "--csv", str(tmp_path / "no.csv"), capsys=capsys)
    assert (code, "No file" in text) == (1, True)
