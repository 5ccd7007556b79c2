"""Predict with a trained run: path, PIL images -> class probabilities, or features.

from trainer import load
model = load("output/eurosat/seed1")
model.predict([Image.open("field.jpg")], top=3)
model.features([Image.open("field.jpg")]) @ model.text_features(["forest", "river"]).t()
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
from trainer.checkpoints.identity import (
    Identity,
    check_trainer,
    fingerprint,
    other_backbone,
    plain_settings,
)
from trainer.checkpoints.keys import load_learned
from trainer.checkpoints.resume import unfinished_note
from trainer.checkpoints.settings import ACTIVATION, BACKBONE
from trainer.checkpoints.sizes import adapt_config, sizes_of
from trainer.class_names import are_among
from trainer.config import build_config, flatten
from trainer.method.image_encoder import Shared
from trainer.method.model import MMRLModel
from trainer.method.readout import ReadOut
from trainer.methods import config_file_of, takes_new_classes
from trainer.own_modules import load_modules
from trainer.published_values import paper_values, prompts

__all__ = ["Prediction", "Predictor", "load"]

_CONFIGS = Path(__file__).resolve().parents[1] / "configs"


class Prediction(NamedTuple):
    """The best classes of one picture, best first."""

    names: list[str]
    probabilities: list[float]  # of all classes they sum to 1


class Predictor:
    """A model with its classes; `reads` says which logits are read.

    Attributes:
        model: the adapted CLIP; its `alpha` is the share of the class feature in fused logits.
        classnames: the classes that pictures are told apart by.
        template: the prompt, with `{}` for the class name.
        read_out: which of the classes were trained, and which were not.
    """

    @torch.no_grad()
    def __init__(
        self,
        model: MMRLModel,
        classnames: Sequence[str],
        transform: Any,
        read_out: ReadOut,
        template: str = "a photo of a {}.",
    ) -> None:
        self.model = model.eval()
        self.classnames = list(classnames)
        self.transform = transform
        self.read_out = read_out
        self.template = template
        # the text features of the classes, once
        self.adaptation = read_out.adaptation(model, self._tokens(self.classnames))

    @property
    def device(self) -> torch.device:
        """The device that the model is on."""
        return self.model.frozen_text.device

    @property
    def reads(self) -> str:
        """The rule: "fusion" of trained classes, "class feature" of others, or a line on both."""
        return self.read_out.rule

    @torch.no_grad()
    def logits(self, images: Sequence[Any]) -> Tensor:
        """Logits (N, C) of N PIL images of any mode, which are converted to RGB."""
        return self.scores(self._batch(images)).cpu()

    def scores(self, batch: Tensor) -> Tensor:
        """Logits (N, C) in float32 of pictures as the model takes them, (N, 3, R, R)."""
        shared = self.model.image_encoder.shared(batch)
        return self.read_out.scores(self.model, shared, self.adaptation).float()

    @torch.no_grad()
    def features(self, images: Sequence[Any]) -> Tensor:
        """The class features f_c of N PIL images: (N, E) float32 on the CPU, of unit length.

        100 times their products with text features are the logits of classes not trained.
        """
        return self.model.classify(self._shared(images), self.adaptation).image.cpu()

    @torch.no_grad()
    def rep_features(self, images: Sequence[Any]) -> Tensor:
        """The representation features f_r of N PIL images, as `features` gives f_c.

        The fused logits of trained classes are those of alpha f_c + (1 - alpha) f_r.
        """
        both = self.model.image_features(self._shared(images), self.adaptation)  # (2 N, E)
        return both[len(images) :].cpu()

    @torch.no_grad()
    def text_features(self, names: Sequence[str] | None = None) -> Tensor:
        """The text features w of class names: (C, E) float32 on the CPU, of unit length.

        `names` (default: `classnames`) are put into `template`; they need not be known.
        """
        if names is None:
            return self.adaptation.text.clone().cpu()
        return self.model.adapted_to(self._tokens(names)).text.cpu()

    def _shared(self, images: Sequence[Any]) -> Shared:
        return self.model.image_encoder.shared(self._batch(images))

    def _batch(self, images: Sequence[Any]) -> Tensor:
        batch = torch.stack([self.transform(to_rgb(image)) for image in images])
        return batch.to(self.device)

    def _tokens(self, names: Sequence[str]) -> Tensor:
        return clip.tokenize(prompts(names, "", self.template)).to(self.device)

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
    trained: Sequence[str] | None = None,
    trainer_module: str | Sequence[str] = (),
) -> Predictor:
    """A run folder, checkpoint file, exported file or hf:USER/REPO[@REVISION], ready to predict.

    `classes`, `backbone` and `template` are those of the run, unless given; a bare published
    checkpoint records none, so that its classes have to be given, and the registered name of its
    `dataset`, unless a folder of its path has it. Trained classes are read from the fused logits,
    others from the class feature, as the papers do; both may stand in one list. Which ones were
    `trained` the file says, unless given; if neither does, all are taken for trained.
    `trainer_module` is the file, or the files, that register a trainer of your own.

    Raises:
        RequestError: the file is damaged, does not fit the backbone or was made with another, or
            nothing says what the classes or the data set are.
        FileNotFoundError: there is no checkpoint.
    """
    load_modules([trainer_module] if isinstance(trainer_module, str) else trainer_module)
    source = find_checkpoint(path)
    checkpoint = read_checkpoint(source)
    metadata = run_metadata(checkpoint, path)
    if (stored := Identity.read(checkpoint, path)) and (
        note := unfinished_note(checkpoint, stored)
    ):
        print(note)
    trained = trained or metadata.get("classnames", [])
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
    kind = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    if not takes_new_classes(cfg.TRAINER.NAME):
        kind.check_classes(trained, classnames, str(source))
    model = kind.build(cfg, frozen, tokens)
    load_learned(model, checkpoint["state_dict"])
    if not trained:
        print(f"Which classes were trained is not recorded: {path!r} is read as if all were")
    known = are_among(classnames, trained or classnames)
    return Predictor(model.to(target), classnames, transform, ReadOut.of(known, target), text)


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
    identity = Identity.read(checkpoint, source)
    check_trainer(trainer, source, identity.own_modules if identity else {})
    known = flatten(build_config(trainer)[0])
    flags = {
        key: value
        for key, value in metadata["config"].items()
        if key.startswith(("TRAINER.", "INPUT.", "MODEL.BACKBONE.")) and key in known
    }
    yaml = config_file_of(trainer, "vit_b16")
    flags |= {"TRAINER.NAME": trainer}
    flags |= {"MODEL.BACKBONE.NAME": backbone} if backbone else {}
    cfg, _ = build_config(trainer, "", str(yaml), flags)
    name = cfg.MODEL.BACKBONE.NAME
    if not backbone and not clip.is_name(name) and not Path(name).exists():
        raise FileNotFoundError(
            f"{source} was made with the CLIP {name!r}, which is not there; give it as --backbone "
            "FILE"
        )
    with contextlib.redirect_stdout(io.StringIO()):
        adapt_config(cfg, {}, checkpoint, source)
    return cfg


def _check_backbone(checkpoint: dict, source: str, cfg: CfgNode, frozen: CLIP) -> None:
    if stored := Identity.read(checkpoint, source):
        said = {BACKBONE: cfg.MODEL.BACKBONE.NAME, ACTIVATION: frozen.activation}
        wanted = Identity(stored.trainer, plain_settings(said), backbone_sha256=fingerprint(frozen))
        if difference := other_backbone(stored, wanted):
            raise RequestError(f"{source} {difference}. Give its own as --backbone NAME_OR_FILE.")
