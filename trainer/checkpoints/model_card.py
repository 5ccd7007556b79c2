"""README.md for the hub beside an exported file: identity, results -> YAML front matter, text."""

from pathlib import Path
from typing import Any

import yaml

from dassl.errors import RequestError, read_text
from run_files import RunResults
from trainer.checkpoints.find import find_checkpoint, read_checkpoint, results_beside, run_metadata
from trainer.checkpoints.identity import Identity, plain_settings
from trainer.checkpoints.sizes import sizes_of
from trainer.published_values import METHOD_NAMES, prompts

__all__ = ["CARD_FILE", "check_card_place", "model_card"]

CARD_FILE = "README.md"
_LIBRARY = "library_name: mmrl"
_BASE_MODELS = {
    "ViT-B/32": "openai/clip-vit-base-patch32",
    "ViT-B/16": "openai/clip-vit-base-patch16",
    "ViT-L/14": "openai/clip-vit-large-patch14",
    "ViT-L/14@336px": "openai/clip-vit-large-patch14-336",
}
_TOLD = ("DATASET.", "OPTIM.", "INPUT.", "MODEL.BACKBONE.", "DATALOADER.TRAIN_X.")
_TOLD_KEYS = ("SEED", "TASK", "TEST.FINAL_MODEL")


def check_card_place(out: Path) -> None:
    """That the card beside `out` replaces no file but an earlier card.

    Raises:
        RequestError: another README.md is there.
    """
    place = out.parent / CARD_FILE
    if place.exists() and _LIBRARY not in read_text(place).split("\n"):
        raise RequestError(
            f"{str(place)!r} is there and no model card of ours; export to a folder of its own"
        )


def model_card(path: str, file_name: str, epoch: int | None = None) -> str:
    """The card of what `path` holds, exported as `file_name`; it names no folder of this machine.

    Raises:
        RequestError: the checkpoint is not MMRL's or MMRL++'s.
    """
    source = find_checkpoint(path, epoch)
    checkpoint = read_checkpoint(source)
    known = run_metadata(checkpoint, path)
    trainer = known.get("trainer") or sizes_of(checkpoint["state_dict"]).trainer
    identity, results = Identity.read(checkpoint, str(source)), _results_of(source)
    settings = plain_settings(known.get("config", {}))
    dataset = (
        (results and results.dataset_label) or known.get("dataset") or "an unrecorded data set"
    )
    title = f"{METHOD_NAMES.get(trainer, trainer)} on {dataset}"
    template = prompts(["{}"], known.get("dataset", ""), known.get("template", ""))[0]
    classnames = known.get("classnames", [])
    parts = [
        _front_matter(title, dataset, settings, results),
        f"# {title}",
        "CLIP with representation tokens (MMRL: arXiv 2503.08497, MMRL++: arXiv 2505.10088).",
        f"- prompt: `{template}`\n- trained classes ({len(classnames)}): "
        f"{', '.join(classnames) or 'not recorded'}",
        _accuracy(results),
        _usage(file_name),
        _provenance(identity, trainer, settings),
    ]
    return "\n\n".join(parts) + "\n"


def _results_of(source: Path) -> RunResults | None:
    """The figures of the very checkpoint that the training evaluated, and of no other epoch's."""
    results = results_beside(str(source))
    return results if results and find_checkpoint(str(source.parent)) == source else None


def _front_matter(
    title: str, dataset: str, settings: dict[str, Any], results: RunResults | None
) -> str:
    data: dict[str, Any] = {
        "library_name": "mmrl",
        "pipeline_tag": "image-classification",
        "tags": ["mmrl", "clip", "few-shot"],
    }
    if base := _BASE_MODELS.get(settings.get("MODEL.BACKBONE.NAME", "")):
        data["base_model"] = base
    if results and results.accuracy is not None:
        about = {"name": dataset, "type": dataset.lower().replace(" ", "-")}
        figure = {"type": "accuracy", "value": results.accuracy, "name": "accuracy in percent"}
        task = {"type": "image-classification"}
        result = {"task": task, "dataset": about, "metrics": [figure]}
        data["model-index"] = [{"name": title, "results": [result]}]
    return f"---\n{yaml.safe_dump(data, sort_keys=False, allow_unicode=True)}---"


def _accuracy(results: RunResults | None) -> str:
    """What the training's own evaluation found."""
    if results is None or results.accuracy is None:
        return "No accuracy is recorded beside the checkpoint."
    rows = {
        "accuracy": f"{results.accuracy:.2f}%",
        "macro F1": None if results.macro_f1 is None else f"{results.macro_f1:.2f}%",
        "pictures": results.total,
        "part": results.split,
        "classes": results.subsample_classes,
        "pictures a class in training": results.num_shots,
        "seed": results.seed,
        "protocol": results.task,
    }
    found = [f"| {name} | {value} |" for name, value in rows.items() if value not in (None, "")]
    return "\n".join(["## Accuracy\n\n| | |\n| --- | --- |", *found])


def _usage(file_name: str) -> str:
    if file_name.endswith(".onnx"):
        return (
            f"## Use\n\n`{file_name}` runs under onnxruntime; its metadata `mmrl` name the classes"
            " and how pictures are prepared. docs/deploy.md of the project has an example."
        )
    return (
        "## Use\n\n```python\nfrom trainer import load\n\n"
        'model = load("hf:USER/REPO")  # in a clone of the project\n'
        "model.predict([picture], top=3)\n```"
    )


def _provenance(identity: Identity | None, trainer: str, settings: dict[str, Any]) -> str:
    """The settings, and what says that data and CLIP are the same."""
    told = (*_TOLD, f"TRAINER.{trainer}.")
    lines = [
        f"{key}: {value}"
        for key, value in settings.items()
        if (key.startswith(told) or key in _TOLD_KEYS) and value not in ("", [], None)
    ]
    if identity:
        lines += [f"training pictures, sha256: {identity.draw_sha256 or 'not recorded'}"]
        lines += [f"CLIP, sha256: {identity.backbone_sha256 or 'not recorded'}"]
        lines += [f"code: {identity.code_version}"]
    return "\n".join(["## Settings\n\n```text", *(lines or ["not recorded"]), "```"])
