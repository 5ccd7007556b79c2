"""Running averages of what a training step reports."""

from collections import defaultdict
from typing import Any

import torch

__all__ = ["AverageMeter", "MetricMeter", "read_values"]


def read_values(summaries: list[Any]) -> list[Any]:
    """The summaries of some steps, their float32 tensors of one element as numbers.

    They come in one transfer, so that the host waits for a GPU once.
    """
    if len(summaries) < 2:  # the meters read them as well
        return summaries
    tensors = [v for s in summaries if isinstance(s, dict) for v in s.values() if _is_figure(v)]
    if not tensors:
        return summaries
    figures = [tensor.detach().reshape(1).to(tensors[0].device) for tensor in tensors]
    values = iter(torch.cat(figures).tolist())
    return [
        {name: next(values) if _is_figure(value) else value for name, value in s.items()}
        if isinstance(s, dict)
        else s
        for s in summaries
    ]


def _is_figure(value: Any) -> bool:
    # other types would be rounded on the way; the meters read those one by one
    is_float = isinstance(value, torch.Tensor) and value.dtype == torch.float32
    return is_float and value.numel() == 1


class AverageMeter:
    """The last value and the average; with `ema`, 0.9 avg + 0.1 val from 0."""

    def __init__(self, ema: bool = False) -> None:
        self.ema = ema
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.val, self.avg, self.sum, self.count = 0.0, 0.0, 0.0, 0

    def update(self, val: Any, n: int = 1) -> None:
        """Take in `val` (a number or one-element tensor) with weight `n`."""
        self.val = val.item() if isinstance(val, torch.Tensor) else val
        self.sum += self.val * n
        self.count += n
        self.avg = 0.9 * self.avg + 0.1 * self.val if self.ema else self.sum / self.count


class MetricMeter:
    """One `AverageMeter` a metric; `str()` is the metrics part of a log line."""

    def __init__(self, delimiter: str = " ") -> None:
        self.meters: defaultdict[str, AverageMeter] = defaultdict(AverageMeter)
        self.delimiter = delimiter

    def update(self, input_dict: dict[str, Any] | None) -> None:
        """Take in one step's metrics; None is ignored.

        Raises:
            TypeError: `input_dict` is not a dict.
        """
        if input_dict is None:
            return
        if not isinstance(input_dict, dict):
            raise TypeError(f"Metrics must be a dict, got {type(input_dict).__name__}")
        for name, value in input_dict.items():
            self.meters[name].update(value)

    def __str__(self) -> str:
        parts = (f"{name} {m.val:.4f} ({m.avg:.4f})" for name, m in self.meters.items())
        return self.delimiter.join(parts)
