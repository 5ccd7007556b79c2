"""Outputs are whole or not there; refusals name the output; what killed writers leave goes."""

import errno
import os
import signal
import threading

import pytest
import torch

from dassl.utils.torchtools import save_checkpoint
from dassl.whole_files import (
    check_writable,
    put_in_place,
    remove_partials,
    write_text,
    write_whole,
)


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_missing_folders_are_made_and_the_file_is_as_given(tmp_path):
    write_text(tmp_path / "new" / "a.txt", "né\r\n")
    assert (tmp_path / "new" / "a.txt").read_bytes() == "né\r\n".encode()
    assert names(tmp_path / "new") == ["a.txt"]


def test_a_failed_write_names_the_file_and_leaves_the_one_before(tmp_path, monkeypatch):
    write_text(tmp_path / "results.json", "before")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"results\.json"):
        write_text(tmp_path / "results.json", "after")
    assert (tmp_path / "results.json").read_text() == "before"
    assert names(tmp_path) == ["results.json"]


class Full:
    """A file on a disk that is full after some bytes."""

    def __init__(self, room):
        self.room = room

    def write(self, data):
        self.room -= len(data)
        return len(data) if self.room >= 0 else full()

    def flush(self):
        pass


@pytest.mark.parametrize("room", [0, 500, 3000])
def test_what_torch_makes_of_a_full_disk_is_the_disk_s_answer(room, tmp_path):
    tensors = {"a": torch.ones(999), "b": torch.ones(999)}
    with pytest.raises(OSError, match=r"a\.pt") as refused:
        write_whole(tmp_path / "a.pt", lambda _: torch.save(tensors, Full(room)))
    assert refused.value.errno == errno.ENOSPC
    assert names(tmp_path) == []


def test_the_best_model_is_a_whole_copy(tmp_path, monkeypatch):
    state = {"state_dict": {"w": torch.ones(3)}, "epoch": 1}
    save_checkpoint(dict(state), str(tmp_path), is_best=True)
    assert names(tmp_path) == ["checkpoint", "model-best.pth.tar", "model.pth.tar-1"]
    before = (tmp_path / "model-best.pth.tar").read_bytes()
    assert before == (tmp_path / "model.pth.tar-1").read_bytes()
    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(OSError, match=r"model-best\.pth\.tar"):
        save_checkpoint(state | {"epoch": 2}, str(tmp_path), is_best=True)
    assert (tmp_path / "model-best.pth.tar").read_bytes() == before


def test_a_link_stays_a_link_and_a_pipe_a_pipe(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "a.txt")
    write_text(tmp_path / "link", "through")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "a.txt").read_text() == "through"
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=write_text, args=(tmp_path / "pipe", "down"))
    writer.start()
    assert (tmp_path / "pipe").read_text() == "down"
    writer.join()
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no kill -9")
def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path):
    pid = os.fork()
    if not pid:
        write_whole(tmp_path / "a.pt", lambda file: os.kill(os.getpid(), signal.SIGKILL))
    os.waitpid(pid, 0)
    (left,) = names(tmp_path)
    assert left.startswith(".partial-")
    write_text(tmp_path / "b.txt", "b")
    assert names(tmp_path) == ["b.txt"]


def test_what_is_being_written_stays(tmp_path):
    def write(file):
        remove_partials(tmp_path)
        write_text(tmp_path / "b.txt", "b")
        file.write(b"a")

    write_whole(tmp_path / "a.txt", write)
    assert names(tmp_path) == ["a.txt", "b.txt"]


def test_a_new_file_that_is_taken_for_a_dead_writer_s_is_made_again(tmp_path, monkeypatch):
    """Another program may clear away between the file's making and its lock."""
    import fcntl

    lock, calls = fcntl.flock, []

    def late(file, how):
        if not calls:
            calls.append(how)
            remove_partials(tmp_path)
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    write_text(tmp_path / "a.txt", "a")
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_a_disk_that_knows_no_fsync_of_folders_will_do(number, tmp_path, monkeypatch):
    def refuse(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    (tmp_path / "part").write_text("a")
    if number == errno.EINVAL:
        put_in_place(tmp_path / "part", tmp_path / "a.txt")
    else:
        with pytest.raises(OSError, match="Input/output error"):
            put_in_place(tmp_path / "part", tmp_path / "a.txt")


def test_outputs_are_refused_before_the_work(tmp_path):
    with pytest.raises(ValueError, match=r"is a folder"):
        check_writable(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"out\.csv"):
        check_writable(tmp_path / "absent" / "out.csv")
    check_writable(tmp_path / "out.csv")
    check_writable(tmp_path.__class__("/dev/null"))
    assert names(tmp_path) == []
