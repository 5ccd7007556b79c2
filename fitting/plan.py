"""What is asked for -> the command of train.py for each method, and about how long it takes."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

import clip
from clip.model import CLIP
from dassl.errors import RequestError
from fitting.pictures import Pictures
from trainer.published_values import METHOD_NAMES, equal_prompts, prompts

__all__ = [
    "DEFAULT_METHODS",
    "METHODS",
    "Plan",
    "chosen_methods",
    "prompt_note",
    "seconds_of",
    "title",
]

_CONFIGS = Path(__file__).resolve().parents[1] / "configs"
# From the cheapest to the dearest: of equals, the first is recommended.
METHODS = {
    "zero-shot": "ZeroshotCLIP",
    "linear-probe": "LinearProbe",
    "tip-adapter": "TipAdapter",
    "tip-adapter-f": "TipAdapterF",
    "mmrl": "MMRL",
    "mmrl++": "MMRLpp",
}
DEFAULT_METHODS = ("zero-shot", "linear-probe", "tip-adapter", "mmrl", "mmrl++")
_STEPPING = {"tip-adapter-f": 20, "mmrl": 10, "mmrl++": 10}  # and their epochs
_SHARE_WITH_TOKENS = 7 / 12  # of the layers: the papers' 6 to 12
_SMALL = 1000  # pictures that one process decodes as fast as eight are started
_VIEWS = 10  # that Tip-Adapter's cache averages
_BATCH = 4  # of MMRL's and MMRL++'s vit_b16.yaml
_STEP = 4.0  # times an image's pass: frozen and adapted, and back


class Plan(NamedTuple):
    """One comparison; all methods read the same list of pictures."""

    pictures: Pictures
    out: Path
    backbone: str
    resolution: int  # pixels
    num_layers: int  # of the shallower tower
    methods: tuple[str, ...]
    shots: int = -1  # pictures of a class; -1: all
    epochs: int = 0  # 0: each method's own
    template: str = ""
    seed: int = 1
    uses_cuda: bool = False

    @property
    def list_file(self) -> Path:
        """The list of pictures and parts."""
        return self.out / "split.csv"

    def folder(self, method: str, split: str = "test") -> Path:
        """Where a method's run, or its figures on validation pictures, are."""
        return self.out / "runs" / (method if split == "test" else f"{method}-validation")

    def epochs_of(self, method: str) -> int:
        """Passes over the training pictures; 0: the method has none."""
        return (self.epochs or _STEPPING[method]) if method in _STEPPING else 0

    def words(self, method: str, split: str = "test") -> list[str]:
        """The arguments of train.py that train and test a method, or validate what it learned."""
        trainer = METHODS[method]
        evaluate = ["--eval-only"] if split == "val" or method == "zero-shot" else []
        if split == "val" and method != "zero-shot":
            evaluate += ["--model-dir", str(self.folder(method))]
        return [
            *evaluate,
            *("--trainer", trainer, "--seed", str(self.seed), "--root", str(self.pictures.root)),
            *("--dataset-config-file", str(_CONFIGS / "datasets/folder.yaml")),
            *("--config-file", str(_CONFIGS / f"trainers/{trainer}/vit_b16.yaml")),
            *("--backbone", self.backbone, "--output-dir", str(self.folder(method, split))),
            *("DATASET.CSV", str(self.list_file), "DATASET.NUM_SHOTS", str(self.shots)),
            *("DATASET.LABEL", self.pictures.root.resolve().name or "pictures"),
            *("DATASET.TEMPLATE", self.template, "TASK", "FS", "USE_CUDA", str(self.uses_cuda)),
            *("INPUT.SIZE", str((self.resolution,) * 2), "TEST.PREDICTIONS", "True"),
            *("TEST.SPLIT", split, "DATALOADER.NUM_WORKERS", str(self._workers())),
            *self._of_method(method),
        ]

    def _workers(self) -> int:
        return 0 if len(self.pictures.rows) < _SMALL else 8

    def _of_method(self, method: str) -> list[str]:
        words = ["OPTIM.MAX_EPOCH", str(self.epochs_of(method))] if method in _STEPPING else []
        if method in ("mmrl", "mmrl++"):
            node = f"TRAINER.{METHODS[method]}"
            depth = max(1, round(_SHARE_WITH_TOKENS * self.num_layers))
            words += [f"{node}.REP_LAYERS", str(list(range(-depth, 0)))]
            # bfloat16, which amp means on a CPU, is slow on many of them
            words += [f"{node}.PREC", "amp" if self.uses_cuda else "fp32"]
            # a warm-up of one epoch would be all of a run of one
            words += ["OPTIM.WARMUP_EPOCH", "1" if self.epochs_of(method) > 1 else "0"]
        return words


def chosen_methods(text: str) -> tuple[str, ...]:
    """The methods of a list with commas, in the table's order; all but Tip-Adapter-F by default.

    Raises:
        RequestError: one is unknown.
    """
    names = [name.strip().lower() for name in text.split(",") if name.strip()] or DEFAULT_METHODS
    if unknown := [name for name in names if name not in METHODS]:
        raise RequestError(f"Unknown --method {unknown[0]!r}; choose from {', '.join(METHODS)}")
    return tuple(name for name in METHODS if name in names)


def prompt_note(plan: Plan) -> str:
    """A sentence if two classes have the same text features; or "".

    Raises:
        RequestError: the template has not one `{}`.
    """
    texts = prompts(plan.pictures.classnames, "Folder", plan.template)
    if note := equal_prompts(texts):
        return note
    tokens = [tuple(row) for row in clip.tokenize(texts).tolist()]
    twins = [label for label, row in enumerate(tokens) if tokens.index(row) != label]
    if not twins:
        return ""
    names = plan.pictures.classnames
    return (
        f"Note: CLIP reads the names {names[tokens.index(tokens[twins[0]])]!r} and "
        f"{names[twins[0]]!r} alike, so their text features are identical"
    )


@torch.no_grad()
def seconds_of(plan: Plan, model: CLIP) -> dict[str, float]:
    """About how long each method takes on this machine, from one picture's and one text's pass."""
    device = torch.device("cuda" if plan.uses_cuda else "cpu")
    model = model.to(device)
    image = torch.zeros(1, 3, plan.resolution, plan.resolution, device=device)
    names = plan.pictures.classnames
    some = clip.tokenize(prompts(names[:8], "Folder", plan.template)).to(device)
    model.encode_image(image)  # the first pass also warms up
    per_picture = _seconds(lambda: model.encode_image(image).cpu())
    per_list = _seconds(lambda: model.encode_text(some).cpu()) * len(names) / len(some)
    found = {}
    for method in plan.methods:
        pictures, lists = _passes(plan, method)
        found[method] = pictures * per_picture + lists * per_list
    return found


def _passes(plan: Plan, method: str) -> tuple[float, float]:
    """Pictures, and lists of all class names, that pass through CLIP, both in forward passes."""
    train, val, test = (plan.pictures.count(part) for part in ("train", "val", "test"))
    if plan.shots > 0:
        train = min(train, plan.shots * len(plan.pictures.classnames))
    evaluated, trained = val + 2 * test, plan.epochs_of(method) * train
    if method in ("mmrl", "mmrl++"):
        steps = plan.epochs_of(method) * -(-train // _BATCH)
        return 2 * evaluated + _STEP * trained, _STEP * steps
    views = {"zero-shot": 0, "linear-probe": 1}.get(method, _VIEWS)
    return evaluated + views * train + trained, 1


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def title(method: str) -> str:
    """What people call a method."""
    return METHOD_NAMES[METHODS[method]]
