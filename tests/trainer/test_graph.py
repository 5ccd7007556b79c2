"""The captured step, with a stand-in that records and replays operations on a CPU."""

import contextlib
import copy

import pytest
import torch

from card import Recorder
from clip import tokenize
from clip.model import CLIP
from conftest import PUBLISHED_SPEC, recipe, tensors
from trainer.config import build_config
from trainer.graph import CudaGraph
from trainer.method.build import build_mmrlpp
from trainer.method.model import mmrl_loss
from trainer.step import EncoderPrecision, TrainingStep


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


def test_a_first_batch_that_overflows_is_not_compared(capsys):
    """Its gradients say nothing about a replay's, so the next batch is captured."""
    step, learned, _ = make(Recorder)
    scaled, scale = step.captured.differentiate, torch.tensor(float("inf"))

    def differentiate(image, label):
        loss, logits = scaled(image, label)
        for p in learned.values():
            p.grad = p.grad * scale
        return loss, logits

    step.captured.differentiate = differentiate
    first, *others = batches(4, 4, 4)
    step.captured(*first)
    assert step.captured.is_on
    assert not next(iter(learned.values())).grad.isfinite().all()
    scale.fill_(1.0)
    for batch in others:
        step.captured(*batch)
    assert step.captured.is_on
    assert step.captured._capture.graph.replays == 2  # of the second, to compare, and the third
    assert capsys.readouterr().out == ""


class Streams:
    """What `CudaGraph` asks of torch.cuda, noted in order; a failing capture leaves its stream."""

    def __init__(self, monkeypatch, fails=False):
        self.log, self.fails, self.current = [], fails, self.Stream("first")
        for name in ("CUDAGraph", "Stream", "current_stream", "set_stream", "stream", "graph"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))

    class Stream:
        def __init__(self, name="own"):
            self.name = name

        def wait_stream(self, other):
            """Orders work on a device."""

    class CUDAGraph:
        replays = 0

        def replay(self):
            self.replays += 1

    def current_stream(self):
        return self.current

    def set_stream(self, stream):
        self.current = stream

    @contextlib.contextmanager
    def stream(self, stream):
        before, self.current = self.current, stream
        yield
        self.current = before

    @contextlib.contextmanager
    def graph(self, graph, stream, capture_error_mode):
        self.log.append(capture_error_mode)
        self.current = stream
        yield
        if self.fails:
            raise RuntimeError("operation failed due to a previous error during capture")

    def note(self):
        self.log.append(self.current.name)
        return len(self.log)


def test_a_cuda_graph_warms_up_where_it_records(monkeypatch):
    streams = Streams(monkeypatch)
    graph = CudaGraph()
    assert graph.capture(streams.note) == 4
    # other threads may go on meanwhile: one of them pins the loader's batches
    assert streams.log == ["own", "own", "thread_local", "own"]
    assert streams.current.name == "first"
    graph.replay()
    assert graph.graph.replays == 1


def test_a_capture_that_fails_gives_the_stream_back(monkeypatch):
    streams = Streams(monkeypatch, fails=True)
    with pytest.raises(RuntimeError, match="during capture"):
        CudaGraph().capture(streams.note)
    assert streams.current.name == "first"


def test_graph_takes_three_values():
    assert build_config()[0].TRAIN.GRAPH == "auto"
    assert build_config(opts=["TRAIN.GRAPH", "False"])[0].TRAIN.GRAPH == "False"
    with pytest.raises(ValueError, match=r"TRAIN.GRAPH must be one of auto, True, False"):
        build_config(opts=["TRAIN.GRAPH", "on"])
