"""One row of the benchmark: (method, classes, batch, mode) -> time, work, memory of both forms."""

import contextlib
import gc
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.classnames import class_list
from benchmarks.plain import PlainModel
from clip import tokenize
from clip.model import CLIP, Sizes
from dassl.utils.tools import system_lines
from trainer.method.build import build_mmrl, build_mmrlpp
from trainer.method.model import MMRLModel, mmrl_loss
from trainer.published_values import prompts

__all__ = [
    "build_step",
    "count_gflop",
    "count_kernels",
    "pick_device",
    "product_rate",
    "step_memory",
    "time_interleaved",
]

VIT_B16 = Sizes(
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
REP_LAYERS = [6, 7, 8, 9, 10, 11, 12]


def pick_device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def random_clip(sizes: Sizes = VIT_B16) -> CLIP:
    """A CLIP of random weights, always the same: time does not depend on their values."""
    torch.manual_seed(0)
    clip = CLIP(sizes)
    for name, p in clip.named_parameters():
        if p.dim() < 2:
            nn.init.constant_(p, 1.0 if name.endswith("weight") else 0.0)
        else:
            nn.init.normal_(p, std=0.5 * p.shape[-1] ** -0.5)
    return clip.requires_grad_(False).eval().round_to_half()


def build_model(method: str, num_classes: int, device: torch.device) -> tuple[MMRLModel, Tensor]:
    """(the fast form with the papers' sizes, prompts (C, 77)) for a class list of real lengths."""
    dataset, names = class_list(num_classes)
    tokens = tokenize(prompts(names, dataset)).to(device)
    common: dict[str, Any] = {
        "num_tokens": 5,
        "rep_dim": 512,
        "rep_layers": REP_LAYERS,
        "alpha": 0.7,
    }
    if method == "MMRL":
        model = build_mmrl(random_clip().to(device), tokens, **common)
    else:
        common |= {"beta": 0.9, "layer_rank": 4, "projection_rank": 64}
        model = build_mmrlpp(random_clip().to(device), tokens, **common)
    return model.to(device), tokens


def build_step(
    method: str, num_classes: int, batch: int, mode: str, form: str, device: torch.device
) -> Callable[[], None]:
    """A training step with AdamW, or the evaluation of a batch with text features at hand."""
    fast, tokens = build_model(method, num_classes, device)
    model: MMRLModel | PlainModel = fast if form == "fast" else PlainModel(fast, tokens)
    learned = list(fast.learned().values())
    if isinstance(model, PlainModel):
        learned = model.learner.parameters()
    model.train(mode == "train")
    images = torch.randn(batch, 3, 224, 224, device=device)
    labels = torch.arange(batch, device=device) % num_classes
    optimizer = torch.optim.AdamW(learned, lr=1e-4, fused=form == "fast")

    def train() -> None:
        out, frozen = model.with_frozen(images)
        loss = mmrl_loss(out, frozen, labels, alpha=0.7, reg_weight=1.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    if mode == "train":
        return train
    # text features at hand, as in evaluation; the plain form keeps them by itself, as published
    with torch.no_grad():
        adaptation = fast.adaptation()

    @torch.no_grad()
    def evaluate() -> None:
        if form == "fast":
            fast.classify(fast.image_encoder.shared(images), adaptation)
        else:
            model(images)

    return evaluate


def wait(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_interleaved(
    steps: dict[str, Callable[[], None]], repeat: int, device: torch.device
) -> dict[str, float]:
    """Median seconds of each step, taken in turns in one process, after one turn to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(repeat + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            wait(device)
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def count_gflop(step: Callable[[], None]) -> float:
    """Arithmetic of the step's matrix products and attention, in GFLOP."""

    def linear_flop(x: torch.Size, weight: torch.Size, *_: object, **__: object) -> int:
        return 2 * x[0] * x[1] * weight[0]

    mapping = {}
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        mapping = {torch.ops.mkldnn._linear_pointwise: linear_flop}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        step()
    return counter.get_total_flops() / 1e9


def product_rate(device: torch.device, size: int = 2048) -> float:
    """GFLOP per second of torch's own product of two large square matrices."""
    a, b = torch.randn(2, size, size, device=device)

    def multiply() -> None:
        torch.mm(a, b)

    return 2 * size**3 / time_interleaved({"": multiply}, 5, device)[""] / 1e9


def step_memory(step: Callable[[], None], device: torch.device) -> float:
    """GiB at the peak of the first step, less what the process held before it.

    On a CPU NaN where the system does not count memory so (macOS, Windows).
    """
    gc.collect()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        wait(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**30
    resident = _process_memory("VmRSS")
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    step()
    return (_process_memory("VmHWM") - resident) / 2**20


def _process_memory(field: str) -> float:
    """A field of this process's memory status, in KiB; NaN if there is none."""
    found = (line for line in system_lines("/proc/self/status") if line.startswith(field))
    return next((float(line.split()[1]) for line in found), math.nan)


def count_kernels(step: Callable[[], None], device: torch.device) -> int | None:
    """Kernels that a step launches on a GPU; None on a CPU, which launches none."""
    if device.type != "cuda":
        return None
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        step()
        wait(device)
    return sum(event.count for event in profiler.key_averages() if event.device_time_total > 0)
