"""A loader whose workers stay between epochs, with the random numbers of fresh ones."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, get_worker_info

__all__ = ["EpochSeed", "PersistentLoader"]


class EpochSeed:
    """The seed of an epoch, where the workers of a loader see it."""

    def __init__(self) -> None:
        self.shared = torch.zeros(1, dtype=torch.int64).share_memory_()
        self.seen = 0

    def apply(self) -> None:
        """In a worker, on the first item of an epoch: seed all generators as a fresh one's."""
        worker, seed = get_worker_info(), int(self.shared)
        if worker is None or seed == self.seen:
            return
        self.seen = seed
        random.seed(seed + worker.id)
        torch.manual_seed(seed + worker.id)
        np.random.seed((seed + worker.id) % 2**32)


class PersistentLoader(DataLoader):
    """Starts its workers once; images and augmentations are those of workers started anew.

    A fresh `DataLoader` iterator draws one number from torch's generator as its workers' seed. A
    loader with persistent workers does so in the first epoch only; here it is drawn in each.
    """

    def __init__(self, *args: Any, epoch_seed: EpochSeed, **kwargs: Any) -> None:
        super().__init__(*args, persistent_workers=True, **kwargs)
        self._epoch_seed = epoch_seed
        self._is_running = False

    def __iter__(self) -> Iterator:
        if self._is_running:
            seed = torch.empty((), dtype=torch.int64).random_().item()
        else:  # the iterator that is made below draws this number itself
            state = torch.get_rng_state()
            seed = torch.empty((), dtype=torch.int64).random_().item()
            torch.set_rng_state(state)
        self._is_running = True
        self._epoch_seed.shared.fill_(seed)
        return super().__iter__()
