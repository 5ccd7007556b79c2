"""Own pictures: from class folders or a CSV to results.json, without writing Python."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import train
from conftest import REPOSITORY, TINY_OPTIONS, build_cfg
from dassl.data.datasets import build_dataset
from datasets.folder import default_label

NAMES = "zero one two three four five six seven eight nine".split()


def write_digits(root, parts):
    """The 10-class digits that ship with scikit-learn, as PNG files, names as class folders."""
    data = load_digits()
    seen = dict.fromkeys(NAMES, 0)
    for image, target in zip(data.images, data.target, strict=True):
        name = NAMES[target]
        for part, (first, last) in parts.items():
            if first <= seen[name] < last:
                folder = root / part / name
                folder.mkdir(parents=True, exist_ok=True)
                pixels = (image * 15.9).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{seen[name]:03d}.png")
        seen[name] += 1


def arguments(root, out, clip_file, *opts):
    options = {"PREC": "fp32", "REP_LAYERS": "[2, 3, 4]", "REP_DIM": "16"}
    method = [part for k, v in options.items() for part in (f"TRAINER.MMRL.{k}", v)]
    return [
        *("--root", str(root), "--output-dir", str(out), "--backbone", clip_file, "--seed", "1"),
        *("--trainer", "MMRL"),
        *("--config-file", str(REPOSITORY / "configs/trainers/MMRL/vit_b16.yaml")),
        *("--dataset-config-file", str(REPOSITORY / "configs/datasets/folder.yaml")),
        *TINY_OPTIONS, *method, *opts,
    ]  # fmt: skip


def test_digits_to_results_in_one_command(clip_file, tmp_path, capsys):
    write_digits(tmp_path / "digits", {"train": (0, 4), "test": (4, 8)})
    template = ("DATASET.TEMPLATE", "a photo of the number {}.")
    command = arguments(tmp_path / "digits", tmp_path / "out", clip_file, "OPTIM.MAX_EPOCH", "1")
    assert train.main([*command, *template]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["classnames"] == sorted(NAMES)
    assert results["total"] == 40
    assert results["dataset_label"] == "digits"
    text = capsys.readouterr().out
    assert "0: 'a photo of the number eight.', 4 training pictures: " in text
    assert "Zero-shot CLIP classifies " in text
    before = text.index("Zero-shot CLIP classifies ")
    assert before < text.index("epoch [1/1]")


def test_a_report_s_name_of_an_own_set_is_its_folder_s_and_its_list_s(tmp_path, monkeypatch):
    (tmp_path / "birds").mkdir()
    monkeypatch.chdir(tmp_path / "birds")
    assert default_label(".", "") == "birds"
    assert default_label(f"{tmp_path}/birds/", "lists/rare.csv") == "birds (rare)"


TASKS = [("B2N", "base", 5), ("B2N", "new", 5), ("FS", "all", 10), ("CD", "all", 10)]


@pytest.mark.parametrize(("task", "which", "classes"), TASKS)
def test_all_tasks_work(task, which, classes, clip_file, tmp_path):
    write_digits(tmp_path / "digits", {"train": (0, 4), "test": (4, 6)})
    opts = ("OPTIM.MAX_EPOCH", "1", "TASK", task, "DATASET.SUBSAMPLE_CLASSES", which)
    assert train.main(arguments(tmp_path / "digits", tmp_path / "out", clip_file, *opts)) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(results["classnames"]) == classes


def folder_cfg(root, **dataset):
    cfg = build_cfg(root, -1, "all", name="Folder")
    cfg.defrost()
    for key, value in dataset.items():
        cfg.DATASET[key] = value
    return cfg


def test_class_folders_alone_are_cut_by_a_fixed_seed(tmp_path):
    write_digits(tmp_path, {"": (0, 20)})
    one, two = (build_dataset(folder_cfg(tmp_path)) for _ in range(2))
    assert [len(one.train_x), len(one.val), len(one.test)] == [100, 40, 60]
    assert [i.impath for i in one.test] == [i.impath for i in two.test]


def test_a_csv_and_a_file_of_names(tmp_path):
    write_digits(tmp_path, {"pictures": (0, 5)})
    with open(tmp_path / "list.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        for path in sorted((tmp_path / "pictures").rglob("*.png")):
            part = "test" if path.stem == "004" else "train"
            writer.writerow([path.relative_to(tmp_path), path.parent.name, part])
    (tmp_path / "names.txt").write_text("\n".join(f"digit {n}" for n in sorted(NAMES)))
    files = {"CSV": str(tmp_path / "list.csv"), "CLASSNAMES": str(tmp_path / "names.txt")}
    data = build_dataset(folder_cfg(tmp_path, **files))
    assert (len(data.train_x), len(data.test), data.val) == (40, 10, None)
    assert data.classnames == [f"digit {n}" for n in sorted(NAMES)]


def save_kinds(folder):
    """One picture of every kind that people have."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 255, (12, 9, 3), dtype=np.uint8))
    rgb.convert("CMYK").save(folder / "cmyk.jpg")
    rgb.convert("P").save(folder / "palette.png")
    rgb.convert("LA").save(folder / "alpha grey.png")
    rgb.convert("RGBA").save(folder / "αλφα 画像.png")
    Image.fromarray(rng.integers(0, 65535, (12, 9), dtype=np.uint16)).save(folder / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated
    rgb.save(folder / "turned.jpg", exif=exif)


def test_every_kind_of_picture_is_read_as_pil_converts_it(tmp_path):
    from dassl.data import DatasetWrapper

    for part in ("train", "test"):
        for name in ("café crème", "Übung 1"):
            save_kinds(tmp_path / part / name)
    cfg = folder_cfg(tmp_path)
    data = build_dataset(cfg)
    assert data.classnames == ["café crème", "Übung 1"]
    for item, got in zip(data.train_x, DatasetWrapper(cfg, data.train_x), strict=True):
        with Image.open(item.impath) as image:
            if item.impath.endswith("deep.png"):  # PIL would make it white
                grey = np.asarray(image, dtype=float).round() / 257
                want = np.repeat(grey.round().astype(np.uint8)[:, :, None], 3, axis=2)
            else:
                want = np.array(image.convert("RGB"))
        assert np.array_equal(np.array(got["img"]), want)


WRONG = [
    ({}, lambda root: (root / "val" / "a").mkdir(parents=True), r"has \['val'\] but no train/"),
    ({"CSV": "nowhere.csv"}, lambda root: None, r"nowhere\.csv.*DATASET\.CSV"),
    ({}, lambda root: write_digits(root, {"train": (0, 2)}), r"20 training and 0 test"),
    ({}, lambda root: write_digits(root, {"": (0, 2)}), r"2 pictures, too few"),
    ({}, lambda root: (root / "train" / "a").mkdir(parents=True), r"train/a' holds no picture"),
    (
        {},
        lambda root: plant(root / "train", "a/b.heic", "a/sub/1.png"),
        r"\.heic 1, subfolders 1; ",
    ),
    ({}, lambda root: plant(root, "train/a/1.png", "val/a/2.png"), r"rename val/ to test/"),
    ({}, lambda root: plant(root, "train/Cat/1.png", "train/CAT/1.png"), r"'Cat'.* and 'CAT'"),
    (
        {},
        lambda root: plant(root, "train/a/1.png", "Train/a/1.png"),
        r"Train/ and train/; keep one",
    ),
]


def plant(root, *names):
    """One-pixel pictures, each of another colour."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (1, 1), (number, 0, 0)).save(path, "PNG")


@pytest.mark.parametrize(("dataset", "make", "message"), WRONG)
def test_what_cannot_be_used_is_said(dataset, make, message, tmp_path):
    make(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        build_dataset(folder_cfg(tmp_path, **dataset))


def test_what_is_ignored_turned_or_twice_there_is_said(tmp_path, capsys):
    plant(tmp_path, "Train/a/1.png", "Train/b/1.jpe", "Train/b/notes.heic", "TEST/a/1.png")
    plant(tmp_path, "Train/a/sub/2.png", "TEST/b/1.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (2, 1)).save(tmp_path / "Train" / "a" / "2.jfif", "JPEG", exif=exif)
    data = build_dataset(folder_cfg(tmp_path))
    assert (len(data.train_x), len(data.test)) == (3, 2)
    text = capsys.readouterr().out
    assert "1 files ignored: .heic 1, subfolders 1; put pictures directly into" in text
    assert "2.jfif has an EXIF rotation. Rotations are not applied" in text
    assert "test pictures are training pictures too, such as" in text


ROWS = "path,label,split\n1.png,a,train\n2.png,b,train\n3.png,a,test\n4.png,b,test\n"
BAD_LISTS = [
    (ROWS + "5.png,a,\n", r"line 6 has no split, but other lines have one \('train'\)"),
    (ROWS + "5.png,,test\n", r"line 6: the label is empty"),
    (ROWS + "5.png\n", r"line 6 has not 3 columns"),
    (ROWS + "5.png,a,test,more\n", r"line 6 has not 3 columns"),
    (ROWS + " ,a,test\n", r"line 6: the path is empty"),
    (ROWS + "1.png,a,test\n", r"line 6: .* has the split 'test', and 'train' in line 2"),
    (ROWS + "x/../1.png,b,train\n", r"line 6: .* has the label 'b', and 'a' in line 2"),
    (ROWS + "5.png,A,test\n", r"line 6: the label 'A' and 'a' \(.*line 4\) has"),
    (ROWS + "5.png, a,test\n", r"line 6: the label ' a'"),
    (ROWS + "5.png,a,TEST\n", r"line 6: split 'TEST' is not in"),
    (ROWS + "5.png,caf\xe9,test\n", r"line 6: this is not UTF-8"),
    (ROWS.replace(",", ";"), r"lacks the column"),
    (ROWS + '"5.png', r"is not a CSV file"),
    (ROWS.replace("split", "Split"), r"must have one column 'split', written so"),
    (ROWS.replace("split", "label"), r"must have one column 'label'"),
]


@pytest.mark.parametrize(("text", "message"), BAD_LISTS)
def test_a_bad_row_stops_the_run_with_its_line(text, message, tmp_path):
    (tmp_path / "list.csv").write_text(text, encoding="latin-1")
    plant(tmp_path, *(f"{number}.png" for number in range(1, 6)))
    with pytest.raises(ValueError, match=message):
        build_dataset(folder_cfg(tmp_path, CSV=str(tmp_path / "list.csv")))


def test_a_good_list_may_have_a_mark_and_other_line_ends(tmp_path, capsys):
    text = (ROWS + "1.png,a,train\n").replace("\n", "\r\n")
    (tmp_path / "list.csv").write_bytes(text.encode("utf-8-sig"))
    plant(tmp_path, *(f"{number}.png" for number in range(1, 5)))
    data = build_dataset(folder_cfg(tmp_path, CSV=str(tmp_path / "list.csv")))
    assert (len(data.train_x), len(data.test)) == (3, 2)
    assert "1 lines repeat a picture" in capsys.readouterr().out
    (tmp_path / "list.csv").write_text(text, encoding="utf-16")
    with pytest.raises(ValueError, match=r"is UTF-16 text; save it as UTF-8"):
        build_dataset(folder_cfg(tmp_path, CSV=str(tmp_path / "list.csv")))


@pytest.mark.parametrize("workers", ["0", "2"])
def test_an_unreadable_picture_stops_the_run_by_name(workers, clip_file, tmp_path, capsys):
    write_digits(tmp_path / "digits", {"train": (0, 4), "test": (4, 6)})
    bad = tmp_path / "digits" / "train" / "six" / "001.png"
    bad.write_bytes(bad.read_bytes()[:60])
    opts = ("OPTIM.MAX_EPOCH", "1", "DATALOADER.NUM_WORKERS", workers)
    assert train.main(arguments(tmp_path / "digits", tmp_path / "out", clip_file, *opts)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"Cannot read the image '{bad}'" in error
