"""The runs of the three sweeps as data: protocol -> commands, 552 of them published.

A run knows its command, the folder of its results, and the run whose checkpoint it evaluates.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

from dassl.errors import RequestError
from sweep.choices import (
    METHODS,
    DataSet,
    config_file,
    find_dataset,
    find_method,
    has_training,
    takes_new_classes,
)

__all__ = ["PROTOCOLS", "SEEDS", "Run", "list_runs", "units"]

SEEDS = (1, 2, 3)
# Each in the order of its published script.
BASE_TO_NOVEL = (
    "eurosat dtd ucf101 oxford_flowers oxford_pets fgvc_aircraft caltech101 food101 stanford_cars "
    "sun397 imagenet"
).split()
TARGETS = (
    "dtd eurosat ucf101 oxford_flowers oxford_pets fgvc_aircraft caltech101 food101 stanford_cars "
    "sun397 imagenet_a imagenet_r imagenet_sketch imagenetv2"
).split()
FEW_SHOT = (
    "dtd eurosat ucf101 oxford_flowers oxford_pets fgvc_aircraft caltech101 food101 stanford_cars "
    "sun397 imagenet"
).split()


class Run(NamedTuple):
    """One call of train.py."""

    protocol: str
    trainer: str
    dataset: str  # stem of configs/datasets/*.yaml, or the name of one's own
    config: str  # stem of configs/trainers/<trainer or its parent>/*.yaml
    task: str
    subsample: str
    shots: int
    seed: int
    output: str  # below the sweep's folder
    model: str = ""  # output of the run that it evaluates; empty: it trains, if anything is learned
    learns: bool = True
    # yaml files, below the repository or absolute; without one, a data set has its registered name
    config_file: str = ""
    dataset_file: str = ""
    dataset_name: str = ""

    @property
    def name(self) -> str:
        """What people call this run, in status lines."""
        return f"{self.trainer} {self.dataset} {self.subsample} {self.shots}-shot seed {self.seed}"

    @property
    def options(self) -> list[str]:
        """The config keys that the sweep sets, each followed by its value."""
        return [
            *("DATASET.NUM_SHOTS", str(self.shots)),
            *("DATASET.SUBSAMPLE_CLASSES", self.subsample, "TASK", self.task),
            *(("DATASET.NAME", self.dataset_name) if self.dataset_name else ()),
        ]

    def arguments(self, root: str, folder: str, backbone: str, opts: Sequence[str]) -> list[str]:
        """The arguments of train.py; `folder` is the sweep's, `opts` are keys for every run."""
        evaluate = ["--model-dir", below(folder, self.model)] if self.model else []
        evaluate += ["--eval-only"] if self.model or not self.learns else []
        return [
            *("--root", root, "--seed", str(self.seed), "--trainer", self.trainer),
            *(("--dataset-config-file", self.dataset_file) if self.dataset_file else ()),
            *("--config-file", self.config_file),
            *("--output-dir", below(folder, self.output)),
            *(("--backbone", backbone) if backbone else ()),
            *evaluate,
            *self.options,
            *opts,
        ]


def below(folder: str, output: str) -> str:
    """A run's folder below the sweep's, as commands name it; an empty one is the repository."""
    return f"{folder}/{output}" if folder else output


def base_to_novel(
    trainer: str, datasets: Sequence[str], seeds: Sequence[int], shots: Sequence[int]
) -> list[Run]:
    """Train on the base classes, which also evaluates them; then evaluate the new ones."""
    runs = []
    for dataset, count, seed in product(datasets, shots, seeds):
        config = "vit_b16_imagenet" if dataset == "imagenet" else "vit_b16"
        tail = f"{dataset}/shots_{count}/{trainer}/{config}/seed{seed}"
        trained = f"output/base2new/train_base/{tail}"
        common = ("base_to_novel", trainer, dataset, config, "B2N")
        runs.append(Run(*common, "base", count, seed, trained))
        runs.append(Run(*common, "new", count, seed, f"output/base2new/test_new/{tail}", trained))
    return runs


def cross_datasets(
    trainer: str, datasets: Sequence[str], seeds: Sequence[int], shots: Sequence[int]
) -> list[Run]:
    """Train on ImageNet, evaluate on ten other data sets and four of its variants."""
    config = "vit_b16_cross_datasets"
    runs = []
    for dataset, count, seed in product(datasets, shots, seeds):
        tail = f"shots_{count}/{trainer}/{config}/seed{seed}"
        source = f"output/base2new/train_base/imagenet/{tail}"
        common = ("cross_datasets", trainer, dataset, config, "CD", "all", count, seed)
        if dataset == "imagenet":
            runs.append(Run(*common, source))
        else:
            runs.append(Run(*common, f"output/base2new/test_new/{dataset}/{tail}", source))
    return runs


def few_shot(
    trainer: str, datasets: Sequence[str], seeds: Sequence[int], shots: Sequence[int]
) -> list[Run]:
    """Train and evaluate on all classes."""
    runs = []
    for dataset, count, seed in product(datasets, shots, seeds):
        config = "vit_b16_imagenet" if dataset == "imagenet" else "vit_b16_few_shot"
        output = f"output/few_shot/{dataset}/shots_{count}/{trainer}/{config}/seed{seed}"
        common = ("few_shot", trainer, dataset, config, "FS", "all", count, seed)
        runs.append(Run(*common, output))
    return runs


class Protocol(NamedTuple):
    """A protocol: its published data sets and shots, and the function that lists its runs."""

    build: Callable[[str, Sequence[str], Sequence[int], Sequence[int]], list[Run]]
    datasets: Sequence[str]
    shots: Sequence[int]


PROTOCOLS = {
    "base_to_novel": Protocol(base_to_novel, BASE_TO_NOVEL, (16,)),
    "cross_datasets": Protocol(cross_datasets, ["imagenet", *TARGETS], (16,)),
    "few_shot": Protocol(few_shot, FEW_SHOT, (1, 2, 4, 8, 16)),
}


def list_runs(
    protocol: str,
    methods: Sequence[str] = tuple(METHODS),
    datasets: Sequence[str] = (),
    seeds: Sequence[int] = SEEDS,
    shots: Sequence[int] = (),
) -> list[Run]:
    """All runs of a protocol in the published order, or those of some data sets, seeds and shots.

    An empty argument stands for the protocol's own; a name given twice counts once. Cross-dataset
    evaluations bring their training on ImageNet with them. A trainer that knows the classes of its
    training alone has no run that evaluates others.

    Raises:
        RequestError: an unknown protocol, method or data set.
    """
    if protocol not in PROTOCOLS:
        known = ", ".join(sorted(PROTOCOLS))
        raise RequestError(f"Unknown protocol {protocol!r}; choose from {known}")
    build, published_datasets, published_shots = PROTOCOLS[protocol]
    trainers = [find_method(word) for word in methods]
    chosen = {found.stem: found for found in map(find_dataset, datasets or published_datasets)}
    if protocol == "cross_datasets" and "imagenet" not in chosen:
        chosen = {"imagenet": find_dataset("imagenet"), **chosen}
    runs = [
        _with_files(run, chosen[run.dataset])
        for trainer in trainers
        for run in build(trainer, list(chosen), seeds, shots or published_shots)
        if not run.model or takes_new_classes(trainer)
    ]
    return list(dict.fromkeys(runs))


def _with_files(run: Run, dataset: DataSet) -> Run:
    """The run, its files found; one of a trainer that learns nothing evaluates that as it is."""
    learns = has_training(run.trainer)
    return run._replace(
        model=run.model if learns else "",
        learns=learns,
        config_file=config_file(run.trainer, run.config),
        dataset_file=dataset.file,
        dataset_name=dataset.name,
    )


def units(runs: Sequence[Run]) -> list[list[Run]]:
    """Group each training with its evaluations: the units that are dealt to shards."""
    grouped: dict[str, list[Run]] = {}
    for run in runs:
        grouped.setdefault(run.model or run.output, []).append(run)
    return list(grouped.values())
