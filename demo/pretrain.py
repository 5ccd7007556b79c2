"""Train the demo's tiny CLIP contrastively on captioned pictures of its world.

    python -m demo.pretrain                    # rewrites demo/tiny_clip.safetensors
    python -m demo.pretrain --steps 50 --out /tmp/x.safetensors

12 + 12 layers of width 64, trained from a seed on pictures in the STUDIO style only. The file holds
half-precision tensors under OpenAI's keys; of the token embedding only the rows of tokens that the
captions use, listed in `token_embedding.rows`.
"""

import itertools
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from tqdm import trange

from clip import tokenize
from clip.model import CLIP, Sizes
from dassl.errors import in_one_sentence
from dassl.whole_files import write_whole
from demo.world import COLOURS, SHAPES, SIZE, STUDIO, TEXTURES, render
from options import Parser, whole_number

WEIGHTS = Path(__file__).with_name("tiny_clip.safetensors")
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CAPTIONS = ("a photo of a {}.", "a {}.", "a picture of a {}.", "a drawing of a {}.", "{}.")
SIZES = Sizes(
    embed_dim=64,
    resolution=SIZE,
    patch=8,
    vision_width=64,
    vision_layers=12,
    text_width=64,
    text_layers=12,
    context_length=77,
    vocab_size=49408,
)


def things() -> list[tuple[str, str, str]]:
    """Every (texture, colour, shape) of the world."""
    return list(itertools.product(TEXTURES, COLOURS, SHAPES))


def initialise(model: CLIP) -> CLIP:
    """CLIP's initial weights: normal, narrower with depth on the residual paths."""
    for name, p in model.named_parameters():
        if name.endswith("logit_scale"):
            nn.init.constant_(p, math.log(1 / 0.07))
        elif p.dim() == 1:
            is_gain = "ln_" in name and name.endswith("weight")
            nn.init.constant_(p, 1.0 if is_gain else 0.0)
        else:
            depth = (
                2 * SIZES.vision_layers
                if name.endswith(("out_proj.weight", "c_proj.weight"))
                else 1
            )
            nn.init.normal_(
                p, std=p.shape[-1] ** -0.5 * depth**-0.5 if "embed" not in name else 0.02
            )
    nn.init.normal_(model.visual.class_embedding, std=0.1)
    nn.init.normal_(model.visual.conv1.weight, std=0.05)
    return model


def to_pixels(images: np.ndarray) -> Tensor:
    """uint8 (N, S, S, 3) -> normalised float (N, 3, S, S)."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def contrastive_loss(image: Tensor, text: Tensor, caption: Tensor, scale: Tensor) -> Tensor:
    """Symmetric cross-entropy in nats; `caption` (N,) says which of the C texts fits each image."""
    logits = scale * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).t()  # (N, C)
    hits = F.one_hot(caption, len(text)).float()
    of_text = -(F.log_softmax(logits.t(), dim=1) * hits.t()).sum(1) / hits.sum(0).clamp(min=1)
    return (F.cross_entropy(logits, caption) + of_text[hits.sum(0) > 0].mean()) / 2


def train(steps: int, batch_size: int, seed: int) -> CLIP:
    """A tiny CLIP after `steps` steps on pictures drawn afresh for each."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = initialise(CLIP(SIZES)).train()
    decay = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}]
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.5e-3, total_steps=steps, pct_start=0.1
    )
    names = [" ".join(thing) for thing in things()]
    for step in (bar := trange(steps, desc="pretrain")):
        picks = rng.integers(0, len(names), batch_size)
        images = np.stack([render(rng, *things_of(pick), STUDIO) for pick in picks])
        template = CAPTIONS[rng.integers(0, len(CAPTIONS))]
        present, caption = np.unique(picks, return_inverse=True)
        tokens = tokenize([template.format(names[i]) for i in present])
        tokens = tokens[:, : int((tokens != 0).sum(1).max())]  # padding after EOT is never read
        loss = contrastive_loss(
            model.encode_image(to_pixels(images)),
            model.encode_text(tokens),
            torch.from_numpy(caption),
            model.logit_scale.exp(),
        )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        model.logit_scale.data.clamp_(max=math.log(100))
        if step % 20 == 0:
            bar.set_postfix(
                loss=f"{loss.item():.3f}", scale=f"{model.logit_scale.exp().item():.0f}"
            )
    return model.eval()


def things_of(index: int) -> tuple[str, str, str]:
    """The `index`-th thing of the world."""
    return things()[index]


def save(model: CLIP, path: Path) -> None:
    """Write the model in half precision, with the embeddings of the captions' tokens only."""
    words = [template.format(" ".join(thing)) for template in CAPTIONS for thing in things()]
    rows = tokenize(words).unique()
    state = {k.removeprefix("text."): v.half().contiguous() for k, v in model.state_dict().items()}
    state["token_embedding.weight"] = state["token_embedding.weight"][rows].contiguous()
    content = to_bytes(state | {"token_embedding.rows": rows.int()})
    write_whole(path, lambda file: file.write(content))


def expand(path: Path, out: Path) -> None:
    """Turn the small file into a state dict that `clip.load` takes; unused tokens become zeros."""
    state = load_file(path)
    rows, kept = state.pop("token_embedding.rows").long(), state["token_embedding.weight"]
    full = torch.zeros(SIZES.vocab_size, kept.shape[1], dtype=kept.dtype)
    full[rows] = kept
    content = to_bytes(state | {"token_embedding.weight": full})
    write_whole(out, lambda file: file.write(content))


@in_one_sentence
def main(argv: list[str] | None = None) -> int:
    """Train the CLIP and save it; the exit code."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--steps", type=whole_number(1), default=3600, help="training steps (default: 3600)"
    )
    parser.add_argument(
        "--batch-size", type=whole_number(1), default=192, help="pictures a step (default: 192)"
    )
    parser.add_argument(
        "--seed", type=whole_number(), default=0, help="seed of weights and pictures (default: 0)"
    )
    parser.add_argument(
        "--out", type=Path, default=WEIGHTS, help=f"file to write (default: {WEIGHTS})"
    )
    args = parser.parse_args(argv)
    save(train(args.steps, args.batch_size, args.seed), args.out)
    print(f"Wrote {args.out}, {args.out.stat().st_size / 2**20:.2f} MiB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
