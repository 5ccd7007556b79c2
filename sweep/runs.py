"""The runs of the three sweeps as data: protocol -> the published commands, 552 in all.

A run knows its command, the folder of its results, and the run whose checkpoint it evaluates.
"""

from collections.abc import Callable, Collection, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from dassl.errors import RequestError

__all__ = [
    "BOUND_TO_CLASSES",
    "METHODS",
    "PROTOCOLS",
    "PUBLISHED",
    "SEEDS",
    "Run",
    "list_runs",
    "units",
]

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "datasets"
METHODS = {
    **{"mmrlpp": "MMRLpp", "mmrl": "MMRL"},
    **{"linear_probe": "LinearProbe", "tip_adapter": "TipAdapter", "tip_adapter_f": "TipAdapterF"},
}
PUBLISHED = ("mmrlpp", "mmrl")  # what is swept unless methods are named
# They know the classes that they were trained on, and have one config for all protocols.
BOUND_TO_CLASSES = ("LinearProbe", "TipAdapter", "TipAdapterF")
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
    dataset: str  # stem of configs/datasets/*.yaml
    config: str  # stem of configs/trainers/<trainer>/*.yaml
    task: str
    subsample: str
    shots: int
    seed: int
    output: str  # below the sweep's folder
    model: str = ""  # output of the run that it evaluates; empty: it trains

    @property
    def name(self) -> str:
        """What people call this run, in status lines."""
        return f"{self.trainer} {self.dataset} {self.subsample} {self.shots}-shot seed {self.seed}"

    @property
    def dataset_file(self) -> str:
        """The data set's yaml, as a path below the repository."""
        return f"configs/datasets/{self.dataset}.yaml"

    @property
    def config_file(self) -> str:
        """The trainer's yaml, as a path below the repository."""
        return f"configs/trainers/{self.trainer}/{self.config}.yaml"

    @property
    def options(self) -> list[str]:
        """The config keys that the sweep sets, each followed by its value."""
        return [
            *("DATASET.NUM_SHOTS", str(self.shots)),
            *("DATASET.SUBSAMPLE_CLASSES", self.subsample, "TASK", self.task),
        ]

    def arguments(self, root: str, folder: str, backbone: str, opts: Sequence[str]) -> list[str]:
        """The arguments of train.py; `folder` is the sweep's, `opts` are keys for every run."""
        evaluate = ["--model-dir", below(folder, self.model), "--eval-only"] if self.model else []
        return [
            *("--root", root, "--seed", str(self.seed), "--trainer", self.trainer),
            *("--dataset-config-file", self.dataset_file, "--config-file", self.config_file),
            *("--output-dir", below(folder, self.output)),
            *(("--backbone", backbone) if backbone else ()),
            *evaluate,
            *self.options,
            *opts,
        ]


def config_of(trainer: str, published: str) -> str:
    """The stem of the trainer's yaml for a protocol, where the published methods' is given."""
    return "vit_b16" if trainer in BOUND_TO_CLASSES else published


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
        config = config_of(trainer, config)
        tail = f"{dataset}/shots_{count}/{trainer}/{config}/seed{seed}"
        trained = f"output/base2new/train_base/{tail}"
        common = ("base_to_novel", trainer, dataset, config, "B2N")
        runs.append(Run(*common, "base", count, seed, trained))
        if trainer not in BOUND_TO_CLASSES:
            runs.append(
                Run(*common, "new", count, seed, f"output/base2new/test_new/{tail}", trained)
            )
    return runs


def cross_datasets(
    trainer: str, datasets: Sequence[str], seeds: Sequence[int], shots: Sequence[int]
) -> list[Run]:
    """Train on ImageNet, evaluate on ten other data sets and four of its variants."""
    config = config_of(trainer, "vit_b16_cross_datasets")
    runs = []
    for dataset, count, seed in product(datasets, shots, seeds):
        tail = f"shots_{count}/{trainer}/{config}/seed{seed}"
        source = f"output/base2new/train_base/imagenet/{tail}"
        common = ("cross_datasets", trainer, dataset, config, "CD", "all", count, seed)
        if dataset == "imagenet":
            runs.append(Run(*common, source))
        elif trainer not in BOUND_TO_CLASSES:
            runs.append(Run(*common, f"output/base2new/test_new/{dataset}/{tail}", source))
    return runs


def few_shot(
    trainer: str, datasets: Sequence[str], seeds: Sequence[int], shots: Sequence[int]
) -> list[Run]:
    """Train and evaluate on all classes."""
    runs = []
    for dataset, count, seed in product(datasets, shots, seeds):
        config = "vit_b16_imagenet" if dataset == "imagenet" else "vit_b16_few_shot"
        config = config_of(trainer, config)
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
    methods: Sequence[str] = PUBLISHED,
    datasets: Sequence[str] = (),
    seeds: Sequence[int] = SEEDS,
    shots: Sequence[int] = (),
) -> list[Run]:
    """All runs of a protocol in the published order, or those of some data sets, seeds and shots.

    An empty argument stands for the protocol's own; a name given twice counts once. Cross-dataset
    evaluations bring their training on ImageNet with them.

    Raises:
        RequestError: an unknown protocol, method or data set.
    """
    _check_known("protocol", [protocol], PROTOCOLS)
    build, published_datasets, published_shots = PROTOCOLS[protocol]
    chosen = list(datasets) or published_datasets
    _check_known("method", methods, METHODS)
    _check_known("data set", chosen, {path.stem for path in CONFIGS.glob("*.yaml")})
    if protocol == "cross_datasets" and "imagenet" not in chosen:
        chosen = ["imagenet", *chosen]
    runs = [
        run
        for method in methods
        for run in build(METHODS[method], chosen, seeds, shots or published_shots)
    ]
    return list(dict.fromkeys(runs))


def _check_known(kind: str, names: Sequence[str], known: Collection[str]) -> None:
    if unknown := [name for name in names if name not in known]:
        raise RequestError(f"Unknown {kind} {unknown[0]!r}; choose from {', '.join(sorted(known))}")


def units(runs: Sequence[Run]) -> list[list[Run]]:
    """Group each training with its evaluations: the units that are dealt to shards."""
    grouped: dict[str, list[Run]] = {}
    for run in runs:
        grouped.setdefault(run.model or run.output, []).append(run)
    return list(grouped.values())
