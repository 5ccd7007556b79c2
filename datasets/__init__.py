"""Data set readers. Importing the package registers them all."""

from datasets.eurosat import EuroSAT
from datasets.shapes import Shapes

__all__ = ["EuroSAT", "Shapes"]
