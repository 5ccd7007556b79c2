"""The registered trainer LinearProbe: logistic regression on CLIP's image features."""

from typing import Any

import torch
from torch import Tensor

from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainer.baselines.feature_trainer import FeatureModel, FeatureTrainer
from trainer.baselines.features import FeatureSet
from trainer.baselines.probe import (
    DEFAULT_C,
    Probe,
    cross_validated,
    fit_probe,
    score_of,
    search_c,
)

__all__ = ["LinearProbe"]


class ProbeModel(FeatureModel):
    """weight (C, E), bias (C,), and the C that they were fitted with."""

    weight: Tensor
    bias: Tensor
    strength: Tensor

    def __init__(self, clip: CLIP, prompts: Tensor) -> None:
        super().__init__(clip, prompts)
        num_classes, width = self.frozen_text.shape
        self.register_buffer("weight", torch.zeros(num_classes, width))
        self.register_buffer("bias", torch.zeros(num_classes))
        self.register_buffer("strength", torch.zeros(()))

    def logits(self, image: Tensor) -> Tensor:
        """(N, E) -> (N, C)."""
        return Probe(self.weight, self.bias).logits(image)

    def chosen(self) -> dict[str, float]:
        """C, the inverse of the penalty's strength."""
        return {"C": self.strength.item()}


@TRAINER_REGISTRY.register()
class LinearProbe(FeatureTrainer):
    """L-BFGS, in one epoch; C is chosen on validation pictures, never on test pictures.

    Without validation pictures, C is chosen by cross-validation inside the training pictures; with
    a single picture of some class, it is DEFAULT_C.
    """

    @classmethod
    def build(cls, cfg: Any, frozen: CLIP, prompts: Tensor) -> ProbeModel:
        """An empty probe."""
        return ProbeModel(frozen, prompts)

    def run_epoch(self) -> None:
        """Choose C, then fit."""
        train = self.features(self.dm.dataset.train_x)
        strength = self._strength(train)
        probe = fit_probe(train, strength)
        self.model.weight.copy_(probe.weight)
        self.model.bias.copy_(probe.bias)
        self.model.strength.fill_(strength)

    def _strength(self, train: FeatureSet) -> float:
        if self.settings.C:
            print(f"C is {self.settings.C:g}, as configured")
            return self.settings.C
        if val := self.validation():
            found = search_c(lambda strength: score_of(strength, train, val))
            print(f"C is {found:.4g}, chosen on the {len(val.label)} validation pictures")
        elif score := cross_validated(train):
            found = search_c(score)
            print(f"C is {found:.4g}, chosen by cross-validation inside the training pictures")
        else:
            found = DEFAULT_C
            print(f"C is {found:g}: there are no validation pictures to choose it on")
        return found
