"""Several evaluations in one pass over the pictures: trainers -> the figures of their lone runs.

Decoding, resizing and the layers below J are the same for all of them, and are done once.
"""

import hashlib
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor
from tqdm import tqdm

from trainer.evaluation.joint import Joint
from trainer.evaluation.tally import Tally
from trainer.method.image_encoder import Shared
from trainer.method.model import Adaptation
from trainer.method.readout import ReadOut

__all__ = ["Member", "View", "pass_over"]


class View(NamedTuple):
    """What determines the pictures and the frozen features; trainers that agree share a pass."""

    pictures_sha256: str  # of the paths and labels that are evaluated, in order
    inputs: str  # the config's INPUT and DATALOADER.TEST
    backbone_sha256: str
    computes: str  # the types, the device, and whether the operations are deterministic

    @classmethod
    def of(cls, trainer: Any, items: Sequence[Any]) -> "View":
        """The view of a trainer on the items of the split that it evaluates."""
        cfg = trainer.cfg
        digest = hashlib.sha256()
        for item in items:
            digest.update(f"{item.impath}\t{item.label}\n".encode())
        return cls(
            digest.hexdigest(),
            f"{cfg.INPUT.dump()}{cfg.DATALOADER.TEST.dump()}",
            trainer.identity.backbone_sha256,
            f"{trainer.precision.evaluation} {trainer.device} {cfg.DETERMINISTIC}",
        )


class Member(NamedTuple):
    """One evaluation of a pass: a trainer, what it had learned, and its figures so far."""

    trainer: Any
    read_out: ReadOut
    adaptation: Adaptation
    split: str
    tally: Tally

    @classmethod
    def of(cls, trainer: Any, split: str, evaluator: Any) -> "Member":
        """The evaluation of what a trainer has loaded; it may load another run afterwards."""
        read_out = trainer.read_out()
        # MMRL's learned projection is the parameter itself, which the next run overwrites
        parts = read_out.adaptation(trainer.model, trainer.prompts)
        learned = Adaptation(*(p.clone() if isinstance(p, Tensor) else p for p in parts))
        keep = trainer.cfg.TEST.PREDICTIONS
        joint = Joint(read_out) if read_out.is_mixed else None
        tally = Tally(evaluator, trainer.dm.dataset.classnames, keep, joint)
        return cls(trainer, read_out, learned, split, tally)

    def scores(self, image: Tensor, shared: dict[int, Shared]) -> Tensor:
        """The logits (B, C) of a batch; `shared` holds what is known of it, by first layer J."""
        model = self.trainer.model
        encoder = model.image_encoder
        # methods and checkpoints may differ in J, and then have fewer layers in common
        if encoder.first_layer not in shared:
            shared[encoder.first_layer] = encoder.shared(image)
        return self.read_out.scores(model, shared[encoder.first_layer], self.adaptation)


def pass_over(members: Sequence[Member], loader: Any, file: Any = None) -> None:
    """Let all members score the batches of a loader; the progress bar goes to `file`."""
    for member in members:
        member.tally.start = time.perf_counter()
    trainer = members[0].trainer
    for batch in tqdm(loader, file=file):
        image, label = trainer.parse_batch_test(batch)
        shared: dict[int, Shared] = {}
        for member in members:
            member.tally.add(batch, member.scores(image, shared), label)
