"""The registered baselines through train.py: figures, choices, reloading, prediction, refusals."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import train
from conftest import EUROSAT_CLASSES, TINY_OPTIONS, train_arguments
from dassl.engine import build_trainer
from trainer import load
from trainer.baselines import features
from trainer.checkpoints.__main__ import main as checkpoints
from trainer.checkpoints.find import find_checkpoint, read_checkpoint

# what TipAdapter does, TipAdapterF does before and after its training
BASELINES = [
    "LinearProbe",
    pytest.param("TipAdapter", marks=pytest.mark.slow),
    "TipAdapterF",
]


def arguments(root, out, clip_file, trainer, *options):
    """Of train.py, for a few-shot run of seconds."""
    words = train_arguments(root, out, clip_file, trainer)
    words = words[: words.index(TINY_OPTIONS[0])] + TINY_OPTIONS
    few = [f"TRAINER.{trainer}.VIEWS", "2"] if trainer != "LinearProbe" else []
    epochs = ["OPTIM.MAX_EPOCH", "2"] if trainer == "TipAdapterF" else []
    return [*words, "TASK", "FS", *few, *epochs, *options]


def results_of(out):
    return json.loads((out / "results.json").read_text())


@pytest.fixture(scope="module", params=BASELINES)
def run(request, eurosat_root, clip_file, tmp_path_factory):
    """(trainer's name, folder of a finished run)"""
    out = tmp_path_factory.mktemp("run")
    assert train.main(arguments(eurosat_root, out, clip_file, request.param)) == 0
    return request.param, out


def build(root, out, clip_file, trainer, *options):
    args = train.parse(arguments(root, out, clip_file, trainer, *options))
    return build_trainer(train.resolve(args)[0])


def logits_by_numpy(state, text, f):
    """The equations, from what the checkpoint holds."""
    if "weight" in state:
        return f @ state["weight"].T + state["bias"]
    affinity = np.exp(-state["beta"] * (1 - f @ state["keys"].T))
    return 100 * f @ text.T + state["alpha"] * affinity @ np.eye(len(text))[state["labels"]]


def test_figures_follow_from_the_checkpoint_and_the_features(
    run, eurosat_root, clip_file, tmp_path
):
    name, out = run
    trainer = build(eurosat_root, tmp_path, clip_file, name)
    checkpoint = read_checkpoint(find_checkpoint(str(out)))
    state = {key: value.double().numpy() for key, value in checkpoint["state_dict"].items()}
    state |= {"labels": state["labels"].astype(int)} if "labels" in state else {}
    test = trainer.features(trainer.dm.dataset.test)
    text = trainer.model.frozen_text.double().numpy()
    want = logits_by_numpy(state, text, test.image.double().numpy())
    results = results_of(out)
    accuracy = 100 * (want.argmax(1) == test.label.numpy()).mean()
    assert results["accuracy"] == pytest.approx(accuracy)
    trainer.load_model(str(out))
    got = trainer.model.logits(test.image).detach().numpy()
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    assert results["chosen"] == pytest.approx(trainer.model.chosen())


def test_a_finished_run_is_left_alone_and_its_checkpoint_evaluates_alike(
    run, eurosat_root, clip_file, tmp_path, capsys
):
    name, out = run
    words = arguments(eurosat_root, out, clip_file, name)
    assert train.main(words) == 0
    assert "already finished" in capsys.readouterr().out
    words[words.index("--output-dir") + 1] = str(tmp_path)
    assert train.main(["--eval-only", "--model-dir", str(out), *words]) == 0
    assert results_of(tmp_path)["accuracy"] == results_of(out)["accuracy"]
    assert results_of(tmp_path)["chosen"] == results_of(out)["chosen"]


def test_its_file_predicts_and_knows_its_classes_alone(run, clip_file, eurosat_root, tmp_path):
    name, out = run
    exported = tmp_path / "own.safetensors"
    assert checkpoints(["export", str(out), str(exported)]) == 0
    picture = Image.open(next(iter(sorted((eurosat_root / "eurosat/2750/Forest").iterdir()))))
    whole = load(str(out), backbone=clip_file)
    found = load(str(exported), backbone=clip_file).logits([picture])
    torch.testing.assert_close(found, whole.logits([picture]), rtol=1e-5, atol=1e-4)
    assert found.shape == (1, len(EUROSAT_CLASSES))
    with pytest.raises(ValueError, match=f"new classes are not applicable to {name}"):
        load(str(out), classes=["mine", "yours"], backbone=clip_file)


def test_new_classes_are_not_applicable(run, eurosat_root, clip_file, tmp_path, capsys):
    name, out = run
    words = arguments(eurosat_root, tmp_path, clip_file, name, "DATASET.SUBSAMPLE_CLASSES", "new")
    assert train.main(["--eval-only", "--model-dir", str(out), *words]) == 2
    assert f"new classes are not applicable to {name}" in capsys.readouterr().err


def test_test_labels_do_not_change_what_is_chosen(run, eurosat_root, clip_file, tmp_path):
    name, out = run
    torch.manual_seed(1)
    trainer = build(eurosat_root, tmp_path, clip_file, name)
    for item in trainer.dm.dataset.test:
        item._label = (item.label + 3) % 10
    trainer.train()
    assert trainer.results["accuracy"] != results_of(out)["accuracy"]
    assert trainer.model.chosen() == results_of(out)["chosen"]


@pytest.mark.parametrize("name", ["LinearProbe", "TipAdapter"])
def test_without_validation_nothing_is_chosen_on_test_pictures(
    name, eurosat_root, clip_file, tmp_path, capsys
):
    trainer = build(eurosat_root, tmp_path, clip_file, name)
    trainer.dm.dataset._val = trainer.dm.dataset.test  # as ImageNet's reader has it
    assert trainer.validation() is None
    trainer.train()
    said = {"LinearProbe": "cross-validation inside the training", "TipAdapter": "as configured"}
    assert said[name] in capsys.readouterr().out
    if name == "TipAdapter":
        assert trainer.model.chosen() == {"alpha": 1.0, "beta": 5.5}


def test_pictures_are_encoded_once_for_all_baselines(
    eurosat_root, clip_file, tmp_path, monkeypatch
):
    features._kept.clear()
    computed = []
    compute = features._compute
    monkeypatch.setattr(
        features, "_compute", lambda *args: computed.append(args[3]) or compute(*args)
    )
    for name in ("LinearProbe", "TipAdapter"):
        build(eurosat_root, tmp_path / name, clip_file, name).train()
    assert sorted(computed) == [0, 0, 0, 2]  # train, val, test as evaluated; two views of train


def test_the_views_of_a_cache_come_from_the_seed_and_leave_the_generators(
    eurosat_root, clip_file, tmp_path
):
    trainer = build(eurosat_root, tmp_path, clip_file, "TipAdapter")
    features._kept.clear()
    torch.manual_seed(5)
    one = trainer.features(trainer.dm.dataset.train_x, 2).image
    after = torch.rand(1)
    features._kept.clear()
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), after)
    assert torch.equal(trainer.features(trainer.dm.dataset.train_x, 2).image, one)


def test_the_keys_take_the_steps_of_adamw(eurosat_root, clip_file, tmp_path):
    """Three steps of cross-entropy on the keys, gradient and AdamW written out in NumPy."""
    trainer = build(eurosat_root, tmp_path, clip_file, "TipAdapterF", "OPTIM.WARMUP_EPOCH", "-1")
    train_set = trainer.features(trainer.dm.dataset.train_x)
    trainer.model.fill(train_set)
    text = trainer.model.frozen_text.double().numpy()
    keys, labels = train_set.image.double().numpy(), train_set.label.numpy()
    values = np.eye(len(text))[labels]
    images = torch.stack([trainer.dm.train_loader_x.dataset[i]["img"] for i in (0, 9, 20)])
    batch = {"img": images, "label": train_set.label[[0, 9, 20]]}
    f = trainer.model.image_encoder.shared(images).double().numpy()
    trainer.batch_idx, trainer.num_batches = 0, 100  # the learning rate stays
    first = second = np.zeros_like(keys)
    for step in range(1, 4):
        trainer.forward_backward(batch)
        affinity = np.exp(-5.5 * (1 - f @ keys.T))
        z = 100 * f @ text.T + affinity @ values
        p = np.exp(z - z.max(1, keepdims=True))
        slope = (p / p.sum(1, keepdims=True) - values[[0, 9, 20]]) / 3
        gradient = (5.5 * affinity * (slope @ values.T)).T @ f
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        keys = keys * (1 - 0.001 * 0.01)
        move = np.sqrt(second / (1 - 0.999**step)) + 1e-4
        keys = keys - 0.001 * first / (1 - 0.9**step) / move
    np.testing.assert_allclose(trainer.model.keys.detach().numpy(), keys, atol=1e-5)
    assert abs(keys - train_set.image.numpy()).max() > 1e-3  # it has moved


def test_epochs_are_refused_where_there_are_none(eurosat_root, clip_file, tmp_path, capsys):
    words = arguments(eurosat_root, tmp_path, clip_file, "LinearProbe", "OPTIM.MAX_EPOCH", "3")
    assert train.main(words) == 2
    assert "OPTIM.MAX_EPOCH must be 1, not 3" in capsys.readouterr().err


def test_evaluation_needs_what_was_learned(eurosat_root, clip_file, tmp_path, capsys):
    words = arguments(eurosat_root, tmp_path, clip_file, "LinearProbe")
    assert train.main(["--eval-only", *words]) == 2
    assert "--model-dir RUN" in capsys.readouterr().err
