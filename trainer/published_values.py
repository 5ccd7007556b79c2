"""What the papers publish per method and data set: names, prompt templates, lambda, beta, d_r."""

import os
from collections.abc import Sequence
from typing import Any

from dassl.errors import RequestError
from trainer.class_names import as_read

__all__ = [
    "METHOD_NAMES",
    "chance_note",
    "check_template",
    "equal_prompts",
    "paper_values",
    "print_classes",
    "prompts",
]

# Registered trainer -> name for people, in the order of tables.
METHOD_NAMES = {
    "ZeroshotCLIP": "zero-shot CLIP",
    "LinearProbe": "linear probe",
    "TipAdapter": "Tip-Adapter",
    "TipAdapterF": "Tip-Adapter-F",
    "MMRL": "MMRL",
    "MMRLpp": "MMRL++",
}

_DEFAULT = "a photo of a {}."
_TEMPLATES = {
    "OxfordPets": "a photo of a {}, a type of pet.",
    "OxfordFlowers": "a photo of a {}, a type of flower.",
    "FGVCAircraft": "a photo of a {}, a type of aircraft.",
    "DescribableTextures": "{} texture.",
    "EuroSAT": "a centered satellite photo of {}.",
    "Food101": "a photo of {}, a type of food.",
    "UCF101": "a photo of a person doing {}.",
}
# Chosen by the authors per data set; results.json names them as their origin.
# data set: (MMRL REG_WEIGHT, MMRL++ REG_WEIGHT, MMRL++ BETA, MMRL++ BETA across data sets)
_PAPER = {
    "ImageNet": (0.5, 0.2, 0.9, 0.9),
    "Caltech101": (0.5, 3.0, 0.6, 0.6),
    "OxfordPets": (0.2, 0.01, 0.7, 0.6),
    "StanfordCars": (7.0, 6.0, 0.7, 0.3),
    "OxfordFlowers": (4.0, 7.0, 0.4, 0.4),
    "Food101": (5.0, 1.0, 0.1, 0.3),
    "FGVCAircraft": (6.0, 2.0, 0.9, 0.9),
    "SUN397": (6.0, 3.0, 0.5, 0.7),
    "DescribableTextures": (6.0, 7.0, 0.9, 0.5),
    "EuroSAT": (0.01, 0.01, 0.2, 0.3),
    "UCF101": (3.0, 3.0, 0.9, 0.9),
    "ImageNetV2": (None, None, None, 0.9),
    "ImageNetSketch": (None, None, None, 0.7),
    "ImageNetA": (None, None, None, 0.8),
    "ImageNetR": (None, None, None, 0.9),
}
_CROSS_REG_WEIGHT = 0.2
_CROSS_REG_WEIGHT_SOURCE = 0.1  # MMRL++ on ImageNet itself


def paper_values(trainer: str, dataset: str, task: str) -> dict[str, Any]:
    """The papers' hyper-parameters for one run, by full key; empty where they give none."""
    if dataset not in _PAPER or trainer not in ("MMRL", "MMRLpp"):
        return {}
    mmrl_reg, mmrlpp_reg, beta, cross_beta = _PAPER[dataset]
    if task == "CD":
        mmrl_reg = mmrlpp_reg = _CROSS_REG_WEIGHT
        mmrlpp_reg = _CROSS_REG_WEIGHT_SOURCE if dataset == "ImageNet" else mmrlpp_reg
        beta = cross_beta
    if trainer == "MMRLpp":
        values = {"REG_WEIGHT": mmrlpp_reg, "BETA": beta}
    else:
        is_wide = dataset == "EuroSAT" and task != "CD"
        values = {"REG_WEIGHT": mmrl_reg} | ({"REP_DIM": 2048} if is_wide else {})
    return {f"TRAINER.{trainer}.{k}": v for k, v in values.items() if v is not None}


def prompts(classnames: Sequence[str], dataset: str, template: str = "") -> list[str]:
    """One prompt per class; underscores in class names become spaces.

    `template` is used where it is given, else that of the registered data set name `dataset`.

    Raises:
        RequestError: `template` has not one `{}` for the class name, or a class has no name.
    """
    template = template or _TEMPLATES.get(dataset, _DEFAULT)
    check_template(template)
    if unnamed := [label for label, name in enumerate(classnames) if not name.strip(" _")]:
        raise RequestError(f"Class {unnamed[0]} has an empty name; give every class a name")
    return [template.format(name.replace("_", " ")) for name in classnames]


def check_template(template: str) -> None:
    """Refuse a template that has not exactly one `{}`, or other braces.

    Raises:
        RequestError: quotes it.
    """
    rest = template.replace("{}", "", 1)
    if rest == template or "{" in rest or "}" in rest:
        raise RequestError(
            f"The template {template!r} must have one {{}} where the class name goes, and no "
            "other braces"
        )


def equal_prompts(texts: Sequence[str]) -> str:
    """A sentence if CLIP reads two of the prompts alike, and so never tells them apart; or ""."""
    first: dict[str, int] = {}
    for label, text in enumerate(texts):
        if (twin := first.setdefault(as_read(text), label)) != label:
            return (
                f"Note: labels {twin} and {label} have the same prompt, {text!r}; zero-shot CLIP "
                "cannot tell them apart"
            )
    return ""


def chance_note(accuracy_percent: float, num_classes: int) -> str:
    """A sentence if zero-shot accuracy is hardly above chance; or ""."""
    chance = 100 / num_classes
    # Twice chance is little among many classes; among few, a tenth of what lies above it is.
    if accuracy_percent >= min(2 * chance, chance + (100 - chance) / 10):
        return ""
    return (
        f"Note: that is near chance ({chance:.1f}%). Are the class names words that describe the "
        "pictures? DATASET.CLASSNAMES and DATASET.TEMPLATE set them."
    )


def print_classes(dataset: Any, texts: Sequence[str], num_files: int = 3) -> None:
    """Print a line per class: its prompt, its number of training pictures, and the first few."""
    files: dict[int, list[str]] = {}
    for item in dataset.train_x:
        files.setdefault(item.label, []).append(os.path.basename(item.impath))
    for label, text in enumerate(texts):
        shown = ", ".join(files[label][:num_files])
        print(f"{label}: {text!r}, {len(files[label])} training pictures: {shown}")
