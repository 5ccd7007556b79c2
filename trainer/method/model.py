"""The adapted CLIP: images (N, 3, R, R) -> `Output` (logits of both features, their fusion)."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip.model import CLIP
from trainer.checkpoints.keys import learned_from_published, to_published
from trainer.method.learner import RepresentationLearner
from trainer.method.text_encoder import EntryRule, ImageEncoder, Projected, TextEncoder

__all__ = ["Features", "MMRLModel", "Output", "TowerEntries"]

LOGIT_SCALE = 100.0  # CLIP's trained exp(logit_scale), which both papers write as a constant


class Features(NamedTuple):
    """Features of frozen CLIP."""

    image: Tensor  # (N, E) f0, L2-normalised
    text: Tensor  # (C, E) w0, L2-normalised


class Output(NamedTuple):
    """What a batch gives."""

    logits: Tensor  # (N, C) 100 f_c w'
    logits_rep: Tensor  # (N, C) 100 f_r w'
    fusion: Tensor  # (N, C) alpha logits + (1 - alpha) logits_rep
    image: Tensor  # (N, E) f_c, L2-normalised
    text: Tensor  # (C, E) w, L2-normalised


class TowerEntries(NamedTuple):
    """How tokens enter each listed layer of each tower; equally many layers in both."""

    image: dict[int, EntryRule]
    text: dict[int, EntryRule]


class Snapshot(NamedTuple):
    """One of several learned states that are evaluated over the same pictures."""

    values: dict[str, Tensor]
    text: Tensor  # (C, E) w, L2-normalised


class MMRLModel(nn.Module):
    """A frozen CLIP, a representation learner, and the prompts of one class list.

    The two methods differ in `learner`, `projection` (of the representation feature) and `entry`
    (how tokens enter each listed layer). What trains is `learner` and `projection`, nothing else.
    """

    def __init__(
        self,
        clip: CLIP,
        learner: RepresentationLearner,
        projection: nn.Module,
        entry: TowerEntries,
        prompts: Tensor,
        alpha: float,
        class_chunk: int = 0,
    ) -> None:
        super().__init__()
        self.learner = learner
        self.image_encoder = ImageEncoder(clip.visual, entry.image, projection)
        self.text_encoder = TextEncoder(clip.text, entry.text, prompts, class_chunk)
        self.alpha = alpha
        self._evaluation_text: Tensor | None = None
        frozen_text = normalise(self.text_encoder.frozen_features())
        self.register_buffer("frozen_text", frozen_text, persistent=False)  # (C, E) w0

    def forward(self, images: Tensor) -> Output:
        """Logits and features of a batch; in evaluation the text features are computed once."""
        return self.from_first(self.image_encoder.up_to_first(images))

    def from_first(self, shared: Projected) -> Output:
        """The same from what the image encoder's `up_to_first` made of the batch."""
        tokens = self.learner()
        image, rep = self.image_encoder.from_first(shared, tokens.image)  # (N, E), (N, E)
        text = self._text_features(tokens.text)  # (C, E)
        return self._fuse(normalise(image), normalise(rep), text)

    def with_frozen(self, images: Tensor) -> tuple[Output, Features]:
        """What a training step needs: the output, and the features of frozen CLIP beside it."""
        tokens = self.learner()
        image, rep, frozen = self.image_encoder.with_frozen(images, tokens.image)  # (N, E) each
        text = self._text_features(tokens.text)  # (C, E)
        out = self._fuse(normalise(image), normalise(rep), text)
        return out, Features(normalise(frozen), self.frozen_text)

    def frozen_features(self, images: Tensor) -> Features:
        """What CLIP itself makes of the images, and of the prompts."""
        with torch.no_grad():
            image = normalise(self.image_encoder.frozen_features(images))
        return Features(image, self.frozen_text)

    def train(self, mode: bool = True) -> "MMRLModel":
        """Switch the mode; whatever was computed for an evaluation is dropped."""
        self._evaluation_text = None
        return super().train(mode)

    def learned(self) -> dict[str, nn.Parameter]:
        """The trained parameters by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def state_dict(self, *args: Any, **kwargs: Any) -> "OrderedDict[str, Tensor]":
        """What was learned, and nothing else, under the published keys."""
        return OrderedDict((to_published(k), p.detach()) for k, p in self.learned().items())

    def load_state_dict(self, state: Mapping[str, Tensor], *args: Any, **kwargs: Any) -> None:
        """Take over the learned tensors of this, or of a published, checkpoint.

        Raises:
            ValueError: a key is missing, surplus or misshapen, or the CLIP is another one.
        """
        learned = self.learned()
        frozen = {k: p for k, p in self.named_parameters() if k not in learned}
        values = learned_from_published(state, learned, frozen)
        with torch.no_grad():
            for name, parameter in learned.items():
                parameter.copy_(values[name])
        self._evaluation_text = None

    def snapshot(self) -> Snapshot:
        """What was learned, with the text features that it gives, for `adopt`."""
        with torch.no_grad():
            text = normalise(self.text_encoder(self.learner().text))
        return Snapshot({name: p.detach().clone() for name, p in self.learned().items()}, text)

    def adopt(self, snapshot: Snapshot) -> None:
        """Evaluate as the snapshot's model from here on; nothing is copied or computed."""
        for name, parameter in self.learned().items():
            parameter.data = snapshot.values[name]
        self._evaluation_text = snapshot.text

    def _fuse(self, image: Tensor, rep: Tensor, text: Tensor) -> Output:
        logits = LOGIT_SCALE * image @ text.t()
        logits_rep = LOGIT_SCALE * rep @ text.t()
        fusion = self.alpha * logits + (1 - self.alpha) * logits_rep
        return Output(logits, logits_rep, fusion, image, text)

    def _text_features(self, tokens: list[Tensor]) -> Tensor:
        if self.training or torch.is_grad_enabled():
            return normalise(self.text_encoder(tokens))
        if self._evaluation_text is None:
            self._evaluation_text = normalise(self.text_encoder(tokens))
        return self._evaluation_text


def normalise(x: Tensor) -> Tensor:
    """To unit length in float32, whatever precision the towers compute in."""
    return F.normalize(x.float(), dim=-1)
