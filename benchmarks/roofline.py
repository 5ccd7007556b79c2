"""A model, not a measurement: what a step or an evaluation takes on a card that nobody has timed.

Every operation takes the longest of three: its arithmetic at the card's documented peak, its bytes
at the documented bandwidth, and its launch. Both peaks are taken at `EFFICIENCY`. Operations are
counted on meta tensors, which have shapes and no values, at ViT-B/16's sizes.
"""

import contextlib
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from benchmarks.measure import REP_LAYERS, VIT_B16
from benchmarks.operations import _FREE
from benchmarks.rates import Rates, Row, rates_from
from clip import tokenize
from clip.model import CLIP
from trainer.method.build import build_mmrl, build_mmrlpp
from trainer.method.model import MMRLModel, mmrl_loss
from trainer.step import EncoderPrecision

__all__ = ["CARDS", "Card", "modelled_rates"]

EFFICIENCY = 0.5  # share of the documented peaks that large operations are taken to reach
LAUNCH_SECONDS = 2e-6  # an operation's least time within a captured graph, an assumption
SETTINGS = ((5, 4), (100, 4), (100, 32), (1000, 32))
EVALUATION_BATCH = 250
META = torch.device("meta")


class Card(NamedTuple):
    """Documented peaks, without sparsity."""

    half_tflops: float  # float16 products that add in float32, on tensor cores
    float_tflops: float  # float32 outside of tensor cores
    gigabytes_per_second: float


CARDS = {
    # NVIDIA H100 Tensor Core GPU data sheet, H100 SXM: 1,979 TFLOPS FP16 are with sparsity
    "H100": Card(989.4, 66.9, 3350),
    # NVIDIA A100 Tensor Core GPU data sheet, A100 80GB SXM
    "A100": Card(312.0, 19.5, 2039),
    # NVIDIA Ada GPU architecture white paper, GeForce RTX 4090: FP16 with FP32 accumulate
    "RTX 4090": Card(165.2, 82.6, 1008),
    # NVIDIA Ampere GA102 GPU architecture white paper, GeForce RTX 3090: FP16 with FP32 accumulate
    "RTX 3090": Card(71.0, 35.6, 936),
}


class Work(NamedTuple):
    """One operation."""

    flop: float
    byte: float
    is_half: bool


class _Attention(torch.autograd.Function):
    """Attention as one operation each way, as a GPU runs it; meta tensors would take it apart."""

    @staticmethod
    def forward(ctx: Any, works: list[Work], q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        ctx.works = works
        ctx.save_for_backward(q, k, v)
        result = torch.empty_like(q)
        works.append(_attention_work([q, k, v, result], q, k, products=2))
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v = ctx.saved_tensors
        result = [torch.empty_like(x) for x in (q, k, v)]
        # the scores anew, and four products with them
        ctx.works.append(_attention_work([q, k, v, *grads, *result], q, k, products=5))
        return None, *result


def _attention_work(moved: list[Tensor], q: Tensor, k: Tensor, products: int) -> Work:
    flop = 2 * products * q.numel() * k.shape[2]
    return Work(flop, sum(map(_bytes, moved)), q.dtype != torch.float32)


class _OneAttention(TorchFunctionMode):
    def __init__(self, works: list[Work]) -> None:
        super().__init__()
        self.works = works

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            return _Attention.apply(self.works, *args[:3])
        return func(*args, **(kwargs or {}))


class _Noting(TorchDispatchMode):
    def __init__(self, works: list[Work]) -> None:
        super().__init__()
        self.works = works

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func._schema.name.partition("::")[2] in _FREE:
            return result
        tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor)]
        count = flop_registry.get(func._overloadpacket)
        flop = count(*args, **(kwargs or {}), out_val=result) if count else 0
        is_half = any(x.dtype in (torch.float16, torch.bfloat16) for x in tensors)
        self.works.append(Work(flop, sum(map(_bytes, tensors)), is_half))
        return result


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


@contextlib.contextmanager
def noting() -> Iterator[list[Work]]:
    """What is computed on meta tensors meanwhile, operation by operation."""
    works: list[Work] = []
    with _OneAttention(works), _Noting(works):
        yield works


def build_on_meta(method: str, num_classes: int, prec: str, training: bool) -> MMRLModel:
    """The method at ViT-B/16's sizes without values, for class names of six tokens."""
    with META:
        frozen = CLIP(VIT_B16)
    frozen.requires_grad_(False).eval()
    prompts = tokenize([f"a photo of a red fox {number:04d}." for number in range(num_classes)])
    common: dict[str, Any] = {"num_tokens": 5, "rep_dim": 512, "rep_layers": REP_LAYERS}
    with noting():  # packing reads the prompts' values, on the CPU
        if method == "MMRL":
            model = build_mmrl(frozen, prompts, alpha=0.7, **common)
        else:
            common |= {"beta": 0.9, "layer_rank": 4, "projection_rank": 64}
            model = build_mmrlpp(frozen, prompts, alpha=0.7, **common)
    model.to(META).train(training)
    EncoderPrecision(frozen, prec, "", torch.device("cuda")).set_mode(training)
    return model


@cache
def step_work(method: str, num_classes: int, batch: int, prec: str = "amp") -> list[Work]:
    """The operations of a training step: forward, loss, backward, optimizer."""
    model = build_on_meta(method, num_classes, prec, training=True)
    images = torch.empty(batch, 3, 224, 224, device=META)
    labels = torch.zeros(batch, dtype=torch.long, device=META)
    with noting() as works:
        out, frozen = model.with_frozen(images)
        mmrl_loss(out, frozen, labels, alpha=0.7, reg_weight=1.0).backward()
    # fused AdamW: reads parameter, gradient and both moments, and writes all but the gradient
    learned = sum(map(_bytes, model.learned().values()))
    return [*works, Work(0, 7 * learned, False)]


@cache
def evaluation_work(method: str, batch: int, prec: str = "fp32") -> list[Work]:
    """The operations of a batch of test pictures, text features at hand."""
    model = build_on_meta(method, 100, prec, training=False)
    images = torch.empty(batch, 3, 224, 224, device=META)
    with torch.no_grad():
        with noting():
            adaptation = model.adaptation()
        with noting() as works:
            model.classify(model.image_encoder.shared(images), adaptation)
    return works


def seconds_on(card: Card, works: list[Work], efficiency: float = EFFICIENCY) -> float:
    """The sum over operations, each bound by arithmetic, by bytes or by its launch."""
    return sum(_seconds_of(card, work, efficiency) for work in works)


def _seconds_of(card: Card, work: Work, efficiency: float) -> float:
    rate = 1e12 * (card.half_tflops if work.is_half else card.float_tflops)
    arithmetic = work.flop / (rate * efficiency)
    traffic = work.byte / (1e9 * card.gigabytes_per_second * efficiency)
    return max(arithmetic, traffic, LAUNCH_SECONDS)


def modelled_rates(name: str) -> Rates:
    """The rates of one of `CARDS`: PREC amp, evaluation in float32, as published.

    They are those of MMRL; MMRL++ differs by less than 1 %.
    """
    card = CARDS[name]
    rows = [
        Row("train", classes, batch, seconds_on(card, step_work("MMRL", classes, batch)))
        for classes, batch in SETTINGS
    ]
    works = evaluation_work("MMRL", EVALUATION_BATCH)
    rows.append(Row("eval", 100, EVALUATION_BATCH, seconds_on(card, works)))
    return rates_from(name, "model", rows)
