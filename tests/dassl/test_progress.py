"""An epoch on a terminal, in a pipe and in the log."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import REPOSITORY
from terminal import terminal

PROGRAM = """
import sys, time
from dassl.engine.progress import EpochBar
from dassl.utils import AverageMeter, MetricMeter, setup_logger
setup_logger(sys.argv[1])
for epoch in range(2):
    metrics, batch_time, data_time = MetricMeter(), AverageMeter(), AverageMeter()
    with EpochBar(epoch, 2, 4) as bar:
        for batch in range(4):
            metrics.update({"loss": 1 / (batch + 1)})
            batch_time.update(1.0)
            bar.show(batch, metrics, batch_time, data_time, 0.002)
            bar.update()
print("Finish training")
"""
LAST = (
    "epoch [2/2] batch [4/4] time 1.000 (1.000) data 0.000 (0.000) loss 0.2500 (0.5208) "
    "lr 2.0000e-03 eta 0:00:00"
)


def start(log, **streams):
    command = [sys.executable, "-c", PROGRAM, str(log)]
    subprocess.run(command, cwd=REPOSITORY, check=True, **streams)
    return Path(log).read_text()


def lines_of(text):
    return [line for line in text.splitlines() if line.startswith("epoch [")]


def test_a_terminal_has_a_bar_for_each_epoch_and_the_log_the_lines(tmp_path):
    with terminal() as (screen, drawn):
        log = start(tmp_path / "log.txt", stdout=screen, stderr=screen)
        text = drawn()
    assert lines_of(log)[-1] == LAST and len(lines_of(log)) == 8
    assert "\r" not in log and "|" not in log and log.endswith("\nFinish training\n")
    assert lines_of(text.replace("\r", "\n")) == []
    for epoch in (1, 2):
        bars = re.findall(rf"epoch {epoch}/2 \|.*?\| 4/4 \[.*?, loss 0.5208 lr 2.0e-03 left", text)
        assert bars
    assert text.rstrip().endswith("Finish training")


def test_a_pipe_has_the_lines_and_no_bar(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "log.txt")],
        cwd=REPOSITORY, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout == (tmp_path / "log.txt").read_text()
    assert lines_of(done.stdout)[-1] == LAST


def test_a_terminal_of_no_width_has_the_lines(tmp_path):
    with terminal(columns=0) as (screen, drawn):
        start(tmp_path / "log.txt", stdout=screen, stderr=screen)
        assert lines_of(drawn())[-1] == LAST


@pytest.mark.parametrize("is_piped", ["stdout", "stderr"])
def test_lines_go_to_whichever_stream_no_bar_is_on(is_piped, tmp_path):
    with terminal() as (screen, drawn), open(tmp_path / "piped", "w") as file:
        streams = {"stdout": screen, "stderr": screen} | {is_piped: file}
        log = start(tmp_path / "log.txt", **streams)
        text = drawn()
    piped = (tmp_path / "piped").read_text()
    assert piped == (log if is_piped == "stdout" else "")
    assert len(lines_of(text)) == (0 if is_piped == "stdout" else 8)
    assert ("epoch 2/2 |" in text) == (is_piped == "stdout")
