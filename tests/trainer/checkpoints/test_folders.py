"""What a folder holds is compared with what is asked for: by trainings and evaluations."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import predict
import train
from conftest import REPOSITORY, build_cfg, train_arguments
from dassl.alone import alone_in
from dassl.config import get_cfg_default
from trainer.checkpoints.identity import Identity, first_difference, plain_settings
from trainer.checkpoints.pictures import hash_pictures
from trainer.checkpoints.settings import changes_numbers, is_circumstance
from trainer.config import extend_cfg, flatten

MODEL = "MultiModalRepresentationLearner"


def default_keys():
    cfg = get_cfg_default()
    extend_cfg(cfg)
    return sorted(flatten(cfg))


def test_every_key_is_of_one_class():
    """A new key has to be entered in the table of trainer/checkpoints/settings.py."""
    assert [key for key in default_keys() if changes_numbers(key) == is_circumstance(key)] == []


@pytest.fixture(scope="module")
def made():
    cfg = build_cfg("data", 4, "all")
    return Identity("MMRL", plain_settings(flatten(cfg)), ["cat"], "a" * 64, "b" * 64)


@pytest.mark.parametrize(
    ("trainer", "change", "is_same"),
    [
        ("MMRL", {"TRAINER.MMRLpp.BETA": 0.5}, True),  # a node that MMRL does not read
        ("Mine", {"TRAINER.MMRLpp.BETA": 0.5}, False),
        ("MMRL", {"MODEL.BACKBONE.ACTIVATION": "quick_gelu"}, True),  # as older files mean "auto"
        ("MMRL", {"MODEL.BACKBONE.ACTIVATION": "gelu"}, False),
        ("MMRL", {"MODEL.BACKBONE.NAME": "converted.safetensors"}, True),
    ],
)
def test_what_is_said_in_other_words_is_no_difference(trainer, change, is_same, made):
    made = made._replace(trainer=trainer)
    wanted = made._replace(settings=made.settings | change)
    assert (first_difference(made, wanted) is None) == is_same


def test_what_became_a_circumstance_is_no_difference_to_older_files(made):
    older = made._replace(settings=made.settings | {"DATASET.CSV": "a.csv"})
    assert first_difference(older, made) is None


def spoil_pictures(root, folder, pattern):
    """A copy of a data set in which some pictures hold something else."""
    shutil.copytree(root, folder)
    for path in folder.rglob(pattern):
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    return folder


class Item:
    def __init__(self, path):
        self.impath, self.label, self.classname = str(path), 0, "cat"


def test_the_hash_follows_content_not_places(tmp_path):
    for name in ("a/x.png", "a/y.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    shutil.copytree(tmp_path / "a", tmp_path / "moved/b")
    one, two = (
        [Item(f / n) for n in ("x.png", "y.png")] for f in (tmp_path / "a", tmp_path / "moved/b")
    )
    assert hash_pictures(one) == hash_pictures(two)
    (tmp_path / "moved/b/y.png").write_bytes(b"a/z.png")
    assert hash_pictures(one) != hash_pictures(two)
    assert hash_pictures(one) != hash_pictures(one[::-1])


# Runs of train.py.


def request(root, out, clip_file, *options, seed=1):
    arguments = train_arguments(root, out, clip_file, seed=seed)
    best = ["TEST.FINAL_MODEL", "best_val", "TRAIN.CHECKPOINT_FREQ", "1"]
    return [*arguments, *best, "OPTIM.MAX_EPOCH", "2", *options]


@pytest.fixture(scope="module")
def runs(eurosat_root, clip_file, tmp_path_factory):
    """Run folders of seed 1 and 2."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (1, 2):
        arguments = request(eurosat_root, folder / f"seed{seed}", clip_file, seed=seed)
        assert train.main(arguments) == 0
    return folder


@pytest.fixture
def run(runs, tmp_path):
    """A copy to be spoiled."""
    return shutil.copytree(runs / "seed1", tmp_path / "run")


def content_of(folder):
    # without the log: within one process the first command's goes on
    files = [p for p in folder.rglob("*") if p.is_file() and "log.txt" not in p.name]
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in files}


@pytest.mark.parametrize(
    ("pattern", "words"),
    [("train*.jpg", "training"), ("val*.jpg", "validation"), ("test*.jpg", "test")],
)
def test_other_pictures_under_the_same_names_are_refused(
    pattern, words, run, eurosat_root, clip_file, tmp_path, capsys
):
    root = spoil_pictures(eurosat_root, tmp_path / "data", pattern)
    before = content_of(run)
    assert train.main(request(root, run, clip_file)) == 2
    assert f"was made with other {words} pictures" in capsys.readouterr().err
    assert content_of(run) == before
    (run / "results.json").unlink()
    # what was trained does not depend on what it is tested on
    assert train.main(request(root, run, clip_file)) == (0 if words == "test" else 2)


def test_the_best_model_has_to_be_there_and_of_the_run(run, runs, eurosat_root, clip_file, capsys):
    (run / "results.json").unlink()
    best = run / MODEL / "model-best.pth.tar"
    shutil.copy(runs / "seed2" / MODEL / best.name, best)
    assert train.main(request(eurosat_root, run, clip_file)) == 2
    assert "model-best.pth.tar was made with SEED 2, but SEED is now 1" in capsys.readouterr().err
    best.unlink()
    assert train.main(request(eurosat_root, run, clip_file)) == 2
    assert "model-best.pth.tar is missing" in capsys.readouterr().err


def test_the_best_model_goes_along_where_a_run_is_resumed_elsewhere(
    run, runs, eurosat_root, clip_file, tmp_path, capsys
):
    resume = ["--resume", str(run)]
    assert train.main([*resume, *request(eurosat_root, tmp_path / "b", clip_file)]) == 0
    assert (tmp_path / "b" / MODEL / "model-best.pth.tar").is_file()
    results = [json.loads((f / "results.json").read_text()) for f in (run, tmp_path / "b")]
    assert results[0]["accuracy"] == results[1]["accuracy"]
    resume = ["--resume", str(tmp_path / "nowhere")]
    assert train.main([*resume, *request(eurosat_root, tmp_path / "c", clip_file)]) == 2
    assert "nothing to resume from in" in capsys.readouterr().err


def test_a_used_folder_is_compared_with_an_evaluation_too(
    runs, eurosat_root, clip_file, tmp_path, capsys
):
    out = tmp_path / "eval"
    model = ["--eval-only", "--model-dir", str(runs / "seed1")]
    arguments = request(eurosat_root, out, clip_file)
    assert train.main([*model, *arguments]) == 0
    before = content_of(out)
    assert train.main([*model, *arguments]) == 0
    assert "already finished: accuracy" in capsys.readouterr().out
    root = spoil_pictures(eurosat_root, tmp_path / "data", "test*.jpg")
    for options, words in [
        ([*model, *arguments, "DATASET.SUBSAMPLE_CLASSES", "new"], "SUBSAMPLE_CLASSES is now new"),
        ([*model, *request(root, out, clip_file)], "other test pictures"),
        # the best epoch is the first
        ([*model, "--load-epoch", "2", *arguments], "is of another model"),
    ]:
        assert train.main(options) == 2
        assert words in capsys.readouterr().err
    assert content_of(out) == before
    # evidence that is not there is made
    assert train.main([*model, *arguments, "TEST.PREDICTIONS", "True"]) == 0
    assert (out / "predictions.csv").is_file()


def test_figures_are_filed_under_the_seed_and_the_shots_of_their_training(
    runs, eurosat_root, clip_file, tmp_path, capsys
):
    model = ["--eval-only", "--model-dir", str(runs / "seed2")]
    out = tmp_path / "eval"
    assert train.main([*model, *request(eurosat_root, out, clip_file, seed=1)]) == 2
    assert "was made with SEED 2, but SEED is now 1" in capsys.readouterr().err
    bare = request(eurosat_root, out, clip_file)
    for word in ("--seed", "DATASET.NUM_SHOTS"):
        position = bare.index(word)
        del bare[position : position + 2]
    assert train.main([*model, *bare]) == 0
    results = json.loads((out / "results.json").read_text())
    assert (results["seed"], results["num_shots"]) == (2, 4)
    several = ["--eval-only", "--model-dir", *(str(runs / f"seed{seed}") for seed in (1, 2))]
    many = request(eurosat_root, tmp_path / "many", clip_file)
    assert train.main([*several, *many]) == 0
    for seed in (1, 2):
        results = json.loads((tmp_path / f"many/seed{seed}/results.json").read_text())
        assert results["seed"] == results["identity"]["settings"]["SEED"] == seed
    assert not (tmp_path / "many/results.json").exists()
    assert train.main([*several, *many]) == 0
    assert capsys.readouterr().out.count("already finished: accuracy") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model-dir", "RUN"], "--model-dir is for evaluations"),
        (["--load-epoch", "1"], "--load-epoch is for evaluations"),
        (["--eval-only", "--model-dir", "FILE", "--load-epoch", "1"], "is a file; give the run's"),
        (["--eval-only", "--model-dir", "RUN", "--output-dir", "RUN/" + MODEL], "of a training"),
        (["--eval-only", "--trainer", "ZeroshotCLIP", "--model-dir", "RUN"], "learns nothing"),
        (["--trainer", "ZeroshotCLIP"], "has nothing to train"),
    ],
)
def test_no_option_is_passed_over_in_silence(
    words, message, runs, eurosat_root, clip_file, tmp_path, capsys
):
    names = {"RUN": runs / "seed1", "FILE": runs / "seed1" / MODEL / "model.pth.tar-2"}
    words = [str(names.get(word, word)).replace("RUN/", f"{names['RUN']}/") for word in words]
    arguments = request(eurosat_root, tmp_path / "out", clip_file)
    for flag in {"--output-dir", "--trainer"} & set(words):
        position = arguments.index(flag)
        del arguments[position : position + 2]
    assert train.main([*words, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_an_epoch_before_the_last_is_said(runs, eurosat_root, clip_file, tmp_path, capsys):
    model = ["--eval-only", "--model-dir", str(runs / "seed1"), "--load-epoch", "1"]
    assert train.main([*model, *request(eurosat_root, tmp_path, clip_file)]) == 0
    assert "Note: this is epoch 1 of a run of 2 epochs" in capsys.readouterr().out
    file, picture = runs / "seed1" / MODEL / "model.pth.tar-1", next(eurosat_root.rglob("*.jpg"))
    assert predict.main([str(file), str(picture), "--backbone", clip_file]) == 0
    assert "Note: this is epoch 1 of a run of 2 epochs" in capsys.readouterr().out


def test_an_unseeded_run_is_finished_and_cannot_be_gone_on_with(
    eurosat_root, clip_file, tmp_path, capsys
):
    arguments = [*request(eurosat_root, tmp_path, clip_file), "SEED", "-1"]
    assert train.main(arguments) == 0
    assert train.main(arguments) == 0
    assert "already finished" in capsys.readouterr().out
    (tmp_path / "results.json").unlink()
    assert train.main(arguments) == 2
    assert "since SEED is -1" in capsys.readouterr().err


HOLD = """
import sys
from dassl.alone import alone_in
with alone_in(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_commands_do_not_work_in_one_folder(eurosat_root, clip_file, tmp_path, capsys):
    """The lock ends with its process; the file that a killed one leaves locks nobody out."""
    out = tmp_path / "run"
    command = [sys.executable, "-c", HOLD, str(out)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=REPOSITORY, **pipes) as other:
        assert other.stdout.readline() == b"held\n"
        assert train.main(request(eurosat_root, out, clip_file)) == 2
        assert "is in use by another command" in capsys.readouterr().err
        assert [path.name for path in out.iterdir()] == [".lock"]
        other.kill()
    with alone_in(str(out)):
        pass
    assert list(out.iterdir()) == []
