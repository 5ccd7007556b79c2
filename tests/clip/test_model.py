"""CLIP's own arithmetic against the golden features; the rest is in test_golden.py."""

import torch

from clip.model import CLIP


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
