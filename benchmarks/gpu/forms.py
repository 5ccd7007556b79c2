"""The forms of a training step that are timed: plain, eager, graph, compiled; and an evaluation.

plain: the published amount of work, under autocast where PREC is amp. eager: ours. graph: ours, its
loss and gradients launched as one CUDA graph. compiled: ours through torch.compile.
"""

import copy
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.classnames import class_list
from benchmarks.measure import REP_LAYERS, VIT_B16, random_clip
from benchmarks.plain import PlainModel
from clip import tokenize
from clip.model import Sizes
from trainer.graph import CudaGraph
from trainer.method.build import build_mmrl, build_mmrlpp
from trainer.method.model import MMRLModel, mmrl_loss
from trainer.published_values import prompts
from trainer.step import EncoderPrecision, TrainingStep, compile_step, fuse

__all__ = ["FORMS", "TINY", "VIT_B16", "Setting", "Step", "make_evaluation", "make_step"]

_drawn = cache(random_clip)  # drawing one takes seconds
FORMS = ("plain", "eager", "graph", "compiled")
TINY = Sizes(
    embed_dim=32, resolution=32, patch=8, vision_width=64, vision_layers=12, text_width=64,
    text_layers=12, context_length=77, vocab_size=49408,
)  # fmt: skip


class Setting(NamedTuple):
    """What is timed."""

    method: str
    prec: str
    classes: int
    batch: int

    def __str__(self) -> str:
        return f"{self.method} {self.prec} {self.classes} x {self.batch}"


class Step(NamedTuple):
    """A call, on a batch that stays; a step's gives the loss, an evaluation's the scores."""

    run: Callable[[], Any]
    training: TrainingStep | None  # None: an evaluation


def build(
    setting: Setting, device: torch.device, sizes: Sizes, form: str
) -> tuple[MMRLModel, EncoderPrecision, Tensor]:
    """(our model, its precision, prompts (C, 77)) with the papers' sizes."""
    # the plain form multiplies in half precision under autocast, from float32 weights
    prec = "fp32" if form == "plain" else setting.prec
    frozen = copy.deepcopy(_drawn(sizes)).to(device)
    precision = EncoderPrecision(frozen, prec, "", device)
    dataset, names = class_list(setting.classes)
    tokens = tokenize(prompts(names, dataset)).to(device)
    common: dict[str, Any] = {"num_tokens": 5, "rep_dim": 512, "rep_layers": REP_LAYERS}
    if setting.method == "MMRL":
        model = build_mmrl(frozen, tokens, alpha=0.7, **common)
    else:
        common |= {"beta": 0.9, "layer_rank": 4, "projection_rank": 64}
        model = build_mmrlpp(frozen, tokens, alpha=0.7, **common)
    torch.manual_seed(0)
    with torch.no_grad():
        for p in model.learned().values():
            p.copy_(0.02 * torch.randn(p.shape))  # on the CPU, so that every device has the same
    return model.to(device), precision, tokens


def make_step(
    setting: Setting,
    form: str,
    device: torch.device,
    sizes: Sizes = VIT_B16,
    make_graph: Callable[[], Any] = CudaGraph,
) -> Step:
    """A training step of one of `FORMS`; equal values and pictures whatever the form."""
    ours, precision, tokens = build(setting, device, sizes, form)
    precision.set_mode(training=True)
    model: MMRLModel | PlainModel = PlainModel(ours, tokens) if form == "plain" else ours
    model.train()
    # the plain form steps a tensor a layer, as published, in the memory of our stacked ones
    plain = isinstance(model, PlainModel)
    learned = model.learner.parameters() if plain else ours.learned().values()
    optimizer = torch.optim.AdamW(list(learned), lr=1e-4)
    if form != "plain":
        fuse(optimizer)
    half = torch.float16 if device.type == "cuda" else torch.bfloat16
    casts = form == "plain" and setting.prec == "amp"

    def loss_of(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(device.type, dtype=half, enabled=casts):
            out, frozen = model.with_frozen(images)
            loss = mmrl_loss(out, frozen, labels, alpha=0.7, reg_weight=1.0)
        return loss, out.fusion.detach()

    scaled = setting.prec == "amp" and device.type == "cuda"
    loss_of_form = compile_step(loss_of) if form == "compiled" else loss_of
    step = TrainingStep(loss_of_form, optimizer, scaled)
    if form == "graph":
        step.capture(make_graph, lambda: precision.changes)
    images, labels = batch_of(setting, device, sizes)
    return Step(lambda: step(images, labels)[0], step)


def make_evaluation(setting: Setting, device: torch.device, sizes: Sizes = VIT_B16) -> Step:
    """The scores of a batch, text features at hand, in PREC's evaluation type."""
    model, precision, _ = build(setting, device, sizes, "eager")
    precision.set_mode(training=False)
    images, _ = batch_of(setting, device, sizes)
    with torch.no_grad():
        adaptation = model.eval().adaptation()

    @torch.no_grad()
    def run() -> Tensor:
        return model.classify(model.image_encoder.shared(images), adaptation).fusion

    return Step(run, None)


def batch_of(setting: Setting, device: torch.device, sizes: Sizes) -> tuple[Tensor, Tensor]:
    """Random images (B, 3, R, R), drawn on the CPU, and labels (B,)."""
    generator = torch.Generator().manual_seed(1)
    shape = (setting.batch, 3, sizes.resolution, sizes.resolution)
    images = torch.randn(shape, generator=generator)
    return images.to(device), torch.arange(setting.batch, device=device) % setting.classes
