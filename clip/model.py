"""CLIP with a vision transformer: images (N, 3, R, R), tokens (C, T) -> features (., E).

Keys and arithmetic are OpenAI's, the activation is QuickGELU or GELU; all sizes are read from the
state dict's shapes. Batch first.
"""

from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip.ops import ACTIVATIONS, FoldedMLP, add_frozen_mlp, attend, frozen_linear
from clip.sizes import HEAD_WIDTH, Sizes
from dassl.errors import RequestError

__all__ = ["CLIP", "Block", "Sizes", "TextTower", "VisionTower"]

_FOLDED = ("folded_weight", "folded_shift", "folded_first", "folded_second")


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W' + b in the weight's type; a frozen weight costs no memory in training."""
    if weight.requires_grad:  # CLIP itself is being trained
        return F.linear(x.to(weight.dtype), weight, bias)
    return frozen_linear(x, weight, bias)


class Attention(nn.Module):
    """Multi-head self-attention: (..., L, D) -> (..., L, D), in the type of its matrices."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_heads = max(1, width // HEAD_WIDTH)
        if width % self.num_heads:
            raise RequestError(f"Width {width} does not divide into {self.num_heads} heads")
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def project(self, x: Tensor) -> Tensor:
        """Queries, keys and values of every position, side by side: (..., D) -> (..., 3 D)."""
        return linear(x, self.in_proj_weight, self.in_proj_bias)

    def heads(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values by head: (..., L, 3 D) -> (..., H, L, D / H), three times."""
        # unbind's gradient is one stack; that of three slices would be three padded sums
        q, k, v = qkv.unflatten(-1, (3, self.num_heads, -1)).unbind(-3)
        return q.transpose(-3, -2), k.transpose(-3, -2), v.transpose(-3, -2)

    def combine(self, qkv: Tensor, causal: bool = False, read: int | None = None) -> Tensor:
        """Attend, for the first `read` positions: (N, L, 3 D) -> (N, read, D)."""
        q, k, v = self.heads(qkv)
        x = attend(q[:, :, :read], k, v, causal=causal)  # (N, H, read, D / H)
        return self.merge(x.transpose(-3, -2).flatten(-2))

    def merge(self, x: Tensor) -> Tensor:
        """Mix what the heads found: (..., D) -> (..., D)."""
        return linear(x, self.out_proj.weight, self.out_proj.bias)


class MLP(nn.Module):
    """(..., D) -> (..., D) through 4 D hidden units; as it is while CLIP trains."""

    def __init__(self, width: int, activation: str) -> None:
        super().__init__()
        self.activation = activation  # by name: torch's functions do not pickle
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the MLP to every position."""
        g = ACTIVATIONS[self.activation]
        return self.c_proj(g.apply(g.factor * self.c_fc(x)) / g.factor)


class Block(nn.Module):
    """A pre-norm transformer layer: (N, L, D) -> (N, L, D); frozen ones are folded before use."""

    folded_weight: Tensor  # (D,)
    folded_shift: Tensor  # (D,)
    folded_first: Tensor  # (4 D,)
    folded_second: Tensor  # (D,)

    def __init__(self, width: int, activation: str) -> None:
        super().__init__()
        self.attn = Attention(width)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = MLP(width, activation)
        self.ln_2 = nn.LayerNorm(width)
        for name in _FOLDED:  # not persistent: state dicts and fingerprints hold the originals
            self.register_buffer(name, None, persistent=False)
        self.is_folded = False

    def fold(self) -> None:
        """Derive what the frozen MLP reads beside its matrices, from the parameters as they are."""
        first, second = self.mlp.c_fc, self.mlp.c_proj
        factor = ACTIVATIONS[self.mlp.activation].factor
        vectors = (self.ln_2.weight, self.ln_2.bias, first.bias, second.bias)
        for name, p in zip(_FOLDED, vectors, strict=True):
            setattr(self, name, (factor * p.detach().float()).to(p.dtype))
        self.is_folded = True

    def project(self, x: Tensor) -> Tensor:
        """Queries, keys and values of every position: (..., D) -> (..., 3 D)."""
        return self.attn.project(self.ln_1(x))

    def add_mlp(self, x: Tensor) -> Tensor:
        """The second half of the layer, position by position."""
        first, second = self.mlp.c_fc, self.mlp.c_proj
        if first.weight.requires_grad:  # CLIP itself is being trained
            return x + self.mlp(self.ln_2(x))
        if not self.is_folded:
            self.fold()
        norm = (self.ln_2.weight, self.folded_weight, self.folded_shift)
        folded = (first.weight, self.folded_first, second.weight, self.folded_second)
        return add_frozen_mlp(x, FoldedMLP(*norm, *folded, ACTIVATIONS[self.mlp.activation]))

    def forward(self, x: Tensor, causal: bool = False, read: int | None = None) -> Tensor:
        """Attention, then the MLP, each added to its input; `read`: for the first positions only.

        (N, L, D) -> (N, L, D), or (N, read, D).
        """
        return self.add_mlp(x[:, :read] + self.attn.combine(self.project(x), causal, read))


class Transformer(nn.Module):
    """The layers of a tower, under OpenAI's key `resblocks`."""

    def __init__(self, width: int, num_layers: int, activation: str) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, activation) for _ in range(num_layers))

    def block(self, layer: int) -> Block:
        """One layer; they are counted from 1."""
        return cast(Block, self.resblocks[layer - 1])

    def forward(self, x: Tensor, causal: bool = False) -> Tensor:
        """All layers: (N, L, D) -> (N, L, D)."""
        for block in self.resblocks:
            x = block(x, causal)
        return x


class VisionTower(nn.Module):
    """Images (N, 3, R, R) -> features (N, E)."""

    def __init__(self, sizes: Sizes, activation: str) -> None:
        super().__init__()
        width = sizes.vision_width
        num_patches = (sizes.resolution // sizes.patch) ** 2
        self.resolution = sizes.resolution
        self.conv1 = nn.Conv2d(3, width, sizes.patch, stride=sizes.patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(num_patches + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, sizes.vision_layers, activation)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, sizes.embed_dim))

    def embed(self, images: Tensor) -> Tensor:
        """What enters layer 1: the class token, then the patches, (N, 1 + P, D)."""
        x = self.conv1(images.to(self.conv1.weight.dtype)).flatten(2).transpose(1, 2)  # (N, P, D)
        cls = self.class_embedding.expand(x.shape[0], 1, -1)
        x = torch.cat([cls, x.to(cls.dtype)], dim=1) + self.positional_embedding
        return self.ln_pre(x)

    def forward(self, images: Tensor) -> Tensor:
        """Features of the class token."""
        x = self.transformer(self.embed(images))
        return self.ln_post(x[:, 0]).to(self.proj.dtype) @ self.proj


class TextTower(nn.Module):
    """Tokens (C, T) -> features (C, E), read at each text's EOT; attention is causal."""

    def __init__(self, sizes: Sizes, activation: str) -> None:
        super().__init__()
        width = sizes.text_width
        self.token_embedding = nn.Embedding(sizes.vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.empty(sizes.context_length, width))
        self.transformer = Transformer(width, sizes.text_layers, activation)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, sizes.embed_dim))

    def embed(self, tokens: Tensor) -> Tensor:
        """What enters layer 1: (C, T, D)."""
        return self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]

    def forward(self, tokens: Tensor) -> Tensor:
        """Features at EOT, the highest token of each row."""
        x = self.transformer(self.embed(tokens), causal=True)
        x = x[torch.arange(len(x), device=x.device), tokens.argmax(-1)]  # (C, D)
        return self.ln_final(x).to(self.text_projection.dtype) @ self.text_projection


class CLIP(nn.Module):
    """Both towers and the scale of their cosine similarities, frozen and in evaluation mode."""

    def __init__(self, sizes: Sizes, activation: str = "quick_gelu") -> None:
        super().__init__()
        self.sizes = sizes
        self.activation = activation  # a name of `clip.ops.ACTIVATIONS`
        self.visual = VisionTower(sizes, activation)
        self.text = TextTower(sizes, activation)
        self.logit_scale = nn.Parameter(torch.empty([]))

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], activation: str = "quick_gelu") -> "CLIP":
        """Build the model that a state dict with OpenAI's keys describes, in float32.

        Raises:
            RequestError: keys are missing, surplus or misshapen; the message names them.
        """
        sizes = Sizes.of(state)
        with torch.device("meta"):
            model = cls(sizes, activation)
        # float32 first: half-precision archives hold layer norms in float32 too
        renamed = {_own_key(key): value.float() for key, value in state.items()}
        try:
            model.load_state_dict(renamed, assign=True)
        except RuntimeError as error:
            raise RequestError(
                f"The CLIP state dict does not fit its own sizes {sizes}: {error}"
            ) from None
        return model.requires_grad_(False).fold().eval()

    def round_to_half(self) -> "CLIP":
        """Round matrices to half precision's values, in place, as OpenAI's archives store them.

        Layer norms, embeddings and class token keep their full precision there, and here.
        """
        for p in self.matrices():
            p.data = p.data.half().to(p.dtype)
        return self.fold()

    def fold(self) -> "CLIP":
        """Derive again what frozen layers read beside their parameters; after each change of those.

        That is the activation's factor times some vectors (`clip.ops.FoldedMLP`).
        """
        for tower in (self.visual, self.text):
            for layer in range(1, len(tower.transformer.resblocks) + 1):
                tower.transformer.block(layer).fold()
        return self

    def matrices(self) -> list[nn.Parameter]:
        """What the products multiply by: all but layer norms, embeddings and the class token."""
        ends = ("proj", "projection", "conv1.weight")
        parts = (".attn.", ".mlp.")
        return [
            p
            for name, p in self.named_parameters()
            if name.endswith(ends) or any(part in name for part in parts)
        ]

    def encode_image(self, images: Tensor) -> Tensor:
        """(N, 3, R, R), normalised -> features (N, E), not normalised."""
        return self.visual(images)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """(C, T) -> features (C, E), not normalised."""
        return self.text(tokens)


def _own_key(key: str) -> str:
    """OpenAI keeps the text tower's tensors at the top level; here they are under `text.`."""
    return key if key.startswith("visual.") or key == "logit_scale" else f"text.{key}"
