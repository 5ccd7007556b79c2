"""MMRL and MMRL++. Importing the package registers the trainers MMRL, MMRLpp and ZeroshotCLIP."""

from trainer.mmrl import MMRL, MMRLpp
from trainer.predictor import load
from trainer.zero_shot import ZeroshotCLIP

__all__ = ["MMRL", "MMRLpp", "ZeroshotCLIP", "load"]
