"""The plain form: the adapted CLIP as the papers describe it, with no sharing of computation.

One loop over the layers, sequence first, every position of every prompt, a second CLIP for f0: the
amount of work of the published program, and the same arithmetic. It is the reference that the fast
form (`trainer/method/text_encoder.py`) is compared with, for equality and for time.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip.model import Block, Transformer
from trainer.method.injection import Injection
from trainer.method.model import LOGIT_SCALE, Features, MMRLModel, Output

__all__ = ["PlainModel"]


class PlainModel(nn.Module):
    """The same parameters as `model`, the fast form, run the plain way."""

    def __init__(self, model: MMRLModel, prompts: Tensor) -> None:
        super().__init__()
        self.learner = model.learner
        self.visual, self.text = model.image_encoder.tower, model.text_encoder.tower
        self.image_rule = model.image_encoder.injection
        self.text_rule = model.text_encoder.injection
        self.alpha = model.alpha
        self.prompts = prompts  # (C, T)
        self._evaluation_text: Tensor | None = None
        with torch.no_grad():
            x = self.text.embed(prompts)
            self.embedded = x  # (C, T, D)
            text = plain_tower(self.text.transformer, x, None, None, causal=True)
            self.frozen_text = self._read_eot(text, shift=0)  # (C, E) w0

    def forward(self, images: Tensor) -> Output:
        """Logits and features of a batch."""
        tokens = self.learner(self.visual.proj)
        x = plain_tower(
            self.visual.transformer,
            self.visual.embed(images),
            self.image_rule,
            tokens.image,
            False,
        )
        num_tokens = tokens.image.shape[1]
        x = self.visual.ln_post(x[:, : 1 + num_tokens])
        image = unit(x[:, 0] @ self.visual.proj)
        rep = unit(x[:, 1:].mean(dim=1) @ tokens.rep_proj)
        text = self._text_features(tokens.text)
        logits, logits_rep = LOGIT_SCALE * image @ text.t(), LOGIT_SCALE * rep @ text.t()
        fusion = self.alpha * logits + (1 - self.alpha) * logits_rep
        return Output(logits, logits_rep, fusion, image, text)

    @torch.no_grad()
    def frozen_features(self, images: Tensor) -> Features:
        """f0 from a whole second pass, and w0."""
        x = plain_tower(self.visual.transformer, self.visual.embed(images), None, None, False)
        return Features(unit(self.visual.ln_post(x[:, 0]) @ self.visual.proj), self.frozen_text)

    def with_frozen(self, images: Tensor) -> tuple[Output, Features]:
        """The output and the frozen features, as a training step needs them."""
        return self(images), self.frozen_features(images)

    def _text_features(self, tokens: Tensor) -> Tensor:
        """The text features w; evaluation computes them once, as the published program does."""
        if not self.training and self._evaluation_text is not None:
            return self._evaluation_text
        y = plain_tower(self.text.transformer, self.embedded, self.text_rule, tokens, causal=True)
        text = self._read_eot(y, shift=tokens.shape[1])
        self._evaluation_text = None if self.training else text
        return text

    def _read_eot(self, x: Tensor, shift: int) -> Tensor:
        rows = torch.arange(len(x), device=x.device)
        x = self.text.ln_final(x[rows, self.prompts.argmax(-1) + shift])
        return unit(x @ self.text.text_projection)


def plain_tower(
    transformer: Transformer,
    x: Tensor,
    rule: Injection | None,
    tokens: Tensor | None,
    causal: bool,
) -> Tensor:
    """All layers, tokens entering where listed: (N, L, D) -> (N, L + K, D)."""
    for layer in range(1, len(transformer.resblocks) + 1):
        if rule is not None and tokens is not None:
            x = rule.enter(x, layer, tokens)
        x = plain_block(transformer.block(layer), x.transpose(0, 1), causal).transpose(0, 1)
    return x


def plain_block(block: Block, x: Tensor, causal: bool) -> Tensor:
    """One layer with torch's own multi-head attention: (L, N, D) -> (L, N, D)."""
    mask = None
    if causal:
        mask = torch.full((len(x), len(x)), float("-inf"), dtype=x.dtype, device=x.device).triu(1)
    attn, y = block.attn, block.ln_1(x)
    y, _ = F.multi_head_attention_forward(
        y, y, y, y.shape[-1], attn.num_heads, attn.in_proj_weight, attn.in_proj_bias,
        None, None, False, 0.0, attn.out_proj.weight, attn.out_proj.bias,
        training=False, need_weights=False, attn_mask=mask,
    )  # fmt: skip
    x = x + y
    y = block.mlp.c_fc(block.ln_2(x))
    return x + block.mlp.c_proj(y * torch.sigmoid(1.702 * y))


def unit(x: Tensor) -> Tensor:
    """The rows of `x`, L2-normalised."""
    return x / x.norm(dim=-1, keepdim=True)
