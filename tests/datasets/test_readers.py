"""All fifteen readers on made-up trees: lists, order, labels, names."""

import random
import time
from pathlib import Path

import pytest

import trees
from conftest import build_cfg
from dassl.data.datasets import build_dataset
from datasets.catalog import CATALOG, find
from datasets.check import check_dataset

WITH_SPLIT = [entry.name for entry in CATALOG if entry.split_file]
FOLDERS = ["Caltech101", "DescribableTextures", "Food101", "EuroSAT"]


def read(root, name, num_shots=-1, subsample="all", seed=1, official=False):
    cfg = build_cfg(root, num_shots, subsample, seed, name)
    cfg.defrost()
    cfg.DATASET.OFFICIAL_LISTS = official
    return build_dataset(cfg)


def rows(items, root):
    return [(str(Path(i.impath).relative_to(root)), i.label, i.classname) for i in items]


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("shots", [1, 4, 16])
@pytest.mark.parametrize("name", WITH_SPLIT)
def test_split_file_draw_and_halves(name, shots, seed, tmp_path):
    classes = ["zebra", "an apple", "Boeing 737", "ant", "bee"]
    trees.write_split(tmp_path, name, classes)
    whole = read(tmp_path, name)
    order = list(reversed(range(5)))  # of first appearance
    assert [i.label for i in whole.train_x[:5]] == order
    rng = random.Random(seed)
    want = {"train_x": [], "val": []}
    for part, k in (("train_x", shots), ("val", min(shots, 4))):
        for label in order:
            group = [i for i in getattr(whole, part) if i.label == label]
            want[part] += rng.sample(group, k) if len(group) >= k else group
    drawn = read(tmp_path, name, shots, seed=seed)
    for part, items in want.items():
        assert rows(getattr(drawn, part), tmp_path) == rows(items, tmp_path)
    assert drawn.classnames == classes
    halves = {which: read(tmp_path, name, shots, which, seed) for which in ("base", "new")}
    for which, kept in (("base", [0, 1, 2]), ("new", [3, 4])):
        for part in ("train_x", "val", "test"):
            items = [i for i in getattr(drawn, part) if i.label in kept]
            assert rows(getattr(halves[which], part), tmp_path) == [
                (path, kept.index(label), name) for path, label, name in rows(items, tmp_path)
            ]
        assert halves[which].classnames == [classes[label] for label in kept]


@pytest.mark.parametrize("name", FOLDERS)
def test_class_folders_stand_in_by_permission(name, tmp_path, capsys):
    names = trees.write_folders_data(tmp_path, name)
    with pytest.raises(FileNotFoundError, match=r"no split file.*gdown.*OFFICIAL_LISTS"):
        read(tmp_path, name)
    data = read(tmp_path, name, official=True)
    assert "NOT THE PUBLISHED SPLIT" in capsys.readouterr().out
    entry = find(name)
    rng = random.Random(1)
    want = {"train_x": [], "val": [], "test": []}
    for label, (folder, classname) in enumerate(names.items()):
        files = [f"{number:03d}.jpg" for number in range(25 + label)]
        rng.shuffle(files)
        found = [(f"{entry.folder}/{entry.images}/{folder}/{f}", label, classname) for f in files]
        first, second = round(0.5 * len(found)), round(0.5 * len(found)) + round(0.2 * len(found))
        want["train_x"] += found[:first]
        want["val"] += found[first:second]
        want["test"] += found[second:]
    for part, items in want.items():
        assert rows(getattr(data, part), tmp_path) == items
    again = read(tmp_path, name, seed=3, official=True)
    assert rows(again.test, tmp_path) == want["test"]  # the run's seed plays no part


HELD_OUT = [
    ("OxfordPets", trees.write_pets, ["abyssinian", "american_bulldog"], (20, 4, 8)),
    (
        "StanfordCars",
        trees.write_cars,
        ["2000 AM General Hummer SUV", "2012 Acura RL Sedan"],
        (12, 2, 4),
    ),
    ("SUN397", trees.write_sun, ["abbey", "outdoor apartment_building"], (16, 4, 6)),
    ("UCF101", trees.write_ucf, ["Apply_Eye_Makeup", "Yo_Yo"], (16, 4, 6)),
    ("OxfordFlowers", trees.write_flowers, ["pink primrose", "orchid"], (12, 4, 8)),
]


@pytest.mark.parametrize(("name", "make", "classnames", "sizes"), HELD_OUT)
def test_official_lists_stand_in_by_permission(name, make, classnames, sizes, tmp_path):
    make(tmp_path)
    data = read(tmp_path, name, official=True)
    assert data.classnames == classnames
    assert (len(data.train_x), len(data.val), len(data.test)) == sizes
    paths = [i.impath for i in [*data.train_x, *data.val, *data.test]]
    assert len(set(paths)) == len(paths)
    by_class = [i.label for i in data.train_x]
    assert by_class == sorted(by_class, key=by_class.index)  # grouped, in first appearance


def test_hold_out_shuffles_positions_once_a_class(tmp_path):
    trees.write_sun(tmp_path)
    rng = random.Random(1)
    order = list(range(10))
    rng.shuffle(order)
    data = read(tmp_path, "SUN397", official=True)
    got = [Path(i.impath).stem for i in data.val if i.label == 0]
    assert got == [f"Training_{i}" for i in order[:2]]


@pytest.mark.parametrize("seed", [1, 2])
def test_aircraft_keeps_the_official_order(seed, tmp_path):
    trees.write_aircraft(tmp_path)
    data = read(tmp_path, "FGVCAircraft")
    assert data.classnames == ["707-320", "Boeing 717", "F/A-18"]
    first = [("0000000t", 0), ("0000000t", 1), ("0000000t", 2), ("0000001t", 0)]
    assert [(Path(i.impath).stem, i.label) for i in data.train_x[:4]] == first
    drawn = read(tmp_path, "FGVCAircraft", 16, "base", seed)
    assert (len(drawn.train_x), len(drawn.val), len(drawn.test)) == (32, 8, 36)


def test_imagenet_takes_labels_from_the_class_list(tmp_path, capsys):
    trees.write_imagenet(tmp_path)
    data = read(tmp_path, "ImageNet", 16)
    assert data.classnames == trees.NAMES
    assert "Labels 1, 3 share the class name 'missile'" in capsys.readouterr().out
    assert (len(data.train_x), len(data.val), len(data.test)) == (64, 12, 12)
    assert rows(data.val, tmp_path) == rows(data.test, tmp_path)
    new = read(tmp_path, "ImageNet", 16, "new")
    assert new.classnames == trees.NAMES[2:]
    assert len(new.val) == len(new.test) == 6


@pytest.mark.parametrize("part", ["train", "val"])
def test_imagenet_without_a_class_folder_shifts_no_label(part, tmp_path):
    trees.write_imagenet(tmp_path)
    folder = tmp_path / "imagenet" / "images" / part / trees.WNIDS[1]
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{trees.WNIDS[1]}' holds no picture"):
        read(tmp_path, "ImageNet")
    folder.rmdir()
    with pytest.raises(FileNotFoundError, match=r"lacks 1 of 4 class folders.*n01443537 \(missile"):
        read(tmp_path, "ImageNet")
    (folder.parent / "n99999999").mkdir()
    folder.mkdir()
    with pytest.raises(ValueError, match=r"n99999999', which classnames\.txt does not list"):
        read(tmp_path, "ImageNet")


def test_a_flat_imagenet_val_is_explained(tmp_path):
    trees.write_imagenet(tmp_path)
    val = tmp_path / "imagenet" / "images" / "val"
    for folder in list(val.iterdir()):
        for path in folder.iterdir():
            path.rename(val / f"{folder.name}_{path.name}")
        folder.rmdir()
    with pytest.raises(FileNotFoundError, match=r"val' is flat.*valprep"):
        read(tmp_path, "ImageNet")


VARIANTS = [
    ("ImageNetV2", trees.NAMES),
    ("ImageNetSketch", trees.NAMES),
    ("ImageNetA", trees.NAMES[1:3]),
    ("ImageNetR", trees.NAMES[1:3]),
]


@pytest.mark.parametrize(("name", "classnames"), VARIANTS)
def test_variants_are_test_sets(name, classnames, tmp_path):
    trees.write_variant(tmp_path, name)
    data = read(tmp_path, name, 16, seed=2)
    assert data.classnames == classnames
    assert rows(data.train_x, tmp_path) == rows(data.test, tmp_path)
    assert len(data.test) == 4 * len(classnames)
    assert data.val is None
    with pytest.raises(ValueError, match=r"all of its classes.*'base'"):
        read(tmp_path, name, 16, "base")


def test_every_catalog_entry_has_its_reader_and_config():
    from conftest import REPOSITORY
    from dassl.data.datasets import DATASET_REGISTRY

    for entry in CATALOG:
        assert DATASET_REGISTRY.get(entry.name).__name__ == entry.name
        text = (REPOSITORY / "configs" / "datasets" / f"{entry.config}.yaml").read_text()
        assert text == f'DATASET:\n  NAME: "{entry.name}"\n'
        assert {find(n).name for n in (entry.config, entry.name, entry.folder)} == {entry.name}


@pytest.mark.slow
def test_a_list_of_imagenet_s_size_is_built_in_a_gibibyte(tmp_path):
    """1.28 million files, empty ones; in a process of its own."""
    import resource
    import subprocess
    import sys

    trees.write_classnames(tmp_path / "imagenet")
    for part, count in (("train", 320_000), ("val", 12_500)):
        for wnid in trees.WNIDS:
            folder = tmp_path / "imagenet" / "images" / part / wnid
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{wnid}_{number:06d}.JPEG").touch()
    code = f"""
import time
from conftest import build_cfg
from dassl.data.datasets import build_dataset
start = time.perf_counter()
data = build_dataset(build_cfg({str(tmp_path)!r}, 16, "all", name="ImageNet"))
print(time.perf_counter() - start, len(data.train_x))
"""
    environment = {"PYTHONPATH": f"{Path(__file__).parents[2]}:{Path(__file__).parents[1]}"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    seconds, count = done.stdout.splitlines()[-1].split()
    peak_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    start = time.perf_counter()
    report = check_dataset(tmp_path, "imagenet")
    checked = time.perf_counter() - start
    print(
        f"built in {float(seconds):.1f} s and {peak_kib / 1024:.0f} MiB, checked in {checked:.1f} s"
    )
    assert int(count) == 64
    assert peak_kib < 2**20  # 1 GiB
    assert report.status == "wrong counts"  # 4 classes; nothing is missing
