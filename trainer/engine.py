"""The trainer that MMRL and MMRL++ share: build, train, evaluate, resume, in Dassl's hooks."""

import math
from typing import Any

import torch
from torch import Tensor

from clip.model import CLIP
from dassl.errors import RequestError
from dassl.evaluation import build_evaluator
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from run_files import EVALUATED
from trainer.backbone import prompt_tokens
from trainer.checkpoints.find import MODEL_NAME, find_checkpoint, read_checkpoint
from trainer.checkpoints.identity import Identity, other_backbone
from trainer.checkpoints.keys import entries, load_learned
from trainer.checkpoints.resume import unfinished_note
from trainer.class_names import are_among
from trainer.evaluation.tally import conclude, show_own_data
from trainer.evaluation.together import Member, pass_over
from trainer.folder_trainer import FolderTrainer
from trainer.graph import CudaGraph
from trainer.method.model import MMRLModel, mmrl_loss
from trainer.method.readout import ReadOut
from trainer.method.start_values import draw_start_values
from trainer.step import EncoderPrecision, LossGuard, TrainingStep, compile_step, fuse

__all__ = ["RepresentationTrainer"]

_GUARD_INTERVAL = 20  # steps between looks at the loss on a GPU, at least


class RepresentationTrainer(FolderTrainer):
    """Trains a `MMRLModel`; a method says in `build` which. `results` has the last figures."""

    has_node = True  # TRAINER.<name> in the config, declared by `add_method` or not
    results: dict[str, Any]

    @classmethod
    def build(cls, cfg: Any, frozen: CLIP, prompts: Tensor) -> MMRLModel:
        """The method's model around a frozen CLIP, its learned tensors empty."""
        raise NotImplementedError

    def build_model(self) -> None:
        """Load CLIP, put the method around it, make optimizer, schedule and step."""
        prec = self.settings.PREC
        frozen = self.load_clip()
        self.precision = EncoderPrecision(frozen, prec, self.cfg.TEST.PREC, self.device)
        print("Building custom CLIP")
        self.prompts = prompt_tokens(self.cfg, self.dm.dataset.classnames, self.device)
        self.model = self.build(self.cfg, frozen, self.prompts)
        # on the CPU, and before anything else draws: the generator is then the published one
        draw_start_values(self.model.learner, frozen.sizes)
        self.model.to(self.device)
        print("Turning off gradients in both the image and the text encoder")
        learned = self.model.learned()
        print(f"Parameters to be updated: {[entry.key for entry in entries(learned)]}")
        if prec == "amp" and self.device.type == "cpu":
            print("PREC amp on a CPU multiplies in bfloat16; fp32 is exact")
        # frozen tensors are left out: the published optimizer lists them, and never moves them
        self.optim = build_optimizer(list(learned.values()), self.cfg.OPTIM)
        fuse(self.optim)
        # loading a state replaces the groups, and with them the choice of kernel
        self.optim.register_load_state_dict_post_hook(fuse)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model(MODEL_NAME, self.model, self.optim, self.sched)
        loss_of = compile_step(self._loss) if self.cfg.TRAIN.COMPILE else self._loss
        is_cuda = self.device.type == "cuda"
        self.step = TrainingStep(loss_of, self.optim, scaled=prec == "amp" and is_cuda)
        self._capture_step()
        self.scaler = self.step.scaler
        # a CPU has the loss at hand; for a GPU the host waits, as it does when a line is printed
        lines = math.ceil(_GUARD_INTERVAL / self.cfg.TRAIN.PRINT_FREQ)
        self.guard = LossGuard(lines * self.cfg.TRAIN.PRINT_FREQ if is_cuda else 1)

    def _capture_step(self) -> None:
        """As TRAIN.GRAPH says; the compiler captures by itself, and chunks are run as they are."""
        wanted = self.cfg.TRAIN.GRAPH
        is_plain = not (self.cfg.TRAIN.COMPILE or self.cfg.TRAINER.CLASS_CHUNK)
        if wanted != "False" and is_plain and self.device.type == "cuda":
            self.step.capture(CudaGraph, lambda: self.precision.changes)
        elif wanted == "True":
            print("TRAIN.GRAPH is off: it takes a GPU, no TRAIN.COMPILE and no TRAINER.CLASS_CHUNK")

    def parse_batch_train(self, batch: dict) -> tuple[Tensor, Tensor]:
        """Images (B, 3, R, R) and labels (B,) on the device."""
        return self.parse_batch_test(batch)

    def forward_backward(self, batch: dict) -> dict[str, Any]:
        """One step; reports the loss in nats and the accuracy of the fused logits in percent.

        Raises:
            FloatingPointError: a loss was not finite; with step, data set and learning rate.
            MemoryError: the GPU is too small; with the remedy.
        """
        # drawn on the CPU whatever the device, so a card sees the published batches too
        image, label = self.parse_batch_train(batch)
        try:
            loss, fusion = self.step(image, label)
        except torch.cuda.OutOfMemoryError as error:
            raise MemoryError(
                f"The GPU has too little memory for {len(self.dm.dataset.classnames)} classes and "
                f"batch {len(image)}. Set TRAINER.CLASS_CHUNK (100, say): the text encoder then "
                "runs that many classes at a time, with equal gradients."
            ) from error
        self._check(loss)
        # Dassl's loop steps no schedule; trainers do, in an epoch's last batch
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {"loss": loss, "acc": compute_accuracy(fusion, label)[0]}

    def _loss(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """The loss in nats, and the fused logits (B, C) without gradient."""
        s = self.settings
        out, frozen = self.model.with_frozen(image)
        loss = mmrl_loss(out, frozen, label, alpha=s.ALPHA, reg_weight=s.REG_WEIGHT)
        return loss, out.fusion.detach()

    def _check(self, loss: Tensor) -> None:
        is_last = self.batch_idx + 1 == self.num_batches
        if found := self.guard.add(self.batch_idx, loss, is_last):
            step, value = found
            raise FloatingPointError(
                f"The loss is {value} at epoch {self.epoch + 1}, step {step + 1} of "
                f"{self.num_batches} on {self.cfg.DATASET.NAME}, lr {self.get_current_lr():.4e}. "
                "Lower OPTIM.LR, or use PREC fp32 or amp. The last good checkpoint is kept."
            )

    def set_model_mode(self, mode: str = "train", names: Any = None) -> None:
        """As Dassl's; also gives the encoders the type that the mode computes in."""
        super().set_model_mode(mode, names)
        self.precision.set_mode(training=mode == "train")

    def reads_fusion(self) -> bool:
        """Whether predictions come from the fused logits, or from the class feature alone.

        B2N: fused on base classes, class feature on new ones. FS: fused. CD: fused on ImageNet,
        where it was trained, class feature elsewhere.
        """
        # the papers' protocols, not a choice of ours: only trained classes have a representation
        if self.cfg.TASK == "B2N":
            return self.cfg.DATASET.SUBSAMPLE_CLASSES != "new"
        return self.cfg.TASK == "FS" or self.cfg.DATASET.NAME == "ImageNet"

    @property
    def _is_joint(self) -> bool:
        return self.cfg.TASK == "B2N" and self.cfg.DATASET.SUBSAMPLE_CLASSES == "all"

    def read_out(self) -> ReadOut:
        """By what each class of the data set is scored: as `reads_fusion` says, or both in one.

        B2N on all classes, of what was trained on some: these are fused, the others are not.
        """
        names, trained = self.dm.dataset.classnames, self.identity.classnames
        if self._is_joint and trained and not all(known := are_among(names, trained)):
            return ReadOut.of(known, self.device)
        return ReadOut.of([self.reads_fusion()] * len(names), self.device)

    def model_inference(self, input: Tensor) -> Tensor:
        """The logits (B, C) that the task reads, of one batch on its own."""
        read_out = self.read_out()
        adaptation = read_out.adaptation(self.model, self.prompts)
        return read_out.scores(self.model, self.model.image_encoder.shared(input), adaptation)

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Accuracy in percent on `split` (default TEST.SPLIT)."""
        self.set_model_mode("eval")
        split, loader = self.choose_split(split)
        member = Member.of(self, split, self.evaluator)
        pass_over([member], loader)
        self.results = conclude(self, split, member.tally)
        return self.results["accuracy"]

    @torch.no_grad()
    def test_many(self, directories: list[str], epoch: int | None = None) -> list[dict[str, Any]]:
        """The results of several runs over the same pictures, which are decoded once.

        The layers below J are shared too; the figures are those of separate evaluations.
        """
        self.set_model_mode("eval")
        split, loader = self.choose_split(None)
        members = []
        for directory in directories:
            self.load_model(directory, epoch)
            evaluator = build_evaluator(self.cfg, lab2cname=self.lab2cname)
            members.append(Member.of(self, split, evaluator))
        pass_over(members, loader)
        results = []
        for directory, member in zip(directories, members, strict=True):
            print(f"Results of {directory}")
            results.append(member.tally.finish(split) | {EVALUATED: directory})
        return results

    def borrow_tower(self, other: "RepresentationTrainer") -> None:
        """Go on with the image tower of another trainer, of an equal CLIP in the same types.

        The memory of one's own CLIP is given back: what is left can score pictures by an
        adaptation that was made before.
        """
        self.model.image_encoder.tower = other.model.image_encoder.tower
        self.precision = other.precision
        del self.model.text_encoder

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load what was learned from a run folder or file, of `epoch` (default: best, else last).

        Raises:
            FileNotFoundError: there is no checkpoint, or none of that epoch.
            RequestError: it does not fit the model, is of another CLIP, damaged or unsafe.
        """
        if not directory:
            print("Note that load_model() is skipped as no pretrained model is given")
            return
        path = find_checkpoint(directory, epoch)
        checkpoint = read_checkpoint(path)
        print(f'Loading weights to {MODEL_NAME} from "{path}" (epoch = {checkpoint.get("epoch")})')
        if stored := Identity.read(checkpoint, str(path)):
            if note := unfinished_note(checkpoint, stored):
                print(note)
            if difference := other_backbone(stored, self.identity):
                raise RequestError(
                    f"{path} {difference}. Give its own as --backbone NAME_OR_FILE, with its "
                    "MODEL.BACKBONE.ACTIVATION."
                )
        elif self._is_joint:
            print("Which classes were trained is not recorded: all are read from the fused logits")
        self.identity = self.identity._replace(classnames=stored.classnames if stored else [])
        try:
            load_learned(self.model, checkpoint["state_dict"])
        except RequestError as error:
            raise RequestError(f"{path}: {error}") from error

    def before_train(self) -> None:
        """As Dassl's; pictures of your own are listed first, as the trainer sees them."""
        if getattr(self.dm.dataset, "is_own", False):
            show_own_data(self)
        super().before_train()
