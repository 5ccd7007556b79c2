"""OneMap: MMRL whose layers share one map per tower and differ by an offset."""

from typing import Any

import torch
from torch import Tensor, nn

from clip.model import CLIP
from dassl.engine import TRAINER_REGISTRY
from trainer.config import add_method
from trainer.engine import RepresentationTrainer
from trainer.method.injection import Injection, resolve_layers
from trainer.method.learner import FullProjection, RepresentationLearner
from trainer.method.model import MMRLModel

add_method("OneMap", PREC="amp", REP_LAYERS=[6, 7, 8, 9, 10, 11, 12], STD=0.02)


class SharedMap(nn.Module):
    """Space tokens R (K, d_r) -> R W + b_l, (layers, K, D)."""

    def __init__(self, rep_dim: int, width: int, num_layers: int, std: float) -> None:
        super().__init__()
        self.map = nn.Parameter(std * torch.randn(rep_dim, width))
        self.offset = nn.Parameter(torch.zeros(num_layers, 1, width))

    def forward(self, space: Tensor) -> Tensor:
        """Tokens of every listed layer."""
        return space @ self.map + self.offset


@TRAINER_REGISTRY.register()
class OneMap(RepresentationTrainer):
    """MMRL with `SharedMap`, from `TRAINER.OneMap`."""

    @classmethod
    def build(cls, cfg: Any, frozen: CLIP, prompts: Tensor) -> MMRLModel:
        """The model of a config."""
        c, s = cfg.TRAINER.OneMap, frozen.sizes
        widths, depths = (s.vision_width, s.text_width), (s.vision_layers, s.text_layers)
        maps = (SharedMap(c.REP_DIM, width, len(c.REP_LAYERS), c.STD) for width in widths)
        projection = FullProjection(s.vision_width, s.embed_dim)
        learner = RepresentationLearner(c.N_REP_TOKENS, c.REP_DIM, *maps, projection)
        towers = (Injection(resolve_layers(c.REP_LAYERS, depth)) for depth in depths)
        return MMRLModel(frozen, learner, *towers, prompts, c.ALPHA, cfg.TRAINER.CLASS_CHUNK)
