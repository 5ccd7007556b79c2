"""What newer trainers override or borrow: the hook is called, the borrowed name does its work."""

import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from dassl.data import DatasetWrapper
from dassl.data.data_manager import build_data_loader
from dassl.data.datasets import Datum
from dassl.data.transforms import build_transform, transforms
from dassl.engine.trainer import SummaryWriter
from dassl.modeling import ops
from dassl.optim import radam
from dassl.optim.lr_scheduler import _BaseWarmupScheduler
from toy import CoOpStyle, toy_cfg


@pytest.fixture
def cfg(tmp_path):
    cfg = toy_cfg(tmp_path / "data", tmp_path / "out")
    cfg.DATALOADER.K_TRANSFORMS = 2
    return cfg


@pytest.fixture
def items(cfg):
    trainer = CoOpStyle(cfg)
    return [Datum(i.impath, i.label) for i in trainer.dm.dataset.train_x]


class Stacked(DatasetWrapper):
    """Stacks the views that the base class lists, as trainers with several views do."""

    def _transform_image(self, tfm, img0):
        views = super()._transform_image(tfm, img0)
        assert len(views) == 2
        return torch.stack(views)


def test_an_overridden_transform_image_makes_the_batches(cfg, items):
    tfm = build_transform(cfg, is_train=True)
    loader = build_data_loader(
        cfg, data_source=items, batch_size=4, tfm=tfm, dataset_wrapper=Stacked
    )
    assert next(iter(loader))["img"].shape == (4, 2, 3, 8, 8)


def test_transform_image_is_asked_once_for_every_transform(cfg, items):
    cfg.DATALOADER.K_TRANSFORMS = 1
    asked = []

    class Asked(DatasetWrapper):
        def _transform_image(self, tfm, img0):
            asked.append((tfm, img0.size))
            return super()._transform_image(tfm, img0)

    first, second = (build_transform(cfg, is_train=flag) for flag in (True, False))
    item = Asked(cfg, items, [first, second])[0]
    assert asked == [(first, (8, 8)), (second, (8, 8))]
    assert item["img"].shape == item["img2"].shape == (3, 8, 8)


@pytest.mark.parametrize("part", ["train", "test"])
def test_each_pipeline_can_be_built_by_itself(cfg, capsys, part):
    cfg.INPUT.TRANSFORMS = ("normalize",)
    build = getattr(transforms, f"_build_transform_{part}")
    pipeline = build(cfg, ("normalize",), "8x8", lambda image: image * 0 + 7)
    lines = capsys.readouterr().out
    build_transform(cfg, is_train=part == "train")
    assert capsys.readouterr().out == lines
    assert torch.equal(pipeline(Image.new("RGB", (20, 9))), torch.full((3, 8, 8), 7.0))


def test_a_replaced_pipeline_is_the_one_that_is_built(cfg, monkeypatch):
    monkeypatch.setattr(transforms, "_build_transform_test", lambda *parts: parts[2])
    assert build_transform(cfg, is_train=False) == "8x8"


class Halving(_BaseWarmupScheduler):
    """A warm-up of another shape."""

    def get_lr(self):
        if self.last_epoch >= self.warmup_epoch:
            return self.successor.get_last_lr()
        return [lr / 2 ** (self.warmup_epoch - self.last_epoch) for lr in self.base_lrs]


def test_a_warm_up_of_one_s_own_only_gives_its_lr():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.8)
    after = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)
    scheduler = Halving(optimizer, after, 2, last_epoch=-1, verbose=False)
    rates = []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([0.2, 0.4, 0.8, 0.08])
    with pytest.raises(NotImplementedError):
        _BaseWarmupScheduler(optimizer, after, 2)


def test_the_writer_is_tensorboard_s_own(tmp_path):
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    writer = SummaryWriter(log_dir=str(tmp_path))
    writer.close()
    assert isinstance(writer, tensorboard.SummaryWriter)
    with pytest.raises(TypeError, match=r"torch\.utils\.tensorboard"):
        type("Own", (SummaryWriter,), {})


def test_reversed_gradients():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    y = ops.ReverseGrad()(x, grad_scaling=0.5)
    (y * torch.tensor([3.0, 4.0])).sum().backward()
    assert y.tolist() == [1, 2]
    assert x.grad.tolist() == [-1.5, -2]
    with pytest.raises(ValueError, match=r"0 or more, got -1"):
        ops.ReverseGrad()(x, -1)


def test_probabilities_labels_and_batches():
    sharp = ops.sharpen_prob(torch.tensor([[0.2, 0.8], [0.5, 0.5]]), temperature=2)
    torch.testing.assert_close(sharp, torch.tensor([[1 / 17, 16 / 17], [0.5, 0.5]]))
    onehot = ops.create_onehot(torch.tensor([2, 0]), 3)
    assert (onehot.tolist(), onehot.dtype) == ([[0, 0, 1], [1, 0, 0]], torch.float32)
    data, label = torch.arange(8).view(4, 2), torch.arange(4)
    assert [x.tolist() for x in ops.reverse_index(data, label)] == [
        [[6, 7], [4, 5], [2, 3], [0, 1]],
        [3, 2, 1, 0],
    ]
    torch.manual_seed(2)
    shuffled, order = ops.shuffle_index(data, label)
    torch.manual_seed(2)
    assert torch.equal(order, torch.randperm(4))
    assert torch.equal(shuffled, data[order])


def test_ramps_and_averaged_models():
    assert [ops.linear_rampup(n, 4) for n in (0, 1, 9)] == [0, 0.25, 1]
    assert [round(ops.sigmoid_rampup(n, 4), 4) for n in (0, 2, 4, 9)] == [0.0067, 0.2865, 1, 1]
    assert ops.sigmoid_rampup(3, 0) == ops.linear_rampup(3, 0) == 1
    with pytest.raises(ValueError, match="-1"):
        ops.linear_rampup(-1, 4)
    model, average = nn.Linear(2, 1), nn.Linear(2, 1)
    want = 0.9 * average.weight + 0.1 * model.weight
    ops.ema_model_update(model, average, 0.9)
    torch.testing.assert_close(average.weight, want)


PLAIN = {"lr": 0.01, "betas": (0.8, 0.99), "weight_decay": 0.1}


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("RAdam", lambda p: torch.optim.RAdam(p, **PLAIN, decoupled_weight_decay=True)),
        ("PlainRAdam", lambda p: torch.optim.RAdam(p, **PLAIN, decoupled_weight_decay=True)),
        ("AdamW", lambda p: torch.optim.AdamW(p, **PLAIN)),
    ],
)
def test_dassl_s_optimizers_are_torch_s(name, like):
    results = []
    for make in (lambda p: getattr(radam, name)(p, **PLAIN), like):
        weight = nn.Parameter(torch.tensor([[1.0, -2.0]]))
        optimizer = make([weight])
        for _ in range(12):
            optimizer.zero_grad()
            F.linear(torch.tensor([3.0, 1.0]), weight).square().sum().backward()
            optimizer.step()
        results.append(weight.detach())
    assert torch.equal(*results)


def test_options_that_torch_lacks_are_refused():
    with pytest.raises(ValueError, match="degenerated_to_sgd"):
        radam.RAdam([nn.Parameter(torch.zeros(1))], degenerated_to_sgd=False)
    with pytest.raises(ValueError, match=r"warmup must be 0, got 5.*WARMUP_EPOCH"):
        radam.AdamW([nn.Parameter(torch.zeros(1))], warmup=5)
