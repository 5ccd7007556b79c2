"""What a run goes on from: files that are whole, torn, of another run, or that somebody made up."""

import copy

import pytest
import torch

import train
from clip import tokenize
from clip.model import CLIP
from conftest import train_arguments
from dassl.config import get_cfg_default
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils.generators import random_states
from trainer.checkpoints.identity import Identity
from trainer.checkpoints.keys import learned_state
from trainer.checkpoints.resume import ResumeFile, TornResumeFile, restore
from trainer.method.build import build_mmrl


class Run:
    """A small run after one step, all of its gradients 1."""

    def __init__(self, clip_state, optimizer="adamw"):
        cfg = get_cfg_default().OPTIM
        cfg.NAME, cfg.LR_SCHEDULER, cfg.WARMUP_EPOCH, cfg.MAX_EPOCH = optimizer, "cosine", 1, 5
        frozen, tokens = CLIP.from_state_dict(clip_state), tokenize(["a cat.", "a dog."])
        self.model = build_mmrl(
            frozen, tokens, num_tokens=2, rep_dim=4, rep_layers=[2, 4], alpha=0.7
        )
        with torch.no_grad():
            for p in self.model.learned().values():
                p.grad = p.fill_(0.5).clone().fill_(1)
        self.optim = build_optimizer(list(self.model.learned().values()), cfg)
        self.sched = build_lr_scheduler(self.optim, cfg)
        self.optim.step()
        self.sched.step()

    def state(self):
        return copy.deepcopy(
            {
                "state_dict": learned_state(self.model),
                "optimizer": self.optim.state_dict(),
                "scheduler": self.sched.state_dict(),
                "random_states": random_states(),
                "epoch": 1,
            }
        )

    def restore(self, state):
        restore(self.model, self.optim, self.sched, None, state, "runs/resume.pt")


@pytest.fixture(params=["sgd", "adamw", "radam"])
def run(request, clip_state):
    return Run(clip_state, request.param)


@pytest.fixture
def adam(clip_state):
    return Run(clip_state)


def test_what_was_stored_is_restored(run):
    state = run.state()
    wanted = torch.rand(3)
    run.optim.step()
    run.restore(state)
    assert torch.equal(torch.rand(3), wanted)
    for key, value in learned_state(run.model).items():
        assert torch.equal(value, state["state_dict"][key])


def set_random(name, position, value):
    return lambda s: s["random_states"][name].__setitem__(position, value)


def first_moments(state):
    return state["optimizer"]["state"][0]


MADE_UP = {
    "random_states": [
        lambda s: s.update(random_states=[]),
        lambda s: s["random_states"].pop("python"),
        lambda s: s["random_states"].update(python=[3]),
        lambda s: s["random_states"].update(torch="text"),
        lambda s: s["random_states"].update(torch=torch.zeros(3, dtype=torch.uint8)),
        set_random("python", 1, [1, 2]),
        set_random("python", 2, "text"),
        set_random("numpy", 0, "PCG64"),
        set_random("numpy", 1, [1, 2]),
        set_random("numpy", 2, 10**6),
        set_random("numpy", 2, "text"),
    ],
    "optimizer": [
        lambda s: s.update(optimizer=5),
        lambda s: s.update(optimizer={}),
        lambda s: s["optimizer"].update(param_groups=[]),
        lambda s: s["optimizer"].update(param_groups=[5]),
        lambda s: s["optimizer"]["param_groups"][0].pop("lr"),
        lambda s: s["optimizer"]["param_groups"][0].update(lr="text"),
        lambda s: s["optimizer"]["param_groups"][0].update(betas=(0.9,)),
        lambda s: s["optimizer"]["state"].popitem(),
        lambda s: first_moments(s).update(exp_avg=torch.ones(1, 2, 3)),
        lambda s: first_moments(s).update(exp_avg_sq="text"),
        lambda s: first_moments(s).pop("exp_avg"),
        lambda s: first_moments(s).pop("step"),
        lambda s: first_moments(s).clear(),
        lambda s: first_moments(s).update(step="text"),
        lambda s: s["optimizer"]["state"].update({0: 5}),
    ],
    "scheduler": [
        lambda s: s.update(scheduler=5),
        lambda s: s["scheduler"].update(last_epoch="text"),
        lambda s: s["scheduler"].update(base_lrs=[]),
        lambda s: s["scheduler"]["successor"].update(T_max=[5]),
    ],
}


@pytest.mark.parametrize(
    ("part", "plant"), [(part, plant) for part, plants in MADE_UP.items() for plant in plants]
)
def test_values_of_another_kind_are_answered_with_file_part_and_remedy(adam, part, plant):
    state = adam.state()
    plant(state)
    message = rf"'runs/resume\.pt' cannot be resumed from: its '{part}' does not fit.*Remove it"
    with pytest.raises(ValueError, match=message):
        adam.restore(state)


def test_weights_that_do_not_fit_are_answered_with_the_file(adam):
    state = adam.state()
    state["state_dict"].popitem()
    with pytest.raises(ValueError, match=r"runs/resume\.pt: The checkpoint does not fit: it lacks"):
        adam.restore(state)
    state["state_dict"] = {"w": "text"}
    with pytest.raises(ValueError, match=r"'runs/resume\.pt' is not a checkpoint"):
        adam.restore(state)


WHOLE = {
    **{"state_dict": {}, "optimizer": {}, "scheduler": {}, "random_states": {}},
    **{"epoch": 1, "best_result": 50.0},
}


def run_with(**settings):
    return Identity("MMRL", {key.replace("_", "."): value for key, value in settings.items()})


def test_a_torn_file_is_told_from_one_of_another_run(tmp_path):
    file = ResumeFile(str(tmp_path))
    file.save(WHOLE, run_with(OPTIM_LR=0.1))
    assert file.load(run_with(OPTIM_LR=0.1)).items() >= WHOLE.items()
    with pytest.raises(ValueError, match=r"with OPTIM\.LR 0\.1, but .* is now 0\.2") as raised:
        file.load(run_with(OPTIM_LR=0.2))
    assert not isinstance(raised.value, TornResumeFile)
    data = (tmp_path / "resume.pt").read_bytes()
    for content in (data[:200], data[:-1], b"", data.replace(b"best_result", b"BEST_RESULT")):
        (tmp_path / "resume.pt").write_bytes(content)
        with pytest.raises(TornResumeFile, match=r"Cannot read .*resume\.pt"):
            file.load(run_with(OPTIM_LR=0.1))


@pytest.mark.parametrize(("key", "value"), [("epoch", "1"), ("best_result", None)])
def test_an_entry_of_another_kind_is_named(tmp_path, key, value):
    file = ResumeFile(str(tmp_path))
    file.save(WHOLE | {key: value}, run_with())
    with pytest.raises(ValueError, match=rf"is not a resume file: it lacks '{key}'.*Remove it"):
        file.load(run_with())


def test_a_run_with_a_torn_file_goes_on_from_the_checkpoint(
    eurosat_root, clip_file, tmp_path, capsys
):
    arguments = [*train_arguments(eurosat_root, tmp_path, clip_file), "OPTIM.MAX_EPOCH", "1"]
    (tmp_path / "resume.pt").write_bytes(b"PK\x03\x04 torn")
    assert train.main(arguments) == 0
    text = capsys.readouterr().out
    assert "resume.pt': its end is missing" in text
    assert "No checkpoint found, train from scratch" in text
    (tmp_path / "resume.pt").write_bytes(b"PK\x03\x04 torn")
    (tmp_path / "results.json").unlink()
    assert train.main(arguments) == 0
    assert "Previous epoch: 1" in capsys.readouterr().out
    assert not (tmp_path / "resume.pt").exists()
