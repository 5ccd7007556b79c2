"""Loaders whose random numbers know the configured workers, not the machine's processes.

A plain `DataLoader` with W workers has W *streams* of random numbers: worker i seeds Python's,
NumPy's and torch's generators from the epoch's base seed and i, and makes the batches i, i + W,
i + 2 W, ... Here the streams stay, and P processes host them, where P divides W and is what cores
and memory allow: torch deals batch b to process b mod P, so a stream never changes its process.
With P = 0 this process hosts them all. Pixels and order equal those of W real workers.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info
from torch.utils.data._utils import worker as torch_worker

from dassl.utils.tools import num_cores, system_lines

__all__ = ["StreamLoader", "num_processes"]

MEMORY_PER_PROCESS = 2**29  # bytes; a loader process that was spawned imports torch anew
_hosted: dict[int, Any] = {}  # in a loader process: stream -> states of its three generators


def num_processes(num_streams: int, num_batches: int) -> int:
    """How many processes host the streams: the largest divisor that the machine allows, or 0."""
    limit = min(num_cores(), _free_memory() // MEMORY_PER_PROCESS, num_batches)
    divisors = (n for n in range(1, num_streams + 1) if num_streams % n == 0 and n <= limit)
    return max(divisors, default=0)


def _free_memory() -> int:
    """Free memory in bytes; more than anyone needs, if the system does not say."""
    lines = system_lines("/proc/meminfo")
    available = (line for line in lines if line.startswith("MemAvailable:"))
    return next((int(line.split()[1]) * 1024 for line in available), 2**62)


class StreamLoader(DataLoader):
    """A `DataLoader` of `num_streams` streams in `processes` processes, which stay between epochs.

    Every iterator draws one number from torch's generator as its base seed, as a plain loader with
    fresh workers does; a plain loader that keeps its workers draws it in the first epoch only.
    """

    def __init__(
        self, dataset: Dataset, *, num_streams: int, processes: int, **kwargs: Any
    ) -> None:
        super().__init__(
            dataset,
            num_workers=processes,
            persistent_workers=processes > 0,
            # torch's own base seed: nobody reads this generator, ours is drawn in __iter__
            generator=torch.Generator(),
            **kwargs,
        )
        self.num_streams = num_streams
        self.base_seed = 0
        self.epoch: list[list[int]] = []  # the indices of every batch

    def __iter__(self) -> Any:
        self.base_seed = int(torch.empty((), dtype=torch.int64).random_())
        if self.num_streams:
            # workers ask for batches ahead, so the sampler draws before anything else does
            self.epoch = list(super()._index_sampler)
        return super().__iter__()

    @property
    def _index_sampler(self) -> Any:
        # what torch's iterators take their batches from; `batch_size` and `sampler` stay readable
        batches = super()._index_sampler
        return _StreamBatches(self, len(batches)) if self.num_streams else batches


class _StreamBatches(Sampler):
    """The batches of a loader's epoch, each knowing its stream."""

    def __init__(self, loader: StreamLoader, length: int) -> None:
        self.loader, self.length = loader, length

    def __iter__(self) -> Iterator["_StreamBatch"]:
        loader, seed = self.loader, self.loader.base_seed
        states: dict[int, Any] = {}
        numbered = enumerate(loader.epoch)
        return (_StreamBatch(batch, number, loader, seed, states) for number, batch in numbered)

    def __len__(self) -> int:
        return self.length


class _StreamBatch(Sequence):
    """Indices of a batch; whoever iterates them draws from the batch's stream meanwhile.

    torch's fetcher iterates a batch exactly where its items are made, in whatever process.
    """

    def __init__(
        self,
        indices: list[int],
        number: int,
        loader: StreamLoader,
        base_seed: int,
        states: dict[int, Any],
    ) -> None:
        self.indices, self.base_seed, self.states = indices, base_seed, states
        self.num_streams = loader.num_streams
        self.dataset: Any = loader.dataset
        self.stream = number % loader.num_streams
        self.is_first = number < loader.num_streams  # of its stream in this epoch

    def __getstate__(self) -> dict[str, Any]:
        """A loader process has the data set, and keeps the states, of its own."""
        return {k: v for k, v in vars(self).items() if k not in ("states", "dataset")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.states = _hosted
        info = get_worker_info()
        self.dataset = None if info is None else info.dataset

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: Any) -> Any:
        return self.indices[position]

    def __iter__(self) -> Iterator[int]:
        outside, info = _generator_states(), torch_worker._worker_info
        self._enter()
        try:
            yield from self.indices
        finally:
            self.states[self.stream] = _generator_states()
            _restore(outside)
            torch_worker._worker_info = info

    def _enter(self) -> None:
        """Let all generators, and `get_worker_info()`, be those of the stream's own worker."""
        seed = self.base_seed + self.stream
        if self.is_first:
            random.seed(seed)
            torch.default_generator.manual_seed(seed)
            np.random.seed(torch_worker._generate_state(self.base_seed, self.stream))
        else:
            _restore(self.states[self.stream])
        torch_worker._worker_info = torch_worker.WorkerInfo(
            id=self.stream, num_workers=self.num_streams, seed=seed, dataset=self.dataset
        )


def _generator_states() -> tuple[Any, Any, torch.Tensor]:
    return random.getstate(), np.random.get_state(), torch.default_generator.get_state()


def _restore(states: tuple[Any, Any, torch.Tensor]) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.default_generator.set_state(states[2])
