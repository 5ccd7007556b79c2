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
from trainer.method.learner import IndependentProjections, SharedResidualProjection
from trainer.method.model import MMRLModel

__all__ = ["draw_start_values"]

_CHUNK = 1 << 16  # skipped numbers at a time; stays in the processor's cache


@torch.no_grad()
def draw_start_values(model: MMRLModel, sizes: Sizes) -> None:
    """Fill the learned tensors of a model on the CPU with the published program's start values.

    `sizes` are the CLIP's. The generator is afterwards where the published program's is, too.
    """
    learner, projection = model.learner, model.image_encoder.projection
    _draw_clip(sizes, projection, kept=True)  # the CLIP that is adapted
    _draw_clip(sizes, projection, kept=False)  # the frozen one beside it
    learner.space.normal_(std=0.02)
    for maps in (learner.to_image, learner.to_text):
        _draw_maps(maps)
    for maps in (learner.to_image, learner.to_text):
        _draw_residuals(maps)


def _draw_clip(s: Sizes, projection: nn.Module, kept: bool) -> None:
    """All tensors of one CLIP in the order in which its modules are built."""
    vision, text = s.vision_width, s.text_width
    num_positions = (s.resolution // s.patch) ** 2 + 1
    _skip_uniform(vision * 3 * s.patch**2)  # patch embedding
    _skip_normal(vision)  # class token
    _skip_normal(num_positions * vision)
    _skip_blocks(vision, s.vision_layers)
    _skip_normal(vision * s.embed_dim)  # CLIP's projection
    _draw_projection(projection, vision, kept)
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


def _draw_projection(projection: nn.Module, width: int, kept: bool) -> None:
    """MMRL's `proj_rep` ~ N(0, 1 / width); MMRL++'s A is kaiming-uniform, its B zero."""
    if hasattr(projection, "weight"):
        value = torch.randn(projection.weight.shape)
        start = {"weight": width**-0.5 * value}
    else:
        value = nn.init.kaiming_uniform_(torch.empty(projection.A.shape), a=math.sqrt(5))
        start = {"A": value, "B": torch.zeros(projection.B.shape)}
    if kept:
        for name, tensor in start.items():
            getattr(projection, name).copy_(tensor)


def _draw_maps(maps: nn.Module) -> None:
    """One linear layer's start, which the published program copies into every listed layer."""
    if isinstance(maps, IndependentProjections):
        weight, bias = _draw_linear(maps[0].weight)
        for linear in maps:
            linear.weight.copy_(weight)
            linear.bias.copy_(bias)
    elif isinstance(maps, SharedResidualProjection):
        weight, bias = _draw_linear(maps.weight)
        maps.weight.copy_(weight)
        for residual in maps.residuals:
            residual.bias.copy_(bias)


def _draw_linear(like: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (width, d_r) and bias (width,) as torch starts a linear layer."""
    linear = nn.Linear(like.shape[1], like.shape[0])
    return linear.weight, linear.bias


def _draw_residuals(maps: nn.Module) -> None:
    """SRRA's A of every listed layer is kaiming-uniform, its B zero."""
    for residual in getattr(maps, "residuals", ()):
        nn.init.kaiming_uniform_(residual.A, a=math.sqrt(5))
        residual.B.zero_()


def _skip_uniform(count: int) -> None:
    """Consume what `count` uniform float32 numbers would: one output of the generator each."""
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
