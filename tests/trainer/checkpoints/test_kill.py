"""kill -9 and a full disk at exact moments: the same command ends with the same files."""

import itertools
import os
import re
import signal

import pytest

import moments
from conftest import train_arguments

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no kill -9")
CASES = list(
    itertools.product(("MMRL", "MMRLpp"), ("0", "1"), ("last_step", "best_val"), ("0", "2"))
)
SHARES = 12  # moments a case: 192 in all
WRITES = ("before save", "before fsync", "amid fsync", "before replace")
FAST = [(("MMRL", "1", "best_val", "0"), share) for share in range(1, SHARES, 2)]
FAST += [(("MMRLpp", "0", "last_step", "0"), share) for share in (4, 9)]


class Case:
    """One request, with what it leaves and the moments that it has if nothing disturbs it."""

    def __init__(self, case, root, folder, clip_file):
        method, frequency, final, workers = case
        self.folder = folder
        self.arguments = [
            *train_arguments(root, folder, clip_file, method),
            *("DATASET.NUM_SHOTS", "2", "DATASET.SUBSAMPLE_CLASSES", "base", "TASK", "B2N"),
            *("DATALOADER.TRAIN_X.BATCH_SIZE", "4", "OPTIM.MAX_EPOCH", "2"),
            *("TRAIN.CHECKPOINT_FREQ", frequency, "TEST.FINAL_MODEL", final),
            *("DATALOADER.NUM_WORKERS", workers, f"TRAINER.{method}.REP_DIM", "8"),
        ]
        code, self.moments = self.run()
        assert code == 0
        self.wanted = moments.outcome(folder)

    def run(self, fatal=None, end=moments.kill):
        return moments.run(self.arguments, self.folder, fatal, end)

    def is_restored(self):
        assert self.run()[0] == 0
        found = moments.outcome(self.folder)
        assert found["results.json"] == self.wanted["results.json"]
        assert found == self.wanted


@pytest.fixture(scope="module")
def made(eurosat_root, clip_file, tmp_path_factory):
    """Cases, each made when it is first asked for."""
    cases = {}

    def make(case):
        if case not in cases:
            folder = tmp_path_factory.mktemp("kill") / "run"
            cases[case] = Case(case, eurosat_root, folder, clip_file)
        return cases[case]

    return make


def chosen(case, share, moments_there):
    """A moment of the share-th part of a run; which of them differs from case to case."""
    width = len(moments_there) / SHARES
    return 1 + int(width * share + CASES.index(case) % width)


def check(made, case, share):
    made = made(case)
    moments.clear(made.folder)
    assert made.run(chosen(case, share, made.moments))[0] == -signal.SIGKILL
    made.is_restored()


@pytest.mark.parametrize(("case", "share"), FAST)
def test_a_killed_run_ends_with_the_same_files(made, case, share):
    check(made, case, share)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids="-".join)
@pytest.mark.parametrize("share", range(SHARES))
def test_a_run_killed_at_any_moment_ends_with_the_same_files(made, case, share):
    check(made, case, share)


@pytest.mark.slow
@pytest.mark.parametrize("second", [2, 9, 30])
@pytest.mark.parametrize("case", CASES[::3], ids="-".join)
def test_a_run_killed_twice_ends_with_the_same_files(made, case, second):
    made = made(case)
    moments.clear(made.folder)
    assert made.run(chosen(case, 5, made.moments))[0] == -signal.SIGKILL
    assert made.run(second)[0] == -signal.SIGKILL
    made.is_restored()


def check_full(made, case, share):
    """The write that begins at or after a moment is refused."""
    made = made(case)
    moments.clear(made.folder)
    first = chosen(case, share, made.moments)
    writes = [n for n, name in enumerate(made.moments, 1) if name in WRITES]
    fatal = next((n for n in writes if n >= first), writes[-1])
    assert made.run(fatal, moments.refuse)[0] == 1
    said = moments.console(made.folder).read_text()
    assert "Traceback" not in said
    assert re.search(rf"error: {made.folder}/.*: the disk is full; make room, then run", said)
    assert not list(made.folder.rglob(".partial-*"))
    made.is_restored()


@pytest.mark.parametrize(("case", "share"), FAST[1:2] + FAST[-1:])
def test_a_full_disk_is_a_sentence_and_the_run_goes_on_with_room(made, case, share):
    check_full(made, case, share)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES[::3], ids="-".join)
@pytest.mark.parametrize("share", range(0, SHARES, 2))
def test_a_full_disk_at_any_write_is_a_sentence(made, case, share):
    check_full(made, case, share)
