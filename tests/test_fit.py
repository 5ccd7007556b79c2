"""fit.py on 48 drawn pictures and a tiny CLIP: the comparison, what it leaves, what it warns of."""

import csv
import json
import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

import fit
from dassl.errors import RequestError
from datasets.csv_list import Row
from fitting.outcomes import Answer, Outcome, calibration_error, recommended
from fitting.page import to_page
from fitting.pictures import cut_missing, read_pictures
from fitting.plan import METHODS
from trainer import load

CLASSES = {"blue sea": (20, 40, 200), "dry field": (210, 180, 60), "green wood": (30, 120, 30),
           "red roof": (190, 40, 30)}  # fmt: skip
NAMES = ["zero-shot CLIP", "linear probe", "Tip-Adapter", "MMRL", "MMRL++"]


def draw(root, per_class=12, classes=CLASSES):
    rng = np.random.default_rng(0)
    for name, colour in classes.items():
        (root / name).mkdir(parents=True)
        for number in range(per_class):
            pixels = rng.normal(colour, 60, (40, 36, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"photo {number}.png")
    return root


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("pictures") / "mine")


def words(pictures, out, clip_file, *options):
    return [str(pictures), "--out", str(out), "--backbone", clip_file, "--device", "cpu", *options]


@pytest.fixture(scope="module")
def compared(pictures, clip_file, tmp_path_factory):
    """(folder, what was printed) of the five methods, with one epoch."""
    out = tmp_path_factory.mktemp("out")
    printed = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fitting.comparison.say", printed.append)
        assert fit.main(words(pictures, out, clip_file, "--epochs", "1")) == 0
    return out, "\n".join(printed)


def results_of(out, name):
    return json.loads((out / "runs" / name / "results.json").read_text())


def test_the_table_names_the_methods_and_the_best_on_validation_is_recommended(compared):
    out, printed = compared
    with open(out / "results.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == NAMES
    assert [n for n in NAMES if re.search(f"^{re.escape(n)}  ", printed, flags=re.M)] == NAMES
    methods = [name for name in METHODS if name != "tip-adapter-f"]
    for name, row in zip(methods, rows, strict=True):
        run, validated = results_of(out, name), results_of(out, f"{name}-validation")
        assert float(row["accuracy"]) == pytest.approx(run["accuracy"], abs=1e-3)
        assert float(row["macro_f1"]) == pytest.approx(run["macro_f1"], abs=1e-3)
        assert row["ece"] and row["seconds"]
        assert (run["split"], validated["split"]) == ("test", "val")
    best = max(rows, key=lambda row: float(row["validation"]))
    assert f"Recommended: {best['method']}" in printed


def test_all_methods_see_one_split(compared):
    out, printed = compared
    with open(out / "split.csv") as file:
        parts = Counter((row["label"], row["split"]) for row in csv.DictReader(file))
    assert {parts[name, "test"] for name in CLASSES} == {4}
    assert {parts[name, "val"] for name in CLASSES} == {2}
    assert "48 pictures of 4 classes" in printed
    assert "24 training, 8 validation, 16 test" in printed
    methods = [name for name in METHODS if name != "tip-adapter-f"]
    identities = [results_of(out, name)["identity"] for name in methods]
    assert len({identity["pictures"]["tested"] for identity in identities}) == 1
    assert len({results_of(out, name)["draw_sha256"] for name in methods}) == 1


def test_the_model_file_predicts(compared, clip_file, pictures):
    out, _ = compared
    model = load(str(out / "model.safetensors"), backbone=clip_file)
    assert model.classnames == sorted(CLASSES)
    answer = model.predict([Image.open(pictures / "red roof" / "photo 0.png")], top=1)[0]
    assert answer.names[0] in CLASSES


def test_the_page_leads_to_the_pictures_by_relative_paths(compared):
    out, _ = compared
    page = (out / "page.html").read_text()
    links = re.findall(r"href='([^']+)'", page)
    assert len(links) == 16
    assert [link for link in links if not (out / unquote(link)).is_file()] == []
    assert [link for link in links if link.startswith(("/", "file:"))] == []


def test_a_stopped_comparison_goes_on(pictures, clip_file, tmp_path, monkeypatch, capsys):
    asked = words(pictures, tmp_path, clip_file, "--method", "zero-shot,linear-probe")
    run = fit.run_once

    def stopped(arguments):
        if "LinearProbe" in arguments:
            raise KeyboardInterrupt
        return run(arguments)

    monkeypatch.setattr(fit, "run_once", stopped)
    assert fit.main(asked) == 130
    assert "Run the same command again" in capsys.readouterr().err
    first = (tmp_path / "runs/zero-shot/results.json").read_bytes()
    monkeypatch.setattr(fit, "run_once", run)
    assert fit.main(asked) == 0
    assert (tmp_path / "runs/zero-shot/results.json").read_bytes() == first
    assert (tmp_path / "page.html").is_file()
    assert fit.main([*asked, "--seed", "2"]) == 2
    assert "another --seed" in capsys.readouterr().err


def row(label, number, part=""):
    return Row(f"/x/{label}/{number}.png", label, part, "")


@pytest.mark.parametrize(
    ("count", "parts"),
    [
        (1, {"train": 1}),
        (2, {"train": 1, "test": 1}),
        (3, {"train": 1, "test": 1, "val": 1}),
        (10, {"train": 5, "test": 3, "val": 2}),
    ],
)
def test_parts_are_cut_from_each_class_and_training_keeps_one(count, parts):
    rows, cut = cut_missing([row("a", i) for i in range(count)], seed=1)
    assert Counter(r.part for r in rows) == parts
    assert cut == ("test", "val")
    assert {r.path for r in rows} == {row("a", i).path for i in range(count)}


def test_what_is_there_is_kept_and_the_seed_decides_the_rest():
    given = [row("a", i, "train") for i in range(10)] + [row("a", i, "test") for i in (20, 21)]
    rows, cut = cut_missing(given, seed=1)
    assert cut == ("val",)
    assert {r.path for r in rows if r.part == "test"} == {r.path for r in given[10:]}
    assert Counter(r.part for r in rows)["val"] == 2
    assert cut_missing(given[::-1], seed=1)[0] == rows
    assert cut_missing(given, seed=3)[0] != rows


def test_small_classes_and_twins_are_pointed_out(tmp_path):
    root = draw(tmp_path / "p", per_class=5)
    twin = (root / "red roof" / "photo 0.png").read_bytes()
    for number in range(1, 5):
        (root / "red roof" / f"photo {number}.png").write_bytes(twin)
    for number in (3, 4):
        (root / "blue sea" / f"photo {number}.png").unlink()
    notes = " ".join(read_pictures(root, seed=1).notes)
    assert "fewer than 4 pictures in blue sea (3)" in notes
    assert "test pictures are training or validation pictures too" in notes
    assert "1 validation pictures are training pictures too" in notes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "mmrl,resnet"], "Unknown --method 'resnet'; choose from zero-shot"),
        (["--template", "a photo"], "must have one {}"),
    ],
)
def test_wrong_options_are_named(options, message, pictures, clip_file, tmp_path, capsys):
    assert fit.main(words(pictures, tmp_path, clip_file, *options)) == 2
    assert message in capsys.readouterr().err


def test_pictures_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="No folder and no list"):
        read_pictures(tmp_path / "none", seed=1)
    root = draw(tmp_path / "p", per_class=2)
    (root / "red roof" / "photo 1.png").write_bytes(b"torn")
    with pytest.raises(RequestError, match=r"1 pictures cannot be used.*photo 1\.png"):
        read_pictures(root, seed=1)
    with pytest.raises(RequestError, match="has 1 class"):
        read_pictures(draw(tmp_path / "q", 2, {"a": (0, 0, 0)}), seed=1)


def test_names_that_clip_reads_alike_are_pointed_out(tmp_path, clip_file, capsys):
    alike = {"red_roof": (190, 40, 30), "red roof": (20, 40, 200)}
    root = draw(tmp_path / "p", 4, alike)
    asked = words(root, tmp_path / "out", clip_file, "--method", "zero-shot")
    assert fit.main(asked) == 0
    assert "have the same prompt" in capsys.readouterr().out


def answer(truth, names, probabilities, path="p.png"):
    return Answer(path, truth, names, probabilities)


def test_the_calibration_error_is_the_weighted_gap_of_the_bins():
    answers = [
        answer("a", ["a"], [0.91]),
        answer("a", ["b"], [0.92]),  # of one bin: accuracy 0.5, confidence 0.915
        answer("a", ["a"], [0.55]),
        answer("a", ["a"], [1.0]),
    ]
    want = (2 * 0.415 + 0.45 + 0.0) / 4
    assert calibration_error(answers) == pytest.approx(100 * want)


def test_of_equals_the_cheapest_is_recommended_and_the_test_decides_nothing():
    figures = [("zero-shot", 90.0, 50.0), ("linear-probe", 60.0, 70.0), ("mmrl", 99.0, 70.0)]
    outcomes = [Outcome(name, acc, acc, 1.0, 1.0, val) for name, acc, val in figures]
    assert recommended(outcomes).method == "linear-probe"
    assert recommended([outcomes[0]._replace(validation=None)]) is None


def test_the_page_has_the_worst_first_and_marks_the_truth(tmp_path):
    path = str(tmp_path / "sub" / "p.png")
    Path(path).parent.mkdir()
    Image.new("RGB", (8, 8)).save(path)
    answers = [
        answer("<a>", ["<a>", "b"], [0.6, 0.4], path),
        answer("b", ["<a>", "b"], [0.7, 0.3], path),
        answer("b", ["<a>", "b"], [0.9, 0.1], path),
    ]
    outcome = Outcome("linear-probe", 33.3, 33.3, 10.0, 1.0, None)
    page = to_page([outcome], "linear-probe", answers, tmp_path)
    kinds = re.findall(r"<article class=is-(\w+)>", page)
    assert kinds == ["wrong", "wrong", "right"]
    assert page.index("90.0%") < page.index("70.0%") < page.index("60.0%")
    assert len(re.findall(r"class='row true'", page)) == 3
    assert "#only:checked ~ main .is-right { display: none }" in page
    assert "mostly taken for &lt;a&gt; (2)" in page
    assert "<a>" not in page.replace("<a href", "")
    assert "href='sub/p.png'" in page


def photographs():
    """Name -> pixels of the photographs that scikit-image and scikit-learn bring along."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    named = {name: getattr(data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")}
    samples = {name: load_sample_image(f"{name}.jpg") for name in ("china", "flower")}
    return named | samples


@pytest.mark.slow
def test_crops_of_real_photographs_are_told_apart(tmp_path, clip_file):
    rng = np.random.default_rng(0)
    root = tmp_path / "photographs"
    for name, pixels in photographs().items():
        (root / name).mkdir(parents=True)
        for number in range(12):
            top, left = (int(rng.integers(0, size - 160)) for size in pixels.shape[:2])
            crop = Image.fromarray(pixels[top : top + 160, left : left + 160])
            crop.save(root / name / f"{number}.jpg")
    out = tmp_path / "out"
    assert fit.main(words(root, out, clip_file, "--epochs", "3")) == 0
    with open(out / "results.csv") as file:
        accuracies = {r["method"]: float(r["accuracy"]) for r in csv.DictReader(file)}
    assert max(accuracies.values()) > 50  # chance is 17
    assert (out / "model.safetensors").is_file()
