"""`make gpu-check` without a GPU: every branch, on stand-ins, and a quick pass on a CPU."""

import csv
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.profiler import ProfilerActivity

from benchmarks import gpu_check, run, table
from benchmarks.gpu import forms, published, runs, speed
from benchmarks.gpu.report import Report
from card import NAME, Recorder, pretended_card

CUDA = torch.device("cuda")


class Event:
    """A mark in a stream; ten milliseconds lie between two."""

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        """Marks a place."""

    def synchronize(self):
        """Waits for it."""

    def elapsed_time(self, other):
        return 10.0


@pytest.fixture
def card(monkeypatch):
    profile = torch.profiler.profile  # which does without the driver for the CPU alone
    monkeypatch.setattr(
        torch.profiler, "profile", lambda activities: profile(activities=[ProfilerActivity.CPU])
    )
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # restored afterwards
    with pretended_card(monkeypatch) as card:
        yield card


@pytest.fixture
def report(tmp_path):
    return Report(tmp_path / "report.log")


def lines(report):
    return Path(report.file.name).read_text().splitlines()


def test_a_figure_is_judged_by_its_bound(report, capsys):
    report.below("gap", 1e-4, 1e-3)
    report.below("gap", float("nan"), 1e-3)
    report.above("gain", 4.0, 5.0)
    assert lines(report) == [
        "PASS  gap: 0.0001 (bound: at most 0.001)",
        "FAIL  gap: nan (bound: at most 0.001)",
        "FAIL  gain: 4 (bound: at least 5)",
    ]
    assert report.close() == 1
    assert "1 checks passed, 2 failed" in capsys.readouterr().out


def test_without_a_card_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main([]) == 2
    assert "There is no CUDA GPU here" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        gpu_check.main(["--device", "cpu"])
    assert "--device cpu takes --quick" in capsys.readouterr().err


XML = """<testsuites><testsuite>
<testcase name="test_training[mmrl]"><properties><property name="gap" value="2.5e-06"/></properties>
</testcase>
<testcase name="test_evaluation[mmrl]"/>
<testcase name="test_run[x]"><failure message="logits: off by 1e-2&#10;more"/></testcase>
<testcase name="test_run[y]"><error/></testcase>
</testsuite></testsuites>"""


def test_every_test_is_judged_with_its_figure(report, tmp_path):
    (tmp_path / "result.xml").write_text(XML)
    published.judge(report, tmp_path / "result.xml")
    (tmp_path / "empty.xml").write_text("<testsuites/>")
    published.judge(report, tmp_path / "empty.xml")
    assert lines(report) == [
        "PASS  training[mmrl]: largest relative difference 2.5e-06 (bound: the test's)",
        "PASS  evaluation[mmrl]: equal (bound: the test's)",
        "FAIL  run[x]: logits: off by 1e-2 (bound: the test's)",
        "FAIL  run[y]: no message (bound: the test's)",
        "FAIL  published numbers: no test was found (bound: at least one)",
    ]


def test_the_tests_are_told_the_device(report, monkeypatch):
    calls = []

    def answer(words, **_):
        calls.append(words)
        return subprocess.CompletedProcess(words, 4, "", "usage\nno such option")

    monkeypatch.setattr(subprocess, "run", answer)
    published.check_published(report, "cuda", quick=False)
    assert [words[words.index("--device") + 1] for words in calls] == ["cuda", "cuda"]
    assert ["pytest ended with 4: usage | no such option" in line for line in lines(report)] == [
        True,
        True,
    ]


class Runs:
    """In place of train.py: ends with a code, after writing what a run leaves."""

    def __init__(self, monkeypatch, code=0, out="will resume training", accuracy=90.0):
        self.code, self.out, self.accuracy, self.killed = code, out, accuracy, []
        monkeypatch.setattr(runs.subprocess, "run", self.run)
        monkeypatch.setattr(runs.subprocess, "Popen", self.start)
        monkeypatch.setattr(runs, "read_checkpoint", self.read)
        monkeypatch.setattr(runs, "write_data", lambda folder: None)
        monkeypatch.setattr(runs, "expand", lambda weights, out: None)
        read = SimpleNamespace(read=lambda folder: SimpleNamespace(need=lambda key: self.accuracy))
        monkeypatch.setattr(runs, "RunResults", read)

    def run(self, words, **_):
        output = words[words.index("--output-dir") + 1]
        runs.Path(output).mkdir(parents=True, exist_ok=True)
        runs.Path(output, "results.json").write_text("{}")
        return subprocess.CompletedProcess(words, self.code, self.out, "Traceback\nit broke")

    def start(self, words, **_):
        output = runs.Path(words[words.index("--output-dir") + 1])
        output.mkdir(parents=True, exist_ok=True)
        polls = iter([None, None, None])

        def poll():
            if next(polls) is None and not (output / "resume.pt").exists():
                (output / "resume.pt").touch()

        return SimpleNamespace(poll=poll, kill=lambda: self.killed.append(output), wait=int)

    def read(self, path):
        return {"state_dict": {"space": torch.full((3,), 1.0 + 1e-3 * ("killed" in str(path)))}}


def test_runs_of_every_precision_and_one_that_is_killed(report, monkeypatch, tmp_path):
    stand_in = Runs(monkeypatch)
    runs.check_runs(report, tmp_path, "cuda", quick=False)
    assert report.failed == 0
    assert [line for line in lines(report) if "TRAIN.GRAPH, PREC bf16: on" in line]
    assert stand_in.killed == [tmp_path / "killed"]
    assert "parameters apart, relative: 0.001 (bound: at most 0.01)" in lines(report)[-1]


def test_runs_that_fail_are_named(report, monkeypatch, tmp_path):
    Runs(monkeypatch, code=1)
    runs.check_runs(report, tmp_path, "cpu", quick=True)
    assert [line for line in lines(report) if line.startswith("FAIL")] == [
        "FAIL  train.py, PREC fp32: exit code 1: it broke (bound: 0)",
        "FAIL  resume: exit code 1: it broke (bound: 0)",
    ]


def test_a_graph_that_switched_itself_off_is_a_failure(report, monkeypatch, tmp_path):
    Runs(monkeypatch, out="TRAIN.GRAPH is off: it differs", accuracy=50.0)
    runs.check_precision(report, tmp_path / "run", "amp", "cuda", quick=False)
    assert lines(report) == [
        "FAIL  train.py, PREC amp, accuracy in percent: 50 (bound: at least 60)",
        "FAIL  TRAIN.GRAPH, PREC amp: TRAIN.GRAPH is off: it differs (bound: on)",
    ]


@pytest.mark.parametrize("method", ["MMRL", pytest.param("MMRLpp", marks=pytest.mark.slow)])
def test_forms_differ_in_time_alone(method):
    """Equal values and pictures: two steps end with the same loss."""
    setting = forms.Setting(method, "fp32", 3, 1)
    ends = []
    for form in ("plain", "eager", "graph"):
        step = forms.make_step(setting, form, torch.device("cpu"), forms.TINY, Recorder)
        ends.append([float(step.run()) for _ in range(2)])
        assert step.training.captured is None or step.training.captured.is_replaying
    assert ends[1] == pytest.approx(ends[0], rel=1e-4)
    assert ends[2] == pytest.approx(ends[0], rel=1e-4)


def stand_in_step(setting, form, *_):
    captured = SimpleNamespace(is_replaying=True) if form == "graph" else None
    return forms.Step(lambda: torch.ones(()), SimpleNamespace(captured=captured))


def test_every_form_is_timed_and_judged(card, report, monkeypatch, tmp_path):
    monkeypatch.setattr(speed, "make_step", stand_in_step)
    monkeypatch.setattr(speed, "count_kernels", lambda run, device: 7)
    monkeypatch.setattr("gc.collect", lambda: 0)  # a second each time, in a process of tests
    evaluation = forms.Step(lambda: torch.ones(2, 3), None)
    monkeypatch.setattr(speed, "make_evaluation", lambda *_: evaluation)
    monkeypatch.setattr(speed, "LEAST_GAIN", 1.0)  # all events are ten milliseconds apart
    rows = speed.check_speed(report, speed.Plan(CUDA, quick=False), NAME)
    assert report.failed == 0
    assert "times faster than plain: 1 (bound: at least 1)" in "\n".join(lines(report))
    assert len(rows) == 2 * 2 * 3 * 4 + 2 + 2
    assert {row["seconds"] for row in rows} == {0.01 / speed.REPEAT}
    assert {row["kernels"] for row in rows} == {7}
    assert {row["gib"] for row in rows} == {float(f"{2 / 1024:.4g}")}
    speed.write_rows(rows, tmp_path / "card.csv")
    gpu_check.print_hours(report, tmp_path, NAME)
    assert "| all | 552 |" in lines(report)[-1]


@pytest.mark.slow
def test_every_form_takes_its_step_on_a_card(card, report, monkeypatch):
    monkeypatch.setattr(forms, "compile_step", lambda step: step)
    monkeypatch.setattr(speed, "LEAST_GAIN", 1.0)
    monkeypatch.setattr(speed, "CLASSES", (3,))
    rows = speed.check_speed(report, speed.Plan(CUDA, True, Recorder), NAME)
    assert [line for line in lines(report) if line.startswith("FAIL")] == []
    assert {row["form"] for row in rows} == set(speed.FORMS)


def test_compiled_forms_are_left_out_when_time_is_short(report, monkeypatch):
    monkeypatch.setattr(speed, "COMPILE_UNTIL_SECONDS", -1)
    monkeypatch.setattr(speed, "compare_forms", lambda *_: [])
    monkeypatch.setattr(speed, "evaluate", lambda *_: [])
    monkeypatch.setattr(speed, "measure", lambda plan, setting, form: ({"form": form}, 0.0))
    monkeypatch.setattr(speed, "describe", lambda row: row["form"])
    rows = speed.check_speed(report, speed.Plan(CUDA, False), NAME)
    assert len(rows) == 2
    assert len([line for line in lines(report) if "compiled, there is no time left" in line]) == 12


def test_a_check_on_a_card_ends_with_its_hours(card, monkeypatch, tmp_path):
    row = {"device": NAME, "mode": "train", "form": "graph", "prec": "amp", "method": "MMRL"}
    row |= {"classes": 5, "batch": 4, "seconds": 0.01}
    for name in ("check_published", "check_runs"):
        monkeypatch.setattr(gpu_check, name, lambda *_: None)
    monkeypatch.setattr(gpu_check, "check_speed", lambda *_: [row, row | {"mode": "eval"}])
    assert gpu_check.main(["--output", str(tmp_path)]) == 0
    log = (tmp_path / "pretended-gpu.log").read_text()
    assert "minutes of this check" in log
    with open(tmp_path / "pretended-gpu.csv") as file:
        assert [line["mode"] for line in csv.DictReader(file)] == ["train", "eval"]


def test_the_benchmark_s_table_leaves_the_card_s_file_alone(tmp_path, monkeypatch):
    speed.write_rows([], tmp_path / "card.csv")
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    assert table.make_table() == ""
    monkeypatch.setattr(run, "RESULTS", tmp_path)
    monkeypatch.setattr(run, "pick_device", lambda: CUDA)
    row = dict.fromkeys(run.COLUMNS, 1) | {"device": "card", "mode": "train"}
    monkeypatch.setattr(run, "measure_row", lambda *_: row)
    run.main(["--rows", "5x4", "--methods", "MMRL", "--modes", "train"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card-bench.csv", "card.csv"]


@pytest.mark.slow
def test_a_quick_check_on_a_cpu_passes(tmp_path, capsys):
    assert gpu_check.main(["--device", "cpu", "--quick", "--output", str(tmp_path)]) == 0
    assert "0 failed" in capsys.readouterr().out
    assert len(list(tmp_path.glob("*-quick.csv"))) == 1
