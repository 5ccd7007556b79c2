"""A training step sends few operations to the device, whatever the class list."""

import random

import pytest
import torch

from benchmarks.operations import count_operations
from benchmarks.plain import PlainModel
from clip import tokenize
from clip.model import CLIP, Block
from conftest import recipe, tensors
from trainer.method.build import build_mmrl, build_mmrlpp
from trainer.method.model import mmrl_loss
from trainer.method.start_values import draw_start_values
from trainer.step import EncoderPrecision, TrainingStep, fuse

BOUNDS = {  # operations of one step
    ("MMRL", "fp32"): 800,
    ("MMRL", "amp"): 920,
    ("MMRLpp", "fp32"): 830,
    ("MMRLpp", "amp"): 950,
}


PUBLISHED = {  # operations of the published program's step
    ("MMRL", "fp32"): 1380,
    ("MMRL", "amp"): 1954,
    ("MMRLpp", "fp32"): 1706,
    ("MMRLpp", "amp"): 2355,
}


def random_prompts(num_classes, longest):
    draw = random.Random(num_classes)
    words = [["fox"] * draw.randint(1, longest) for _ in range(num_classes)]
    return tokenize([f"a photo of a {' '.join(name)} {i}." for i, name in enumerate(words)])


def make_model(method, frozen, prompts):
    common = {"num_tokens": 5, "rep_dim": 32, "rep_layers": [6, 7, 8, 9, 10, 11, 12], "alpha": 0.7}
    if method == "MMRL":
        model = build_mmrl(frozen, prompts, **common)
    else:
        ranks = {"layer_rank": 4, "projection_rank": 8}
        model = build_mmrlpp(frozen, prompts, beta=0.6, **ranks, **common)
    draw_start_values(model.learner, frozen.sizes)
    return model


def make_step(method, prec, prompts):
    frozen = CLIP.from_state_dict(tensors(recipe.clip_state_dict(recipe.TINY))).round_to_half()
    precision = EncoderPrecision(frozen, prec, "", torch.device("cpu"))
    model = make_model(method, frozen, prompts)
    precision.set_mode(training=True)
    optimizer = torch.optim.AdamW(model.train().learned().values(), lr=1e-3)
    fuse(optimizer)

    def loss_of(images, labels):
        out, of_clip = model.with_frozen(images)
        return mmrl_loss(out, of_clip, labels, alpha=0.7, reg_weight=0.5), out.fusion.detach()

    return TrainingStep(loss_of, optimizer, scaled=False)


@pytest.mark.parametrize(("method", "prec"), BOUNDS)
def test_a_step_stays_within_its_operations(method, prec):
    images, labels = torch.randn(4, 3, 32, 32), torch.arange(4)
    counts = set()
    for num_classes, longest in ((4, 1), (5, 9), (100, 20)):
        step = make_step(method, prec, random_prompts(num_classes, longest))
        step(images, labels)  # the optimizer makes its state
        counts.add(count_operations(lambda: step(images, labels)).total())  # noqa: B023
    assert len(counts) == 1, "the number of operations depends on the class list"
    assert counts.pop() <= BOUNDS[method, prec]


def test_either_activation_takes_as_many_operations():
    x = torch.randn(4, 64, requires_grad=True)
    blocks = {name: Block(64, name).requires_grad_(False) for name in ("quick_gelu", "gelu")}
    for block in blocks.values():
        block.fold()
    counts = {  # of forward and backward, by name
        name: count_operations(lambda: torch.autograd.grad(block.add_mlp(x).sum(), x))  # noqa: B023
        for name, block in blocks.items()
    }
    assert counts["gelu"].total() == counts["quick_gelu"].total() > 0


@pytest.mark.parametrize(("method", "prec"), PUBLISHED)
def test_the_plain_form_has_the_published_number_of_operations(method, prec):
    """It is the yardstick of speed, so it must stand for the published program."""
    frozen = CLIP.from_state_dict(tensors(recipe.clip_state_dict(recipe.TINY)))
    prompts = random_prompts(5, 3)
    plain = PlainModel(make_model(method, frozen, prompts), prompts).train()
    optimizer = torch.optim.AdamW(plain.learner.parameters(), lr=1e-3)
    images, labels = torch.randn(4, 3, 32, 32), torch.arange(4)

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=prec == "amp"):
            out, of_clip = plain.with_frozen(images)
            loss = mmrl_loss(out, of_clip, labels, alpha=0.7, reg_weight=0.5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    step()  # the optimizer makes its state
    assert count_operations(step).total() == pytest.approx(PUBLISHED[method, prec], rel=0.02)
