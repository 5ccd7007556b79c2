"""Life cycle, log, checkpoints, resuming: items 3 to 8, 10, 19, 20 of the API's checklist."""

import math
import os
import re
import subprocess
import sys

import pytest
import torch

from dassl.engine import TrainerXU, build_trainer
from dassl.utils import load_checkpoint, set_random_seed, setup_logger
from toy import CoOpStyle, NothingRegistered, WholeStyle, toy_cfg


def run(cfg, seed=1):
    set_random_seed(seed)
    trainer = build_trainer(cfg)
    trainer.train()
    return trainer


def weights(trainer):
    return trainer.model.prompt_learner.weight.detach().clone()


HOOKS = (
    *("before_train", "before_epoch", "run_epoch", "after_epoch", "after_train"),
    *("forward_backward", "update_lr", "test", "save_model", "load_model"),
    *("resume_model_if_exist", "init_writer", "close_writer"),
)


class Recording(CoOpStyle):
    """Notes every hook in order."""

    def __init__(self, cfg):
        self.calls = []
        super().__init__(cfg)

    def check_cfg(self, cfg):
        assert not hasattr(self, "cfg")
        self.calls.append("check_cfg")

    def build_data_loader(self):
        assert (self.start_epoch, self.epoch, self.device.type) == (0, 0, "cpu")
        super().build_data_loader()
        self.calls.append("build_data_loader")

    def build_model(self):
        assert self.num_classes == 3
        assert self.dm.dataset.classnames == ["class 0", "class 1", "class 2"]
        super().build_model()
        self.calls.append("build_model")

    def note(name):
        def hook(self, *args, **kwargs):
            self.calls.append(name)
            return getattr(CoOpStyle, name)(self, *args, **kwargs)

        return hook

    for _name in HOOKS:
        locals()[_name] = note(_name)


EPOCH = ["before_epoch", "run_epoch"] + ["forward_backward"] * 3 + ["update_lr", "after_epoch"]
BEFORE = ["before_train", "resume_model_if_exist", "init_writer"]
AFTER = ["after_train", "test", "close_writer"]
BUILD = ["check_cfg", "build_data_loader", "build_model"]


def test_order_of_hooks_fresh_and_finished(tmp_path):
    cfg = toy_cfg(tmp_path / "d", tmp_path / "out")
    trainer = Recording(cfg)
    assert trainer.best_result == -math.inf
    trainer.train()
    assert trainer.calls == [*BUILD, *BEFORE, *(EPOCH * 3), "save_model", *AFTER]
    again = Recording(cfg)
    again.train()
    assert again.calls == [*BUILD, *BEFORE, *AFTER]
    assert again.epoch == 0


def test_order_of_hooks_resumed(tmp_path):
    Recording(toy_cfg(tmp_path / "d", tmp_path / "out", **{"OPTIM.MAX_EPOCH": 2})).train()
    trainer = Recording(toy_cfg(tmp_path / "d", tmp_path / "out"))
    trainer.train()
    assert trainer.calls == [*BUILD, *BEFORE, *EPOCH, "save_model", *AFTER]


MASKED = [
    (r"time \S+ \(\S+\) data \S+ \(\S+\)", "time T data D"),
    (r"loss \S+ \(\S+\) acc \S+ \(\S+\)", "METRICS"),
    (r"eta \S+", "eta E"),
    (r": \d+\.\d%", ": P%"),
    (r"correct: \d", "correct: N"),
]


def masked(text):
    for pattern, value in MASKED:
        text = re.sub(pattern, value, text)
    return text.splitlines()


def test_log_has_the_lines_of_upstream_in_order(tmp_path, capsys):
    out = tmp_path / "out"
    run(toy_cfg(tmp_path / "d", out, **{"OPTIM.LR": 0.001}))
    epochs = [
        f"epoch [{epoch}/3] batch [2/3] time T data D METRICS lr {lr} eta E"
        for epoch, lr in ((1, "1.0000e-05"), (2, "1.0000e-03"), (3, "7.5000e-04"))
    ]
    assert masked(capsys.readouterr().out) == [
        "Loading trainer: CoOpStyle",
        "Loading dataset: Toy",
        "Building transform_train",
        "+ resize to 8x8",
        "+ to torch tensor of range [0, 1]",
        "Building transform_test",
        "+ resize the smaller edge to 8",
        "+ 8x8 center crop",
        "+ to torch tensor of range [0, 1]",
        "---------  ---",
        "Dataset    Toy",
        "# classes  3",
        "# train_x  12",
        "# val      6",
        "# test     6",
        "---------  ---",
        "Loading evaluator: Classification",
        "No checkpoint found, train from scratch",
        f"Initialize tensorboard (log_dir={out}/tensorboard)",
        *epochs,
        f"Checkpoint saved to {out}/prompt_learner/model.pth.tar-3",
        "Finish training",
        "Deploy the last-epoch model",
        "Evaluate on the *test* set",
        "=> result",
        "* total: 6",
        "* correct: N",
        "* accuracy: P%",
        "* error: P%",
        "* macro_f1: P%",
        "Elapsed: 0:00:00",
    ]


def test_every_batch_is_printed_where_an_epoch_is_short_and_shows_the_next_lr(tmp_path, capsys):
    run(toy_cfg(tmp_path / "d", tmp_path / "out", **{"TRAIN.PRINT_FREQ": 10, "OPTIM.LR": 0.001}))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    rates = [re.search(r"lr (\S+)", line)[1] for line in lines]
    want = ["1.0000e-05"] * 2 + ["1.0000e-03"] * 3 + ["7.5000e-04"] * 3 + ["2.5000e-04"]
    assert rates == want


def parse(path, end_signal):
    """What parse_test_res.py does: the last accuracy after a line equal to the signal."""
    found, good = None, False
    for line in path.read_text().splitlines():
        good = good or line.strip() == end_signal
        if good and (match := re.search(r"\* accuracy: ([\d.e+-]+)%", line)):
            found = float(match[1])
    return found


def test_logs_parse_and_a_second_run_leaves_the_first_log_alone(tmp_path, capsys):
    cfg = toy_cfg(tmp_path / "d", tmp_path / "out")
    setup_logger(cfg.OUTPUT_DIR)
    run(cfg)
    log = tmp_path / "out" / "log.txt"
    assert parse(log, "Finish training") == parse(log, "=> result") is not None
    before = log.read_bytes()
    sys.stdout = sys.stdout.console  # as in a new process
    setup_logger(cfg.OUTPUT_DIR)
    run(cfg)
    assert log.read_bytes() == before
    assert len(list((tmp_path / "out").glob("log.txt-*"))) == 1


def test_checkpoint_files_keys_and_order(tmp_path):
    run(toy_cfg(tmp_path / "d", tmp_path / "out", **{"TRAIN.CHECKPOINT_FREQ": 1}))
    folder = tmp_path / "out" / "prompt_learner"
    names = sorted(p.name for p in folder.iterdir())
    assert names == ["checkpoint", *(f"model.pth.tar-{n}" for n in (1, 2, 3))]
    assert (folder / "checkpoint").read_text() == "model.pth.tar-3\n"
    state = torch.load(folder / "model.pth.tar-2")  # torch's own weights-only reader
    first = ["state_dict", "epoch", "optimizer", "scheduler", "val_result"]
    assert list(state)[:5] == first
    assert (state["epoch"], state["val_result"]) == (2, None)


def test_module_prefix_is_stripped(tmp_path):
    from dassl.utils import save_checkpoint

    save_checkpoint({"state_dict": {"module.w": torch.ones(1)}, "epoch": 4}, str(tmp_path))
    assert list(load_checkpoint(str(tmp_path / "model.pth.tar-4"))["state_dict"]) == ["w"]


def interrupted(cfg, stop):
    """A run that ended in epoch `stop` (from 0), before its first step."""
    set_random_seed(1)
    cut = build_trainer(cfg)
    cut.before_epoch = lambda: (_ for _ in ()).throw(KeyboardInterrupt) if cut.epoch == stop else 0
    with pytest.raises(KeyboardInterrupt):
        cut.train()
    return cut


@pytest.mark.parametrize("warmup", ["constant", "linear", None])
@pytest.mark.parametrize("style", ["CoOpStyle", "WholeStyle"])
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_interrupted_and_resumed_equals_uninterrupted(tmp_path, warmup, style, stop):
    values = {"TRAIN.CHECKPOINT_FREQ": 1, "OPTIM.MAX_EPOCH": 4}
    values |= {"OPTIM.WARMUP_TYPE": warmup} if warmup else {"OPTIM.WARMUP_EPOCH": 0}
    whole = run(toy_cfg(tmp_path / "d", tmp_path / "whole", style, **values))
    cfg = toy_cfg(tmp_path / "d", tmp_path / "cut", style, **values)
    interrupted(cfg, stop)
    resumed = run(cfg, seed=99)  # another state at start: the saved one must win
    assert torch.equal(weights(whole), weights(resumed))
    assert resumed.test() == whole.test()


@pytest.mark.parametrize("pickled", ["successor", "schedule"])
@pytest.mark.parametrize("warmup", ["constant", "linear", None])
def test_a_folder_whose_schedule_is_a_pickled_object_resumes(tmp_path, warmup, pickled):
    """Upstream pickles the successor of a warm-up, and with it a whole optimizer."""
    values = {"TRAIN.CHECKPOINT_FREQ": 1, "OPTIM.MAX_EPOCH": 4, "OPTIM.NAME": "adamw"}
    values |= {"OPTIM.WARMUP_TYPE": warmup} if warmup else {"OPTIM.WARMUP_EPOCH": 0}
    whole = run(toy_cfg(tmp_path / "d", tmp_path / "whole", "WholeStyle", **values))
    cfg = toy_cfg(tmp_path / "d", tmp_path / "cut", "WholeStyle", **values)
    schedule = interrupted(cfg, 2)._scheds["Whole"]
    path = tmp_path / "cut" / "Whole" / "model.pth.tar-2"
    state = torch.load(path)
    attributes = {k: v for k, v in vars(schedule).items() if k != "optimizer"}
    torch.save(state | {"scheduler": schedule if pickled == "schedule" else attributes}, path)
    assert (b"CosineAnnealingLR" in path.read_bytes()) == (bool(warmup) or pickled == "schedule")
    resumed = run(cfg, seed=99)
    assert torch.equal(weights(whole), weights(resumed))
    torch.load(tmp_path / "cut" / "Whole" / "model.pth.tar-4", weights_only=True)  # none is left


def test_a_schedule_with_and_one_without_warm_up_are_told_apart(tmp_path):
    values = {"TRAIN.CHECKPOINT_FREQ": 1}
    with_warmup = toy_cfg(tmp_path / "d", tmp_path / "with", **values)
    without = toy_cfg(tmp_path / "d", tmp_path / "without", **values, **{"OPTIM.WARMUP_EPOCH": 0})
    interrupted(with_warmup, 2)
    interrupted(without, 2)
    without.OUTPUT_DIR, with_warmup.OUTPUT_DIR = with_warmup.OUTPUT_DIR, without.OUTPUT_DIR
    with pytest.raises(ValueError, match=r"with a warm-up.*none\. Set OPTIM\.WARMUP_EPOCH to 1"):
        run(without)
    with pytest.raises(ValueError, match=r"has no warm-up, this run's has OPTIM\.WARMUP_EPOCH 1"):
        run(with_warmup)


def test_a_file_that_cannot_be_resumed_from_falls_back_to_the_one_before(tmp_path, capsys):
    cfg = toy_cfg(tmp_path / "d", tmp_path / "out", **{"TRAIN.CHECKPOINT_FREQ": 1})
    whole = run(cfg)
    folder = tmp_path / "out" / "prompt_learner"
    torch.save({"epoch": 3, "state_dict": [1]}, folder / "model.pth.tar-3")
    assert torch.equal(weights(whole), weights(run(cfg, seed=99)))
    assert "Trying the one before it" in capsys.readouterr().out
    for epoch in (1, 2, 3):
        torch.save({"state_dict": {}}, folder / f"model.pth.tar-{epoch}")
    with pytest.raises(ValueError, match=r"tar-1' is not a checkpoint: it has no 'epoch'"):
        run(cfg)


class Pairs(TrainerXU):
    build_model = CoOpStyle.build_model


def test_pairs_need_unlabelled_pictures(tmp_path):
    with pytest.raises(ValueError, match=r"Pairs needs unlabelled pictures.*Toy has no train_u"):
        Pairs(toy_cfg(tmp_path / "d", tmp_path / "out")).train()


@pytest.mark.parametrize("part", ["optimizer", "scheduler", "random_states"])
def test_made_up_state_is_answered_with_the_file(part, tmp_path):
    cfg = toy_cfg(tmp_path / "d", tmp_path / "out", **{"TRAIN.CHECKPOINT_FREQ": 1})
    interrupted(cfg, 2)
    path = tmp_path / "out" / "prompt_learner" / "model.pth.tar-2"
    torch.save(load_checkpoint(str(path)) | {part: {"last_epoch": "text"}}, path)
    with pytest.raises(ValueError, match=rf"tar-2' cannot be resumed from: its '{part}' .*Remove"):
        run(cfg)


def test_a_torn_newest_file_falls_back_to_the_one_before(tmp_path, capsys):
    cfg = toy_cfg(tmp_path / "d", tmp_path / "out", **{"TRAIN.CHECKPOINT_FREQ": 1})
    whole = run(cfg)
    newest = tmp_path / "out" / "prompt_learner" / "model.pth.tar-3"
    newest.write_bytes(newest.read_bytes()[:200])
    again = run(cfg, seed=99)
    assert "Trying the one before it" in capsys.readouterr().out
    assert torch.equal(weights(whole), weights(again))


def test_best_model_is_kept_reloaded_and_never_resumed_from(tmp_path, capsys):
    values = {"TEST.FINAL_MODEL": "best_val", "TRAIN.CHECKPOINT_FREQ": 1}
    cfg = toy_cfg(tmp_path / "d", tmp_path / "out", **values)
    results = iter([50.0, 70.0, 70.0, 10.0])
    trainer = build_trainer(cfg)
    trainer.test = lambda split=None: next(results)
    trainer.train()
    folder = tmp_path / "out" / "prompt_learner"
    best = load_checkpoint(str(folder / "model-best.pth.tar"))
    assert (best["epoch"], best["val_result"]) == (2, 70.0)  # strictly better only
    assert (folder / "checkpoint").read_text() == "model.pth.tar-3\n"
    assert "Deploy the model with the best val performance" in capsys.readouterr().out
    again = build_trainer(cfg)
    again.test = lambda split=None: 0.0
    again.train()
    assert again.best_result == 70.0


def test_base_load_model_prints_what_it_loads(tmp_path, capsys):
    run(toy_cfg(tmp_path / "d", tmp_path / "out", "WholeStyle"))
    trainer = WholeStyle(toy_cfg(tmp_path / "d", tmp_path / "out", "WholeStyle"))
    trainer.load_model(str(tmp_path / "out"), epoch=3)
    path = tmp_path / "out" / "Whole" / "model.pth.tar-3"
    assert f"Load {path} to Whole (epoch=3, val_result=n/a)" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match=r"model\.pth\.tar-7"):
        trainer.load_model(str(tmp_path / "out"), epoch=7)
    torch.save({"w": torch.ones(1)}, path)
    with pytest.raises(ValueError, match=r"tar-3' is not a checkpoint: it has no 'state_dict'"):
        trainer.load_model(str(tmp_path / "out"), epoch=3)


def test_no_test_trains_only(tmp_path, capsys):
    run(toy_cfg(tmp_path / "d", tmp_path / "out", **{"TEST.NO_TEST": True}))
    assert "=> result" not in capsys.readouterr().out


def test_a_trainer_that_registers_nothing_evaluates(tmp_path):
    trainer = NothingRegistered(toy_cfg(tmp_path / "d", tmp_path / "o", "NothingRegistered"))
    trainer.load_model("")
    assert 0 <= trainer.test() <= 100
    assert trainer.resume_model_if_exist(str(tmp_path)) == 0


def test_not_finite_loss_stops(tmp_path):
    trainer = CoOpStyle(toy_cfg(tmp_path / "d", tmp_path / "out"))
    with pytest.raises(FloatingPointError, match="infinite or NaN"):
        trainer.model_backward(torch.tensor([1.0, float("nan")]))


def test_registering_too_early_twice_or_nothing_is_refused(tmp_path):
    trainer = CoOpStyle(toy_cfg(tmp_path / "d", tmp_path / "out"))
    with pytest.raises(AssertionError, match="prompt_learner"):
        trainer.register_model("prompt_learner")
    with pytest.raises(ValueError, match="'other'"):
        trainer.register_model("other")
    with pytest.raises(AttributeError, match="__init__"):
        CoOpStyle.__new__(CoOpStyle).register_model("x")


LOGGING = """
import gc, os, sys, tqdm
from dassl.utils import setup_logger
setup_logger(sys.argv[1])
print("one", flush=True)
assert sys.stdout.isatty() is False and sys.stdout.encoding and sys.stdout.fileno() >= 0
list(tqdm.tqdm(range(2), file=sys.stdout))
logger, sys.stdout = sys.stdout, sys.__stdout__
del logger; gc.collect()
print("two")
setup_logger(sys.argv[2])
print("three")
os.kill(os.getpid(), 9)
"""


def test_logger_leaves_the_console_usable_and_survives_a_kill(tmp_path):
    command = [sys.executable, "-c", LOGGING, str(tmp_path / "a"), str(tmp_path / "b.log")]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=os.getcwd(), check=False,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert done.returncode == -9, done.stderr
    assert "one\n" in (tmp_path / "a" / "log.txt").read_text()
    assert (tmp_path / "b.log").read_text() == "three\n"
    assert "two\nthree\n" in done.stdout
