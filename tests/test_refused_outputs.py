"""A disk that takes nothing is one sentence, from every program; with room, it writes."""

import errno
import os
from pathlib import Path

import pytest

import predict
import train
from conftest import train_arguments
from scripts import report
from trainer.checkpoints import __main__ as checkpoints


@pytest.fixture(scope="module")
def programs(eurosat_root, clip_file, tmp_path_factory):
    """Program and output -> its exit code; 0 is success."""

    def training(out, *more):
        arguments = [*train_arguments(eurosat_root, out, clip_file), "OPTIM.MAX_EPOCH", "1"]
        return train.main([*arguments, "TASK", "FS", "DATASET.NUM_SHOTS", "1", *more])

    run = tmp_path_factory.mktemp("trained") / "run"
    evidence = [f"TEST.{key}" for key in ("PREDICTIONS", "PER_CLASS_RESULT", "COMPUTE_CMAT")]
    assert training(run, *(word for key in evidence for word in (key, "True"))) == 0
    picture = str(next(eurosat_root.rglob("*.jpg")))
    return {
        "train": training,
        "export": lambda out: checkpoints.main(["export", str(run), str(out)]),
        "report": lambda out: report.main([str(run), "--seeds", "1", "--out", str(out)]),
        **{
            kind: lambda out, kind=kind: predict.main([str(run), picture, f"--{kind}", str(out)])
            for kind in ("csv", "json", "html")
        },
    }


NAMES = ["train", "export", "report", "csv", "json", "html"]


def sentence(capsys):
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    return last


@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_is_a_sentence_and_with_room_it_is_written(
    name, programs, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "out"

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert programs[name](out) == 1
    assert f"{out}" in (said := sentence(capsys))
    assert said.endswith("the disk is full; make room, then run the same command again")
    assert not list(tmp_path.rglob(".partial-*"))
    assert not out.is_file()
    assert programs[name](out) == 0
    assert out.exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_file_in_the_way_is_a_sentence(name, programs, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert programs[name](tmp_path / "file" / "out") == 2
    assert f"{tmp_path}/file" in (said := sentence(capsys))
    assert "a file is where a folder is needed" in said
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="no folder that takes no files")
@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_takes_nothing_is_a_sentence(name, programs, capsys):
    assert programs[name](Path("/sys/kernel/out")) == 2
    assert "/sys/kernel/out" in (said := sentence(capsys))
    assert "permission denied" in said or "the disk is read-only" in said
