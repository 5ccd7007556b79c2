"""What every trainer has: registered models with their optimizers, checkpoints, a training loop."""

import os
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dassl.engine.writer import SummaryWriter
from dassl.utils import (
    load_checkpoint,
    mkdir_if_missing,
    resume_from_checkpoint,
    save_checkpoint,
    tolist_if_not,
)
from dassl.utils.generators import random_states
from dassl.utils.restoring import check_checkpoint
from dassl.utils.torchtools import has_checkpoint

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter as Writer

BEST_FILE = "model-best.pth.tar"


class TrainerBase:
    """Models under names, saved and restored together; hooks around every epoch."""

    def __init__(self) -> None:
        self._models: OrderedDict[str, nn.Module] = OrderedDict()
        self._optims: OrderedDict[str, Any] = OrderedDict()
        self._scheds: OrderedDict[str, Any] = OrderedDict()
        self._writer: Writer | None = None

    def register_model(
        self,
        name: str = "model",
        model: nn.Module | None = None,
        optim: Any = None,
        sched: Any = None,
    ) -> None:
        """Enter a model to be put into train or eval mode, stepped, saved and restored.

        Raises:
            AttributeError: called before the base constructor.
            AssertionError: the name is taken.
            RequestError: there is no model.
        """
        if self.__dict__.get("_models") is None:
            raise AttributeError("Call super().__init__() before registering a model")
        if name in self._models:
            raise AssertionError(f"A model named {name!r} is registered already")
        if model is None:
            raise ValueError(f"register_model({name!r}) needs the model as its second argument")
        self._models[name], self._optims[name], self._scheds[name] = model, optim, sched

    def get_model_names(self, names: str | list[str] | None = None) -> list[str]:
        """All registered names in order, or those given.

        Raises:
            AssertionError: a given name is not registered.
        """
        known = list(self._models)
        if names is None:
            return known
        names = tolist_if_not(names)
        for name in names:
            if name not in known:
                raise AssertionError(f"No model named {name!r} is registered; there are {known}")
        return names

    def save_model(
        self,
        epoch: int,
        directory: str,
        is_best: bool = False,
        val_result: float | None = None,
        model_name: str = "",
    ) -> None:
        """Write a checkpoint per registered model; `epoch` counts from 0 and is stored plus 1."""
        for name in self.get_model_names():
            state = self.finish_checkpoint(self.checkpoint_of(name, epoch, val_result))
            folder = os.path.join(directory, name)
            save_checkpoint(state, folder, is_best=is_best, model_name=model_name)

    def checkpoint_of(self, name: str, epoch: int, val_result: float | None = None) -> dict:
        """What is saved for the registered model `name` after `epoch` (from 0)."""
        optim, sched = self._optims[name], self._scheds[name]
        state = {
            "state_dict": self._models[name].state_dict(),
            "epoch": epoch + 1,
            "optimizer": None if optim is None else optim.state_dict(),
            "scheduler": None if sched is None else sched.state_dict(),
            "val_result": None if val_result is None else float(val_result),
            "random_states": random_states(),
        }
        if (scaler := getattr(self, "scaler", None)) is not None:
            state["scaler"] = scaler.state_dict()
        return state

    def finish_checkpoint(self, state: dict) -> dict:
        """Hook: the last change to what `checkpoint_of` made, before it is written."""
        return state

    def resume_model_if_exist(self, directory: str) -> int:
        """Restore all registered models from `directory`; the epoch to start from, 0 if none."""
        names = self.get_model_names()
        folders = [os.path.join(directory, name) for name in names]
        if not names or not all(has_checkpoint(folder) for folder in folders):
            print("No checkpoint found, train from scratch")
            return 0
        print(f"Found checkpoint at {directory} (will resume training)")
        for name, folder in zip(names, folders, strict=True):
            objects = self._models[name], self._optims[name], self._scheds[name]
            scaler = getattr(self, "scaler", None)
            start_epoch = resume_from_checkpoint(folder, *objects, scaler=scaler)
        return start_epoch

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load the weights of all registered models: the best file, or that of `epoch`.

        Raises:
            FileNotFoundError: the file is not there.
            RequestError: it is not a checkpoint.
        """
        if not directory:
            print("Note that load_model() is skipped as no pretrained model is given")
            return
        file_name = BEST_FILE if epoch is None else f"model.pth.tar-{epoch}"
        for name in self.get_model_names():
            path = os.path.join(directory, name, file_name)
            checkpoint = load_checkpoint(path)
            check_checkpoint(checkpoint, path)
            val_result = checkpoint.get("val_result")
            shown = "n/a" if val_result is None else f"{val_result:.1f}"
            print(f"Load {path} to {name} (epoch={checkpoint['epoch']}, val_result={shown})")
            self._models[name].load_state_dict(checkpoint["state_dict"])

    def set_model_mode(self, mode: str = "train", names: str | list[str] | None = None) -> None:
        """Put registered models into train or eval mode.

        Raises:
            KeyError: `mode` is not train, test or eval.
        """
        if mode not in ("train", "test", "eval"):
            raise KeyError(f"mode must be train, test or eval, got {mode!r}")
        for name in self.get_model_names(names):
            self._models[name].train(mode == "train")

    def update_lr(self, names: str | list[str] | None = None) -> None:
        """Step every scheduler."""
        for name in self.get_model_names(names):
            if self._scheds[name] is not None:
                self._scheds[name].step()

    def get_current_lr(self, names: str | list[str] | None = None) -> float:
        """The lr of the first group of the first named optimizer."""
        name = self.get_model_names(names)[0]
        return self._optims[name].param_groups[0]["lr"]

    def detect_anomaly(self, loss: torch.Tensor) -> None:
        """Stop at a loss that is not finite.

        Raises:
            FloatingPointError: `loss` has an infinite or undefined element.
        """
        if not torch.isfinite(loss).all():
            raise FloatingPointError("Loss is infinite or NaN!")

    def model_zero_grad(self, names: str | list[str] | None = None) -> None:
        """Forget the gradients of every optimizer's parameters."""
        for name in self.get_model_names(names):
            if self._optims[name] is not None:
                self._optims[name].zero_grad()

    def model_backward(self, loss: torch.Tensor) -> None:
        """Check the loss, then differentiate it."""
        self.detect_anomaly(loss)
        loss.backward()

    def model_update(self, names: str | list[str] | None = None) -> None:
        """Step every optimizer."""
        for name in self.get_model_names(names):
            if self._optims[name] is not None:
                self._optims[name].step()

    def model_backward_and_update(
        self, loss: torch.Tensor, names: str | list[str] | None = None
    ) -> None:
        """Zero the gradients, differentiate `loss`, step the optimizers."""
        self.model_zero_grad(names)
        self.model_backward(loss)
        self.model_update(names)

    def init_writer(self, log_dir: str) -> None:
        """Open the tensorboard writer, once; without the package, say so and continue."""
        if self._writer is not None:
            return
        try:
            self._writer = SummaryWriter(log_dir=log_dir)
        except ImportError:
            print("tensorboard is not installed: no curves are written (pip install tensorboard)")
            return
        print(f"Initialize tensorboard (log_dir={log_dir})")

    def close_writer(self) -> None:
        """Close the writer, if there is one."""
        if self._writer is not None:
            self._writer.close()

    def write_scalar(self, tag: str, scalar_value: float, global_step: int | None = None) -> None:
        """Write one point of a curve; without a writer, nothing."""
        if self._writer is not None:
            self._writer.add_scalar(tag, scalar_value, global_step)

    def train(self, start_epoch: int, max_epoch: int) -> None:
        """All epochs from `start_epoch` (or where `before_train` resumes) with the hooks."""
        self.start_epoch, self.max_epoch = start_epoch, max_epoch
        self.before_train()
        for self.epoch in range(self.start_epoch, self.max_epoch):
            self.before_epoch()
            self.run_epoch()
            self.after_epoch()
        self.after_train()

    def before_train(self) -> None:
        """Hook before the first epoch."""

    def after_train(self) -> None:
        """Hook after the last epoch."""

    def before_epoch(self) -> None:
        """Hook before every epoch."""

    def after_epoch(self) -> None:
        """Hook after every epoch."""

    def run_epoch(self) -> None:
        """One pass over the training data."""
        raise NotImplementedError

    def test(self) -> float:
        """Evaluate; accuracy in percent."""
        raise NotImplementedError

    def parse_batch_train(self, *args: Any, **kwargs: Any) -> Any:
        """The batch or batches of a step -> what `forward_backward` works on."""
        raise NotImplementedError

    def parse_batch_test(self, batch: dict) -> Any:
        """A test batch -> (input, label)."""
        raise NotImplementedError

    def forward_backward(self, *args: Any, **kwargs: Any) -> dict | None:
        """One training step on a batch or batches; what it reports, by name."""
        raise NotImplementedError

    def model_inference(self, input: torch.Tensor) -> torch.Tensor:
        """Scores (B, C) of a test batch."""
        raise NotImplementedError


def make_output_folder(directory: str, *parts: str) -> str:
    """`directory/parts...`, made; an empty directory is the current one."""
    folder = os.path.join(directory or ".", *parts)
    mkdir_if_missing(folder)
    return folder
