"""CLIP's own arithmetic against the golden features; the rest is in test_golden.py."""

import pickle

import pytest
import torch
import torch.nn.functional as F

from clip.model import CLIP, MLP, Block


def test_padding_after_eot_is_never_read(clip_state):
    model = CLIP.from_state_dict(clip_state)
    tokens = torch.tensor([[49406, 320, 49407, 0, 0, 0]])
    torch.testing.assert_close(model.encode_text(tokens), model.encode_text(tokens[:, :3]))


def test_rounding_changes_matrices_only(clip_state):
    state = {k: v + 1e-6 for k, v in clip_state.items()}
    model = CLIP.from_state_dict(state).round_to_half()
    assert torch.equal(model.visual.proj, state["visual.proj"].half().float())
    assert torch.equal(model.text.text_projection, state["text_projection"].half().float())
    assert torch.equal(model.visual.ln_post.weight, state["visual.ln_post.weight"])
    assert torch.equal(model.text.positional_embedding, state["positional_embedding"])


PLAIN = {"quick_gelu": lambda x: x * torch.sigmoid(1.702 * x), "gelu": F.gelu}


def plain_layer(block, x, activation):
    """The second half of a layer as it is written, differentiated by torch."""
    hidden = block.mlp.c_fc(block.ln_2(x))
    return x + block.mlp.c_proj(PLAIN[activation](hidden))


@pytest.mark.parametrize("activation", PLAIN)
def test_the_frozen_mlp_is_the_plain_one_forward_and_backward(activation):
    torch.manual_seed(0)
    block = Block(64, activation).double().requires_grad_(False)
    for p in block.parameters():
        torch.nn.init.normal_(p)
    block.fold()
    x = torch.randn(2, 3, 64, dtype=torch.float64, requires_grad=True)
    want, got = plain_layer(block, x, activation), block.add_mlp(x)
    # the factor 1.702 is folded in float32
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-4)
    grad = torch.randn_like(x)
    of_plain, of_frozen = (torch.autograd.grad(y, x, grad)[0] for y in (want, got))
    torch.testing.assert_close(of_frozen, of_plain, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gelu_in_half_precision_is_near(dtype):
    torch.manual_seed(0)
    block = Block(64, "gelu").requires_grad_(False)
    x = torch.randn(8, 64)
    want = block.add_mlp(x)
    for layer in (block.mlp.c_fc, block.mlp.c_proj):
        layer.to(dtype)
    block.fold()
    assert (block.add_mlp(x) - want).abs().max() < 0.02


def test_gelu_s_vectors_stay_as_they_are():
    block = Block(64, "gelu")
    block.fold()
    assert torch.equal(block.folded_weight, block.ln_2.weight)
    assert torch.equal(block.folded_first, block.mlp.c_fc.bias)
    assert torch.equal(block.folded_second, block.mlp.c_proj.bias)


@pytest.mark.parametrize("activation", PLAIN)
def test_the_mlp_of_a_clip_in_training_is_the_plain_one(activation):
    mlp, x = MLP(64, activation), torch.randn(3, 64)
    want = mlp.c_proj(PLAIN[activation](mlp.c_fc(x)))
    torch.testing.assert_close(mlp(x), want, rtol=1e-5, atol=1e-6)


def test_a_clip_with_gelu_can_be_sent_to_another_process(clip_state):
    model = CLIP.from_state_dict(clip_state, "gelu")
    sent = pickle.loads(pickle.dumps(model))
    tokens = torch.tensor([[49406, 320, 49407]])
    assert torch.equal(sent.encode_text(tokens), model.encode_text(tokens))
    quick = CLIP.from_state_dict(clip_state).encode_text(tokens)
    assert not torch.allclose(quick, model.encode_text(tokens), atol=1e-4)
