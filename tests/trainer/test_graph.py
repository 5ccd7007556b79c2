"""The captured step, with a stand-in that records and replays operations on a CPU."""

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from clip import tokenize
from clip.model import CLIP
from conftest import PUBLISHED_SPEC, recipe, tensors
from trainer.config import build_config
from trainer.method.build import build_mmrlpp
from trainer.method.model import mmrl_loss
from trainer.step import EncoderPrecision, TrainingStep


class Recorder(TorchDispatchMode):
    """A graph: the operations of a function, replayed into the memory of their first results."""

    made = 0

    def __init__(self):
        super().__init__()
        self.calls = []
        self.replays = 0
        Recorder.made += 1

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result

    def capture(self, function):
        with self:
            return function()

    @torch.no_grad()
    def replay(self):
        self.replays += 1
        for func, args, kwargs, result in self.calls:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class Refusing(Recorder):
    def capture(self, function):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")


class Stale(Recorder):
    def replay(self):
        """Launches nothing, so what the capture computed of other pictures stays."""


def make(graph_class=None, prec="fp32"):
    """(step, learned tensors, precision); equal from call to call, but for the graph."""
    frozen = CLIP.from_state_dict(tensors(recipe.clip_state_dict(PUBLISHED_SPEC))).round_to_half()
    precision = EncoderPrecision(frozen, prec, "", torch.device("cpu"))
    prompts = tokenize(["a photo of a cat.", "a photo of a river bank.", "a photo of a dog."])
    common = {"num_tokens": 3, "rep_dim": 8, "rep_layers": [2, 4], "alpha": 0.7, "beta": 0.6}
    model = build_mmrlpp(frozen, prompts, layer_rank=2, projection_rank=4, **common).train()
    precision.set_mode(training=True)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.learned().values():
            p.normal_(std=0.3, generator=generator)

    def loss_of(images, labels):
        out, of_clip = model.with_frozen(images)
        return mmrl_loss(out, of_clip, labels, alpha=0.7, reg_weight=1.0), out.fusion

    step = TrainingStep(loss_of, torch.optim.AdamW(model.learned().values(), lr=1e-3), False)
    if graph_class is not None:
        step.capture(graph_class, lambda: precision.changes)
    return step, model.learned(), precision


def batches(*sizes):
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(size, 3, 32, 32, generator=generator), torch.arange(size) % 3)
        for size in sizes
    ]


def assert_same_training(one, two, sizes):
    for batch in batches(*sizes):
        got, want = one[0](*batch), two[0](*batch)
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    for name, p in one[1].items():
        torch.testing.assert_close(p, two[1][name], rtol=1e-4, atol=1e-5)


def test_a_captured_step_trains_as_the_plain_one(capsys):
    one = make(Recorder)
    assert_same_training(one, make(), [4, 4, 3, 4, 4])  # 3: another signature, run as it is
    assert one[0].captured.is_on
    assert one[0].captured._capture.graph.replays == 4  # of the first, to compare, and the others
    assert capsys.readouterr().out == ""


def test_results_of_a_step_outlive_the_next():
    step, *_ = make(Recorder)
    first, second, third = batches(4, 4, 4)
    step(*first)
    loss, logits = step(*second)
    kept = copy.deepcopy((loss, logits))
    step(*third)
    assert torch.equal(loss, kept[0])
    assert torch.equal(logits, kept[1])


def test_evaluation_in_between_captures_anew():
    before = Recorder.made
    one, two = make(Recorder, prec="amp"), make(prec="amp")
    assert_same_training(one, two, [4, 4])
    for _, _, precision in (one, two):
        precision.set_mode(training=False)  # swaps the memory of every matrix
        precision.set_mode(training=True)
    assert_same_training(one, two, [4, 4])
    assert Recorder.made - before == 2


@pytest.mark.parametrize(
    ("graph_class", "reason"),
    [
        (Refusing, "RuntimeError: operation not permitted when stream is capturing"),
        (Stale, "Difference: loss of a replay is off by"),
    ],
)
def test_a_graph_that_fails_is_off_for_the_run(graph_class, reason, capsys):
    one = make(graph_class)
    assert_same_training(one, make(), [4, 4, 4])
    assert not one[0].captured.is_on
    out = capsys.readouterr().out
    assert out.startswith(f"TRAIN.GRAPH is off: {reason}")
    assert out.count("\n") == 1


def test_graph_takes_three_values():
    assert build_config()[0].TRAIN.GRAPH == "auto"
    assert build_config(opts=["TRAIN.GRAPH", "False"])[0].TRAIN.GRAPH == "False"
    with pytest.raises(ValueError, match=r"TRAIN.GRAPH must be one of auto, True, False"):
        build_config(opts=["TRAIN.GRAPH", "on"])
