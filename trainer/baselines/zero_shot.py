"""The registered trainer ZeroshotCLIP: CLIP as it is, the reference row of every table."""

from typing import Any

import torch
from torch import Tensor

from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.errors import RequestError
from trainer.backbone import check_backbone, load_frozen_clip, prompt_tokens
from trainer.checkpoints.identity import identity_of
from trainer.evaluation.tally import evaluate
from trainer.method.model import normalise

__all__ = ["ZeroshotCLIP"]


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(TrainerX):
    """Evaluates; there is nothing to train, load or save. `results` has the last figures."""

    learns = False  # a sweep calls it for evaluations alone
    results: dict[str, Any]

    def check_cfg(self, cfg: Any) -> None:
        """Refuse a backbone that will not load, before the data set is read."""
        self._clip = check_backbone(cfg)

    @torch.no_grad()
    def build_model(self) -> None:
        """Load CLIP and encode the prompts, in float32."""
        self.clip_model = load_frozen_clip(self.cfg, self.device, loaded=self._clip)
        self._clip = None
        identity = identity_of(self.cfg, self.dm.dataset, self.clip_model)
        self.identity = identity._replace(classnames=[], draw_sha256="")  # nothing is trained
        tokens = prompt_tokens(self.cfg, self.dm.dataset.classnames, self.device)
        self.text_features = normalise(self.clip_model.encode_text(tokens))  # (C, E)

    def answer(self) -> str | None:
        """Nothing: it is asked before a training.

        Raises:
            RequestError: always.
        """
        raise RequestError("ZeroshotCLIP has nothing to train; evaluate it with --eval-only")

    def model_inference(self, input: Tensor) -> Tensor:
        """Logits (B, C): scaled cosine similarities."""
        image = normalise(self.clip_model.encode_image(input))
        return self.clip_model.logit_scale.exp() * image @ self.text_features.t()

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Accuracy in percent on `split` (default TEST.SPLIT)."""
        self.results = evaluate(self, split, self.model_inference)
        return self.results["accuracy"]
