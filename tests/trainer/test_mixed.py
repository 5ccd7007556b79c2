"""Trained and new classes together, from a base-trained run: evaluated, predicted, as features."""

import json

import pytest
import torch
from PIL import Image

import predict
import train
from conftest import EUROSAT_CLASSES, GOLDEN, train_arguments
from run_files import RunResults
from trainer import load
from trainer.checkpoints.identity import KEY, Identity, seal

PUBLISHED = GOLDEN / "published_checkpoint"
BASE, NEW = EUROSAT_CLASSES[:5], EUROSAT_CLASSES[5:]
HOW = "fused logits of 5 trained classes and the class feature of 5 new classes, in one softmax"


@pytest.fixture(scope="module")
def run(eurosat_root, clip_file, tmp_path_factory):
    """A run that was trained on the base classes."""
    out = tmp_path_factory.mktemp("mixed") / "run"
    options = ["OPTIM.MAX_EPOCH", "2", "DATASET.SUBSAMPLE_CLASSES", "base"]
    assert train.main([*train_arguments(eurosat_root, out, clip_file), *options]) == 0
    return out


@pytest.fixture(scope="module")
def joint(run, eurosat_root, clip_file, tmp_path_factory):
    """The folder of its evaluation on all classes, which tests may change and make again."""
    out = tmp_path_factory.mktemp("joint")
    evaluate(run, out, eurosat_root, clip_file)
    return out


@pytest.fixture(scope="module")
def pictures(eurosat_root):
    folder = eurosat_root / "eurosat" / "2750"
    return [Image.open(path) for path in sorted(folder.glob("*/test_0.jpg"))]


def evaluate(run, out, eurosat_root, clip_file, *options):
    arguments = train_arguments(eurosat_root, out, clip_file)
    words = ["--eval-only", "--model-dir", str(run), *arguments, *options]
    assert train.main(words) == 0
    return json.loads((out / "results.json").read_text())


def test_all_classes_of_a_base_trained_run(run, joint, eurosat_root, clip_file, tmp_path):
    base, new = (
        evaluate(run, tmp_path / half, eurosat_root, clip_file, "DATASET.SUBSAMPLE_CLASSES", half)
        for half in ("base", "new")
    )
    both = RunResults.read(joint)
    assert f"=> base and new together, read from the {HOW}\n" in (joint / "log.txt").read_text()
    assert (both.read_out, both.base_total, both.new_total) == (HOW, 15, 15)
    # among their own classes the pictures get the answers of the published protocol
    assert both.base_accuracy_among_base == base["accuracy"]
    assert both.new_accuracy_among_new == new["accuracy"]
    assert both.accuracy == pytest.approx((both.base_accuracy + both.new_accuracy) / 2)
    assert both.openworld_auc <= min(base["accuracy"], new["accuracy"], both.auroc)
    assert not {"read_out", "base_accuracy", "openworld_auc"} & (base | new).keys()


def test_results_of_an_earlier_version_all_fused_are_made_again(
    run, joint, eurosat_root, clip_file
):
    values = RunResults.read(joint).values
    fused = {key: value for key, value in values.items() if key not in ("read_out", KEY)}
    sealed = seal(fused, Identity.read(values, ""))
    (joint / "results.json").write_text(json.dumps(sealed))
    assert evaluate(run, joint, eurosat_root, clip_file)["read_out"] == HOW


@pytest.mark.slow
def test_all_classes_of_a_run_that_was_trained_on_all_have_no_joint_figures(
    eurosat_root, clip_file, tmp_path
):
    arguments = train_arguments(eurosat_root, tmp_path / "run", clip_file)
    assert train.main([*arguments, "OPTIM.MAX_EPOCH", "1"]) == 0
    results = evaluate(tmp_path / "run", tmp_path / "eval", eurosat_root, clip_file)
    assert "read_out" not in results
    trained = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["accuracy"] == trained["accuracy"]


def test_a_new_name_leaves_trained_classes_as_they_were(run, pictures, capsys):
    alone = load(str(run))
    names = ["a lighthouse", *(name.replace(" ", "_").lower() for name in BASE)]
    mixed = load(str(run), names)
    before, after = alone.logits(pictures), mixed.logits(pictures)
    assert torch.equal(after[:, 1:], before)
    want = 100 * mixed.features(pictures) @ mixed.text_features()[0]
    torch.testing.assert_close(after[:, 0], want, rtol=0, atol=1e-4)  # 1e-6 in cosine, times 100
    assert mixed.reads == (
        "fused logits of 5 trained classes and the class feature of 1 new class, in one softmax"
    )
    [answer] = mixed.predict(pictures[:1], top=6)
    assert sum(answer.probabilities) == pytest.approx(1)


def test_predict_prints_the_rule(run, eurosat_root, capsys):
    picture = next((eurosat_root / "eurosat" / "2750" / "River").iterdir())
    assert predict.main([str(run), str(picture), "--classes", ",".join([*BASE, "x"])]) == 0
    assert "6 classes, read from the fused logits of 5 trained" in capsys.readouterr().out


def test_features_are_those_of_the_logits(run, pictures):
    model = load(str(run))
    image, rep, text = model.features(pictures), model.rep_features(pictures), model.text_features()
    assert image.shape == rep.shape == (10, 32) and text.shape == (5, 32)
    for features in (image, rep, text):
        torch.testing.assert_close(features.norm(dim=1), torch.ones(len(features)))
    alpha = model.model.alpha
    fused = 100 * (alpha * image + (1 - alpha) * rep) @ text.t()
    torch.testing.assert_close(fused, model.logits(pictures), rtol=0, atol=1e-4)
    other = load(str(run), NEW)
    of_new = 100 * image @ model.text_features(NEW).t()
    torch.testing.assert_close(of_new, other.logits(pictures), rtol=0, atol=1e-4)
    torch.testing.assert_close(model.text_features(BASE), text, rtol=0, atol=1e-6)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="no checkpoint here")
def test_what_was_trained_can_be_said_of_a_file_that_does_not_record_it(
    clip_file, pictures, capsys
):
    path, how = str(PUBLISHED), {"backbone": clip_file, "device": "cpu"}
    all_fused = load(path, EUROSAT_CLASSES, **how)
    assert f"not recorded: {path!r} is read as if all were" in capsys.readouterr().out
    mixed = load(path, EUROSAT_CLASSES, **how, trained=BASE)
    assert (all_fused.reads, mixed.reads) == ("fusion", HOW)
    fused, both = all_fused.logits(pictures), mixed.logits(pictures)
    torch.testing.assert_close(both[:, :5], fused[:, :5], rtol=0, atol=1e-4)
    assert (both[:, 5:] - fused[:, 5:]).abs().max() > 0.1
