"""The part of Dassl's API (0.6.3) that few-shot CLIP trainers use, for today's PyTorch."""

__version__ = "0.6.3"
