"""A finished run is the one that is asked for only if its CLIP and its draw are what they were."""

import contextlib
import json
import os
import shutil

import pytest
import torch

import train
import trainer.backbone
from conftest import PUBLISHED_SPEC, recipe, tensors
from run_files import RunResults
from sweep.execution import Outcome, State, stored_outcome
from sweep.inputs import inputs_of_finished
from sweep.runs import list_runs
from sweep.settings import Settings, folder_of

OPTIONS = (
    *("INPUT.SIZE", "(32,32)", "DATALOADER.NUM_WORKERS", "0", "OPTIM.MAX_EPOCH", "1"),
    *("TRAINER.MMRL.PREC", "fp32", "TRAINER.MMRL.REP_LAYERS", "[4]", "TRAINER.MMRL.REP_DIM", "16"),
)
RUNS = list_runs("base_to_novel", ["mmrl"], ["eurosat"], [1], [2])


@pytest.fixture(scope="module")
def original(eurosat_root, clip_file, tmp_path_factory):
    """A finished training and its evaluation, beside the data and the CLIP that they are of."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(eurosat_root, folder / "data")
    shutil.copy(clip_file, folder / "clip.pt")
    settings = Settings(str(folder / "data"), str(folder), str(folder / "clip.pt"), OPTIONS)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        for run in RUNS:
            assert train.main(run.arguments(*settings[:4])) == 0
    return folder


@pytest.fixture
def settings(original, tmp_path):
    """Of a copy, in which something may be replaced."""
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    return Settings(str(tmp_path / "data"), str(tmp_path), str(tmp_path / "clip.pt"), OPTIONS)


def outcomes(settings):
    known = settings._replace(inputs=inputs_of_finished(RUNS, settings))
    return [stored_outcome(run, known) for run in RUNS]


def assert_finished(settings):
    accuracies = [RunResults.read(folder_of(run, settings)).accuracy for run in RUNS]
    assert outcomes(settings) == [Outcome(State.FINISHED, accuracy=a) for a in accuracies]


def test_what_is_as_it_was_is_finished_and_the_clip_is_read_once(settings, monkeypatch, capsys):
    read = []
    fingerprint_of = trainer.backbone.fingerprint_of
    monkeypatch.setattr(
        trainer.backbone, "fingerprint_of", lambda cfg: read.append(cfg) or fingerprint_of(cfg)
    )
    found = inputs_of_finished(RUNS, settings)
    assert len(read) == 1
    assert all(len(text) == 64 for inputs in found.values() for text in inputs)
    assert capsys.readouterr().out == ""
    assert_finished(settings)


def test_a_replaced_backbone_is_a_named_conflict(settings):
    other = recipe.clip_state_dict(PUBLISHED_SPEC | {"seed": 79})
    torch.save(tensors(other), settings.backbone)
    for run, outcome in zip(RUNS, outcomes(settings), strict=True):
        assert outcome.state is State.CONFLICT
        assert f"{folder_of(run, settings)}/results.json was made with the CLIP" in outcome.detail
        assert "remove the folder, or use another --output" in outcome.detail


def test_a_changed_draw_is_a_named_conflict(settings, tmp_path):
    path = tmp_path / "data/eurosat/split_zhou_EuroSAT.json"
    split = json.loads(path.read_text())
    split["train"].reverse()
    path.write_text(json.dumps(split))
    for outcome in outcomes(settings):
        assert outcome.state is State.CONFLICT
        assert "was made with other training pictures" in outcome.detail


def test_results_outlive_data_and_backbone(settings):
    shutil.rmtree(settings.root)
    os.unlink(settings.backbone)
    assert_finished(settings)
