"""README.md beside an exported file: what it tells the hub, and what it does not tell."""

import json

import pytest
from huggingface_hub import ModelCard

import train
from conftest import EUROSAT_CLASSES, GOLDEN, train_arguments
from trainer.checkpoints import __main__ as checkpoint

PUBLISHED = GOLDEN / "published_checkpoint"
EPOCHS = ["OPTIM.MAX_EPOCH", "2", "TRAIN.CHECKPOINT_FREQ", "1"]


@pytest.fixture(scope="module")
def run(eurosat_root, clip_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("card") / "run"
    assert train.main([*train_arguments(eurosat_root, out, clip_file), *EPOCHS]) == 0
    return out


def export(run, out, *options):
    assert checkpoint.main(["export", str(run), str(out), "--model-card", *options]) == 0
    return (out.parent / "README.md").read_text()


def test_a_card_has_accuracy_data_and_settings(run, eurosat_root, tmp_path):
    text = export(run, tmp_path / "model.safetensors")
    results = json.loads((run / "results.json").read_text())
    data = ModelCard(text).data  # refuses a malformed model-index
    assert (data.library_name, data.pipeline_tag) == ("mmrl", "image-classification")
    (figure,) = data.eval_results
    assert (figure.dataset_name, figure.metric_type) == ("EuroSAT", "accuracy")
    assert figure.metric_value == results["accuracy"]
    assert f"| accuracy | {results['accuracy']:.2f}% |" in text
    for part in (*EUROSAT_CLASSES, "TRAINER.MMRL.REP_DIM: 16", "SEED: 1", results["draw_sha256"]):
        assert part in text
    for folder in (eurosat_root, run, tmp_path):
        assert str(folder) not in text
    assert "TRAINER.MMRLpp" not in text


def test_a_published_checkpoint_s_card_says_what_is_not_recorded(tmp_path):
    text = export(PUBLISHED, tmp_path / "model.safetensors")
    assert ModelCard(text).data.eval_results is None
    assert "No accuracy is recorded" in text


def test_the_accuracy_is_of_the_exported_epoch(run, tmp_path):
    text = export(run, tmp_path / "model.safetensors", "--load-epoch", "1")
    assert "No accuracy is recorded" in text
    text = export(run, tmp_path / "model.safetensors", "--load-epoch", "2")
    assert "| accuracy |" in text


def test_no_other_readme_is_replaced(run, tmp_path, capsys):
    export(run, tmp_path / "model.safetensors")
    export(run, tmp_path / "model.safetensors")  # a card replaces a card
    (tmp_path / "README.md").write_text("# A project\n")
    words = ["export", str(run), str(tmp_path / "other.safetensors"), "--model-card"]
    assert checkpoint.main(words) == 2
    assert "no model card of ours" in capsys.readouterr().err
    assert not (tmp_path / "other.safetensors").exists()
    assert checkpoint.main(["describe", str(run), "--model-card"]) == 2
