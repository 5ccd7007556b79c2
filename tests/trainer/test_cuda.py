"""Every branch of the trainers that a GPU takes, run on a pretended one."""

import json
import shutil

import pytest
import torch

import datasets  # noqa: F401  registers the readers
import train
from card import NAME, PEAK_MIB, RANDOM_STATE, pretended_card
from conftest import EUROSAT_CLASSES, GOLDEN, train_arguments
from dassl.engine import build_trainer
from dassl.utils import load_checkpoint, set_random_seed
from trainer.predictor import load
from trainer.step import compile_options

pytestmark = pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true")
MODEL = "MultiModalRepresentationLearner"
AMP = ("TRAINER.MMRL.PREC", "amp")


@pytest.fixture
def card(monkeypatch):
    with pretended_card(monkeypatch) as card:
        yield card


@pytest.fixture
def make_trainer(eurosat_root, clip_file, tmp_path):
    """A trainer in the first of a hundred training steps, and a batch for it."""

    def make(*options):
        arguments = [*train_arguments(eurosat_root, tmp_path, clip_file), *options]
        set_random_seed(1)
        trainer = build_trainer(train.resolve(train.parse(arguments))[0])
        trainer.epoch, trainer.batch_idx, trainer.num_batches = 0, 0, 100
        trainer.set_model_mode("train")
        return trainer, next(iter(trainer.train_loader_x))

    return make


def learned(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.model.learned().values()])


@pytest.mark.parametrize(("method", "prec"), [("MMRL", "amp"), ("MMRLpp", "fp16")])
def test_a_run_finishes(method, prec, card, eurosat_root, clip_file, tmp_path, capsys):
    arguments = train_arguments(eurosat_root, tmp_path, clip_file, method)
    options = ["OPTIM.MAX_EPOCH", "2", f"TRAINER.{method}.PREC", prec, "TRAIN.CHECKPOINT_FREQ", "1"]
    assert train.main([*arguments, *options]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["device"], results["precision"]) == (NAME, prec)
    assert results["peak_memory_mib"]["gpu"] == PEAK_MIB
    assert "on a CPU" not in capsys.readouterr().out
    for epoch in (1, 2):
        checkpoint = load_checkpoint(str(tmp_path / MODEL / f"model.pth.tar-{epoch}"))
        assert checkpoint["random_states"]["cuda"] == [RANDOM_STATE]
        assert ("scaler" in checkpoint) == (prec == "amp")


def test_a_run_learns_what_it_learns_on_a_cpu(eurosat_root, clip_file, tmp_path, monkeypatch):
    def train_into(out, use_cuda):
        options = ["OPTIM.MAX_EPOCH", "1", "TRAIN.PRINT_FREQ", "5", "USE_CUDA", use_cuda]
        assert train.main([*train_arguments(eurosat_root, out, clip_file), *options]) == 0
        return load_checkpoint(str(out / MODEL / "model.pth.tar-1"))["state_dict"]

    want = train_into(tmp_path / "cpu", "False")
    with pretended_card(monkeypatch):
        got = train_into(tmp_path / "card", "True")
    assert all(torch.equal(value, want[key]) for key, value in got.items())


def test_clip_itself_is_evaluated(card, eurosat_root, clip_file, tmp_path):
    arguments = train_arguments(eurosat_root, tmp_path, clip_file, "ZeroshotCLIP")
    assert train.main(["--eval-only", *arguments]) == 0
    assert json.loads((tmp_path / "results.json").read_text())["device"] == NAME


def test_a_step_waits_for_nothing(card, make_trainer):
    trainer, batch = make_trainer(*AMP)
    for trainer.batch_idx in range(19):
        card.log.clear()
        trainer.forward_backward(batch)
        assert card.log == []


def test_an_epoch_waits_only_where_a_line_is_printed(card, make_trainer, capsys):
    """Ten batches, a line every five: the host reads the card's values in the fifth and tenth."""
    trainer, batch = make_trainer("TRAIN.PRINT_FREQ", "5", "TRAIN.GRAPH", "False")
    trainer.train_loader_x, trainer.max_epoch = [batch] * 10, 1
    waits, step = [], trainer.forward_backward

    def note(batch):
        waits.append(len(card.log))  # what was read before this batch's step
        return step(batch)

    trainer.forward_backward = note
    card.log.clear()
    trainer.run_epoch()
    assert waits[:5] == [0] * 5
    assert waits[5:] == [1] * 5  # loss and accuracy of five steps come together
    assert len(card.log) == 3  # the loss is checked before the model is saved
    assert capsys.readouterr().out.count("batch [") == 2


@pytest.mark.parametrize(
    ("frequency", "read_in"), [(1, [20, 40]), (3, [21, 42]), (30, [30]), (100, [])]
)
def test_losses_are_checked_where_a_line_is_printed(frequency, read_in, card, make_trainer):
    trainer, _ = make_trainer("TRAIN.PRINT_FREQ", str(frequency), "TRAIN.GRAPH", "False")
    found, one = [], torch.tensor(1.0)
    for number in range(1, 46):
        card.log.clear()
        trainer.guard.add(number, one, is_last=False)
        found += [number] if card.log else []
    assert found == read_in


@pytest.mark.parametrize(("num_batches", "read_at"), [(100, 20), (7, 7)])
def test_losses_are_read_every_twenty_steps_and_in_the_last(
    card, make_trainer, num_batches, read_at
):
    trainer, batch = make_trainer()
    trainer.num_batches = num_batches
    for trainer.batch_idx in range(read_at - 1):
        if trainer.batch_idx == 3:
            batch["img"].fill_(float("nan"))
        trainer.forward_backward(batch)
    trainer.batch_idx += 1
    with pytest.raises(
        FloatingPointError, match=f"loss is nan at epoch 1, step 4 of {num_batches}"
    ):
        trainer.forward_backward(batch)


def test_a_scaled_step_is_the_same_step(card, make_trainer):
    (plain, batch), (scaled, _) = make_trainer(), make_trainer()
    scaled.scaler = torch.amp.GradScaler("cuda")
    for trainer in (plain, scaled):
        trainer.forward_backward(batch)
    assert scaled.scaler.get_scale() > 1
    torch.testing.assert_close(learned(plain), learned(scaled), rtol=1e-5, atol=1e-7)


def test_a_step_whose_gradients_overflow_is_left_out(card, make_trainer):
    trainer, batch = make_trainer(*AMP)
    trainer.scaler.load_state_dict(trainer.scaler.state_dict() | {"scale": 2.0**127})
    before = learned(trainer)
    trainer.forward_backward(batch)
    assert torch.equal(learned(trainer), before)
    assert trainer.scaler.get_scale() == 2.0**126


def test_float32_is_not_rounded_in_the_patches(card, make_trainer, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    make_trainer()
    assert not torch.backends.cudnn.allow_tf32


def test_only_amp_scales_its_loss(card, make_trainer):
    for prec in ("fp32", "amp", "fp16", "bf16"):
        trainer, _ = make_trainer("TRAINER.MMRL.PREC", prec)
        assert (trainer.scaler is not None and trainer.scaler.is_enabled()) == (prec == "amp")


def test_running_out_of_memory_names_the_knob(card, make_trainer, monkeypatch):
    def exhausted(*_, **__):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    trainer, batch = make_trainer()
    monkeypatch.setattr(torch.Tensor, "backward", exhausted)
    with pytest.raises(MemoryError, match=r"10 classes and batch 4\. Set TRAINER\.CLASS_CHUNK"):
        trainer.forward_backward(batch)


def test_resuming_restores_random_states_and_loss_scale(card, make_trainer):
    cut, batch = make_trainer(*AMP, "OPTIM.MAX_EPOCH", "2")
    cut.forward_backward(batch)
    cut.scaler.update(new_scale=128.0)
    cut.after_epoch()
    resumed, _ = make_trainer(*AMP, "OPTIM.MAX_EPOCH", "2")
    assert resumed.resume_model_if_exist(resumed.output_dir) == 1
    assert card.restored == [[RANDOM_STATE]]
    assert resumed.scaler.get_scale() == 128.0
    assert torch.equal(learned(resumed), learned(cut))


@pytest.mark.parametrize("device", [None, "cuda", "cpu"])
def test_a_predictor_goes_to_the_card_unless_told_otherwise(card, clip_file, tmp_path, device):
    run = shutil.copytree(GOLDEN / "published_checkpoint", tmp_path / "run")
    load(str(run), EUROSAT_CLASSES[:5], backbone=clip_file, device=device)
    assert card.is_used == (device != "cpu")


def test_a_compiled_step_is_captured_where_there_is_a_card(monkeypatch):
    with pretended_card(monkeypatch):
        assert compile_options()["triton.cudagraphs"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not compile_options()["triton.cudagraphs"]
