"""Checkpoints of either program, in every form: described, adapted to, exported, predicted from."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import predict
import train
from conftest import (
    EUROSAT_CLASSES,
    GOLDEN,
    PUBLISHED_SPEC,
    recipe,
    tensors,
    train_arguments,
)
from trainer import load
from trainer.checkpoints import __main__ as checkpoint

PUBLISHED = GOLDEN / "published_checkpoint"
needs_published = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="no checkpoint here")


@pytest.fixture(scope="module", params=["MMRL", "MMRLpp"])
def run(request, eurosat_root, clip_file, tmp_path_factory):
    """A trained run folder, with its predictions beside it."""
    out = tmp_path_factory.mktemp(request.param) / "run"
    arguments = train_arguments(eurosat_root, out, clip_file, request.param)
    assert train.main([*arguments, "OPTIM.MAX_EPOCH", "2", "TEST.PREDICTIONS", "True"]) == 0
    return out


def rows_of(path):
    import csv

    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("exported", [False, True])
def test_predictions_equal_the_evaluation_s(run, exported, clip_file, tmp_path, capsys):
    want = rows_of(run / "predictions.csv")
    model = str(run)
    if exported:
        model = str(tmp_path / "run.safetensors")
        assert checkpoint.main(["export", str(run), model]) == 0
        # no folder of this machine is in the file
        assert predict.main([model, want[0]["path"]]) == 2
        assert "was made with the CLIP 'tiny.pt', which is not there" in capsys.readouterr().err
    out = tmp_path / "out.csv"
    backbone = ["--backbone", clip_file] if exported else []
    words = [model, *(r["path"] for r in want), "--csv", str(out), *backbone]
    assert predict.main(words) == 0
    got = {r["path"]: r for r in rows_of(out)}
    for row in want:
        mine = got[row["path"]]
        assert mine["class_1"] == row["predicted"]
        for rank in range(1, 6):
            key = f"probability_{rank}"
            assert abs(float(mine[key]) - float(row[key])) < 1e-6


def test_an_exported_file_evaluates_to_the_run_s_result(run, eurosat_root, clip_file, tmp_path):
    file = tmp_path / "run.safetensors"
    checkpoint.main(["export", str(run), str(file)])
    method = json.loads((run / "results.json").read_text())["trainer"]
    arguments = train_arguments(eurosat_root, tmp_path / "eval", clip_file, method)
    assert train.main(["--eval-only", "--model-dir", str(file), *arguments]) == 0
    one, two = (json.loads((p / "results.json").read_text()) for p in (run, tmp_path / "eval"))
    assert (one["accuracy"], one["macro_f1"]) == (two["accuracy"], two["macro_f1"])


def test_new_classes_are_read_from_the_class_feature(run, eurosat_root, capsys):
    picture = next((eurosat_root / "eurosat" / "2750" / "River").iterdir())
    assert predict.main([str(run), str(picture), "--classes", "cat,dog", "--top", "2"]) == 0
    assert "2 classes, read from the class feature" in capsys.readouterr().out
    assert predict.main([str(run), str(picture)]) == 0
    assert "10 classes, read from the fusion" in capsys.readouterr().out


def test_loading_twice_gives_the_same_logits_and_leaves_no_file(run):
    files = sorted(run.rglob("*"))
    first, second = (load(str(run)).logits([Image.new("RGB", (40, 36))]) for _ in range(2))
    assert torch.equal(first, second)
    assert sorted(run.rglob("*")) == files


def published_as(form, tmp_path):
    if form == "run folder":
        return PUBLISHED
    if form == "file":
        return PUBLISHED / "MultiModalRepresentationLearner" / "model.pth.tar-2"
    tree = tmp_path / "archive" / "base2new" / "eurosat" / "seed1"
    shutil.copytree(PUBLISHED, tree)
    return tmp_path / "archive"


@needs_published
@pytest.mark.parametrize("form", ["run folder", "file", "archive tree", "exported"])
@pytest.mark.parametrize("half", ["base", "new"])
def test_a_published_checkpoint_gives_its_logits_in_every_form(form, half, clip_file, tmp_path):
    path = published_as(form, tmp_path)
    if form == "exported":
        path = tmp_path / "small.safetensors"
        checkpoint.main(["export", str(PUBLISHED), str(path)])
    names = EUROSAT_CLASSES[:5] if half == "base" else EUROSAT_CLASSES[5:]
    template = "a centered satellite photo of {}."
    model = load(str(path), names, backbone=clip_file, device="cpu", template=template)
    noise = np.random.RandomState(99).standard_normal((6, 3, 32, 32)).astype("float32")
    with torch.no_grad():
        out = model.model(torch.from_numpy(noise))
    want = np.load(PUBLISHED / "logits.npz")
    # the layers are not in the file: three of them, counted from the top, are [2, 3, 4] of 4
    np.testing.assert_allclose(out.logits, want[f"{half}_logits"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(out.logits_rep, want[f"{half}_logits_rep"], rtol=0, atol=1e-4)


@needs_published
def test_sizes_come_from_the_file_and_are_announced(eurosat_root, clip_file, tmp_path, capsys):
    arguments = train_arguments(eurosat_root, tmp_path, clip_file)
    arguments = arguments[: arguments.index("TRAINER.MMRL.REP_DIM")]
    command = ["--eval-only", "--model-dir", str(PUBLISHED), *arguments]
    assert train.main([*command, "TRAINER.MMRL.PREC", "fp32"]) == 0  # EuroSAT's paper value: 2048
    assert "TRAINER.MMRL.REP_DIM is 64, as in" in capsys.readouterr().out
    assert train.main([*command, "TRAINER.MMRL.REP_DIM", "32"]) == 2
    assert "does not fit" in capsys.readouterr().err
    command[command.index("--trainer") + 1] = "MMRLpp"
    assert train.main(command) == 2
    assert "is a checkpoint of MMRL; give --trainer MMRL" in capsys.readouterr().err


@needs_published
def test_describe_and_the_size_of_an_export(tmp_path, capsys):
    assert checkpoint.main(["describe", str(PUBLISHED)]) == 0
    text = capsys.readouterr().out
    for line in (
        r"method:              MMRL", "epoch:               2", "K, tokens:           5",
        "d_r, space width:    64", "layers with tokens:  3", "14 tensors, 27,328 numbers",
    ):  # fmt: skip
        assert line in text
    assert checkpoint.main(["export", str(PUBLISHED), str(tmp_path / "x.safetensors")]) == 0
    numbers = re.findall(r"([\d,]+)(?: bytes|$)", capsys.readouterr().out.strip())
    after, before = (int(number.replace(",", "")) for number in numbers)
    assert after < before / 10


def test_wrong_paths_are_answered(tmp_path, capsys):
    for command in (["describe", "/nowhere"], ["export", "/nowhere", str(tmp_path / "x")]):
        assert checkpoint.main(command) == 2
        assert "'/nowhere'" in capsys.readouterr().err
    torch.save({"state_dict": {"w": torch.ones(1)}}, tmp_path / "model.pth.tar-1")
    assert checkpoint.main(["describe", str(tmp_path)]) == 2
    assert "not a checkpoint of MMRL" in capsys.readouterr().err


def test_a_tree_of_several_runs_asks_for_one(tmp_path, capsys):
    for seed in (1, 2):
        (tmp_path / f"seed{seed}" / "MultiModalRepresentationLearner").mkdir(parents=True)
    assert checkpoint.main(["describe", str(tmp_path)]) == 2
    assert "holds 2 runs (seed1, seed2, ...); give one of them" in capsys.readouterr().err


def test_page_and_tables(run, eurosat_root, tmp_path, capsys):
    pictures = eurosat_root / "eurosat" / "2750" / "SeaorLake"
    bad = tmp_path / "torn.jpg"
    bad.write_bytes(b"\xff\xd8 torn")
    files = {kind: tmp_path / f"out.{kind}" for kind in ("csv", "json", "html")}
    options = [part for kind, file in files.items() for part in (f"--{kind}", str(file))]
    assert predict.main([str(run), str(pictures), str(bad), *options, "--batch-size", "4"]) == 1
    error = capsys.readouterr().err
    assert f"skipped: Cannot read the image '{bad}'" in error
    assert "1 of 12 pictures could not be read" in error
    rows = json.loads(files["json"].read_text())
    assert len(rows) == len(rows_of(files["csv"])) == 11
    assert {row["truth"] for row in rows} == {"Sea or Lake"}
    page = files["html"].read_text()
    assert page.count("<article>") == 11
    assert "worst first" in page
    assert "http" not in page


def test_wrong_requests_of_predict(run, tmp_path, capsys):
    for words, message in (
        ([str(run), str(tmp_path / "none.jpg")], "No picture at"),
        ([str(run), str(tmp_path)], "No pictures in"),
        (["/nowhere", __file__], "'/nowhere'"),
    ):
        assert predict.main(words) == 2
        assert message in capsys.readouterr().err


BACKBONES = {
    "ViT-B/32": {"patch": 16, "resolution": 32, "vision_layers": 3, "text_layers": 3},
    "ViT-B/16": {"patch": 8, "resolution": 32, "vision_layers": 3, "text_layers": 3},
    "ViT-L/14": {"patch": 14, "resolution": 28, "vision_layers": 6, "text_layers": 3},
    "ViT-L/14@336px": {"patch": 14, "resolution": 42, "vision_layers": 6, "text_layers": 3},
}


@pytest.mark.parametrize("name", BACKBONES)
def test_tiny_models_of_each_architecture_train_save_reload_predict(name, eurosat_root, tmp_path):
    state = tensors(recipe.clip_state_dict(PUBLISHED_SPEC | BACKBONES[name]))
    file, side = tmp_path / "clip.pt", BACKBONES[name]["resolution"]
    torch.save(state, file)
    arguments = train_arguments(eurosat_root, tmp_path / "run", str(file))
    options = ["INPUT.SIZE", f"({side},{side})", "TRAINER.MMRL.REP_LAYERS", "[-2,-1]"]
    command = [*arguments, *options, "OPTIM.MAX_EPOCH", "1", "TEST.PREDICTIONS", "True"]
    assert train.main(command) == 0
    want = rows_of(tmp_path / "run" / "predictions.csv")[0]
    model = load(str(tmp_path / "run"))
    depth = BACKBONES[name]
    last = depth["vision_layers"]
    assert model.model.image_encoder.injection.layers == [last - 1, last]
    assert model.model.text_encoder.injection.layers == [2, 3]
    with Image.open(want["path"]) as image:
        answer = model.predict([image])[0]
    assert answer.names[0] == want["predicted"]
    # the file has six digits; a lone picture rounds otherwise than one of a batch
    assert abs(answer.probabilities[0] - float(want["probability_1"])) < 2e-6


def test_evidence_per_class_and_confusion(eurosat_root, clip_file, tmp_path):
    arguments = train_arguments(eurosat_root, tmp_path, clip_file, "ZeroshotCLIP")
    options = ["TEST.PER_CLASS_RESULT", "True", "TEST.COMPUTE_CMAT", "True"]
    assert train.main(["--eval-only", *arguments, *options]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    rows = rows_of(tmp_path / "per_class.csv")
    assert [row["class"] for row in rows] == EUROSAT_CLASSES
    assert sum(int(row["correct"]) for row in rows) == results["correct"]
    mean = np.mean([float(row["accuracy"]) for row in rows])
    assert abs(mean - results["perclass_accuracy"]) < 0.01
    table = rows_of(tmp_path / "confusion.csv")
    assert (
        sum(int(row[name]) for row, name in zip(table, EUROSAT_CLASSES, strict=True))
        == (results["correct"])
    )
    assert Image.open(tmp_path / "confusion.png").size[0] > 300


def test_models_that_cannot_be_fetched_are_answered(tmp_path, monkeypatch, capsys):
    import gdown

    from scripts import download_models

    def refuse(**kwargs):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(gdown, "download_folder", refuse)
    assert download_models.main([str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "no route to host" in error
    assert "by hand into" in error
    (tmp_path / "eurosat" / "seed1" / "MultiModalRepresentationLearner").mkdir(parents=True)
    monkeypatch.setattr(gdown, "download_folder", lambda **kwargs: [])
    assert download_models.main([str(tmp_path)]) == 0
    assert str(tmp_path / "eurosat" / "seed1") in capsys.readouterr().out


def test_pictures_that_ship_with_libraries(run, tmp_path, capsys):
    import skimage
    import sklearn

    folders = [
        Path(skimage.__file__).parent / "data",
        Path(sklearn.__file__).parent / "datasets" / "images",
    ]
    page = tmp_path / "page.html"
    code = predict.main([str(run), *map(str, folders), "--html", str(page)])
    skipped = capsys.readouterr().err.count("skipped: Cannot read the image ")
    assert code == (1 if skipped else 0)  # one of them is a TIFF that PIL cannot read
    count = sum(len(predict.find_pictures([str(folder)])) for folder in folders)
    assert count >= 20
    assert page.read_text().count("<article>") == count - skipped
    assert skipped <= 1
