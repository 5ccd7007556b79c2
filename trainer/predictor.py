"""Predict with a trained run: path, PIL images -> class probabilities.

from trainer import load
model = load("output/eurosat/seed1")
model.predict([Image.open("field.jpg")], top=3)
"""

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from yacs.config import CfgNode

import clip
from clip.model import CLIP
from dassl.data.transforms import build_transform
from dassl.engine import TRAINER_REGISTRY
from dassl.errors import RequestError
from dassl.utils.pictures import to_rgb
from trainer.backbone import load_frozen_clip
from trainer.checkpoints.find import find_checkpoint, read_checkpoint, run_metadata
from trainer.checkpoints.identity import Identity, fingerprint, other_backbone, plain_settings
from trainer.checkpoints.keys import load_learned
from trainer.checkpoints.resume import unfinished_note
from trainer.checkpoints.sizes import adapt_config, sizes_of
from trainer.config import build_config, flatten
from trainer.method.model import MMRLModel
from trainer.published_values import as_read, paper_values, prompts

__all__ = ["Prediction", "Predictor", "load"]

_CONFIGS = Path(__file__).resolve().parents[1] / "configs"


class Prediction(NamedTuple):
    """The best classes of one picture, best first."""

    names: list[str]
    probabilities: list[float]  # of all classes they sum to 1


class Predictor:
    """A model with its classes; `reads` says which logits are read.

    Attributes:
        classnames: the classes that pictures are told apart by.
        template: the prompt, with `{}` for the class name.
        reads: "fusion" for the classes that were trained, "class feature" for others.
    """

    @torch.no_grad()
    def __init__(
        self,
        model: MMRLModel,
        classnames: Sequence[str],
        transform: Any,
        reads: str,
        template: str = "a photo of a {}.",
    ) -> None:
        self.model = model.eval()
        self.adaptation = model.adaptation()  # the text features of the classes, once
        self.classnames = list(classnames)
        self.transform = transform
        self.reads = reads
        self.template = template

    @property
    def device(self) -> torch.device:
        """The device that the model is on."""
        return self.model.frozen_text.device

    @torch.no_grad()
    def logits(self, images: Sequence[Any]) -> Tensor:
        """Logits (N, C) of N PIL images of any mode, which are converted to RGB."""
        batch = torch.stack([self.transform(to_rgb(image)) for image in images])
        return self.scores(batch.to(self.device)).cpu()

    def scores(self, batch: Tensor) -> Tensor:
        """Logits (N, C) in float32 of pictures as the model takes them, (N, 3, R, R)."""
        out = self.model.classify(self.model.image_encoder.shared(batch), self.adaptation)
        return (out.fusion if self.reads == "fusion" else out.logits).float()

    def predict(self, images: Sequence[Any], top: int = 5) -> list[Prediction]:
        """The `top` best classes of each PIL image with their probabilities."""
        best = self.logits(images).softmax(1).topk(min(top, len(self.classnames)), dim=1)
        return [
            Prediction([self.classnames[i] for i in indices], values)
            for indices, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]


def load(
    path: str,
    classes: Sequence[str] | None = None,
    backbone: str | None = None,
    device: str | None = None,
    template: str | None = None,
    dataset: str | None = None,
) -> Predictor:
    """A run folder, checkpoint file, exported file or hf:USER/REPO[@REVISION], ready to predict.

    `classes`, `backbone` and `template` are those of the run, unless given; a bare published
    checkpoint records none, so that its classes have to be given, and the registered name of its
    `dataset`, unless a folder of its path has it. Classes that were all trained are read from the
    fused logits, others from the class feature, as the papers do.

    Raises:
        RequestError: the file is damaged, does not fit the backbone or was made with another, or
            nothing says what the classes or the data set are.
        FileNotFoundError: there is no checkpoint.
    """
    source = find_checkpoint(path)
    checkpoint = read_checkpoint(source)
    metadata = run_metadata(checkpoint, path)
    if (stored := Identity.read(checkpoint, path)) and (
        note := unfinished_note(checkpoint, stored)
    ):
        print(note)
    trained = metadata.get("classnames", [])
    classnames = list(classes or trained)
    if not classnames:
        raise RequestError(f"{path!r} does not record its classes; give them as --classes a,b,c")
    if not metadata.get("config"):
        metadata = _published_metadata(checkpoint, source, dataset, template)
    cfg = _config_of(metadata, checkpoint, str(source), backbone)
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with contextlib.redirect_stdout(io.StringIO()):  # what is printed here is for training logs
        frozen = load_frozen_clip(cfg, target, check_size=False)
        cfg.defrost()
        cfg.INPUT.SIZE = (frozen.visual.resolution,) * 2
        transform = build_transform(cfg, is_train=False)
    _check_backbone(checkpoint, str(source), cfg, frozen)
    text = template or metadata.get("template") or ""
    text = prompts(["{}"], metadata.get("dataset", ""), text)[0]  # the data set's, if there is none
    tokens = clip.tokenize(prompts(classnames, "", text)).to(target)
    model = TRAINER_REGISTRY.get(cfg.TRAINER.NAME).build(cfg, frozen, tokens)
    load_learned(model, checkpoint["state_dict"])
    known, asked = ({as_read(name) for name in names} for names in (trained, classnames))
    reads = "fusion" if asked <= known or not trained else "class feature"
    return Predictor(model.to(target), classnames, transform, reads, text)


def _published_metadata(
    checkpoint: dict, source: Path, dataset: str | None, template: str | None
) -> dict[str, Any]:
    """What a published file leaves unsaid: the published values for its data set, printed."""
    trainer = sizes_of(checkpoint["state_dict"]).trainer
    dataset = dataset or _dataset_of_path(source.resolve())
    if not dataset and trainer == "MMRLpp":
        raise RequestError(
            f"{str(source)!r} does not record BETA, which MMRL++ needs; name the data set that it "
            "was trained on, whose published value it then is: --dataset EuroSAT"
        )
    values = paper_values(trainer, dataset, "B2N")
    if key := next((key for key in values if key.endswith(".BETA")), None):
        print(f"{key} is {values[key]}: the paper's value for {dataset}")
    if not template:
        origin = f"of {dataset}" if dataset else "the default; --dataset NAME gives another"
        print(f"The prompt is {prompts(['{}'], dataset)[0]!r}: {origin}")
    return {"dataset": dataset, "config": values}


def _dataset_of_path(source: Path) -> str:
    """The data set that a folder is named after, as in the published trees; empty: none."""
    for folder in reversed(source.parent.parts):
        yaml = _CONFIGS / "datasets" / f"{folder}.yaml"
        if yaml.is_file():
            return build_config(dataset_config_file=str(yaml))[0].DATASET.NAME
    return ""


def _config_of(metadata: dict, checkpoint: dict, source: str, backbone: str | None) -> CfgNode:
    """The run's own values, with the file's sizes.

    Raises:
        RequestError: the trainer is not registered.
        FileNotFoundError: of the run's CLIP the name is known, but not where it is.
    """
    trainer = metadata.get("trainer") or sizes_of(checkpoint["state_dict"]).trainer
    if trainer not in TRAINER_REGISTRY.registered_names():
        raise RequestError(f"{source} is of the trainer {trainer}: import the module that has it")
    known = flatten(build_config(trainer)[0])
    flags = {
        key: value
        for key, value in metadata["config"].items()
        if key.startswith(("TRAINER.", "INPUT.", "MODEL.BACKBONE.")) and key in known
    }
    yaml = _CONFIGS / f"trainers/{trainer}/vit_b16.yaml"
    flags |= {"TRAINER.NAME": trainer}
    flags |= {"MODEL.BACKBONE.NAME": backbone} if backbone else {}
    cfg, _ = build_config(trainer, "", str(yaml) if yaml.is_file() else "", flags)
    name = cfg.MODEL.BACKBONE.NAME
    if not backbone and name not in clip.available_models() and not Path(name).is_file():
        raise FileNotFoundError(
            f"{source} was made with the CLIP {name!r}, which is not there; give it as --backbone "
            "FILE"
        )
    with contextlib.redirect_stdout(io.StringIO()):
        adapt_config(cfg, {}, checkpoint, source)
    return cfg


def _check_backbone(checkpoint: dict, source: str, cfg: CfgNode, frozen: CLIP) -> None:
    if stored := Identity.read(checkpoint, source):
        name = {"MODEL.BACKBONE.NAME": cfg.MODEL.BACKBONE.NAME}
        wanted = Identity(stored.trainer, plain_settings(name), backbone_sha256=fingerprint(frozen))
        if difference := other_backbone(stored, wanted):
            raise RequestError(f"{source} {difference}. Give its own as --backbone NAME_OR_FILE.")
