"""Every branch of Dassl's classes that a GPU takes, run on a pretended one."""

import random

import numpy as np
import pytest
import torch

from card import RANDOM_STATE, Card, pretended_card
from dassl.engine import build_trainer
from dassl.utils import set_random_seed
from dassl.utils.generators import random_states, restore_random_states
from toy import CoOpStyle, WholeStyle, toy_cfg

pytestmark = pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true")


@pytest.fixture
def card(monkeypatch):
    with pretended_card(monkeypatch) as card:
        yield card


@pytest.mark.parametrize(("use_cuda", "device"), [(True, "cuda"), (False, "cpu")])
def test_the_card_is_used_unless_switched_off(card, tmp_path, use_cuda, device):
    trainer = CoOpStyle(toy_cfg(tmp_path / "d", tmp_path / "out", USE_CUDA=use_cuda))
    assert trainer.device.type == device
    assert trainer.train_loader_x.pin_memory == trainer.test_loader.pin_memory == use_cuda
    assert card.is_used == use_cuda


def test_a_run_ends_where_it_ends_on_a_cpu(tmp_path, monkeypatch):
    def trained(out, use_cuda):
        set_random_seed(1)
        trainer = build_trainer(toy_cfg(tmp_path / "d", out, USE_CUDA=use_cuda))
        trainer.train()
        return trainer.model.prompt_learner.weight

    want = trained(tmp_path / "cpu", use_cuda=False)
    with pretended_card(monkeypatch):
        assert torch.equal(trained(tmp_path / "card", use_cuda=True), want)


class Reporting(WholeStyle):
    """Reports a tensor, as a GPU's trainers do, and logs its steps."""

    def forward_backward(self, batch):
        self.log.append("step")
        return {"loss": torch.tensor(float(self.batch_idx))}


def log_of_an_epoch(tmp_path, card, use_cuda=True):
    values = {"DATALOADER.TRAIN_X.BATCH_SIZE": 2, "TRAIN.PRINT_FREQ": 4, "USE_CUDA": use_cuda}
    trainer = Reporting(toy_cfg(tmp_path / "d", tmp_path / "out", "WholeStyle", **values))
    trainer.log = card.log
    trainer.train_loader_x = list(trainer.train_loader_x)  # a sampler reads its indices
    trainer.run_epoch()
    events = [event for event in card.log if event in ("step", "item", "tolist")]
    return events[events.index("step") :]


def test_metrics_are_read_when_a_line_is_due(card, tmp_path, capsys):
    want = ["step"] * 4 + ["tolist"] + ["step"] * 2 + ["tolist"]
    assert log_of_an_epoch(tmp_path, card) == want
    assert "batch [4/6]" in (out := capsys.readouterr().out)
    assert "loss 3.0000 (1.5000)" in out


def test_metrics_of_a_cpu_are_read_in_every_step(tmp_path):
    with Card() as card:
        assert log_of_an_epoch(tmp_path, card, use_cuda=False) == ["step", "item"] * 6


def test_random_states_include_the_card_s(card):
    states = random_states()
    drawn = random.random(), np.random.rand(), torch.rand(1)
    restore_random_states(states)
    assert states["cuda"] == [RANDOM_STATE]
    assert card.restored == [[RANDOM_STATE]]
    assert (random.random(), np.random.rand(), torch.rand(1)) == drawn


def test_a_card_that_was_never_used_has_no_random_states(card, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    assert "cuda" not in random_states()


def test_random_states_of_a_card_are_restored_without_one(monkeypatch):
    with pretended_card(monkeypatch) as card:
        states = random_states()
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        restore_random_states(states)
    assert card.restored == []


def test_a_checkpoint_resumes_loss_scale_and_random_states(card, tmp_path):
    trainers = [CoOpStyle(toy_cfg(tmp_path / "d", tmp_path / "out")) for _ in range(2)]
    for trainer, scale in zip(trainers, (128.0, 2.0**16), strict=True):
        trainer.scaler = torch.amp.GradScaler("cuda", init_scale=scale)
    trainers[0].save_model(0, trainers[0].output_dir)
    assert trainers[1].resume_model_if_exist(trainers[1].output_dir) == 1
    assert trainers[1].scaler.get_scale() == 128.0
    assert card.restored == [[RANDOM_STATE]]
