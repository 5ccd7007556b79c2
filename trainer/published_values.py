"""Published names and words: of the methods, and the prompt template of each data set."""

import os
from collections.abc import Sequence
from typing import Any

__all__ = [
    "METHOD_NAMES",
    "as_read",
    "chance_note",
    "check_template",
    "equal_prompts",
    "print_classes",
    "prompts",
]

# Registered trainer -> name for people.
METHOD_NAMES = {"MMRL": "MMRL", "MMRLpp": "MMRL++", "ZeroshotCLIP": "zero-shot CLIP"}

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


def prompts(classnames: Sequence[str], dataset: str, template: str = "") -> list[str]:
    """One prompt per class; underscores in class names become spaces.

    `template` is used where it is given, else that of the registered data set name `dataset`.

    Raises:
        ValueError: `template` has not one `{}` for the class name, or a class has no name.
    """
    template = template or _TEMPLATES.get(dataset, _DEFAULT)
    check_template(template)
    if unnamed := [label for label, name in enumerate(classnames) if not name.strip(" _")]:
        raise ValueError(f"Class {unnamed[0]} has an empty name; give every class a name")
    return [template.format(name.replace("_", " ")) for name in classnames]


def as_read(classname: str) -> str:
    """A class name as CLIP reads it: without case, underscores and doubled blanks."""
    return " ".join(classname.replace("_", " ").lower().split())


def check_template(template: str) -> None:
    """Refuse a template that has not exactly one `{}`, or other braces.

    Raises:
        ValueError: quotes it.
    """
    rest = template.replace("{}", "", 1)
    if rest == template or "{" in rest or "}" in rest:
        raise ValueError(
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
