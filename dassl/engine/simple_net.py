"""Backbone + optional head + optional classifier: the model of the default `build_model`."""

from typing import Any

from torch import Tensor, nn

from dassl.modeling import build_backbone, build_head


class SimpleNet(nn.Module):
    """(N, 3, H, W) -> logits (N, C), or features (N, F) where there are no classes."""

    def __init__(self, cfg: Any, model_cfg: Any, num_classes: int, **kwargs: Any) -> None:
        super().__init__()
        b, h = model_cfg.BACKBONE, model_cfg.HEAD
        self.backbone = build_backbone(
            b.NAME, verbose=cfg.VERBOSE, pretrained=b.PRETRAINED, **kwargs
        )
        self._fdim = self.backbone.out_features
        self.head = None
        if h.NAME and h.HIDDEN_LAYERS:
            self.head = build_head(
                h.NAME,
                verbose=cfg.VERBOSE,
                in_features=self._fdim,
                hidden_layers=h.HIDDEN_LAYERS,
                activation=h.ACTIVATION,
                bn=h.BN,
                dropout=h.DROPOUT,
                **kwargs,
            )
            self._fdim = self.head.out_features
        self.classifier = nn.Linear(self._fdim, num_classes) if num_classes > 0 else None

    @property
    def fdim(self) -> int:
        """Number of features."""
        return self._fdim

    def forward(self, x: Tensor, return_feature: bool = False) -> Any:
        """Logits, with `return_feature` a pair (logits, features)."""
        features = self.backbone(x)
        features = features if self.head is None else self.head(features)
        if self.classifier is None:
            return features
        logits = self.classifier(features)
        return (logits, features) if return_feature else logits
