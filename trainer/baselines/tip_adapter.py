"""The registered trainers TipAdapter and TipAdapterF: a cache of the training pictures' features.

Tip-Adapter learns nothing but two numbers; Tip-Adapter-F goes on to train the cache's keys.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from dassl.errors import RequestError
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from trainer.baselines.cache_model import Weights, one_hot, search_weights, tip_logits
from trainer.baselines.feature_trainer import FeatureModel, FeatureTrainer
from trainer.baselines.features import FeatureSet
from trainer.method.model import LOGIT_SCALE

__all__ = ["TipAdapter", "TipAdapterF"]

_EPS = 1e-4  # of AdamW, as in the published code


class CacheModel(FeatureModel):
    """keys (N, E) and labels (N,) of the cached pictures; alpha and beta."""

    labels: Tensor
    alpha: Tensor
    beta: Tensor

    def __init__(self, clip: CLIP, prompts: Tensor, weights: Weights) -> None:
        super().__init__(clip, prompts)
        self.register_buffer("alpha", torch.as_tensor(weights.alpha))
        self.register_buffer("beta", torch.as_tensor(weights.beta))
        self.allocate(0)

    def allocate(self, num_pictures: int) -> None:
        """Make an empty cache for so many pictures."""
        text = self.frozen_text
        self.keys = nn.Parameter(text.new_zeros(num_pictures, text.shape[1]))
        self.register_buffer("labels", torch.zeros_like(self.keys[:, 0], dtype=torch.long))

    def make_room(self, state: Mapping[str, Tensor]) -> None:
        """Let the cache have the size of a stored one.

        Raises:
            RequestError: its labels are of more classes than there are prompts.
        """
        keys, labels = state.get("keys"), state.get("labels")
        if labels is not None and labels.numel() and int(labels.max()) >= len(self.frozen_text):
            raise RequestError(f"Its cache has a label {int(labels.max())}, which is of no class")
        if keys is not None and len(keys) != len(self.keys):
            self.allocate(len(keys))

    @torch.no_grad()
    def fill(self, cached: FeatureSet) -> None:
        """Put features and labels into the cache."""
        self.keys.copy_(cached.image)
        self.labels.copy_(cached.label)

    @property
    def values(self) -> Tensor:
        """L (N, C)."""
        return one_hot(self.labels, len(self.frozen_text))

    def logits(self, image: Tensor) -> Tensor:
        """(B, E) -> (B, C), with the chosen alpha and beta."""
        return self.weighted(image, Weights(self.alpha, self.beta))

    def weighted(self, image: Tensor, weights: Weights) -> Tensor:
        """(B, E) -> (B, C), with other numbers."""
        return tip_logits(image, self.frozen_text, self.keys, self.values, weights)

    def choose(self, val: FeatureSet, largest: Any, num_steps: Any) -> float:
        """Set alpha and beta to the best ones on validation; their accuracy there in percent."""
        image, labels = (x.to(self.keys.device) for x in (val.image, val.label))
        cosines = image @ self.keys.detach().t()
        clip_logits = LOGIT_SCALE * image @ self.frozen_text.t()
        found = search_weights(clip_logits, cosines, self.values, labels, largest, num_steps)
        weights, accuracy = found
        self.alpha.fill_(weights.alpha)
        self.beta.fill_(weights.beta)
        return accuracy

    def chosen(self) -> dict[str, float]:
        """alpha and beta."""
        return {"alpha": self.alpha.item(), "beta": self.beta.item()}


@TRAINER_REGISTRY.register()
class TipAdapter(FeatureTrainer):
    """Without training: the cache is filled, then alpha and beta are searched on validation.

    Without validation pictures they are ALPHA and BETA of the config; never the test decides.
    """

    @classmethod
    def build(cls, cfg: Any, frozen: CLIP, prompts: Tensor) -> CacheModel:
        """An empty cache, with the config's alpha and beta."""
        c = cfg.TRAINER[cfg.TRAINER.NAME]
        return CacheModel(frozen, prompts, Weights(c.ALPHA, c.BETA))

    def before_train(self) -> None:
        """Fill the cache, unless the run goes on from a state that has it."""
        super().before_train()
        if self.start_epoch == 0:
            self.model.fill(self.features(self.dm.dataset.train_x, self.settings.VIEWS))

    def run_epoch(self) -> None:
        """Nothing is trained."""

    def after_epoch(self) -> None:
        """Choose alpha and beta where the model is about to be evaluated."""
        is_last = self.epoch + 1 == self.max_epoch
        if is_last or self.cfg.TEST.FINAL_MODEL == "best_val":
            self._choose()
        super().after_epoch()

    def _choose(self) -> None:
        c, val = self.settings, self.validation() if self.settings.SEARCH else None
        if val is None:
            reason = "there are no validation pictures" if c.SEARCH else "SEARCH is False"
            print(f"alpha is {c.ALPHA:g}, beta {c.BETA:g}, as configured: {reason}")
            return
        accuracy = self.model.choose(val, c.SEARCH_SCALE, c.SEARCH_STEPS)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in self.model.chosen().items())
        print(f"{shown}: {accuracy:.1f}% of the {len(val.label)} validation pictures")


@TRAINER_REGISTRY.register()
class TipAdapterF(TipAdapter):
    """The keys are trained by cross-entropy at the config's ALPHA and BETA; then as TipAdapter."""

    has_epochs = True

    def build_optimizer(self) -> tuple[Any, Any]:
        """AdamW on the keys."""
        optim = build_optimizer([self.model.keys], self.cfg.OPTIM)
        if isinstance(optim, torch.optim.AdamW):
            optim.param_groups[0]["eps"] = _EPS
        return optim, build_lr_scheduler(optim, self.cfg.OPTIM)

    def run_epoch(self) -> None:
        """One pass over augmented training pictures."""
        super(TipAdapter, self).run_epoch()

    def parse_batch_train(self, batch: dict) -> tuple[Tensor, Tensor]:
        """Images (B, 3, R, R) and labels (B,) on the device."""
        return self.parse_batch_test(batch)

    def forward_backward(self, batch: dict) -> dict[str, Any]:
        """One step; the loss in nats, and the accuracy in percent."""
        image, label = self.parse_batch_train(batch)
        with torch.no_grad():
            features = self.model.image_encoder.shared(image)
        logits = self.model.weighted(features, Weights(self.settings.ALPHA, self.settings.BETA))
        loss = F.cross_entropy(logits, label)
        self.model_backward_and_update(loss)
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {"loss": loss.detach(), "acc": compute_accuracy(logits, label)[0]}
