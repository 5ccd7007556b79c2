"""The start of training: torch's CPU generator, as seeded -> what the learned tensors start from.

The published program builds two whole CLIPs before its learner, and every tensor of theirs is drawn
from torch's generator and then overwritten by CLIP's weights. What the learner starts from, and the
order of the first epoch, depend on those draws. So the same numbers are consumed here, in the same
order; those that nobody keeps are skipped.
"""

import math

import torch
from torch import Tensor, nn

from clip.model import Sizes
from trainer.method.learner import (
    FullProjection,
    IndependentProjections,
    RepresentationLearner,
    ResidualProjection,
    SharedResidualProjection,
)

__all__ = ["draw_start_values"]

_CHUNK = 1 << 16  # skipped numbers at a time; stays in the processor's cache


@torch.no_grad()
def draw_start_values(learner: RepresentationLearner, sizes: Sizes) -> None:
    """Fill a learner on the CPU with the published program's start values.

    `sizes` are the CLIP's. The generator is afterwards where the published program's is, too.
    """
    _draw_clip(sizes, learner.projection, keep=True)  # the CLIP that is adapted
    _draw_clip(sizes, learner.projection, keep=False)  # the frozen one beside it
    learner.space.normal_(std=0.02)
    for maps in (learner.to_image, learner.to_text):
        _draw_maps(maps)
    # after both modalities' maps, not beside each: the published order
    for maps in (learner.to_image, learner.to_text):
        _draw_residuals(maps)


def _draw_clip(s: Sizes, projection: nn.Module, keep: bool) -> None:
    """All tensors of one CLIP in the order in which its modules are built."""
    vision, text = s.vision_width, s.text_width
    num_positions = (s.resolution // s.patch) ** 2 + 1
    _skip_uniform(vision * 3 * s.patch**2)  # patch embedding
    _skip_normal(vision)  # class token
    _skip_normal(num_positions * vision)
    _skip_blocks(vision, s.vision_layers)
    _skip_normal(vision * s.embed_dim)  # CLIP's projection
    _draw_projection(projection, keep)
    _skip_blocks(text, s.text_layers)
    for _ in range(2):  # the embedding's own start, then CLIP's
        _skip_normal(s.vocab_size * text)
    _skip_normal(s.context_length * text)
    for _ in range(s.text_layers):  # CLIP's own start of each text layer
        for count in (3, 1, 4, 4):
            _skip_normal(count * text * text)
    _skip_normal(text * s.embed_dim)  # text projection


def _skip_blocks(width: int, num_layers: int) -> None:
    """Matrices and biases of attention and MLP; layer norms draw nothing."""
    attention = width * width + width + 3 * width * width
    mlp = 4 * width * width + 4 * width + 4 * width * width + width
    _skip_uniform(num_layers * (attention + mlp))


def _draw_projection(projection: nn.Module, keep: bool) -> None:
    """MMRL's `proj_rep` ~ N(0, 1 / D); MMRL++'s A is kaiming-uniform, its B zero."""
    if isinstance(projection, FullProjection):
        # drawn for both CLIPs, kept from the first
        drawn = torch.randn(projection.weight.shape)
        if keep:
            projection.weight.copy_(len(drawn) ** -0.5 * drawn)
    elif isinstance(projection, ResidualProjection):
        drawn = _kaiming(torch.empty(projection.A.shape))
        if keep:
            projection.A.copy_(drawn)
            projection.B.zero_()


def _draw_maps(maps: nn.Module) -> None:
    """One linear layer's start, which the published program copies into every listed layer."""
    if isinstance(maps, IndependentProjections):
        weight, bias = _draw_linear(*maps.weight.shape[1:])
        maps.weight.copy_(weight.expand_as(maps.weight))
        maps.bias.copy_(bias.expand_as(maps.bias))
    elif isinstance(maps, SharedResidualProjection):
        weight, bias = _draw_linear(*maps.shared.shape)
        maps.shared.copy_(weight)
        maps.residuals.bias.copy_(bias.expand_as(maps.residuals.bias))


def _draw_linear(width: int, rep_dim: int) -> tuple[Tensor, Tensor]:
    """Weight (D, d_r) and bias (D,) as torch starts a linear layer."""
    linear = nn.Linear(rep_dim, width)
    return linear.weight, linear.bias


def _draw_residuals(maps: nn.Module) -> None:
    """SRRA's A of every listed layer is kaiming-uniform, its B zero."""
    if isinstance(maps, SharedResidualProjection):
        for layer_a in maps.residuals.A:
            _kaiming(layer_a)
        maps.residuals.B.zero_()


def _kaiming(matrix: Tensor) -> Tensor:
    """As torch starts a linear layer's weight, in place; a matrix (D, r) has fan-in r."""
    return nn.init.kaiming_uniform_(matrix, a=math.sqrt(5))


def _skip_uniform(count: int) -> None:
    """Consume what `count` uniform float32 numbers would: one output of the generator each."""
    # values are thrown away; only the generator's position matters
    buffer = torch.empty(_CHUNK, dtype=torch.int32)
    for start in range(0, count, _CHUNK):
        buffer[: count - start].random_()  # one output each as well, and faster


def _skip_normal(count: int) -> None:
    """Consume what `count` normal float32 numbers would.

    torch draws 16 at a time; where 16 does not divide them, it draws the last 16 anew.
    """
    if count < 16:
        torch.empty(count).normal_()  # drawn one by one, in double precision
    else:
        _skip_uniform(count + (16 if count % 16 else 0))
