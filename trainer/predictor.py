"""A trained run on own pictures: path, PIL images -> class probabilities.

from trainer import load
model = load("output/eurosat/seed1")
model.predict([Image.open("field.jpg")], top=3)
"""

import contextlib
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from yacs.config import CfgNode

import clip
from dassl.data.transforms import build_transform
from trainer.checkpoints.find import find_checkpoint, read_checkpoint, run_metadata
from trainer.checkpoints.sizes import adapt_config, sizes_of
from trainer.config import build_config
from trainer.evaluation.evaluating import load_frozen_clip
from trainer.method.model import MMRLModel, Snapshot
from trainer.published_values import prompts
from trainer.trainers import build_from_config

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

    def __init__(self, model: MMRLModel, classnames: Sequence[str], transform: Any, reads: str):
        self.model = model.eval()
        self.classnames = list(classnames)
        self.transform = transform
        self.reads = reads

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.frozen_text.device

    @torch.no_grad()
    def logits(self, images: Sequence[Any]) -> Tensor:
        """(N, C) for N PIL images; any mode, converted to RGB."""
        batch = torch.stack([self.transform(image.convert("RGB")) for image in images])
        out = self.model(batch.to(self.device))
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
    texts = prompts(classnames, metadata.get("dataset", ""), text)
    model = build_from_config(cfg, frozen, clip.tokenize(texts).to(target)).to(target)
    model.load_state_dict(state)
    _keep_text_features(model.eval(), source, [*texts, cfg.MODEL.BACKBONE.NAME])
    reads = "fusion" if set(classnames) <= set(trained) or not trained else "class feature"
    return Predictor(model, classnames, transform, reads)


def _config_of(metadata: dict, state: dict, source: str, backbone: str | None) -> CfgNode:
    """The run's own values, with the file's sizes."""
    trainer = sizes_of(state).trainer
    flags = {
        key: value
        for key, value in metadata.get("config", {}).items()
        if key.startswith((f"TRAINER.{trainer}.", "INPUT.", "MODEL.BACKBONE.NAME"))
    }
    yaml = Path(__file__).resolve().parents[1] / f"configs/trainers/{trainer}/vit_b16.yaml"
    flags |= {"MODEL.BACKBONE.NAME": backbone} if backbone else {}
    cfg, _ = build_config(trainer, "", str(yaml), flags)
    with contextlib.redirect_stdout(io.StringIO()):
        adapt_config(cfg, {}, state, source)
    return cfg


def _keep_text_features(model: MMRLModel, source: Path, key_parts: list[str]) -> None:
    """Text features once, kept beside the run under a key of weights and prompts."""
    from safetensors.torch import load_file, save_file

    digest = hashlib.sha256("\n".join(key_parts).encode())
    for value in model.state_dict().values():
        digest.update(value.cpu().contiguous().numpy().tobytes())
    path = source.parent / f".text-features-{digest.hexdigest()[:16]}.safetensors"
    values = {name: p.detach() for name, p in model.learned().items()}
    if path.is_file():
        text = load_file(path)["text"].to(model.frozen_text.device)
        model.adopt(Snapshot(values, text))
        return
    snapshot = model.snapshot()
    model.adopt(snapshot)
    with contextlib.suppress(OSError):  # a read-only run is predicted from all the same
        save_file({"text": snapshot.text.cpu().contiguous()}, path)
