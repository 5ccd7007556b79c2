"""The registered trainer ZeroshotCLIP: CLIP as it is, the reference row of every table."""

import torch
from torch import Tensor

from dassl.engine import TRAINER_REGISTRY
from trainer.evaluation.evaluating import EvaluatingTrainer, load_frozen_clip
from trainer.method.model import normalise

__all__ = ["ZeroshotCLIP"]


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(EvaluatingTrainer):
    """Evaluates; there is nothing to train, load or save."""

    @torch.no_grad()
    def build_model(self) -> None:
        """Load CLIP and encode the prompts, in float32."""
        self.clip_model = load_frozen_clip(self.cfg, self.device)
        self.text_features = normalise(self.clip_model.encode_text(self.prompts()))  # (C, E)

    def model_inference(self, input: Tensor) -> Tensor:
        """Logits (B, C): scaled cosine similarities."""
        image = normalise(self.clip_model.encode_image(input))
        return self.clip_model.logit_scale.exp() * image @ self.text_features.t()
