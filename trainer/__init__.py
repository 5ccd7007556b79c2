"""MMRL and MMRL++. Importing the package registers the trainers MMRL, MMRLpp and ZeroshotCLIP."""

from trainer.baselines.zero_shot import ZeroshotCLIP
from trainer.predictor import load
from trainer.trainers import MMRL, MMRLpp

__all__ = ["MMRL", "MMRLpp", "ZeroshotCLIP", "load"]
