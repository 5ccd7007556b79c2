"""Random numbers of a loader: W configured workers give what torch's own W workers give."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler, get_worker_info

from dassl.data import loader as loaders
from dassl.data.loader import StreamLoader, num_processes


class Draws(Dataset):
    """Items that show what each generator gives where they are made, and who makes them."""

    def __len__(self):
        return 23

    def __getitem__(self, index):
        info = get_worker_info()
        who = (-1, -1, -1) if info is None else (info.id, info.num_workers, info.seed)
        drawn = (random.random(), np.random.rand(), torch.rand(()).item())
        return index, *drawn, *map(str, who)


def plain(workers):
    return DataLoader(Draws(), 3, sampler=RandomSampler(Draws()), num_workers=workers)


def streamed(workers, processes, **kwargs):
    return StreamLoader(
        Draws(),
        batch_size=3,
        sampler=RandomSampler(Draws()),
        num_streams=workers,
        processes=processes,
        **kwargs,
    )


def epochs(loader, leave_after=(99, 2, 99), between=True):
    """Three epochs, the second of which is left early; then what all generators give."""
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    seen = []
    for limit in leave_after:
        for number, batch in enumerate(loader):
            if number == limit:
                break
            seen.append([x.tolist() if torch.is_tensor(x) else x for x in batch])
        seen.append(torch.rand(()).item() if between else None)
    return seen, random.random(), np.random.rand(), torch.rand(()).item()


# torch advises against more processes than cores; here they are the reference
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(
    ("workers", "processes"),
    [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (3, 1), (4, 2), (8, 0), (8, 2), (8, 4)],
)
def test_streams_equal_torch_s_own_workers(workers, processes):
    assert epochs(streamed(workers, processes)) == epochs(plain(workers))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_streams_do_not_depend_on_how_processes_start(method):
    own = streamed(4, 2, multiprocessing_context=method)
    assert epochs(own, (99, 1)) == epochs(plain(4), (99, 1))


def test_two_loaders_in_turns_keep_their_own_streams():
    def in_turns(first, second):
        torch.manual_seed(1)
        pairs = zip(first, second, strict=True)
        return [[x.tolist() for part in pair for x in part[:4]] for pair in pairs]

    assert in_turns(streamed(2, 0), streamed(3, 0)) == in_turns(plain(2), plain(3))


def test_an_item_that_fails_leaves_the_generators_alone():
    class Failing(Draws):
        def __getitem__(self, index):
            torch.rand(())
            raise KeyError(index)

    loader = StreamLoader(Failing(), num_streams=2, processes=0)
    batches = iter(loader)
    state = torch.get_rng_state()
    with pytest.raises(KeyError):
        next(batches)
    assert torch.equal(torch.get_rng_state(), state)
    assert get_worker_info() is None


@pytest.mark.parametrize(
    ("streams", "cores", "batches", "want"),
    [(8, 2, 99, 2), (8, 3, 99, 2), (3, 2, 99, 1), (8, 64, 5, 4), (0, 8, 9, 0), (6, 5, 9, 3)],
)
def test_processes_divide_the_streams(monkeypatch, streams, cores, batches, want):
    monkeypatch.setattr(loaders, "num_cores", lambda: cores)
    assert num_processes(streams, batches) == want


def test_too_little_memory_leaves_no_process(monkeypatch):
    monkeypatch.setattr(loaders, "_free_memory", lambda: 2**20)
    assert num_processes(8, 99) == 0


def test_systems_that_do_not_say_their_cores_and_memory(monkeypatch):
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr(loaders, "system_lines", lambda _: [])
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert num_processes(8, 99) == 4
