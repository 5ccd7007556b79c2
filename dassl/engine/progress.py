"""An epoch as people see it: a bar on a terminal, lines in a pipe; the log has the lines always."""

import datetime
import os
import sys
from typing import Any

from tqdm import tqdm

from dassl.utils import AverageMeter, MetricMeter
from dassl.utils.logger import log_only

__all__ = ["EpochBar"]

_FORMAT = "{desc} |{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"


def _columns() -> int:
    """The width of the terminal that stderr is, 0 if it is none, or does not say."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (AttributeError, OSError, ValueError):  # a stand-in for it may have no descriptor
        return 0


class EpochBar(tqdm):
    """A bar of an epoch's batches on stderr, which draws nothing unless that is a terminal."""

    def __init__(self, epoch: int, max_epoch: int, num_batches: int) -> None:
        self.epoch, self.max_epoch, self.num_batches = epoch, max_epoch, num_batches
        super().__init__(
            desc=f"epoch {epoch + 1}/{max_epoch}",
            total=num_batches,
            bar_format=_FORMAT,
            dynamic_ncols=True,
            disable=not _columns(),
        )

    def show(
        self,
        batch: int,
        metrics: MetricMeter,
        batch_time: AverageMeter,
        data_time: AverageMeter,
        lr: float,
    ) -> None:
        """The line that is due after `batch`, counted from 0, and the same figures in the bar."""
        left = self.num_batches - batch - 1
        left += (self.max_epoch - self.epoch - 1) * self.num_batches
        eta = datetime.timedelta(seconds=int(batch_time.avg * left))
        self._put(
            f"epoch [{self.epoch + 1}/{self.max_epoch}] "
            f"batch [{batch + 1}/{self.num_batches}] "
            f"time {batch_time.val:.3f} ({batch_time.avg:.3f}) "
            f"data {data_time.val:.3f} ({data_time.avg:.3f}) "
            f"{metrics} lr {lr:.4e} eta {eta}"
        )
        means = " ".join(f"{name} {meter.avg:.4g}" for name, meter in metrics.meters.items())
        self.set_postfix_str(f"{means} lr {lr:.1e} left {eta}", refresh=False)

    def _put(self, line: str) -> None:
        stdout: Any = sys.stdout
        # A line would break the bar where both are on one terminal.
        if self.disable or not stdout.isatty():
            print(line)
        else:
            log_only(line)
