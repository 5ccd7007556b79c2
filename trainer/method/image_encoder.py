"""CLIP's image tower with representation tokens: images (N, 3, R, R) -> f_c, f_r, f0, (N, E) each.

    images -- 1 .. J-1 --+-- J .. L, frozen ------------------> f0
                         +-- J .. L, tokens entering ---------> f_c, f_r

Two sharings make it cheaper than two CLIPs, and change no result beyond rounding:

1. Nothing trainable acts below layer J, so both paths share layers 1 .. J-1, and what layer J
   projects of the image's own positions.
2. In layer L only CLS and the K tokens are read, so queries and MLP run for those alone.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from clip.model import Block, VisionTower
from clip.ops import product
from trainer.method.injection import Injection, insert_tokens

__all__ = ["ImageEncoder", "ImageFeatures", "Shared"]


class Shared(NamedTuple):
    """What layer J reads of the image positions, the same whatever was learned."""

    x: Tensor  # (N, L, D) the residual stream
    qkv: Tensor  # (N, L, 3 D) queries, keys and values


class ImageFeatures(NamedTuple):
    """Features of the adapted tower, not normalised."""

    image: Tensor  # (N, E) f_c, of CLS by CLIP's projection
    rep: Tensor  # (N, E) f_r, of the mean over the K tokens by the learned projection


class ImageEncoder(nn.Module):
    """A frozen tower and the layers in which tokens enter it."""

    def __init__(self, tower: VisionTower, injection: Injection) -> None:
        super().__init__()
        self.tower = tower
        self.injection = injection
        self.first_layer = injection.first  # J
        self.num_layers = len(tower.transformer.resblocks)  # L

    def forward(self, images: Tensor, tokens: Tensor, rep_proj: Tensor) -> ImageFeatures:
        """Tokens (layers, K, D) and their projection (D, E) -> f_c and f_r."""
        return self.adapted(self.shared(images), tokens, rep_proj)

    @torch.no_grad()
    def shared(self, images: Tensor) -> Shared:
        """Layers 1 .. J-1, and layer J's projections."""
        # whatever is learned enters at layer J, so no gradient is ever asked for below
        x = self.tower.embed(images)
        for layer in range(1, self.first_layer):
            x = self._block(layer)(x)
        return Shared(x, self._block(self.first_layer).project(x))

    @torch.no_grad()
    def frozen(self, shared: Shared) -> Tensor:
        """f0 (N, E), CLIP's own features."""
        # f0 is a target of the loss, never trained: no graph is kept for it
        x = self._finish_first(shared, num_outputs=1)
        for layer in range(self.first_layer + 1, self.num_layers + 1):
            x = self._block(layer)(x, read=self._num_read(layer, 1))
        return product(self.tower.ln_post(x[:, 0]).to(self.tower.proj.dtype), self.tower.proj)

    def adapted(self, shared: Shared, tokens: Tensor, rep_proj: Tensor) -> ImageFeatures:
        """f_c and f_r from what `shared` made of the images."""
        num_outputs = 1 + tokens.shape[1]  # CLS and the K tokens
        # cast and cut once for all layers: each would be a launch in every layer
        entering = tokens.to(shared.x.dtype).unbind()
        x = self._finish_first(self._insert(shared, entering[0]), num_outputs)
        for layer in range(self.first_layer + 1, self.num_layers + 1):
            x = self.injection.enter(x, layer, entering)
            x = self._block(layer)(x, read=self._num_read(layer, num_outputs))
        x = self.tower.ln_post(x).to(self.tower.proj.dtype)  # (N, 1 + K, D)
        # the mean comes before the projection, as published; both are linear
        rep = product(x[:, 1:].mean(dim=1), rep_proj.to(x.dtype))
        return ImageFeatures(product(x[:, 0], self.tower.proj), rep)

    def _insert(self, shared: Shared, tokens: Tensor) -> Shared:
        """The first listed layer's K tokens, projected once and put among every image's positions.

        Layer norm and projection act position by position, so inserting commutes with them.
        """
        qkv = self._block(self.first_layer).project(tokens)  # (K, 3 D), the same for every image
        return Shared(insert_tokens(shared.x, tokens), insert_tokens(shared.qkv, qkv))

    def _finish_first(self, s: Shared, num_outputs: int) -> Tensor:
        """Layer J from its projections on."""
        block, read = self._block(self.first_layer), self._num_read(self.first_layer, num_outputs)
        return block.add_mlp(s.x[:, :read] + block.attn.combine(s.qkv, read=read))

    def _num_read(self, layer: int, num_outputs: int) -> int | None:
        """How many positions of a layer's output anyone reads; None: all."""
        return num_outputs if layer == self.num_layers else None

    def _block(self, layer: int) -> Block:
        return self.tower.transformer.block(layer)
