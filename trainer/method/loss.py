"""The training objective of both methods: features and logits -> a scalar in nats."""

import torch.nn.functional as F
from torch import Tensor

from trainer.method.model import Features, Output

__all__ = ["mmrl_loss"]


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
    class_loss = F.cross_entropy(out.logits, labels)
    rep_loss = F.cross_entropy(out.logits_rep, labels)
    image_drift = 1 - F.cosine_similarity(out.image, frozen.image).mean()
    text_drift = 1 - F.cosine_similarity(out.text, frozen.text).mean()
    fit = alpha * class_loss + (1 - alpha) * rep_loss
    return fit + reg_weight * image_drift + reg_weight * text_drift
