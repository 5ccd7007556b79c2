"""The runs of the three sweeps as data: protocol -> the published commands, 552 in all.

A run knows its command, the folder of its results, and the run whose checkpoint it evaluates.
"""

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["PROTOCOLS", "Run", "list_runs", "units"]

METHODS = {"mmrlpp": "MMRLpp", "mmrl": "MMRL"}
SEEDS = (1, 2, 3)
SHOTS = (1, 2, 4, 8, 16)
ELEVEN = (
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
        """For people."""
        return f"{self.trainer} {self.dataset} {self.subsample} {self.shots}-shot seed {self.seed}"

    def arguments(self, root: str, folder: str, backbone: str, opts: Sequence[str]) -> list[str]:
        """Of train.py; `folder` is the sweep's, `opts` are config keys for every run."""
        where = f"{folder}/" if folder else ""
        evaluate = ["--model-dir", f"{where}{self.model}", "--eval-only"] if self.model else []
        return [
            *("--root", root, "--seed", str(self.seed), "--trainer", self.trainer),
            *("--dataset-config-file", f"configs/datasets/{self.dataset}.yaml"),
            *("--config-file", f"configs/trainers/{self.trainer}/{self.config}.yaml"),
            *("--output-dir", f"{where}{self.output}"),
            *(("--backbone", backbone) if backbone else ()),
            *evaluate,
            *("DATASET.NUM_SHOTS", str(self.shots)),
            *("DATASET.SUBSAMPLE_CLASSES", self.subsample, "TASK", self.task),
            *opts,
        ]


def base_to_novel(trainer: str, datasets: Sequence[str], seeds: Sequence[int]) -> list[Run]:
    """Train on the base classes, which evaluates them; then evaluate the new ones."""
    runs = []
    for dataset in datasets:
        config = "vit_b16_imagenet" if dataset == "imagenet" else "vit_b16"
        for seed in seeds:
            tail = f"{dataset}/shots_16/{trainer}/{config}/seed{seed}"
            trained = f"output/base2new/train_base/{tail}"
            common = ("base_to_novel", trainer, dataset, config, "B2N")
            runs.append(Run(*common, "base", 16, seed, trained))
            runs.append(Run(*common, "new", 16, seed, f"output/base2new/test_new/{tail}", trained))
    return runs


def cross_datasets(trainer: str, datasets: Sequence[str], seeds: Sequence[int]) -> list[Run]:
    """Train on ImageNet, evaluate on ten other data sets and four of its variants."""
    config = "vit_b16_cross_datasets"
    runs = []
    for dataset in datasets:
        for seed in seeds:
            tail = f"shots_16/{trainer}/{config}/seed{seed}"
            source = f"output/base2new/train_base/imagenet/{tail}"
            common = ("cross_datasets", trainer, dataset, config, "CD", "all", 16, seed)
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
    for dataset in datasets:
        config = "vit_b16_imagenet" if dataset == "imagenet" else "vit_b16_few_shot"
        for count in shots:
            for seed in seeds:
                output = f"output/few_shot/{dataset}/shots_{count}/{trainer}/{config}/seed{seed}"
                common = ("few_shot", trainer, dataset, config, "FS", "all", count, seed)
                runs.append(Run(*common, output))
    return runs


PROTOCOLS = {
    "base_to_novel": ELEVEN,
    "cross_datasets": ["imagenet", *TARGETS],
    "few_shot": FEW_SHOT,
}


def list_runs(
    protocol: str,
    methods: Sequence[str] = tuple(METHODS),
    datasets: Sequence[str] = (),
    seeds: Sequence[int] = SEEDS,
    shots: Sequence[int] = SHOTS,
) -> list[Run]:
    """All runs of a protocol in the published order, or those of some data sets and seeds.

    Cross-dataset evaluations bring their training on ImageNet with them.

    Raises:
        ValueError: an unknown method.
    """
    if unknown := [method for method in methods if method not in METHODS]:
        raise ValueError(f"Unknown methods {unknown}; known are {', '.join(METHODS)}")
    chosen = list(datasets) or PROTOCOLS[protocol]
    if protocol == "cross_datasets" and "imagenet" not in chosen:
        chosen = ["imagenet", *chosen]
    runs = []
    for method in methods:
        if protocol == "few_shot":
            runs += few_shot(METHODS[method], chosen, seeds, shots)
        else:
            build = base_to_novel if protocol == "base_to_novel" else cross_datasets
            runs += build(METHODS[method], chosen, seeds)
    return runs


def units(runs: Sequence[Run]) -> list[list[Run]]:
    """A training with its evaluations, each; what one shard of a cluster takes."""
    grouped: dict[str, list[Run]] = {}
    for run in runs:
        grouped.setdefault(run.model or run.output, []).append(run)
    return list(grouped.values())
