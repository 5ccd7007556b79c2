"""The adapted CLIP: images (N, 3, R, R) -> `Output`; and the objective that trains it.

shared     = layers 1 .. J-1 of the images             nothing learned acts there
adaptation = tokens, proj_rep, text features w         all that was learned, as a value
output     = classify(shared, adaptation)              logits of both features, their fusion
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip.model import CLIP
from clip.ops import product, unit
from trainer.method.image_encoder import ImageEncoder, Shared
from trainer.method.injection import Injection
from trainer.method.learner import RepresentationLearner
from trainer.method.text_encoder import TextEncoder

__all__ = ["LOGIT_SCALE", "Adaptation", "Features", "MMRLModel", "Output", "mmrl_loss", "normalise"]

LOGIT_SCALE = 100.0  # CLIP's trained exp(logit_scale), which both papers write as a constant


class Features(NamedTuple):
    """Features of frozen CLIP."""

    image: Tensor  # (N, E) f0, L2-normalised
    text: Tensor  # (C, E) w0, L2-normalised


class Adaptation(NamedTuple):
    """What was learned, as far as images meet it: enough to classify, whatever made it."""

    image_tokens: Tensor  # (layers, K, D) of the image tower
    rep_proj: Tensor  # (D, E) projection of the representation feature
    text: Tensor  # (C, E) w, L2-normalised
    alpha: float | Tensor  # weight of the class feature's logits; a scalar


class Output(NamedTuple):
    """What a batch gives."""

    logits: Tensor  # (N, C) 100 f_c w'
    logits_rep: Tensor  # (N, C) 100 f_r w'
    fusion: Tensor  # (N, C) alpha logits + (1 - alpha) logits_rep
    image: Tensor  # (N, E) f_c, L2-normalised
    text: Tensor  # (C, E) w, L2-normalised


class MMRLModel(nn.Module):
    """A frozen CLIP, a representation learner, and the prompts (C, T) of one class list.

    The two methods differ in two objects: the learner, and the rule of `image` and `text`, by
    which tokens enter each tower. What trains is the learner, nothing else.
    """

    frozen_text: Tensor  # (C, E) w0, L2-normalised
    learner: RepresentationLearner
    image_encoder: ImageEncoder
    text_encoder: TextEncoder

    def __init__(
        self,
        clip: CLIP,
        learner: RepresentationLearner,
        image: Injection,
        text: Injection,
        prompts: Tensor,
        alpha: float,
        class_chunk: int = 0,
    ) -> None:
        super().__init__()
        self.learner = learner
        self.image_encoder = ImageEncoder(clip.visual, image)
        self.text_encoder = TextEncoder(clip.text, text, prompts, class_chunk)
        self.alpha: float | Tensor = alpha
        # w0 never changes with training, so the loss finds it ready
        frozen_text = normalise(self.text_encoder.frozen)
        self.register_buffer("frozen_text", frozen_text, persistent=False)

    def forward(self, images: Tensor) -> Output:
        """Logits and features of a batch."""
        return self.classify(self.image_encoder.shared(images), self.adaptation())

    def adaptation(self) -> Adaptation:
        """What was learned, for this class list; one is enough for any number of batches."""
        return self._adaptation(self.text_encoder)

    def adapted_to(self, prompts: Tensor) -> Adaptation:
        """As `adaptation`, for the prompts (C, T) of any other class list."""
        own = self.text_encoder
        return self._adaptation(TextEncoder(own.tower, own.injection, prompts))

    def _adaptation(self, encoder: TextEncoder) -> Adaptation:
        tokens = self.learner(self.image_encoder.tower.proj)
        text = normalise(encoder(tokens.text))
        return Adaptation(tokens.image, tokens.rep_proj, text, self.alpha)

    def classify(self, shared: Shared, adaptation: Adaptation) -> Output:
        """The batch behind `shared`, of the image encoder, by what was learned."""
        return self.compare(self.image_features(shared, adaptation), adaptation)

    def image_features(self, shared: Shared, adaptation: Adaptation) -> Tensor:
        """f_c of the batch behind `shared`, then its f_r: (2 N, E), L2-normalised."""
        tokens, rep_proj = adaptation.image_tokens, adaptation.rep_proj
        return normalise(torch.cat(self.image_encoder.adapted(shared, tokens, rep_proj)))

    def compare(self, features: Tensor, adaptation: Adaptation) -> Output:
        """What `image_features` (2 N, E) are by the text features (C, E) of the adaptation."""
        image, text = features[: len(features) // 2], adaptation.text
        # f_c and f_r meet the same text features: one product for both
        logits, logits_rep = product(LOGIT_SCALE * features, text.t()).chunk(2)
        fusion = adaptation.alpha * logits + (1 - adaptation.alpha) * logits_rep
        return Output(logits, logits_rep, fusion, image, text)

    def with_frozen(self, images: Tensor) -> tuple[Output, Features]:
        """What a training step needs: the output, and the features of frozen CLIP beside it."""
        # both paths start from the same states, so the lower layers run once
        shared = self.image_encoder.shared(images)
        frozen = Features(normalise(self.image_encoder.frozen(shared)), self.frozen_text)
        return self.classify(shared, self.adaptation()), frozen

    @torch.no_grad()
    def frozen_features(self, images: Tensor) -> Features:
        """What CLIP itself makes of the images, and of the prompts."""
        shared = self.image_encoder.shared(images)
        return Features(normalise(self.image_encoder.frozen(shared)), self.frozen_text)

    def learned(self) -> dict[str, nn.Parameter]:
        """The trained parameters by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}


def normalise(x: Tensor) -> Tensor:
    """To unit length in float32, whatever precision the towers compute in."""
    return unit(x)


def mmrl_loss(
    out: Output, frozen: Features, labels: Tensor, *, alpha: float, reg_weight: float
) -> Tensor:
    """Training objective of MMRL and MMRL++ (arXiv 2503.08497): a scalar in nats.

    alpha CE(logits) + (1 - alpha) CE(logits_rep)
        + reg_weight (1 - mean cos(f_c, f0)) + reg_weight (1 - mean cos(w, w0))

    Raises:
        ValueError: `labels` is not (N,) for the N images of `out`.
    """
    if labels.shape != out.logits.shape[:1]:
        raise ValueError(f"labels are {tuple(labels.shape)}, logits {tuple(out.logits.shape)}")
    # not of the fused logits: the papers weight the two losses, not the two scores
    class_loss = F.cross_entropy(out.logits, labels)
    rep_loss = F.cross_entropy(out.logits_rep, labels)
    # all four are of unit length, so their products are the cosines
    image_drift = 1 - (out.image * frozen.image).sum(-1).mean()
    text_drift = 1 - (out.text * frozen.text).sum(-1).mean()
    fit = alpha * class_loss + (1 - alpha) * rep_loss
    return fit + reg_weight * image_drift + reg_weight * text_drift
