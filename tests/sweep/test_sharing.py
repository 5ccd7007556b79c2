"""Evaluations in one pass: which runs share one, what they leave, and what a failure costs."""

import contextlib
import json
import os
import shutil
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import recording
import train
from conftest import build_cfg
from demo.data import write_data
from demo.pretrain import WEIGHTS, expand
from interpreter import runs_have_this_python
from scripts import evaluate_together, report
from sweep.execution import State
from sweep.local import Sweep
from sweep.runs import list_runs
from sweep.settings import Settings, console_of, folder_of
from sweep.sharing import AND, next_job
from trainer.evaluation.together import View

OPTIONS = (
    *("INPUT.SIZE", "(32,32)", "DATALOADER.NUM_WORKERS", "0", "OPTIM.MAX_EPOCH", "1"),
    *("TEST.PREDICTIONS", "True", "TRAINER.MMRL.PREC", "fp32", "TRAINER.MMRLpp.PREC", "fp32"),
    # the methods have fewer layers in common than each has below its own J
    *("TRAINER.MMRL.REP_LAYERS", "[2,3,4]", "TRAINER.MMRLpp.REP_LAYERS", "[3,4]"),
    *("TRAINER.MMRL.REP_DIM", "16", "TRAINER.MMRLpp.REP_DIM", "16"),
)
RUNS = list_runs("base_to_novel", datasets=["eurosat"], seeds=[1])  # of both methods
TESTED = [run for run in RUNS if run.model]
OTHER = list_runs("base_to_novel", ["mmrlpp"], ["eurosat"], [2])
CIRCUMSTANCES = ("seconds", "images_per_second", "run_seconds", "peak_memory_mib")


@pytest.fixture(scope="module")
def trained(eurosat_root, clip_file, tmp_path_factory):
    """Settings of a folder with two trained runs, and what their evaluations leave alone."""
    folder = tmp_path_factory.mktemp("sweep")
    settings = Settings(str(eurosat_root), str(folder), clip_file, OPTIONS, retries=0)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        for run in RUNS:
            assert train.main(run.arguments(*settings[:4])) == 0
    alone = {run: left_by(run, settings) for run in TESTED}
    shutil.rmtree(folder / "output/base2new/test_new")
    return settings, alone


@pytest.fixture
def settings(trained):
    """Those settings; the folder is as before afterwards."""
    folder = Path(trained[0].folder)
    kept = folder.with_name("kept")
    shutil.copytree(folder, kept)
    yield trained[0]
    shutil.rmtree(folder)
    kept.rename(folder)


def left_by(run, settings):
    """What a run leaves, without times and memory: results.json and predictions.csv."""
    folder = folder_of(run, settings)
    results = json.loads((folder / "results.json").read_text())
    results["identity"].pop("digest")  # of the times too
    rows = (folder / "predictions.csv").read_text()
    return {key: value for key, value in results.items() if key not in CIRCUMSTANCES}, rows


def tear(settings):
    """Give the other run a checkpoint that was cut off; its path."""
    whole = next(folder_of(RUNS[0], settings).rglob("model.pth.tar-1"))
    torn = folder_of(OTHER[0], settings) / whole.parent.name / whole.name
    torn.parent.mkdir(parents=True)
    torn.write_bytes(whole.read_bytes()[:1000])
    return torn


def test_a_pass_leaves_what_lone_runs_leave_and_one_that_fails_is_left_out(trained, settings):
    runs = [TESTED[0], OTHER[1], TESTED[1]]
    tear(settings)
    words = []
    for run in runs:
        words += [AND, *run.arguments(*settings[:4])]
    assert evaluate_together.main(words[1:]) == 0
    consoles = {run: console_of(run, settings).read_text() for run in runs}
    for run in TESTED:
        assert left_by(run, settings) == trained[1][run]
        log = (folder_of(run, settings) / "log.txt").read_text()
        for text in (log, consoles[run]):
            assert "One pass over the pictures for: " in text
            assert all(folder_of(other, settings).as_posix() in text for other in TESTED)
            assert "Results are in " in text
        assert "1/1" in consoles[run]  # the bar: a long pass must not seem silent
    assert not (folder_of(OTHER[1], settings) / "results.json").exists()
    assert "Left out of the pass: " in consoles[OTHER[1]]
    assert "its end is missing" in consoles[OTHER[1]]


KILLED = """
import os, sys
from scripts import evaluate_together as program
finish = program.finish
def once(run):
    finish(run)
    os.kill(os.getpid(), 9)
program.finish = once
program.main(sys.argv[1:])
"""


def test_a_pass_that_is_killed_loses_nothing(trained, settings, tmp_path, monkeypatch, capsys):
    """Here after the first of its two runs."""
    python = tmp_path / "python"
    killed = tmp_path / "killed.py"
    killed.write_text(KILLED)
    python.write_text(
        f'#!/bin/sh\nif [ "$1" = -m ]; then shift 2; exec {sys.executable} {killed} "$@"; fi\n'
        f'exec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    monkeypatch.setenv("PYTHON", str(python))
    monkeypatch.setenv("PYTHONPATH", str(Path(train.__file__).parent))
    sweep = Sweep(TESTED, settings, shares=True)
    sweep.work([{"OMP_NUM_THREADS": "1"}])
    names = "; ".join(run.name for run in TESTED)
    printed = capsys.readouterr().out
    assert f"2 left, 0 min to go] in one pass over the pictures: {names}\n" in printed
    assert {outcome.state for outcome in sweep.outcomes.values()} == {State.FINISHED}
    consoles = [console_of(run, settings).read_text() for run in TESTED]
    assert [text.count("Results are in") for text in consoles] == [1, 1]
    again = ["values are set (" in text.partition("One pass over")[2] for text in consoles]
    assert again == [False, True]
    assert [left_by(run, settings) for run in TESTED] == [trained[1][run] for run in TESTED]
    assert list(Path(settings.folder).rglob(".claim*")) == []


@pytest.mark.slow
def test_a_sweep_shares_and_names_the_run_that_fails(trained, settings):
    torn = tear(settings)
    (folder_of(OTHER[0], settings) / "results.json").write_text('{"accuracy": 1}')
    words = [
        *("base_to_novel", "--datasets", "eurosat", "--seeds", "1,2", "--root", settings.root),
        *("--output", settings.folder, "--backbone", settings.backbone, "--retries", "0"),
        *("--", *settings.opts),
    ]
    environment = {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    done = recording.sweep(*words, env=environment, check=False)
    assert done.returncode == 1
    assert done.stdout.count("in one pass over the pictures: ") == 1
    assert "1 of 8 runs did not finish" in done.stdout
    reason = done.stdout.partition(f"failed: {OTHER[1].name}: ")[2].splitlines()[0]
    assert str(torn) in reason
    assert "its end is missing" in reason
    assert [left_by(run, settings) for run in TESTED] == [trained[1][run] for run in TESTED]


DEMO = (
    *("INPUT.SIZE", "(48,48)", "DATALOADER.NUM_WORKERS", "0", "OPTIM.MAX_EPOCH", "1"),
    *("TRAINER.MMRL.PREC", "fp32", "TRAINER.MMRLpp.PREC", "fp32"),
    *("TRAINER.MMRL.REP_DIM", "64", "TRAINER.MMRLpp.REP_DIM", "64"),
)


@pytest.mark.slow
def test_three_seeds_of_both_methods_give_one_csv_shared_or_not(tmp_path, capsys):
    """On the demo's world; prints what the evaluations took. The trainings are made before."""
    write_data(tmp_path / "data")
    expand(WEIGHTS, tmp_path / "clip.safetensors")
    common = (str(tmp_path / "data"), "", str(tmp_path / "clip.safetensors"), DEMO)
    for run in list_runs("base_to_novel", datasets=["shapes"]):
        if not run.model:
            assert train.main(run.arguments(common[0], str(tmp_path / "shared"), *common[2:])) == 0
    shutil.copytree(tmp_path / "shared", tmp_path / "alone")
    tables, lines = {}, {}
    for name, options in (("shared", ()), ("alone", ("--no-share",))):
        words = [
            *("base_to_novel", "--datasets", "shapes", "--root", common[0], *options),
            *("--output", str(tmp_path / name), "--backbone", common[2], "--", *DEMO),
        ]
        started = time.perf_counter()
        done = recording.sweep(*words, env={"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"})
        with capsys.disabled():
            print(f"\n6 evaluations, {name}: {time.perf_counter() - started:.1f} s")
        lines[name] = done.stdout.count("in one pass over the pictures")
        report.main([str(tmp_path / name)])
        tables[name] = (tmp_path / name / "report" / "report.csv").read_bytes()
    assert lines == {"shared": 1, "alone": 0}
    assert tables["shared"] == tables["alone"]
    assert tables["shared"].count(b"\n") > 1


def b2n(datasets, methods=("mmrl", "mmrlpp")):
    runs = list_runs("base_to_novel", methods, datasets, [1, 2])
    return [run for run in runs if not run.model], [run for run in runs if run.model]


def test_evaluations_wait_for_their_siblings_while_there_is_something_to_train():
    trainings, evaluations = b2n(["dtd", "eurosat"])
    dtd, eurosat = (
        [run for run in evaluations if run.dataset == name] for name in ("dtd", "eurosat")
    )
    assert next_job([dtd[0], trainings[3]], untrained=dtd[1:]) == [trainings[3]]
    assert next_job([dtd[0], *eurosat], untrained=dtd[1:]) == eurosat
    assert next_job([*dtd, trainings[7]], untrained=eurosat) == dtd
    # another machine trains the last one: this one does not idle
    assert next_job(dtd[:3], untrained=dtd[3:]) == dtd[:3]
    assert next_job([], untrained=dtd) == []


def test_halves_and_data_sets_never_share():
    evaluations = [
        run
        for protocol in ("base_to_novel", "cross_datasets")
        for run in list_runs(protocol)
        if run.model
    ]
    seen = 0
    while evaluations:
        job = next_job(evaluations, untrained=[])
        assert len({(run.dataset, run.subsample) for run in job}) == 1
        assert len(job) == 6  # three seeds, two methods
        evaluations = [run for run in evaluations if run not in job]
        seen += 1
    assert seen == 11 + 14


ITEMS = [SimpleNamespace(impath="a.jpg", label=0), SimpleNamespace(impath="b.jpg", label=1)]


def view(options=(), items=ITEMS, types="fp32", sha="1", device="cpu"):
    cfg = build_cfg(Path("/data"), 16, "new")
    cfg.merge_from_list(list(options))
    trainer = SimpleNamespace(
        cfg=cfg,
        identity=SimpleNamespace(backbone_sha256=sha),
        precision=SimpleNamespace(evaluation=types),
        device=device,
    )
    return View.of(trainer, items)


@pytest.mark.parametrize(
    "options", [["SEED", 2], ["DATASET.NUM_SHOTS", 4], ["TRAINER.MMRL.ALPHA", 0.5]]
)
def test_what_the_pictures_do_not_depend_on_keeps_a_view(options):
    assert view(options) == view()


@pytest.mark.parametrize(
    "other",
    [
        {"options": ["INPUT.SIZE", (32, 32)]},
        {"options": ["INPUT.INTERPOLATION", "bicubic"]},
        {"options": ["INPUT.TRANSFORMS", ("random_flip",)]},
        {"options": ["DATALOADER.TEST.BATCH_SIZE", 7]},
        {"options": ["DETERMINISTIC", True]},
        {"items": ITEMS[::-1]},
        {"items": [ITEMS[0], SimpleNamespace(impath="b.jpg", label=2)]},
        {"types": "fp16"},
        {"sha": "2"},
        {"device": "cuda"},
    ],
    ids=str,
)
def test_whatever_changes_pictures_or_features_is_another_view(other):
    assert view(**other) != view()


def test_a_wrapper_beside_this_python_is_another_one(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHON", sys.executable)
    assert runs_have_this_python()
    wrapper = tmp_path / "bin" / "python"
    wrapper.parent.mkdir()
    monkeypatch.setenv("PYTHON", str(wrapper))
    assert not runs_have_this_python()  # there is none
    wrapper.symlink_to(os.path.realpath(sys.executable))  # as in another environment
    assert not runs_have_this_python()
    wrapper.unlink()
    wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert not runs_have_this_python()
