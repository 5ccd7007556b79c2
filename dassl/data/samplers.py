"""The order in which a loader visits a data set."""

import copy
import random
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data.sampler import RandomSampler, Sampler, SequentialSampler

from dassl.errors import RequestError


class RandomDomainSampler(Sampler):
    """Batches of `batch_size` items, the same number from each of `n_domain` random domains.

    Stops after a batch that leaves one of its domains with too few unused items.

    Raises:
        RequestError: `batch_size` is not a multiple of the number of domains.
    """

    def __init__(self, data_source: list, batch_size: int, n_domain: int) -> None:
        self.indices = _group(data_source, "domain")
        self.domains = list(self.indices)
        self.n_domain = n_domain if n_domain > 0 else len(self.domains)
        if batch_size < self.n_domain or batch_size % self.n_domain:
            raise RequestError(
                f"Batch size {batch_size} is not a multiple of the {self.n_domain} domains"
            )
        self.n_img_per_domain = batch_size // self.n_domain
        self.length = len(list(iter(self)))

    def _pick_domains(self) -> list[int]:
        return random.sample(self.domains, self.n_domain)

    def __iter__(self) -> Iterator[int]:
        unused = copy.deepcopy(self.indices)
        order, going = [], True
        while going:
            for domain in self._pick_domains():
                chosen = random.sample(unused[domain], self.n_img_per_domain)
                order.extend(chosen)
                unused[domain] = [i for i in unused[domain] if i not in set(chosen)]
                going = going and len(unused[domain]) >= self.n_img_per_domain
        return iter(order)

    def __len__(self) -> int:
        return self.length


class SeqDomainSampler(RandomDomainSampler):
    """The same over all domains, in sorted order."""

    def __init__(self, data_source: list, batch_size: int) -> None:
        super().__init__(data_source, batch_size, n_domain=0)

    def _pick_domains(self) -> list[int]:
        return sorted(self.domains)


class RandomClassSampler(Sampler):
    """Batches of `n_ins` items from each of `batch_size // n_ins` random classes.

    Raises:
        RequestError: `batch_size` is below `n_ins`, or there are too few classes for a batch.
    """

    def __init__(self, data_source: list, batch_size: int, n_ins: int) -> None:
        if batch_size < n_ins:
            raise RequestError(f"batch_size={batch_size} must be no less than n_ins={n_ins}")
        self.n_ins, self.ncls_per_batch = n_ins, batch_size // n_ins
        self.index_dic = _group(data_source, "label")
        self.labels = list(self.index_dic)
        if len(self.labels) < self.ncls_per_batch:
            raise RequestError(
                f"{len(self.labels)} classes cannot fill {self.ncls_per_batch} a batch"
            )
        self.length = len(list(iter(self)))

    def _groups_of(self, label: int) -> list[list[int]]:
        indices = copy.deepcopy(self.index_dic[label])
        if len(indices) < self.n_ins:
            indices = np.random.choice(indices, size=self.n_ins, replace=True).tolist()
        random.shuffle(indices)
        last = len(indices) - self.n_ins
        return [indices[i : i + self.n_ins] for i in range(0, last + 1, self.n_ins)]

    def __iter__(self) -> Iterator[int]:
        groups = {label: self._groups_of(label) for label in self.labels}
        available, order = list(self.labels), []
        while len(available) >= self.ncls_per_batch:
            for label in random.sample(available, self.ncls_per_batch):
                order.extend(groups[label].pop(0))
                if not groups[label]:
                    available.remove(label)
        return iter(order)

    def __len__(self) -> int:
        return self.length


def _group(data_source: list, attribute: str) -> dict[int, list[int]]:
    groups = defaultdict(list)
    for index, item in enumerate(data_source):
        groups[getattr(item, attribute)].append(index)
    return groups


def build_sampler(
    sampler_type: str,
    cfg: Any = None,
    data_source: list | None = None,
    batch_size: int = 32,
    n_domain: int = 0,
    n_ins: int = 16,
) -> Any:
    """The sampler of that name over `data_source`.

    Raises:
        RequestError: an unknown name.
    """
    items = [] if data_source is None else data_source
    builders = {
        "RandomSampler": lambda: RandomSampler(items),
        "SequentialSampler": lambda: SequentialSampler(items),
        "RandomDomainSampler": lambda: RandomDomainSampler(items, batch_size, n_domain),
        "SeqDomainSampler": lambda: SeqDomainSampler(items, batch_size),
        "RandomClassSampler": lambda: RandomClassSampler(items, batch_size, n_ins),
    }
    if sampler_type not in builders:
        raise RequestError(f"Sampler must be one of {list(builders)}, got {sampler_type!r}")
    return builders[sampler_type]()
