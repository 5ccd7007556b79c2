"""MMRL and MMRL++. Importing the package registers their trainers, and those of the baselines."""

from trainer.baselines.linear_probe import LinearProbe
from trainer.baselines.tip_adapter import TipAdapter, TipAdapterF
from trainer.baselines.zero_shot import ZeroshotCLIP
from trainer.predictor import load
from trainer.trainers import MMRL, MMRLpp

__all__ = [
    "MMRL",
    "LinearProbe",
    "MMRLpp",
    "TipAdapter",
    "TipAdapterF",
    "ZeroshotCLIP",
    "load",
]
