import torch
from torch import nn

__all__ = ["load"]


class TinyCLIP(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.visual = nn.Linear(3 * 8 * 8, width)

    def encode_image(self, image):
        return self.visual(image.flatten(1))


def load(name, device="cpu"):
    torch.manual_seed(0)
    return TinyCLIP().to(device)
