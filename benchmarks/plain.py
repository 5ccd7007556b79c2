"""The plain form: the adapted CLIP as the papers describe it, with no sharing of computation.

One loop over the layers, sequence first, every position of every prompt, a second CLIP for f0, one
parameter per layer and map, QuickGELU as x sigmoid(1.702 x), AdamW parameter by parameter: the
amount of work and the number of operations of the published program. It is the reference that the
fast form (`trainer/method/text_encoder.py`) is compared with, for equality and for time. All of it
runs on torch's own operations, so its matrix products are those of torch's default library.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip.model import Block, Transformer
from trainer.method.injection import Injection
from trainer.method.learner import IndependentProjections, RepresentationLearner
from trainer.method.model import LOGIT_SCALE, Features, MMRLModel, Output

__all__ = ["PlainModel"]


class PlainTokens(NamedTuple):
    """The tokens of each listed layer, (K, D), and the projection of f_r."""

    image: list[Tensor]
    text: list[Tensor]
    rep_proj: Tensor  # (D, E)


class PlainLearner:
    """The learner's values as the published program holds them: a parameter per layer and map."""

    def __init__(self, learner: RepresentationLearner) -> None:
        # views: what either form learns, the other has
        self.parts = {
            name: [nn.Parameter(part) for part in _cut(name, p.detach())]
            for name, p in learner.named_parameters()
        }
        self.is_independent = isinstance(learner.to_image, IndependentProjections)

    def parameters(self) -> list[nn.Parameter]:
        """All of them."""
        return [part for parts in self.parts.values() for part in parts]

    def join(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """One tensor per parameter, such as its gradient -> one per parameter of the fast form."""
        rest = iter(tensors)
        return [
            torch.stack([next(rest) for _ in parts]) if _is_layered(name) else next(rest)
            for name, parts in self.parts.items()
        ]

    def tokens(self, frozen_proj: Tensor) -> PlainTokens:
        """Tokens layer by layer, and the projection; `frozen_proj` is CLIP's (D, E)."""
        projection = {k: v[0] for k, v in self.parts.items() if k.startswith("projection.")}
        if self.is_independent:
            rep_proj: Tensor = projection["projection.weight"]
        else:
            rep_proj = frozen_proj + projection["projection.A"] @ projection["projection.B"]
        return PlainTokens(self._project("to_image"), self._project("to_text"), rep_proj)

    def _project(self, tower: str) -> list[Tensor]:
        (space,) = self.parts["space"]
        if self.is_independent:
            maps = zip(self.parts[f"{tower}.weight"], self.parts[f"{tower}.bias"], strict=True)
            return [F.linear(space, weight, bias) for weight, bias in maps]
        (shared,) = self.parts[f"{tower}.shared"]
        each = [self.parts[f"{tower}.residuals.{name}"] for name in ("A", "B", "bias")]
        return [F.linear(space, shared + a @ b, bias) for a, b, bias in zip(*each, strict=True)]


def _is_layered(name: str) -> bool:
    return name.startswith("to_") and not name.endswith(".shared")


def _cut(name: str, p: Tensor) -> tuple[Tensor, ...]:
    return p.unbind() if _is_layered(name) else (p,)


class PlainModel(nn.Module):
    """The same values as `model`, the fast form, run the plain way."""

    def __init__(self, model: MMRLModel, prompts: Tensor) -> None:
        super().__init__()
        self.learner = PlainLearner(model.learner)
        self.visual, self.text = model.image_encoder.tower, model.text_encoder.tower
        self.image_rule = model.image_encoder.injection
        self.text_rule = model.text_encoder.injection
        self.alpha = model.alpha
        self.prompts = prompts  # (C, T)
        self._evaluation_text: Tensor | None = None
        with torch.no_grad():
            x = self.text.embed(prompts)
            self.embedded = x  # (C, T, D)
            text = plain_tower(self.text.transformer, x, causal_mask(x.shape[1], x))
            self.frozen_text = unit(self._read_eot(text, shift=0))  # (C, E) w0
        self.mask = causal_mask(x.shape[1] + len(model.learner.space), x)

    def forward(self, images: Tensor) -> Output:
        """Logits and features of a batch."""
        tokens = self.learner.tokens(self.visual.proj)
        text = unit(self._text_features(tokens.text))
        x = self.visual.embed(images)
        x = plain_tower(self.visual.transformer, x, None, self.image_rule, tokens.image)
        num_tokens = len(tokens.image[0])
        image = unit(layer_norm(self.visual.ln_post, x[:, 0]) @ self.visual.proj)
        rep = layer_norm(self.visual.ln_post, x[:, 1 : 1 + num_tokens]).mean(dim=1)
        rep = unit(rep @ tokens.rep_proj)
        logits, logits_rep = LOGIT_SCALE * image @ text.t(), LOGIT_SCALE * rep @ text.t()
        fusion = self.alpha * logits + (1 - self.alpha) * logits_rep
        return Output(logits, logits_rep, fusion, image, text)

    @torch.no_grad()
    def frozen_features(self, images: Tensor) -> Features:
        """f0 from a whole second pass, and w0."""
        x = plain_tower(self.visual.transformer, self.visual.embed(images), None)
        image = layer_norm(self.visual.ln_post, x[:, 0]) @ self.visual.proj
        return Features(unit(image), self.frozen_text)

    def with_frozen(self, images: Tensor) -> tuple[Output, Features]:
        """The output and the frozen features, as a training step needs them."""
        return self(images), self.frozen_features(images)

    def _text_features(self, tokens: list[Tensor]) -> Tensor:
        """The text features; evaluation computes them once, as the published program does."""
        if not self.training and self._evaluation_text is not None:
            return self._evaluation_text
        tower = self.text.transformer
        y = plain_tower(tower, self.embedded, self.mask, self.text_rule, tokens)
        text = self._read_eot(y, shift=len(tokens[0]))
        self._evaluation_text = None if self.training else text
        return text

    def _read_eot(self, x: Tensor, shift: int) -> Tensor:
        rows = torch.arange(len(x), device=x.device)
        x = layer_norm(self.text.ln_final, x)  # of every position, as published
        return x[rows, self.prompts.argmax(-1) + shift] @ self.text.text_projection


def plain_tower(
    transformer: Transformer,
    x: Tensor,
    mask: Tensor | None,
    rule: Injection | None = None,
    tokens: Sequence[Tensor] = (),
) -> Tensor:
    """All layers, tokens entering where listed: (N, L, D) -> (N, L + K, D)."""
    x = x.permute(1, 0, 2)  # (L, N, D)
    for layer in range(1, len(transformer.resblocks) + 1):
        if rule is not None and layer in rule.layers:
            x = enter(x, tokens[rule.layers.index(layer)], rule, layer)
        x = plain_block(transformer.block(layer), x, mask)
    return x.permute(1, 0, 2)


def enter(x: Tensor, tokens: Tensor, rule: Injection, layer: int) -> Tensor:
    """Put (K, D) among the states (L, N, D), by the rule of the layer."""
    repeated = tokens.expand(x.shape[1], -1, -1).permute(1, 0, 2)  # (K, N, D)
    if layer == rule.first:
        return torch.cat([x[:1], repeated, x[1:]])
    old = x[1 : 1 + len(tokens)]
    if rule.beta is not None:
        repeated = rule.beta * repeated + (1 - rule.beta) * old
    return torch.cat([x[:1], repeated, x[1 + len(tokens) :]])


def plain_block(block: Block, x: Tensor, mask: Tensor | None) -> Tensor:
    """One layer with torch's own multi-head attention: (L, N, D) -> (L, N, D)."""
    attn, y = block.attn, layer_norm(block.ln_1, x)
    mask = mask if mask is None else mask[: len(x), : len(x)]  # tokens make it longer at layer J
    y, _ = F.multi_head_attention_forward(
        y, y, y, y.shape[-1], attn.num_heads, attn.in_proj_weight, attn.in_proj_bias,
        None, None, False, 0.0, attn.out_proj.weight, attn.out_proj.bias,
        training=False, need_weights=False, attn_mask=mask,
    )  # fmt: skip
    x = x + y
    y = block.mlp.c_fc(layer_norm(block.ln_2, x))
    hidden = F.gelu(y) if block.mlp.activation == "gelu" else y * torch.sigmoid(1.702 * y)
    return x + block.mlp.c_proj(hidden)


def layer_norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """In float32, given back in the type of x."""
    return norm(x.float()).to(x.dtype)


def causal_mask(length: int, like: Tensor) -> Tensor:
    """-inf above the diagonal, (length, length)."""
    mask = torch.full((length, length), float("-inf"), dtype=like.dtype, device=like.device)
    return mask.triu(1)


def unit(x: Tensor) -> Tensor:
    """The rows of `x`, L2-normalised."""
    return x / x.norm(dim=-1, keepdim=True)
