"""train.py as users run it: real processes, real files, kill -9."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

import train
from conftest import EUROSAT_CLASSES, GOLDEN, REPOSITORY, TINY_OPTIONS, train_arguments
from dassl.utils import load_checkpoint
from trainer.checkpoints.resume import ResumeFile

METHODS = ["MMRL", "MMRLpp"]


def learned(out, epoch):
    path = out / "MultiModalRepresentationLearner" / f"model.pth.tar-{epoch}"
    return load_checkpoint(str(path))["state_dict"]


def assert_equal_states(one, two):
    assert list(one) == list(two)
    for key, value in one.items():
        assert torch.equal(value, two[key]), key


def start(arguments, **kwargs):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "train.py", *arguments], cwd=REPOSITORY, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs,
    )  # fmt: skip


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


def test_training_leaves_a_finished_run(method, eurosat_root, clip_file, tmp_path, capsys):
    out = tmp_path / "run"
    options = ["OPTIM.MAX_EPOCH", "2", "DATASET.SUBSAMPLE_CLASSES", "base"]
    assert train.main([*train_arguments(eurosat_root, out, clip_file, method), *options]) == 0
    results = json.loads((out / "results.json").read_text())
    assert results["accuracy"] == 100 * results["correct"] / results["total"]
    assert (results["total"], results["seed"], results["precision"]) == (15, 1, "fp32")
    assert results["classnames"] == EUROSAT_CLASSES[:5]
    assert len(results["draw_sha256"]) == 64
    assert results["draw_note"].startswith("The draw differs from the published one: train has ")
    assert results["config"]["TASK"] == "B2N"  # left out on the command line
    assert results["origins"]["OPTIM.MAX_EPOCH"] == "the command line"
    assert {"seconds", "images_per_second", "peak_memory_mib", "device", "versions"} <= set(results)
    left = sorted(p.name for p in out.iterdir())
    assert left == [
        "MultiModalRepresentationLearner", "config.yaml", "log.txt", "results.json", "tensorboard",
    ]  # fmt: skip
    log = (out / "log.txt").read_text()
    assert "REG_WEIGHT is 0.01: the paper's value for EuroSAT" in log
    assert [f"** {part} **\n" in log for part in ("Arguments", "Config", "System info")] == [
        True
    ] * 3
    printed = capsys.readouterr().out
    assert "  the paper's value for EuroSAT\n" in printed and "    OPTIM.MAX_EPOCH 2\n" in printed
    assert "** Config **" not in printed and "SGD_NESTEROV" not in printed
    assert "epoch [2/2] batch [5/5]" in printed and "epoch [2/2] batch [5/5]" in log
    size = (out / "MultiModalRepresentationLearner" / "model.pth.tar-2").stat().st_size
    assert size < 200_000
    state = torch.load(out / "MultiModalRepresentationLearner" / "model.pth.tar-2")
    assert state["epoch"] == 2  # torch's weights-only reader takes it


def test_new_classes_are_read_from_the_class_feature(method, eurosat_root, clip_file, tmp_path):
    common = train_arguments(eurosat_root, tmp_path / "run", clip_file, method)
    assert train.main([*common, "OPTIM.MAX_EPOCH", "1", "DATASET.SUBSAMPLE_CLASSES", "base"]) == 0
    evaluate = train_arguments(eurosat_root, tmp_path / "new", clip_file, method)
    options = ["--eval-only", "--model-dir", str(tmp_path / "run")]
    assert train.main([*options, *evaluate, "DATASET.SUBSAMPLE_CLASSES", "new"]) == 0
    results = json.loads((tmp_path / "new" / "results.json").read_text())
    assert results["classnames"] == EUROSAT_CLASSES[5:]
    assert not (tmp_path / "new" / "MultiModalRepresentationLearner").exists()


def test_zero_shot_trainer_evaluates(eurosat_root, clip_file, tmp_path):
    arguments = train_arguments(eurosat_root, tmp_path, clip_file, "ZeroshotCLIP")
    assert train.main(["--eval-only", *arguments]) == 0
    assert json.loads((tmp_path / "results.json").read_text())["total"] == 30


# No branch asks for both, so the fast suite has each method and each precision, not all pairs.
@pytest.mark.parametrize(
    ("method", "prec"),
    [
        *[("MMRLpp", "amp"), ("MMRL", "bf16"), ("MMRLpp", "fp16")],
        *[pytest.param("MMRL", prec, marks=pytest.mark.slow) for prec in ("fp32", "amp", "fp16")],
        *[pytest.param("MMRLpp", prec, marks=pytest.mark.slow) for prec in ("fp32", "bf16")],
    ],
)
def test_every_precision_trains_on_a_cpu(prec, method, eurosat_root, clip_file, tmp_path):
    arguments = train_arguments(eurosat_root, tmp_path, clip_file, method)
    options = [f"TRAINER.{method}.PREC", prec, "OPTIM.MAX_EPOCH", "1", "OPTIM.LR", "1e-5"]
    assert train.main([*arguments, *options]) == 0
    assert json.loads((tmp_path / "results.json").read_text())["precision"] == prec
    assert all(v.dtype == torch.float32 for v in learned(tmp_path, 1).values())


# A run that is killed with all of an epoch done and none of it saved: no moment to be hit.
KILLED = """
import os, signal, sys
import train
from trainer.checkpoints.resume import ResumeFile

def save_or_die(self, state, settings, save=ResumeFile.save):
    if state["epoch"] > {epochs}:
        os.kill(os.getpid(), signal.SIGKILL)
    save(self, state, settings)

ResumeFile.save = save_or_die
train.main(sys.argv[1:])
"""


def run_until_killed(epochs, arguments):
    """train.py in a process of its own, killed when it has done one epoch more than `epochs`."""
    command = [sys.executable, "-c", KILLED.format(epochs=epochs), *arguments]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize(
    ("method", "epochs"),
    [
        ("MMRLpp", 1),
        *[pytest.param("MMRL", epochs, marks=pytest.mark.slow) for epochs in (1, 3)],
        pytest.param("MMRLpp", 3, marks=pytest.mark.slow),
    ],
)
def test_killed_and_started_again_ends_with_the_same_parameters(
    method, epochs, eurosat_root, clip_file, tmp_path
):
    options = ["OPTIM.MAX_EPOCH", f"{epochs + 2}"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run_until_killed(epochs, [*train_arguments(eurosat_root, cut, clip_file, method), *options])
    assert ResumeFile(str(cut)).exists()
    assert not (cut / "results.json").exists()
    for out in (cut, whole):
        process = start([*train_arguments(eurosat_root, out, clip_file, method), *options])
        stdout, stderr = process.communicate()
        assert process.returncode == 0, stderr
        assert ("will resume training" in stdout) == (out == cut)
    assert_equal_states(learned(cut, epochs + 2), learned(whole, epochs + 2))
    one, two = (json.loads((out / "results.json").read_text()) for out in (cut, whole))
    assert (one["accuracy"], one["macro_f1"]) == (two["accuracy"], two["macro_f1"])
    assert not (cut / "resume.pt").exists()


def test_a_stopped_run_is_not_continued_with_other_settings(
    eurosat_root, clip_file, tmp_path, capsys
):
    arguments = train_arguments(eurosat_root, tmp_path, clip_file)
    run_until_killed(1, [*arguments, "OPTIM.MAX_EPOCH", "3"])
    assert train.main([*arguments, "OPTIM.MAX_EPOCH", "3", "OPTIM.LR", "0.5"]) == 2
    message = capsys.readouterr().err
    assert "OPTIM.LR 0.001" in message
    assert "OPTIM.LR is now 0.5" in message


def test_a_finished_run_repeated_trains_nothing(eurosat_root, clip_file, tmp_path, capsys):
    arguments = [*train_arguments(eurosat_root, tmp_path, clip_file), "OPTIM.MAX_EPOCH", "1"]
    assert train.main(arguments) == 0
    before = learned(tmp_path, 1)
    assert train.main(arguments) == 0
    assert "already finished: accuracy" in capsys.readouterr().out
    assert_equal_states(before, learned(tmp_path, 1))


def test_a_loss_that_is_not_finite_stops_the_run(eurosat_root, clip_file, tmp_path, capsys):
    arguments = train_arguments(eurosat_root, tmp_path, clip_file)
    options = ["OPTIM.MAX_EPOCH", "4", "OPTIM.LR", "1e38", "OPTIM.WARMUP_EPOCH", "1"]
    assert train.main([*arguments, *options]) == 1
    message = capsys.readouterr().err
    assert "epoch 2, step" in message
    assert "EuroSAT" in message
    assert "lr 1.0000e+38" in message
    assert not (tmp_path / "results.json").exists()
    kept = load_checkpoint(str(tmp_path / "resume.pt"))
    assert kept["epoch"] == 1
    assert all(torch.isfinite(v).all() for v in kept["state_dict"].values())


def test_load_epoch_is_obeyed(eurosat_root, clip_file, tmp_path, capsys):
    arguments = train_arguments(eurosat_root, tmp_path / "run", clip_file)
    options = ["OPTIM.MAX_EPOCH", "2", "TRAIN.CHECKPOINT_FREQ", "1"]
    assert train.main([*arguments, *options]) == 0
    evaluate = train_arguments(eurosat_root, tmp_path / "eval", clip_file)
    model = ["--eval-only", "--model-dir", str(tmp_path / "run"), "--load-epoch"]
    assert train.main([*model, "1", *evaluate]) == 0
    assert 'model.pth.tar-1" (epoch = 1)' in capsys.readouterr().out
    assert train.main([*model, "9", *evaluate]) == 2
    assert "epochs there: [1, 2]" in capsys.readouterr().err


def test_seed_zero_counts_and_gives_repeatable_runs(eurosat_root, clip_file, tmp_path):
    for out in ("a", "b"):
        arguments = train_arguments(eurosat_root, tmp_path / out, clip_file, seed=0)
        assert train.main([*arguments, "OPTIM.MAX_EPOCH", "1"]) == 0
    assert_equal_states(learned(tmp_path / "a", 1), learned(tmp_path / "b", 1))
    results = json.loads((tmp_path / "a" / "results.json").read_text())
    assert results["seed"] == 0


WRONG = [
    (["OPTIM.LRR", "1"], "Did you mean 'OPTIM.LR'"),
    (["DATASET.ROOT", "/nowhere"], "--root is the folder that holds eurosat/"),
    (["INPUT.SIZE", "(224,224)"], "takes (32, 32)"),
    (["TRAINER.MMRL.REP_LAYERS", "[4,5]"], "REP_LAYERS contains [5]; this encoder has layers 1"),
    (["TRAINER.MMRL.REP_LAYERS", "[]"], "REP_LAYERS is empty"),
    (["MODEL.BACKBONE.NAME", "RN50"], "RN50 is a ResNet"),
    (["TRAINER.NAME", "MMRLp"], "MMRLpp"),
    (["DATASET.NAME", "EuroSat"], "do you mean [EuroSAT]"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_wrong_requests_get_one_sentence_and_exit_code_2(
    options, message, eurosat_root, clip_file, tmp_path, capsys
):
    arguments = train_arguments(eurosat_root, tmp_path, clip_file)
    assert train.main([*arguments, *options]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "results.json").exists()


def test_a_missing_model_dir_is_answered(eurosat_root, clip_file, tmp_path, capsys):
    arguments = train_arguments(eurosat_root, tmp_path, clip_file)
    assert train.main(["--eval-only", "--model-dir", "/nowhere", *arguments]) == 2
    assert "'/nowhere'" in capsys.readouterr().err


needs_published = pytest.mark.skipif(
    not (GOLDEN / "published_checkpoint").is_dir(), reason="this golden folder has no checkpoint"
)


@needs_published
def test_a_published_run_is_trained_on(eurosat_root, clip_file, tmp_path, capsys):
    shutil.copytree(GOLDEN / "published_checkpoint", tmp_path, dirs_exist_ok=True)
    arguments = train_arguments(eurosat_root, tmp_path, clip_file)
    options = ["TRAINER.MMRL.REP_DIM", "64", "DATASET.SUBSAMPLE_CLASSES", "base"]
    assert train.main([*arguments, *options, "OPTIM.MAX_EPOCH", "3"]) == 0
    text = capsys.readouterr().out
    assert "Previous epoch: 2" in text
    # constant warm-up 1, then cosine over what was MAX_EPOCH 2: epoch 2 was left at 0.0005
    assert "epoch [3/3] batch [1/5]" in text
    assert "lr 5.0000e-04" in text
    assert not torch.equal(
        learned(tmp_path, 3)["image_encoder.proj_rep"],
        learned(tmp_path, 2)["image_encoder.proj_rep"],
    )


@needs_published
@pytest.mark.parametrize("half", ["base", "new"])
def test_a_published_run_folder_evaluates(half, eurosat_root, clip_file, tmp_path):
    model = ["--eval-only", "--model-dir", str(GOLDEN / "published_checkpoint")]
    arguments = train_arguments(eurosat_root, tmp_path, clip_file)
    options = ["TRAINER.MMRL.REP_DIM", "64", "DATASET.SUBSAMPLE_CLASSES", half]
    assert train.main([*model, *arguments, *options]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["total"] == 15
    assert np.isclose(results["accuracy"], 100 * results["correct"] / 15)


def test_several_checkpoints_share_a_pass_and_give_their_own_results(
    method, eurosat_root, clip_file, tmp_path
):
    for seed in (1, 2):
        arguments = train_arguments(
            eurosat_root, tmp_path / f"run/seed{seed}", clip_file, method, seed
        )
        assert train.main([*arguments, "OPTIM.MAX_EPOCH", "2"]) == 0
    evaluate = train_arguments(eurosat_root, tmp_path / "many", clip_file, method)
    folders = [str(tmp_path / "run" / f"seed{seed}") for seed in (1, 2)]
    assert train.main(["--eval-only", *evaluate[: -len(TINY_OPTIONS) - 6], "--model-dir", *folders,
                       *evaluate[-len(TINY_OPTIONS) - 6 :]]) == 0  # fmt: skip
    for seed in (1, 2):
        want = json.loads((tmp_path / f"run/seed{seed}/results.json").read_text())
        got = json.loads((tmp_path / f"many/seed{seed}/results.json").read_text())
        assert [got[k] for k in ("accuracy", "macro_f1")] == [
            want[k] for k in ("accuracy", "macro_f1")
        ]


def test_running_out_of_memory_names_the_knob(
    eurosat_root, clip_file, tmp_path, capsys, monkeypatch
):
    from trainer.step import TrainingStep

    def exhausted(self, image, label):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(TrainingStep, "__call__", exhausted)
    assert train.main(train_arguments(eurosat_root, tmp_path, clip_file)) == 1
    assert "10 classes and batch 4. Set TRAINER.CLASS_CHUNK" in capsys.readouterr().err


def test_class_chunks_train_to_the_same_result(method, eurosat_root, clip_file, tmp_path):
    results = []
    for chunk in ("0", "3"):
        out = tmp_path / chunk
        arguments = train_arguments(eurosat_root, out, clip_file, method)
        options = ["OPTIM.MAX_EPOCH", "1", "TRAINER.CLASS_CHUNK", chunk]
        assert train.main([*arguments, *options]) == 0
        results.append(learned(out, 1))
    for key, value in results[0].items():
        torch.testing.assert_close(value, results[1][key], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("prec", ["amp", "bf16", "fp32"])
def test_evaluation_in_another_precision_by_choice(prec, eurosat_root, clip_file, tmp_path):
    arguments = train_arguments(eurosat_root, tmp_path, clip_file)
    assert train.main([*arguments, "OPTIM.MAX_EPOCH", "1", "TEST.PREC", prec]) == 0
    assert json.loads((tmp_path / "results.json").read_text())["total"] == 30
