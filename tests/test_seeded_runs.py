"""Whole runs of the published program: same seed, same start, batches, losses and counts.

The runs are described in golden/seeded_runs/README.md, whose world.py rebuilds their data and CLIP.
"""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import time

import numpy as np
import PIL
import pytest
import torch
import torchvision

import train
from clip import tokenize
from clip.model import CLIP, Sizes
from conftest import GAPS, GOLDEN, REPOSITORY
from trainer.checkpoints.keys import learned_state
from trainer.method.build import build_mmrl, build_mmrlpp
from trainer.method.start_values import draw_start_values
from trainer.step import use_deterministic_operations

FOLDER = GOLDEN / "seeded_runs"
BASE_TO_NOVEL = ["DATASET.NUM_SHOTS", "4", "DATASET.SUBSAMPLE_CLASSES", "base", "TASK", "B2N"]
FEW_SHOT = ["DATASET.NUM_SHOTS", "8", "DATASET.SUBSAMPLE_CLASSES", "all", "TASK", "FS"]
BATCH = "DATALOADER.TRAIN_X.BATCH_SIZE"
MADE_WITH = ("13.0.0", "0.29.1")  # Pillow and torchvision; others may round a pixel differently
AMP_RTOL = 0.05  # of a loss; half precision rounds each product to 8 bits, or 11 on a GPU
CPU = torch.device("cpu")
# run: trainer, seed, NUM_WORKERS, yaml, options
RUNS = {
    "mmrl_b2n_seed1": ("MMRL", 1, 0, "vit_b16", BASE_TO_NOVEL),
    "mmrlpp_b2n_seed1": ("MMRLpp", 1, 0, "vit_b16", BASE_TO_NOVEL),
    "mmrl_fs_seed2_workers8": ("MMRL", 2, 8, "vit_b16_few_shot", [*FEW_SHOT, BATCH, "4"]),
    "mmrlpp_fs_seed3_workers3": ("MMRLpp", 3, 3, "vit_b16_few_shot", [*FEW_SHOT, BATCH, "8"]),
}


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    spec = importlib.util.spec_from_file_location("world", FOLDER / "world.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.make(folder)
    return folder


def arguments(name, world, out, device=CPU, prec="fp32"):
    trainer, seed, workers, yaml, options = RUNS[name]
    return [
        *("--root", str(world / "DATA"), "--backbone", str(world / "clip.pt")),
        *("--output-dir", str(out), "--seed", str(seed), "--trainer", trainer),
        *("--dataset-config-file", str(REPOSITORY / "configs/datasets/eurosat.yaml")),
        *("--config-file", str(REPOSITORY / f"configs/trainers/{trainer}/{yaml}.yaml")),
        *("INPUT.SIZE", "(32,32)", "OPTIM.MAX_EPOCH", "3", *options),
        *("DATALOADER.NUM_WORKERS", str(workers), "TRAIN.CHECKPOINT_FREQ", "1"),
        *(f"TRAINER.{trainer}.REP_DIM", "64", f"TRAINER.{trainer}.PREC", prec),
        *("USE_CUDA", str(device.type == "cuda")),
    ]


class Recorder:
    """A run of train.py in this process that notes what every step saw and reported."""

    def __init__(self, argv, stop_after=10**9):
        self.trainer, _ = train.prepare(train.parse(argv))
        self.start = {k: v.clone() for k, v in learned_state(self.trainer.model).items()}
        self.losses, self.paths, self.pixels = [], [], []
        self.step, self.stop_after = self.trainer.forward_backward, stop_after
        self.trainer.forward_backward = self.record

    def record(self, batch):
        if len(self.losses) == self.stop_after:
            raise KeyboardInterrupt
        summary = self.step(batch)
        self.losses.append(float(summary["loss"]))
        self.paths.append("|".join(p.partition("2750/")[2] for p in batch["impath"]))
        self.pixels.append(hashlib.sha256(batch["img"].numpy().tobytes()).hexdigest()[:16])
        return summary


def published(name):
    return dict(np.load(FOLDER / f"{name}.npz"))


def part(arrays, prefix):
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def names_of(paths):
    return ["|".join(path.rpartition("2750/")[2] for path in row.split("|")) for row in paths]


@pytest.mark.parametrize("name", RUNS)
def test_a_run_with_the_seed_is_the_published_run(name, world, tmp_path, device):
    want, on_card = published(name), device.type != "cpu"
    run = Recorder(arguments(name, world, tmp_path, device))
    start = part(want, "start/")
    assert start.keys() == run.start.keys()
    for key, value in start.items():
        assert np.array_equal(run.start[key].cpu().numpy(), value), f"{key} starts elsewhere"
    run.trainer.train()
    assert run.paths == names_of(want["paths"].tolist())
    if (PIL.__version__, torchvision.__version__.split("+")[0]) == MADE_WITH:
        assert run.pixels == want["sha"].tolist()
    assert relative_gap(run.losses, want["loss"]) < (1e-3 if on_card else 1e-5)
    final = learned_state(run.trainer.model)
    for key, value in part(want, "final/").items():
        gap = np.linalg.norm(final[key].cpu().numpy() - value) / max(np.linalg.norm(value), 1e-12)
        # AdamW divides by a gradient's size, so that rounding moves parameters more than losses
        assert gap < (1e-2 if on_card else 1e-3), f"{key} ends {gap:.1e} away"
    results = run.trainer.results
    assert results["total"] == want["total"]
    assert abs(results["correct"] - want["correct"]) <= on_card  # a score at the edge


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mmrl_b2n_seed1", "mmrlpp_b2n_seed1"])
def test_amp_losses_stay_beside_those_of_float32(name, world, tmp_path, device):
    run = Recorder(arguments(name, world, tmp_path, device, prec="amp"))
    run.trainer.train()
    assert relative_gap(run.losses, published(name)["loss"]) < AMP_RTOL


def relative_gap(losses, want):
    """The largest relative difference of two loss curves."""
    gap = float(np.max(np.abs(np.array(losses) - want) / np.abs(want)))
    GAPS.append(gap)
    return gap


def start(argv, cores, **more):
    """train.py as a process that may use these cores."""
    command = [sys.executable, "train.py", *argv, "TRAIN.PRINT_FREQ", "1"]
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
        **more,
    )


def final_state(out):
    path = out / "MultiModalRepresentationLearner/model.pth.tar-3"
    return torch.load(path, weights_only=True)["state_dict"]


def wait_for(path, process):
    while not path.is_file():
        assert process.poll() is None, f"ended without {path}"
        time.sleep(0.01)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen here")
def test_a_run_does_not_depend_on_the_machine_nor_on_being_killed(world, tmp_path):
    """Eight streams on one core, on all, and killed on all and resumed on one: the same bits."""
    every = os.sched_getaffinity(0)
    one = {min(every)}
    outs = [tmp_path / name for name in ("one", "all", "moved")]
    argvs = [arguments("mmrl_fs_seed2_workers8", world, out) for out in outs]
    assert start(argvs[0], one).wait() == 0
    assert start(argvs[1], every).wait() == 0
    killed = start(argvs[2], every)
    wait_for(outs[2] / "MultiModalRepresentationLearner/model.pth.tar-1", killed)
    killed.kill()
    killed.wait()
    assert not (outs[2] / "results.json").exists()
    assert start(argvs[2], one).wait() == 0
    want = final_state(outs[0])
    for out in outs[1:]:
        for key, value in final_state(out).items():
            assert torch.equal(value, want[key]), f"{out.name}: {key}"
    loaders = [json.loads((out / "results.json").read_text())["loader"] for out in outs]
    assert [loader["num_workers"] for loader in loaders] == [8, 8, 8]
    assert loaders[0]["processes"] == 1


def test_a_run_stopped_within_an_epoch_ends_as_published(world, tmp_path):
    """From the last finished epoch on, its steps are those of the undisturbed run."""
    want = published("mmrlpp_b2n_seed1")
    stopped = Recorder(arguments("mmrlpp_b2n_seed1", world, tmp_path), stop_after=8)
    with pytest.raises(KeyboardInterrupt):
        stopped.trainer.train()
    resumed = Recorder(arguments("mmrlpp_b2n_seed1", world, tmp_path))
    resumed.trainer.train()
    np.testing.assert_allclose(stopped.losses[:5] + resumed.losses, want["loss"], rtol=1e-5)
    assert stopped.paths[:5] + resumed.paths == names_of(want["paths"].tolist())
    assert resumed.trainer.results["correct"] == want["correct"]


def vit_b16() -> CLIP:
    """ViT-B/16's sizes; its values do not matter here."""
    sizes = Sizes(
        embed_dim=512,
        resolution=224,
        patch=16,
        vision_width=768,
        vision_layers=12,
        text_width=512,
        text_layers=12,
        context_length=77,
        vocab_size=49408,
    )
    model = CLIP(sizes).requires_grad_(False).eval()
    for p in model.parameters():
        p.fill_(0.01)
    return model


@pytest.mark.slow
def test_start_values_at_full_size_equal_the_published_ones():
    frozen, tokens = vit_b16(), tokenize(["a", "b"])
    runs = json.loads((FOLDER / "start_vit_b16.json").read_text())["runs"]
    common = {"num_tokens": 5, "rep_layers": range(6, 13), "alpha": 0.7}
    for name, run in runs.items():
        words = name.split()
        own = common | {"rep_dim": int(words[2])}
        if words[0] == "MMRL":
            model = build_mmrl(frozen, tokens, **own)
        else:
            ranks = {"layer_rank": 4, "projection_rank": 64}
            model = build_mmrlpp(frozen, tokens, beta=0.9, **ranks, **own)
        torch.manual_seed(int(words[-1]))
        draw_start_values(model.learner, frozen.sizes)
        assert torch.rand(2).tolist() == run.pop("next torch.rand(2)"), f"{name}: generator"
        for key, value in learned_state(model).items():
            digest = hashlib.sha256(value.numpy().tobytes()).hexdigest()
            assert digest == run.pop(key)["sha256"], f"{name}: {key}"
        assert not run, f"{name} lacks {list(run)}"


def test_deterministic_is_asked_of_torch(monkeypatch):
    """The switch reaches torch, and cuBLAS's variable is set unless the user has set it."""
    asked = []
    monkeypatch.setattr(torch, "use_deterministic_algorithms", asked.append)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # restored afterwards
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    use_deterministic_operations()
    assert asked == [True]
    assert not torch.backends.cudnn.benchmark
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
