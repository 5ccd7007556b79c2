"""Optimizers and schedules: item 9 of the API's checklist."""

import json

import pytest
import torch
from torch import nn

from conftest import GOLDEN
from dassl.config import get_cfg_default
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.optim.optimizer import AVAI_OPTIMS

BASE = {"LR": 0.002, "MAX_EPOCH": 5, "LR_SCHEDULER": "cosine", "NAME": "sgd"}
ROWS = [
    ({"WARMUP_EPOCH": 1, "WARMUP_TYPE": "constant"},
     [1e-05, 0.002, 0.0018090170, 0.0013090170, 0.00069098301, 0.00019098301]),
    ({}, [0.002, 0.0018090170, 0.0013090170, 0.00069098301, 0.00019098301, 0]),
    ({"WARMUP_EPOCH": 2, "WARMUP_TYPE": "constant"},
     [1e-05, 1e-05, 0.002, 0.0018090170, 0.0013090170, 0.00069098301]),
    ({"WARMUP_EPOCH": 3},
     [1e-05, 0.00066666667, 0.0013333333, 0.002, 0.0018090170, 0.0013090170]),
    ({"WARMUP_EPOCH": 1, "WARMUP_TYPE": "constant", "WARMUP_RECOUNT": False},
     [1e-05, 0.002, 0.0014472136, 0.00076393202, 0.00021114562, 0]),
    ({"WARMUP_EPOCH": 3, "WARMUP_RECOUNT": False},
     [1e-05, 0.00066666667, 0.0013333333, 0.002, 0.00055278640, 0]),
    ({"LR_SCHEDULER": "single_step", "STEPSIZE": (2,), "WARMUP_EPOCH": 1,
      "WARMUP_TYPE": "constant"}, [1e-05, 0.002, 0.002, 0.0002, 0.0002, 2e-05]),
    ({"LR_SCHEDULER": "multi_step", "STEPSIZE": (2, 4), "WARMUP_EPOCH": 1,
      "WARMUP_TYPE": "constant"}, [1e-05, 0.002, 0.002, 0.0002, 0.0002, 2e-05]),
]  # fmt: skip


def optim_cfg(**values):
    cfg = get_cfg_default().OPTIM
    for key, value in values.items():
        cfg[key] = value
    return cfg


def run(cfg, epochs):
    optimizer = build_optimizer(nn.Linear(2, 2), cfg)
    scheduler = build_lr_scheduler(optimizer, cfg)
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        assert scheduler.get_last_lr()[0] == rates[-1]
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(("values", "want"), ROWS)
def test_lr_of_every_epoch(values, want):
    assert run(optim_cfg(**BASE | values), 6) == pytest.approx(want, rel=1e-6, abs=1e-12)


def test_lr_equals_the_published_schedules():
    for name, want in json.loads((GOLDEN / "lr_schedules.json").read_text()).items():
        epochs, warmup, lr = (part.split("=")[1] for part in name.split(","))
        cfg = optim_cfg(
            LR=float(lr), MAX_EPOCH=int(epochs), WARMUP_EPOCH=int(warmup), NAME="adamw",
            LR_SCHEDULER="cosine", WARMUP_TYPE="constant",
        )  # fmt: skip
        assert run(cfg, len(want)) == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("values", [row[0] for row in ROWS])
@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_resumed_schedule_goes_on_as_if_never_stopped(values, stop, tmp_path):
    cfg = optim_cfg(**BASE | values)
    want = run(cfg, 6)
    model = nn.Linear(2, 2)
    optimizer = build_optimizer(model, cfg)
    scheduler = build_lr_scheduler(optimizer, cfg)
    for _ in range(stop):
        optimizer.step()
        scheduler.step()
    torch.save([optimizer.state_dict(), scheduler.state_dict()], tmp_path / "state")
    saved = torch.load(tmp_path / "state")  # weights-only: plain containers
    optimizer = build_optimizer(model, cfg)
    scheduler = build_lr_scheduler(optimizer, cfg)
    optimizer.load_state_dict(saved[0])
    scheduler.load_state_dict(saved[1])
    rates = []
    for _ in range(stop, 6):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx(want[stop:], rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("name", AVAI_OPTIMS)
def test_every_optimizer_name_trains(name):
    model = nn.Linear(3, 1)
    optimizer = build_optimizer(model, optim_cfg(NAME=name, LR=0.01))
    before = model.weight.detach().clone()
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert not torch.equal(before, model.weight)
    assert optimizer.param_groups[0]["weight_decay"] == 5e-4


def test_staged_groups_have_their_lr():
    model = nn.Sequential()
    model.add_module("body", nn.Linear(2, 2))
    model.add_module("head", nn.Linear(2, 2))
    cfg = optim_cfg(STAGED_LR=True, NEW_LAYERS=("head",), LR=0.1, NAME="sgd")
    groups = build_optimizer(model, cfg).param_groups
    assert [group["lr"] for group in groups] == [pytest.approx(0.01), 0.1]
    assert groups[1]["params"][0] is model.head.weight


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"NAME": "lion"}, ValueError, "lion"),
        ({"LR_SCHEDULER": "linear"}, ValueError, "linear"),
        ({"WARMUP_EPOCH": 1, "WARMUP_TYPE": "exp"}, ValueError, "exp"),
        ({"LR_SCHEDULER": "multi_step", "STEPSIZE": 3}, TypeError, "STEPSIZE"),
        ({"LR_SCHEDULER": "single_step", "STEPSIZE": (0.5,)}, TypeError, "STEPSIZE"),
    ],
)
def test_wrong_values_are_refused(values, error, message):
    with pytest.raises(error, match=message):
        run(optim_cfg(**values), 1)
