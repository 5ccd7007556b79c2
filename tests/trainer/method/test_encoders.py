"""The fast form equals the plain one, over random settings; precision, chunks and compilation."""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.plain import PlainModel
from clip import tokenize
from clip.model import CLIP
from clip.tokenizer import EOT
from conftest import PUBLISHED_SPEC, recipe, tensors
from trainer.checkpoints.keys import learned_state, load_learned
from trainer.method.build import build_mmrl, build_mmrlpp
from trainer.method.model import mmrl_loss
from trainer.method.packing import cut_classes, pack_prompts, suffix_rows
from trainer.step import EncoderPrecision, compile_options, compile_step

WORDS = ["a", "cat", "river bank", "Boeing 737-800", "t-shirt, jersey", "x" * 30, "Sea or Lake"]


@functools.cache
def clip_state():
    return tensors(recipe.clip_state_dict(PUBLISHED_SPEC))


def build(
    method, prompts, layers, num_tokens=3, rep_dim=8, beta=0.6, activation="quick_gelu", **kwargs
):
    torch.manual_seed(0)
    frozen = CLIP.from_state_dict(clip_state(), activation).round_to_half()
    common = {"num_tokens": num_tokens, "rep_dim": rep_dim, "rep_layers": layers, "alpha": 0.7}
    if method == "mmrl":
        model = build_mmrl(frozen, prompts, **common, **kwargs)
    else:
        ranks = {"layer_rank": 2, "projection_rank": 4}
        model = build_mmrlpp(frozen, prompts, beta=beta, **ranks, **common, **kwargs)
    with torch.no_grad():
        for p in model.learned().values():
            p.normal_(std=0.3)  # nothing at zero: every path must carry
    return model


def gradients(model, learned, images, labels):
    out, frozen = model.with_frozen(images)
    loss = mmrl_loss(out, frozen, labels, alpha=0.7, reg_weight=2.0)
    return loss.detach(), torch.autograd.grad(loss, list(learned.values()))


layer_lists = st.sets(st.integers(1, 4), min_size=1).map(sorted)
name_lists = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6)
templates = st.sampled_from(["a photo of a {}.", "{}", "{} texture."])


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    method=st.sampled_from(["mmrl", "mmrlpp"]),
    layers=layer_lists,
    num_tokens=st.integers(1, 4),
    names=name_lists,
    template=templates,
    num_images=st.integers(1, 3),
    beta=st.sampled_from([0.0, 0.3, 1.0]),
    class_chunk=st.sampled_from([0, 1, 2]),
    activation=st.sampled_from(["quick_gelu", "gelu"]),
)
def test_fast_form_equals_the_plain_one(
    method, layers, num_tokens, names, template, num_images, beta, class_chunk, activation
):
    prompts = tokenize([template.format(name) for name in names])
    choice = {"class_chunk": class_chunk, "activation": activation}
    model = build(method, prompts, layers, num_tokens, beta=beta, **choice).eval()
    plain = PlainModel(model, prompts)
    generator = torch.Generator().manual_seed(num_images)
    images = torch.randn(num_images, 3, 32, 32, generator=generator)
    with torch.no_grad():
        fast_out, plain_out = model(images), plain(images)
        fast_frozen, plain_frozen = model.frozen_features(images), plain.frozen_features(images)
    for got, want in zip(fast_out + fast_frozen, plain_out + plain_frozen, strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-4)  # 1e-6 in cosine, times 100
    labels = torch.arange(num_images) % len(names)
    model.train()
    learned = model.learned()
    loss, grads = gradients(model, learned, images, labels)
    parts = dict(enumerate(plain.learner.parameters()))
    plain_loss, plain_grads = gradients(plain, parts, images, labels)
    plain_grads = plain.learner.join(plain_grads)
    torch.testing.assert_close(loss, plain_loss, rtol=1e-4, atol=1e-6)
    for name, got, want in zip(learned, grads, plain_grads, strict=True):
        # where softmax is saturated a gradient is rounding alone: float32's, times 100
        assert (got - want).norm() <= 1e-4 * want.norm() + 2e-5, name


@given(names=name_lists, template=templates)
@settings(max_examples=30, deadline=None, derandomize=True)
def test_packing_loses_no_token(names, template):
    prompts = tokenize([template.format(name) for name in names])
    packed = pack_prompts(prompts)
    suffixes = packed.suffix.split(packed.lengths.tolist())
    for prompt, suffix in zip(prompts, suffixes, strict=True):
        text = torch.cat([packed.prefix, suffix])
        assert text.tolist() == prompt[: prompt.argmax() + 1].tolist()


@given(names=name_lists)
@settings(max_examples=30, deadline=None, derandomize=True)
def test_rows_and_slots_are_each_other_s_inverse(names):
    packed = pack_prompts(tokenize(names))
    index = suffix_rows(packed.lengths)
    assert index.slots.flatten()[index.rows].tolist() == list(range(len(packed.suffix)))
    assert packed.suffix[index.ends].tolist() == [EOT] * len(names)


@given(names=name_lists, size=st.integers(1, 4))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_chunks_cover_the_batch_in_order(names, size):
    packed = pack_prompts(tokenize(names))
    chunks = list(cut_classes(packed.lengths, size))
    ends = [0] + [rows.stop for rows, _ in chunks]
    assert [rows.start for rows, _ in chunks] == ends[:-1]
    assert ends[-1] == len(packed.suffix)
    assert all(len(index.ends) <= size for _, index in chunks)


def test_an_adaptation_is_a_value_that_later_learning_leaves_alone():
    """One serves any number of batches; another is another."""
    model = build("mmrl", tokenize(["a", "cat"]), [2, 3]).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        shared = model.image_encoder.shared(images)
        before = model.adaptation()
        want = model(images)
        torch.testing.assert_close(model.classify(shared, before).fusion, want.fusion)
        text = before.text.clone()
        model.learner.space.mul_(2)
        assert torch.equal(before.text, text)
        after = model(images)
        assert not torch.equal(after.text, text)
        torch.testing.assert_close(model.classify(shared, model.adaptation()).logits, after.logits)


def test_a_step_keeps_no_frozen_gradient_and_nothing_below_the_first_layer():
    model = build("mmrl", tokenize(["a", "cat"]), [3, 4]).train()
    out, frozen = model.with_frozen(torch.randn(2, 3, 32, 32))
    assert not frozen.image.requires_grad
    mmrl_loss(out, frozen, torch.tensor([0, 1]), alpha=0.7, reg_weight=1.0).backward()
    assert {n for n, p in model.named_parameters() if p.grad is not None} == set(model.learned())


@pytest.mark.parametrize("prec", ["amp", "bf16", "fp16"])
def test_lower_precisions_are_near(prec):
    prompts = tokenize(["a photo of a cat.", "a photo of a river bank."])
    images = torch.randn(2, 3, 32, 32)
    exact = build("mmrlpp", prompts, [2, 3, 4]).eval()
    frozen = CLIP.from_state_dict(clip_state()).round_to_half()
    precision = EncoderPrecision(frozen, prec, "", torch.device("cpu"))
    ranks = {"layer_rank": 2, "projection_rank": 4}
    common = {"num_tokens": 3, "rep_dim": 8, "rep_layers": [2, 3, 4], "alpha": 0.7, "beta": 0.6}
    model = build_mmrlpp(frozen, prompts, **ranks, **common).train()
    load_learned(model, learned_state(exact))
    precision.set_mode(training=True)
    with torch.no_grad():
        want = exact(images)
        got = model(images)
        assert (got.image - want.image).norm(dim=1).max() < 0.05
        model.eval()
        precision.set_mode(training=False)
        again = model(images)
    if prec == "amp":  # evaluated in float32, as published: exactly the same weights
        torch.testing.assert_close(again.logits, want.logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("prec", ["bf16", "fp16"])
def test_float32_evaluation_of_a_half_precise_training(prec):
    prompts = tokenize(["a photo of a cat.", "a photo of a river bank."])
    images = torch.randn(2, 3, 32, 32)
    exact = build("mmrl", prompts, [2, 3, 4]).eval()
    frozen = CLIP.from_state_dict(clip_state()).round_to_half()
    precision = EncoderPrecision(frozen, prec, "fp32", torch.device("cpu"))
    model = build_mmrl(
        frozen, prompts, num_tokens=3, rep_dim=8, rep_layers=[2, 3, 4], alpha=0.7
    ).eval()
    model.load_state_dict(exact.state_dict())
    precision.set_mode(training=True)
    precision.set_mode(training=False)
    with torch.no_grad():
        want, got = exact(images), model(images)
    torch.testing.assert_close(got.image, want.image, rtol=0, atol=1e-6)
    assert (got.text - want.text).norm(dim=1).max() < 0.05  # as training keeps the lower layers


@pytest.mark.parametrize(
    ("method", "activation"),
    [
        pytest.param("mmrl", "quick_gelu", marks=pytest.mark.slow),
        ("mmrlpp", "quick_gelu"),
        pytest.param("mmrlpp", "gelu", marks=pytest.mark.slow),
    ],
)
def test_compiled_step_equals_the_eager_one(method, activation):
    prompts = tokenize(["a photo of a cat.", "a photo of a river bank."])
    model = build(method, prompts, [3, 4], activation=activation).train()
    images, labels = torch.randn(2, 3, 32, 32), torch.tensor([0, 1])
    learned = model.learned()

    def step(images, labels):
        out, frozen = model.with_frozen(images)
        return mmrl_loss(out, frozen, labels, alpha=0.7, reg_weight=1.0)

    compiled = torch.compile(step, fullgraph=True, options=compile_options())
    want = torch.autograd.grad(step(images, labels), list(learned.values()))
    got = torch.autograd.grad(compiled(images, labels), list(learned.values()))
    for one, two in zip(got, want, strict=True):
        assert (one - two).norm() <= 1e-4 * two.norm() + 1e-7


def test_a_step_that_cannot_be_compiled_runs_as_it_is(capsys, monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("no compiler\nand a long story")

    monkeypatch.setattr(torch, "compile", lambda step, **kwargs: refuse)
    step = compile_step(lambda x: x + 1)
    assert [step(1), step(2)] == [2, 3]
    assert capsys.readouterr().out == "TRAIN.COMPILE is ignored: RuntimeError: no compiler\n"
