"""One kernel for the optimizer gives the same parameters, after reloading too."""

import copy

import pytest
import torch

from trainer.step import fuse


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_fused_optimizer_gives_the_same_parameters(kind):
    torch.manual_seed(0)
    plain = torch.nn.Linear(20, 30)
    fused = copy.deepcopy(plain)
    one, two = (kind(m.parameters(), lr=1e-2, weight_decay=1e-2) for m in (plain, fused))
    fuse(two)
    two.register_load_state_dict_post_hook(fuse)
    for step in range(6):
        x = torch.randn(4, 20)
        for model, optimizer in ((plain, one), (fused, two)):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
        if step == 2:  # a state saved without it, as published checkpoints hold
            two.load_state_dict(copy.deepcopy(one.state_dict()))
            assert two.param_groups[0]["fused"]
    torch.testing.assert_close(fused.weight, plain.weight, rtol=1e-5, atol=1e-7)


def test_other_optimizers_are_left_alone():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    fuse(optimizer)
    assert not optimizer.param_groups[0]["fused"]
