"""Small made-up trees of all fifteen data sets, with and without split files."""

import json
from pathlib import Path

import numpy as np
from scipy.io import savemat

from datasets.catalog import find

WNIDS = ["n01440764", "n01443537", "n01484850", "n01491361"]
NAMES = ["tench", "missile", "great white shark", "missile"]  # names are not unique


def touch(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return str(path)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, newline="")


def write_split(root: Path, name: str, classes: list[str], sizes=(20, 6, 5)) -> None:
    """A split file whose entries are interleaved, and its pictures."""
    entry = find(name)
    folder = root / entry.folder
    split = {"train": [], "val": [], "test": []}
    for part, size in zip(split, sizes, strict=True):
        for number in range(size):
            for label in reversed(range(len(classes))):
                prefix = "cars_train/" if name == "StanfordCars" else f"class_{label}/"
                path = f"{prefix}{part}_{label}_{number}.jpg"
                touch(folder / entry.images / path)
                split[part].append([path, label, classes[label]])
    write(folder / entry.split_file, json.dumps(split))


def write_class_folders(folder: Path, sizes: dict[str, int], suffix=".jpg") -> None:
    for name, count in sizes.items():
        for number in reversed(range(count)):
            touch(folder / name / f"{number:03d}{suffix}")


def write_folders_data(root: Path, name: str) -> dict[str, str]:
    """Folder-only data; class folder -> class name, in label order."""
    names = {
        "Caltech101": {"Faces": "face", "Leopards": "leopard", "accordion": "accordion"},
        "DescribableTextures": {"banded": "banded", "dotted": "dotted"},
        "Food101": {"apple_pie": "apple_pie", "waffles": "waffles"},
        "EuroSAT": {"AnnualCrop": "Annual Crop Land", "SeaLake": "Sea or Lake"},
    }[name]
    entry = find(name)
    folder = root / entry.folder / entry.images
    write_class_folders(folder, {c: 25 + i for i, c in enumerate(names)})
    if name == "Caltech101":
        write_class_folders(folder, {"BACKGROUND_Google": 9, "Faces_easy": 9})
    touch(folder / "readme.txt")
    touch(folder / next(iter(names)) / "notes.txt")
    return names


def write_pets(root: Path) -> None:
    folder = root / "oxford_pets"
    lines = {"trainval": [], "test": []}
    for part, numbers in (("trainval", range(12)), ("test", range(12, 16))):
        for number in numbers:
            for label, breed in enumerate(("Abyssinian", "american_bulldog")):
                stem = f"{breed}_{number}"
                touch(folder / "images" / f"{stem}.jpg")
                lines[part].append(f"{stem}  {label + 1} 1 1")  # a doubled blank
    for part, text in lines.items():
        write(folder / "annotations" / f"{part}.txt", "\r\n".join(text) + "\r\n")


def write_cars(root: Path) -> None:
    folder = root / "stanford_cars"
    names = ["AM General Hummer SUV 2000", "Acura RL Sedan 2012"]
    cell = np.empty((1, 2), dtype=object)
    cell[0] = names
    (folder / "devkit").mkdir(parents=True)
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": cell})
    for images, path, count in (
        ("cars_train", "devkit/cars_train_annos.mat", 14),
        ("cars_test", "cars_test_annos_withlabels.mat", 4),
    ):
        rows = np.zeros(
            (1, count), dtype=[("bbox_x1", object), ("class", object), ("fname", object)]
        )
        for i in range(count):
            file = f"{i:05d}.jpg"
            touch(folder / images / file)
            rows[0, i] = (1, 2 - i % 2, file)  # class 2 comes first
        savemat(folder / path, {"annotations": rows})


def write_flowers(root: Path) -> None:
    folder = root / "oxford_flowers"
    labels = np.array([[2, 1] * 12])
    folder.mkdir(parents=True)
    savemat(folder / "imagelabels.mat", {"labels": labels})
    write(folder / "cat_to_name.json", json.dumps({"1": "pink primrose", "2": "orchid"}))
    for number in range(1, 25):
        touch(folder / "jpg" / f"image_{number:05d}.jpg")


def write_sun(root: Path) -> None:
    folder = root / "sun397"
    scenes = ["a/abbey", "a/apartment_building/outdoor"]
    write(folder / "ClassName.txt", "".join(f"/{s}\n" for s in scenes))
    for part, count in (("Training", 10), ("Testing", 3)):
        paths = [f"{s}/{part}_{i}.jpg" for i in range(count) for s in scenes]
        write(folder / f"{part}_01.txt", "".join(f"/{p}\n" for p in paths))
        for path in paths:
            touch(folder / "SUN397" / path)


def write_ucf(root: Path) -> None:
    folder, lists = root / "ucf101", root / "ucf101" / "ucfTrainTestlist"
    actions = {"ApplyEyeMakeup": "Apply_Eye_Makeup", "YoYo": "Yo_Yo"}
    write(lists / "classInd.txt", "1 ApplyEyeMakeup\r\n2 YoYo\r\n")
    for part, count in (("train", 10), ("test", 3)):
        lines = []
        for number in range(count):
            for label, (action, name) in enumerate(actions.items(), start=1):
                video = f"v_{action}_g{number:02d}_{part}"
                touch(folder / "UCF-101-midframes" / name / f"{video}.jpg")
                extra = f" {label}" if part == "train" else ""
                lines.append(f"{action}/{video}.avi{extra}\r\n")
        write(lists / f"{part}list01.txt", "".join(lines))


def write_aircraft(root: Path) -> None:
    folder = root / "fgvc_aircraft"
    variants = ["707-320", "Boeing 717", "F/A-18"]
    write(folder / "variants.txt", "\n".join(variants) + "\n")
    for part in ("train", "val", "test"):
        lines = [f"{n:07d}{part[0]} {v}" for n in range(18) for v in variants]
        write(folder / f"images_variant_{part}.txt", "\n".join(lines) + "\n")
        for line in lines:
            touch(folder / "images" / f"{line.split()[0]}.jpg")


def write_classnames(folder: Path) -> None:
    lines = [f"{wnid} {name}" for wnid, name in zip(WNIDS, NAMES, strict=True)]
    write(folder / "classnames.txt", "\n".join(lines) + "\n\n")


def write_imagenet(root: Path) -> None:
    folder = root / "imagenet"
    write_classnames(folder)
    write_class_folders(folder / "images" / "train", dict.fromkeys(WNIDS, 18), ".JPEG")
    write_class_folders(folder / "images" / "val", dict.fromkeys(WNIDS, 3), ".JPEG")


def write_variant(root: Path, name: str) -> None:
    entry = find(name)
    write_classnames(root / "imagenet")  # found beside the variant's own folder
    folder = root / entry.folder / entry.images
    classes = {"ImageNetV2": ["0", "1", "2", "3"], "ImageNetSketch": WNIDS}.get(name, WNIDS[1:3])
    write_class_folders(folder, dict.fromkeys(classes, 4))
    touch(folder / "README.txt")
