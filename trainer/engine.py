"""What MMRL and MMRL++ share: building, one step, what is read, and stopping safely."""

from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from clip.model import CLIP
from dassl.evaluation import build_evaluator
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils.torchtools import random_states, restore_random_states
from trainer.acceleration import compile_step, fuse
from trainer.checkpoints.find import MODEL_NAME, find_checkpoint, read_checkpoint
from trainer.checkpoints.keys import to_published
from trainer.checkpoints.resume import ResumeFile
from trainer.config import flatten
from trainer.evaluation.evaluating import EvaluatingTrainer, load_frozen_clip
from trainer.method.loss import mmrl_loss
from trainer.method.model import MMRLModel, Output
from trainer.method.start_values import draw_start_values
from trainer.published_values import print_classes, prompts
from trainer.step import EncoderPrecision, make_scaler

__all__ = ["RepresentationTrainer"]


class RepresentationTrainer(EvaluatingTrainer):
    """Trains a `MMRLModel`; the methods differ in `assemble` alone."""

    def settings(self) -> Any:
        """This method's node of the config."""
        raise NotImplementedError

    def assemble(self, frozen: CLIP, prompts: Tensor) -> MMRLModel:
        """The method's model around a frozen CLIP."""
        raise NotImplementedError

    def build_model(self) -> None:
        """Load CLIP, put the method around it, make optimizer, schedule and loss scaler."""
        prec = self.settings().PREC
        frozen = load_frozen_clip(self.cfg, self.device)
        self.precision = EncoderPrecision(frozen, prec, self.cfg.TEST.PREC, self.device)
        print("Building custom CLIP")
        self.model = self.assemble(frozen, self.prompts())
        draw_start_values(self.model, frozen.sizes)
        self.model.to(self.device)
        print("Turning off gradients in both the image and the text encoder")
        learned = self.model.learned()
        print(f"Parameters to be updated: {[to_published(name) for name in learned]}")
        if prec == "amp" and self.device.type == "cpu":
            print("PREC amp on a CPU multiplies in bfloat16; fp32 is exact")
        self.optim = build_optimizer(list(learned.values()), self.cfg.OPTIM)
        fuse(self.optim)
        self.optim.register_load_state_dict_pre_hook(_leave_out_frozen)
        self.optim.register_load_state_dict_post_hook(fuse)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.scaler = make_scaler(prec, self.device)
        self.register_model(MODEL_NAME, self.model, self.optim, self.sched)
        self._unchecked: list[tuple[int, Tensor]] = []
        self._loss_of = compile_step(self._loss) if self.cfg.TRAIN.COMPILE else self._loss

    def parse_batch_train(self, batch: dict) -> tuple[Tensor, Tensor]:
        """Images (B, 3, R, R) and labels (B,) on the device."""
        return self.parse_batch_test(batch)

    def forward_backward(self, batch: dict) -> dict[str, Any]:
        """One step; reports the loss in nats and the accuracy of the fused logits in percent."""
        image, label = self.parse_batch_train(batch)
        try:
            loss, fusion = self._loss_of(image, label)
            self._check(loss.detach())
            self._step(loss)
        except torch.cuda.OutOfMemoryError as error:
            raise MemoryError(
                f"The GPU has too little memory for {len(self.dm.dataset.classnames)} classes and "
                f"batch {len(image)}. Set TRAINER.CLASS_CHUNK (100, say): the text encoder then "
                "runs that many classes at a time, with equal gradients."
            ) from error
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {"loss": loss.detach(), "acc": compute_accuracy(fusion, label)[0]}

    def _loss(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """The loss in nats, and the fused logits (B, C) without gradient."""
        s = self.settings()
        out, frozen = self.model.with_frozen(image)
        loss = mmrl_loss(out, frozen, label, alpha=s.ALPHA, reg_weight=s.REG_WEIGHT)
        return loss, out.fusion.detach()

    def set_model_mode(self, mode: str = "train", names: list[str] | None = None) -> None:
        """As Dassl's; also gives the encoders the type that the mode computes in."""
        super().set_model_mode(mode, names)
        self.precision.set_mode(training=mode == "train")

    def _step(self, loss: Tensor) -> None:
        self.optim.zero_grad()
        if self.scaler is None:
            loss.backward()
            self.optim.step()
        else:
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optim)
            self.scaler.update()

    def _check(self, loss: Tensor) -> None:
        """Stop at a loss that is not finite; on a GPU look only now and then, not every step.

        Raises:
            FloatingPointError: with step, data set and learning rate.
        """
        self._unchecked.append((self.batch_idx, loss))
        is_due = self.batch_idx + 1 == self.num_batches or len(self._unchecked) >= 20
        if self.device.type == "cuda" and not is_due:
            return
        values = torch.stack([loss for _, loss in self._unchecked]).tolist()
        steps = [step for step, _ in self._unchecked]
        self._unchecked = []
        for step, value in zip(steps, values, strict=True):
            if value - value != 0:  # infinite or undefined
                raise FloatingPointError(
                    f"The loss is {value} at epoch {self.epoch + 1}, step {step + 1} of "
                    f"{self.num_batches} on {self.cfg.DATASET.NAME}, lr "
                    f"{self.get_current_lr():.4e}. Lower OPTIM.LR, or use PREC fp32 or amp. "
                    "The last good checkpoint is kept."
                )

    def reads_fusion(self) -> bool:
        """Whether predictions come from the fused logits, or from the class feature alone.

        B2N: fused on base classes, class feature on new ones. FS: fused. CD: fused on ImageNet,
        where it was trained, class feature elsewhere.
        """
        if self.cfg.TASK == "B2N":
            return self.cfg.DATASET.SUBSAMPLE_CLASSES != "new"
        return self.cfg.TASK == "FS" or self.cfg.DATASET.NAME == "ImageNet"

    def model_inference(self, input: Tensor) -> Tensor:
        """The logits (B, C) that the task reads."""
        return self._scores(self.model(input))

    def _scores(self, out: Output) -> Tensor:
        return out.fusion if self.reads_fusion() else out.logits

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load what was learned from a run folder or file; `epoch` picks one, else best, else last.

        Raises:
            FileNotFoundError: there is no checkpoint, or none of that epoch.
            ValueError: it does not fit the model, or is not safe to read.
        """
        if not directory:
            print("Note that load_model() is skipped as no pretrained model is given")
            return
        path = find_checkpoint(directory, epoch)
        checkpoint = read_checkpoint(path)
        print(f'Loading weights to {MODEL_NAME} from "{path}" (epoch = {checkpoint.get("epoch")})')
        try:
            self.model.load_state_dict(checkpoint["state_dict"])
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @torch.no_grad()
    def test_many(self, directories: list[str], epoch: int | None = None) -> list[dict[str, Any]]:
        """The results of several runs over the same pictures, which are decoded once.

        The layers below J are shared too; the figures are those of separate evaluations.
        """
        self.set_model_mode("eval")
        split, loader = self.choose_split(None)
        snapshots, tallies = [], []
        for directory in directories:
            self.load_model(directory, epoch)
            snapshots.append(self.model.snapshot())
            evaluator = build_evaluator(self.cfg, lab2cname=self.lab2cname)
            tallies.append(self._tally(evaluator))
        for batch in tqdm(loader):
            image, label = self.parse_batch_test(batch)
            shared = self.model.image_encoder.up_to_first(image)
            for snapshot, tally in zip(snapshots, tallies, strict=True):
                self.model.adopt(snapshot)
                tally.add(batch, self._scores(self.model.from_first(shared)), label)
        results = []
        for directory, tally in zip(directories, tallies, strict=True):
            print(f"Results of {directory}")
            results.append(tally.finish(split) | {"model_dir": directory})
        return results

    def resume_model_if_exist(self, directory: str) -> int:
        """Go on from the rolling resume file, else from the newest checkpoint; epochs done."""
        file = ResumeFile(directory)
        if not file.exists():
            return super().resume_model_if_exist(directory)
        print(f"Found checkpoint at {directory} (will resume training)")
        print(f'Loading checkpoint from "{file.path}"')
        state = file.load(flatten(self.cfg))
        self.model.load_state_dict(state["state_dict"])
        self.optim.load_state_dict(state["optimizer"])
        self.sched.load_state_dict(state["scheduler"])
        if self.scaler is not None and state["scaler"] is not None:
            self.scaler.load_state_dict(state["scaler"])
        self.best_result = state["best_result"]
        restore_random_states(state["random_states"])
        print(f"Previous epoch: {state['epoch']}")
        return state["epoch"]

    def before_train(self) -> None:
        """As Dassl's; own pictures are shown first, as the trainer sees them."""
        if getattr(self.dm.dataset, "is_own", False):
            self.show_own_data()
        super().before_train()

    def show_own_data(self) -> None:
        """Print prompts, files of each class, and what CLIP itself makes of the test pictures."""
        c, dataset = self.cfg.DATASET, self.dm.dataset
        print_classes(dataset, prompts(dataset.classnames, c.NAME, c.TEMPLATE))
        states = random_states()  # looking must not change what training draws
        self.set_model_mode("eval")
        correct = 0
        for batch in self.test_loader:
            image, label = self.parse_batch_test(batch)
            features = self.model.frozen_features(image)
            correct += int((features.image @ features.text.t()).argmax(1).eq(label).sum())
        restore_random_states(states)
        print(
            f"Zero-shot CLIP is right on {100 * correct / len(dataset.test):.1f}% of the test set"
        )

    def after_epoch(self) -> None:
        """Save as configured, then the rolling resume file."""
        super().after_epoch()
        if self.epoch + 1 < self.max_epoch:
            ResumeFile(self.output_dir).save(self._run_state(), flatten(self.cfg))

    def _run_state(self) -> dict[str, Any]:
        return {
            "state_dict": self.model.state_dict(),
            "optimizer": self.optim.state_dict(),
            "scheduler": self.sched.state_dict(),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
            "random_states": random_states(),
            "epoch": self.epoch + 1,
            "best_result": self.best_result,
        }

    def after_train(self) -> None:
        """Evaluate; the run no longer needs its resume file."""
        super().after_train()
        ResumeFile(self.output_dir).remove()


def _leave_out_frozen(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict | None:
    """Published optimizers list frozen parameters too; those with state are ours, in our order."""
    group, trained = state["param_groups"][0], sorted(state["state"])
    if len(group["params"]) == len(optimizer.param_groups[0]["params"]):
        return None
    renumbered = {number: state["state"][index] for number, index in enumerate(trained)}
    return {"state": renumbered, "param_groups": [group | {"params": list(renumbered)}]}
