"""What baselines on frozen features share: a head on CLIP's image features, in Dassl's hooks."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from clip.model import CLIP
from dassl.errors import RequestError
from trainer.backbone import prompt_tokens
from trainer.baselines.features import FeatureSet, features_of
from trainer.checkpoints.find import MODEL_NAME, find_checkpoint, read_checkpoint
from trainer.checkpoints.identity import Identity, other_backbone
from trainer.checkpoints.keys import load_learned
from trainer.checkpoints.pictures import hash_pictures
from trainer.evaluation.tally import Tally, conclude, show_zero_shot
from trainer.folder_trainer import FolderTrainer
from trainer.method.model import Features, Output, normalise

__all__ = ["FeatureModel", "FeatureTrainer"]

_CHUNK = 1024  # pictures at a time, whose affinities to a large cache would not fit


class ImageFeatures(nn.Module):
    """CLIP's image tower, where `MMRLModel` has its encoder."""

    def __init__(self, clip: CLIP) -> None:
        super().__init__()
        self.clip = clip

    def shared(self, images: Tensor) -> Tensor:
        """(N, 3, R, R) -> features (N, E), L2-normalised."""
        return normalise(self.clip.encode_image(images))


class FeatureModel(nn.Module):
    """A classifier of features (N, E); with the parts of `MMRLModel` that prediction needs.

    What is learned are parameters and buffers of this module itself, under their own names.
    """

    frozen_text: Tensor  # (C, E) w0, L2-normalised

    def __init__(self, clip: CLIP, prompts: Tensor) -> None:
        super().__init__()
        self.image_encoder = ImageFeatures(clip)
        with torch.no_grad():
            text = normalise(clip.encode_text(prompts))
        self.register_buffer("frozen_text", text, persistent=False)

    def logits(self, image: Tensor) -> Tensor:
        """(N, E), L2-normalised -> (N, C)."""
        raise NotImplementedError

    def chosen(self) -> dict[str, float]:
        """The numbers that were chosen on validation, by name."""
        raise NotImplementedError

    def allocate(self, num_pictures: int) -> None:
        """Make room for what is learned from so many pictures; most heads depend on none."""

    def make_room(self, state: Mapping[str, Tensor]) -> None:
        """As `allocate`, for what a checkpoint holds, before it is copied."""

    def learned(self) -> dict[str, Tensor]:
        """What was learned, by name."""
        own = dict(self.named_parameters(recurse=False)) | dict(self.named_buffers(recurse=False))
        return {name: tensor for name, tensor in own.items() if name != "frozen_text"}

    def adaptation(self) -> Tensor:
        """As `MMRLModel.adaptation`, where nothing but the prompts is to be prepared."""
        return self.frozen_text

    def classify(self, shared: Tensor, adaptation: Tensor) -> Output:
        """Features (N, E) -> logits; there is one kind of them."""
        logits = self.logits(shared)
        return Output(logits, logits, logits, shared, adaptation)

    @torch.no_grad()
    def frozen_features(self, images: Tensor) -> Features:
        """What CLIP itself makes of the images, and of the prompts."""
        return Features(self.image_encoder.shared(images), self.frozen_text)


class FeatureTrainer(FolderTrainer):
    """Fits a `FeatureModel`; a baseline says in `build` which. `results` has the last figures."""

    results: dict[str, Any]
    takes_new_classes = False  # knows those that it was trained on
    has_epochs = False  # else what is learned is found at once, in one
    scaler = None

    @classmethod
    def build(cls, cfg: Any, frozen: CLIP, prompts: Tensor) -> FeatureModel:
        """The head around a frozen CLIP, with nothing learned."""
        raise NotImplementedError

    def build_model(self) -> None:
        """Load CLIP and put the head on it."""
        frozen = self.load_clip()
        tokens = prompt_tokens(self.cfg, self.dm.dataset.classnames, self.device)
        self.model: Any = self.build(self.cfg, frozen, tokens)
        self.model.allocate(len(self.dm.dataset.train_x))
        self.model.to(self.device)
        self.optim, self.sched = self.build_optimizer()
        self.register_model(MODEL_NAME, self.model, self.optim, self.sched)

    def answer(self) -> str | None:
        """As every trainer's.

        Raises:
            RequestError: also if epochs are asked for that there are not.
        """
        epochs, name = self.cfg.OPTIM.MAX_EPOCH, self.cfg.TRAINER.NAME
        if epochs != 1 and not self.has_epochs:
            raise RequestError(f"{name} is fitted at once: OPTIM.MAX_EPOCH must be 1, not {epochs}")
        return super().answer()

    def build_optimizer(self) -> tuple[Any, Any]:
        """Optimizer and schedule; none where the fit is not by steps of ours."""
        return None, None

    def _look_at_pictures(self) -> None:
        super()._look_at_pictures()
        # they choose C, or alpha and beta, so other ones make another run
        if self.dm.dataset.val and "val" not in self.identity.pictures:
            pictures = {**self.identity.pictures, "val": hash_pictures(self.dm.dataset.val)}
            self.identity = self.identity._replace(pictures=pictures)

    def features(self, items: Sequence[Any], num_views: int = 0) -> FeatureSet:
        """The features of a part of the data set, computed once in this process."""
        clip, sha = self.model.image_encoder.clip, self.identity.backbone_sha256
        return features_of(self.cfg, clip, sha, items, num_views)

    def validation(self) -> FeatureSet | None:
        """Validation pictures to choose numbers on; None: there are none but test pictures."""
        dataset = self.dm.dataset
        tested = {item.impath for item in dataset.test}
        # ImageNet's readers, as published, give the test list for validation
        if not dataset.val or any(item.impath in tested for item in dataset.val):
            return None
        return self.features(dataset.val)

    def before_train(self) -> None:
        """As Dassl's; pictures of your own are listed first, as the trainer sees them."""
        if getattr(self.dm.dataset, "is_own", False):
            data, text = self.features(self.dm.dataset.test), self.model.frozen_text.cpu()
            correct = (data.image @ text.t()).argmax(1).eq(data.label)
            show_zero_shot(self, int(correct.sum()))
        super().before_train()

    def model_inference(self, input: Tensor) -> Tensor:
        """Logits (B, C) of images (B, 3, R, R)."""
        return self.model.logits(self.model.image_encoder.shared(input))

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Accuracy in percent on `split` (default TEST.SPLIT)."""
        self.set_model_mode("eval")
        split, _ = self.choose_split(split)
        items = self.dm.dataset.val if split == "val" else self.dm.dataset.test
        tally = Tally(self.evaluator, self.dm.dataset.classnames, self.cfg.TEST.PREDICTIONS)
        data = self.features(items)
        chunks = [self.model.logits(part.to(self.device)) for part in data.image.split(_CHUNK)]
        tally.add({"impath": data.paths}, torch.cat(chunks).cpu(), data.label)
        self.results = conclude(self, split, tally) | {"chosen": self.model.chosen()}
        return self.results["accuracy"]

    @classmethod
    def check_classes(cls, trained: Sequence[str], asked: Sequence[str], source: str) -> None:
        """Refuse classes that were not trained.

        Raises:
            RequestError: says that there is no such figure.
        """
        if trained and list(trained) != list(asked):
            raise RequestError(
                f"{source}: new classes are not applicable to {cls.__name__}, which knows only the "
                f"{len(trained)} classes that it was trained on, in that order"
            )

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load what was learned from a run folder or file, of `epoch` (default: best, else last).

        Raises:
            FileNotFoundError: there is no checkpoint, or none of that epoch.
            RequestError: it is of other classes or another CLIP, or does not fit.
        """
        path = find_checkpoint(directory, epoch)
        checkpoint = read_checkpoint(path)
        print(f'Loading weights to {MODEL_NAME} from "{path}" (epoch = {checkpoint.get("epoch")})')
        if stored := Identity.read(checkpoint, str(path)):
            self.check_classes(stored.classnames, self.dm.dataset.classnames, str(path))
            if difference := other_backbone(stored, self.identity):
                raise RequestError(f"{path} {difference}. Give its own as --backbone NAME_OR_FILE.")
        try:
            load_learned(self.model, checkpoint["state_dict"])
        except RequestError as error:
            raise RequestError(f"{path}: {error}") from error
