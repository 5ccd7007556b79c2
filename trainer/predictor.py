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
from dassl.data.transforms import build_transform
from dassl.engine import TRAINER_REGISTRY
from dassl.utils.pictures import to_rgb
from trainer.backbone import load_frozen_clip
from trainer.checkpoints.find import find_checkpoint, read_checkpoint, run_metadata
from trainer.checkpoints.keys import load_learned
from trainer.checkpoints.sizes import adapt_config, sizes_of
from trainer.config import build_config
from trainer.method.model import MMRLModel
from trainer.published_values import as_read, prompts

__all__ = ["Prediction", "Predictor", "load"]


class Prediction(NamedTuple):
    """The best classes of one picture, best first."""

    names: list[str]
    probabilities: list[float]  # of all classes they sum to 1


class Predictor:
    """A model with its classes; `reads` says which logits are read.

    Attributes:
        classnames: the classes that pictures are told apart by.
        reads: "fusion" for the classes that were trained, "class feature" for others.
    """

    @torch.no_grad()
    def __init__(
        self, model: MMRLModel, classnames: Sequence[str], transform: Any, reads: str
    ) -> None:
        self.model = model.eval()
        self.adaptation = model.adaptation()  # the text features of the classes, once
        self.classnames = list(classnames)
        self.transform = transform
        self.reads = reads

    @property
    def device(self) -> torch.device:
        """The device that the model is on."""
        return self.model.frozen_text.device

    @torch.no_grad()
    def logits(self, images: Sequence[Any]) -> Tensor:
        """Logits (N, C) of N PIL images of any mode, which are converted to RGB."""
        batch = torch.stack([self.transform(to_rgb(image)) for image in images])
        shared = self.model.image_encoder.shared(batch.to(self.device))
        out = self.model.classify(shared, self.adaptation)
        return (out.fusion if self.reads == "fusion" else out.logits).float().cpu()

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
) -> Predictor:
    """A run folder, checkpoint file or exported file, ready to predict.

    `classes`, `backbone` and `template` are those of the run, unless given; a bare published
    checkpoint records none, so that its classes have to be given. Classes that were all trained
    are read from the fused logits, others from the class feature, as the papers do.

    Raises:
        ValueError: the file does not fit the backbone, or nothing says what the classes are.
        FileNotFoundError: there is no checkpoint.
    """
    metadata = run_metadata(path)
    source = find_checkpoint(path)
    state = read_checkpoint(source)["state_dict"]
    trained = metadata.get("classnames", [])
    classnames = list(classes or trained)
    if not classnames:
        raise ValueError(f"{path!r} does not record its classes; give them as --classes a,b,c")
    cfg = _config_of(metadata, state, str(source), backbone)
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with contextlib.redirect_stdout(io.StringIO()):  # what is printed here is for training logs
        frozen = load_frozen_clip(cfg, target, check_size=False)
        cfg.defrost()
        cfg.INPUT.SIZE = (frozen.visual.resolution,) * 2
        transform = build_transform(cfg, is_train=False)
    text = template or metadata.get("template") or ""
    tokens = clip.tokenize(prompts(classnames, metadata.get("dataset", ""), text)).to(target)
    model = TRAINER_REGISTRY.get(cfg.TRAINER.NAME).build(cfg, frozen, tokens)
    load_learned(model, state)
    known, asked = ({as_read(name) for name in names} for names in (trained, classnames))
    reads = "fusion" if asked <= known or not trained else "class feature"
    return Predictor(model.to(target), classnames, transform, reads)


def _config_of(metadata: dict, state: dict, source: str, backbone: str | None) -> CfgNode:
    """The run's own values, with the file's sizes."""
    trainer = sizes_of(state).trainer
    flags = {
        key: value
        for key, value in metadata.get("config", {}).items()
        if key.startswith((f"TRAINER.{trainer}.", "INPUT.", "MODEL.BACKBONE."))
    }
    yaml = Path(__file__).resolve().parents[1] / f"configs/trainers/{trainer}/vit_b16.yaml"
    flags |= {"MODEL.BACKBONE.NAME": backbone} if backbone else {}
    cfg, _ = build_config(trainer, "", str(yaml), flags)
    with contextlib.redirect_stdout(io.StringIO()):
        adapt_config(cfg, {}, state, source)
    return cfg
