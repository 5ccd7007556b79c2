"""The trainers that methods derive from: config -> data, model, epochs, evaluation.

Trainers written for Dassl import names of other modules from this one; `__all__` has those too.
"""

import datetime
import os
import os.path as osp
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from dassl.data import DataManager
from dassl.engine.base import BEST_FILE, TrainerBase, make_output_folder
from dassl.engine.progress import EpochBar
from dassl.engine.simple_net import SimpleNet
from dassl.engine.writer import SummaryWriter
from dassl.errors import RequestError
from dassl.evaluation import build_evaluator
from dassl.modeling import build_backbone, build_head
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import (
    AverageMeter,
    MetricMeter,
    count_num_param,
    load_checkpoint,
    load_pretrained_weights,
    mkdir_if_missing,
    resume_from_checkpoint,
    save_checkpoint,
    tolist_if_not,
)
from dassl.utils.meters import read_values
from dassl.whole_files import remove_partials

__all__ = [
    "AverageMeter",
    "DataManager",
    "F",
    "MetricMeter",
    "OrderedDict",
    "SimpleNet",
    "SimpleTrainer",
    "SummaryWriter",
    "TrainerBase",
    "TrainerX",
    "TrainerXU",
    "build_backbone",
    "build_evaluator",
    "build_head",
    "build_lr_scheduler",
    "build_optimizer",
    "count_num_param",
    "datetime",
    "load_checkpoint",
    "load_pretrained_weights",
    "mkdir_if_missing",
    "nn",
    "np",
    "os",
    "osp",
    "resume_from_checkpoint",
    "save_checkpoint",
    "time",
    "tolist_if_not",
    "torch",
    "tqdm",
]


class SimpleTrainer(TrainerBase):
    """Everything but the training step."""

    model: Any  # whatever `build_model` makes

    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self.check_cfg(cfg)
        use_cuda = torch.cuda.is_available() and cfg.USE_CUDA
        self.device = torch.device("cuda" if use_cuda else "cpu")
        self.start_epoch = self.epoch = 0
        self.max_epoch = cfg.OPTIM.MAX_EPOCH
        self.output_dir = cfg.OUTPUT_DIR
        self.cfg = cfg
        self.build_data_loader()
        self.build_model()
        self.evaluator = build_evaluator(cfg, lab2cname=self.lab2cname)
        self.best_result = -float("inf")

    def check_cfg(self, cfg: Any) -> None:
        """Hook to refuse a config; comes before anything is built, and before `self.cfg`."""

    def build_data_loader(self) -> None:
        """Make the data manager and what is read from it."""
        dm = DataManager(self.cfg)
        self.train_loader_x = dm.train_loader_x
        self.train_loader_u = dm.train_loader_u
        self.val_loader = dm.val_loader
        self.test_loader = dm.test_loader
        self.num_classes = dm.num_classes
        self.num_source_domains = dm.num_source_domains
        self.lab2cname = dm.lab2cname
        self.dm = dm

    def build_model(self) -> None:
        """Make and register the model; the default is a `SimpleNet`."""
        cfg = self.cfg
        print("Building model")
        self.model = SimpleNet(cfg, cfg.MODEL, self.num_classes)
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model, cfg.MODEL.INIT_WEIGHTS)
        self.model.to(self.device)
        print(f"# params: {count_num_param(self.model):,}")
        self.optim = build_optimizer(self.model, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("model", self.model, self.optim, self.sched)

    def train(self, start_epoch: int | None = None, max_epoch: int | None = None) -> None:
        """Train to the last epoch, from the newest checkpoint if there is one."""
        start = self.start_epoch if start_epoch is None else start_epoch
        super().train(start, self.max_epoch if max_epoch is None else max_epoch)

    def before_train(self) -> None:
        """Clear away after a kill, resume if possible, open the writer, start the clock."""
        directory = self.cfg.RESUME or self.cfg.OUTPUT_DIR
        for name in ("", *self.get_model_names()):
            remove_partials(osp.join(self.output_dir, name))
        self.start_epoch = self.resume_model_if_exist(directory)
        self.init_writer(make_output_folder(self.output_dir, "tensorboard"))
        self.time_start = time.time()

    def resume_model_if_exist(self, directory: str) -> int:
        """As the base class; also the best validation result so far."""
        epoch = super().resume_model_if_exist(directory)
        if epoch:
            self.restore_best_result(directory)
        return epoch

    def restore_best_result(self, directory: str) -> None:
        """The validation result of the best model so far, where best models are kept."""
        folder = os.path.join(directory, self.get_model_names()[0])
        best = os.path.join(folder, BEST_FILE)
        if self.cfg.TEST.FINAL_MODEL == "best_val" and os.path.isfile(best):
            val_result = load_checkpoint(best).get("val_result")
            self.best_result = self.best_result if val_result is None else val_result

    def after_epoch(self) -> None:
        """Validate and keep the best model if asked for; save when it is time."""
        cfg = self.cfg
        if not cfg.TEST.NO_TEST and cfg.TEST.FINAL_MODEL == "best_val":
            result = self.test(split="val")
            if result > self.best_result:
                self.best_result = result
                self.save_model(
                    self.epoch, self.output_dir, val_result=result, model_name=BEST_FILE
                )
        frequency = cfg.TRAIN.CHECKPOINT_FREQ
        is_due = frequency > 0 and (self.epoch + 1) % frequency == 0
        if is_due or self.epoch + 1 == self.max_epoch:
            self.save_model(self.epoch, self.output_dir)

    def after_train(self) -> None:
        """Evaluate the last or the best model, print the time, close the writer."""
        print("Finish training")
        if not self.cfg.TEST.NO_TEST:
            if self.cfg.TEST.FINAL_MODEL == "best_val":
                print("Deploy the model with the best val performance")
                self.load_model(self.output_dir)
            else:
                print("Deploy the last-epoch model")
            self.test()
        elapsed = round(time.time() - self.time_start)
        print(f"Elapsed: {datetime.timedelta(seconds=elapsed)}")
        self.close_writer()

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Accuracy in percent on `split` (default TEST.SPLIT); all figures are printed.

        Validation without validation data is done on the test data, and says so.
        """
        self.set_model_mode("eval")
        self.evaluator.reset()
        split, loader = self.choose_split(split)
        for batch in tqdm(loader):
            image, label = self.parse_batch_test(batch)
            self.evaluator.process(self.model_inference(image), label)
        results = self.evaluator.evaluate()
        for name, value in results.items():
            self.write_scalar(f"{split}/{name}", value, self.epoch)
        return next(iter(results.values()))

    def choose_split(self, split: str | None) -> tuple[str, Any]:
        """(val or test, its loader), as `test` was asked; None: TEST.SPLIT. Printed."""
        split = split or self.cfg.TEST.SPLIT
        if split == "val" and self.val_loader is None:
            print("There is no validation data: the test data is used for validation")
        split = "val" if split == "val" and self.val_loader is not None else "test"
        print(f"Evaluate on the *{split}* set")
        return split, self.val_loader if split == "val" else self.test_loader

    def model_inference(self, input: torch.Tensor) -> torch.Tensor:
        """Scores (B, C) of the images (B, 3, H, W)."""
        return self.model(input)

    def parse_batch_test(self, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (B, 3, H, W) and labels (B,) on the device."""
        return self._to_device(batch["img"]), self._to_device(batch["label"])

    def _to_device(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(self.device, non_blocking=True)

    def _run_batches(self, batches: Iterator, num_batches: int) -> None:
        """Step through `batches` (argument tuples of `forward_backward`), printing and writing.

        Metrics on a GPU are read only when a line is due, so that a step does not wait for them.
        """
        self.num_batches = num_batches
        metrics, batch_time, data_time = MetricMeter(), AverageMeter(), AverageMeter()
        frequency = self.cfg.TRAIN.PRINT_FREQ
        unread: list[tuple[int, Any, float]] = []
        end = time.time()
        with EpochBar(self.epoch, self.max_epoch, num_batches) as bar:
            for self.batch_idx, batch in batches:
                data_time.update(time.time() - end)
                summary = self.forward_backward(*batch)
                unread.append((self.batch_idx, summary, self.get_current_lr()))
                batch_time.update(time.time() - end)
                is_due = (self.batch_idx + 1) % frequency == 0 or num_batches < frequency
                if is_due or self.device.type == "cpu" or self.batch_idx + 1 == num_batches:
                    averages = _read(unread, metrics)
                    if is_due:
                        lr = self.get_current_lr()
                        bar.show(self.batch_idx, metrics, batch_time, data_time, lr)
                    self._write_averages(averages)
                bar.update()
                end = time.time()

    def _write_averages(self, averages: list[tuple[int, dict[str, float]]]) -> None:
        for index, values in averages:
            step = self.epoch * self.num_batches + index
            for name, value in values.items():
                self.write_scalar(f"train/{name}", value, step)


class TrainerX(SimpleTrainer):
    """Trains on labelled data."""

    def run_epoch(self) -> None:
        """One pass over `train_loader_x`."""
        self.set_model_mode("train")
        batches = ((i, (batch,)) for i, batch in enumerate(self.train_loader_x))
        self._run_batches(batches, len(self.train_loader_x))

    def parse_batch_train(self, batch: dict) -> tuple[torch.Tensor, ...]:
        """Images (B, 3, H, W), labels (B,) and domains (B,) on the device."""
        image, label, domain = batch["img"], batch["label"], batch["domain"]
        return self._to_device(image), self._to_device(label), self._to_device(domain)


class TrainerXU(SimpleTrainer):
    """Trains on pairs of a labelled and an unlabelled batch."""

    def run_epoch(self) -> None:
        """As many pairs as TRAIN.COUNT_ITER says; the shorter loader starts again.

        Raises:
            RequestError: COUNT_ITER is none of the three, or nothing is unlabelled.
        """
        if self.train_loader_u is None:
            raise RequestError(
                f"{type(self).__name__} needs unlabelled pictures, and DATASET.NAME "
                f"{self.cfg.DATASET.NAME} has no train_u. Choose another, or a TrainerX."
            )
        self.set_model_mode("train")
        x, u = len(self.train_loader_x), len(self.train_loader_u)
        lengths = {"train_x": x, "train_u": u, "smaller_one": min(x, u)}
        count = self.cfg.TRAIN.COUNT_ITER
        if count not in lengths:
            raise RequestError(f"TRAIN.COUNT_ITER must be one of {list(lengths)}, got {count!r}")
        x_batches, u_batches = _endless(self.train_loader_x), _endless(self.train_loader_u)
        pairs = ((i, (next(x_batches), next(u_batches))) for i in range(lengths[count]))
        self._run_batches(pairs, lengths[count])

    def parse_batch_train(self, batch_x: dict, batch_u: dict) -> tuple[torch.Tensor, ...]:
        """Labelled images, their labels, and unlabelled images, on the device."""
        image_x, label_x, image_u = batch_x["img"], batch_x["label"], batch_u["img"]
        return self._to_device(image_x), self._to_device(label_x), self._to_device(image_u)


def _read(unread: list[tuple[int, Any, float]], metrics: MetricMeter) -> list[tuple[int, dict]]:
    """Take the summaries of steps into the meters: (step, running means and lr) of each."""
    averages = []
    read = read_values([summary for _, summary, _ in unread])
    for (index, _, lr), values in zip(unread, read, strict=True):
        metrics.update(values)
        means = {name: meter.avg for name, meter in metrics.meters.items()}
        averages.append((index, means | {"lr": lr}))
    unread.clear()
    return averages


def _endless(loader: Any) -> Iterator:
    while True:
        yield from loader
