"""Trained and new classes in one list: each group is what it is without the other."""

import pytest
import torch

from clip import tokenize
from clip.model import CLIP
from trainer.method.build import build_mmrl, build_mmrlpp
from trainer.method.model import LOGIT_SCALE
from trainer.method.readout import ReadOut

TRAINED, NEW = (
    ["cat", "river bank", "a very long name of a class"],
    ["dog", "Sea or Lake", "x" * 30],
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["MMRL", "MMRL++"])
def build(request, clip_state):
    """A function from class names to the model, learned numbers and all."""
    sizes = {"num_tokens": 3, "rep_dim": 8, "rep_layers": [2, 3], "alpha": 0.7}
    ranks = {"beta": 0.6, "layer_rank": 2, "projection_rank": 4}

    def build(names):
        torch.manual_seed(0)
        frozen = CLIP.from_state_dict(clip_state).round_to_half()
        if request.param == "MMRL":
            model = build_mmrl(frozen, prompts(names), **sizes)
        else:
            model = build_mmrlpp(frozen, prompts(names), **sizes, **ranks)
        with torch.no_grad():
            for p in model.learned().values():
                p.normal_(std=0.3)
        return model.eval()

    return build


def prompts(names):
    return tokenize([f"a photo of a {name}." for name in names])


def scores(model, names, images):
    """The mixed logits of the class list that a model was made for."""
    read_out = ReadOut.of([name in TRAINED for name in names], CPU)
    with torch.no_grad():
        adaptation = read_out.adaptation(model, prompts(names))
        return read_out.scores(model, model.image_encoder.shared(images), adaptation)


@pytest.fixture(scope="module")
def images():
    return torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_new_classes_leave_the_logits_of_trained_ones_to_the_last_bit(build, images):
    names = [NEW[0], *TRAINED[:2], NEW[1], TRAINED[2], NEW[2]]  # the groups need not be in a row
    alone, others, mixed, fewer = (
        scores(build(part), part, images) for part in (TRAINED, NEW, names, names[:-1])
    )
    assert torch.equal(mixed[:, [names.index(name) for name in TRAINED]], alone)
    assert torch.equal(mixed[:, [names.index(name) for name in NEW]], others)
    assert torch.equal(fewer[:, [1, 2, 4]], alone)
    # the new ones are packed anew without one of them: 1e-6 in cosine, times 100
    torch.testing.assert_close(fewer, mixed[:, :-1], rtol=0, atol=1e-4)


def test_trained_classes_are_fused_and_new_ones_read_from_the_class_feature(build, images):
    names = [*NEW, *TRAINED]
    model = build(names)
    with torch.no_grad():
        want = model(images)
    mixed = scores(model, names, images)
    torch.testing.assert_close(mixed[:, 3:], want.fusion[:, 3:], rtol=0, atol=1e-4)
    torch.testing.assert_close(mixed[:, :3], want.logits[:, :3], rtol=0, atol=1e-4)
    assert (want.fusion - want.logits).abs().max() > 1  # else the two would tell nothing apart
    assert want.logits.abs().max() <= LOGIT_SCALE


@pytest.mark.parametrize(
    ("is_trained", "rule"),
    [
        ([True, True], "fusion"),
        ([False], "class feature"),
        (
            [True, False, True],
            "fused logits of 2 trained classes and the class feature of 1 new class, in one "
            "softmax",
        ),
    ],
)
def test_the_rule_is_one_line(is_trained, rule):
    assert ReadOut.of(is_trained, CPU).rule == rule
