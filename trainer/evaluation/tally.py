"""One evaluation: batches and their scores (B, C) -> figures, and evidence beside them."""

import time
from collections.abc import Callable
from typing import Any

from torch import Tensor
from tqdm import tqdm

from dassl.utils.generators import random_states, restore_random_states
from trainer.evaluation.evidence import Predictions, write_confusion, write_per_class
from trainer.evaluation.joint import Joint
from trainer.published_values import chance_note, print_classes, prompts

__all__ = ["Tally", "conclude", "evaluate", "show_own_data", "show_zero_shot"]


class Tally:
    """Feeds Dassl's evaluator, which counts; keeps the time and, if wanted, a row per image.

    `joint` is given where trained and new classes stand in one list, and adds its figures.
    """

    def __init__(
        self,
        evaluator: Any,
        classnames: list[str],
        keep_predictions: bool,
        joint: Joint | None = None,
    ) -> None:
        self.evaluator = evaluator
        self.evaluator.reset()
        self.predictions = Predictions(classnames) if keep_predictions else None
        self.classnames = classnames
        self.joint = joint
        self.not_finite: Any = 0  # pictures; a tensor, so that no batch waits for the GPU
        self.start = time.perf_counter()

    def add(self, batch: dict[str, Any], scores: Tensor, labels: Tensor) -> None:
        """Take in a batch: its items, scores (B, C), labels (B,)."""
        self.evaluator.process(scores, labels)
        self.not_finite = self.not_finite + scores.isfinite().all(1).logical_not().sum()
        if self.predictions is not None:
            self.predictions.add(batch["impath"], labels, scores)
        if self.joint is not None:
            self.joint.add(scores, labels)

    def finish(self, split: str) -> dict[str, Any]:
        """Print the figures; accuracy, error and macro F1 in percent, counts, seconds, speed.

        Raises:
            FloatingPointError: some pictures have scores that are not finite.
        """
        if count := int(self.not_finite):
            raise FloatingPointError(
                f"{count:,} pictures of the {split} set have scores that are not finite, so there "
                "is no accuracy. Set TEST.PREC fp32; if that does not help, the checkpoint or the "
                "backbone's file is damaged."
            )
        figures = self.evaluator.evaluate()
        seconds = time.perf_counter() - self.start
        together = self.joint.figures() if self.joint is not None else {}
        return {
            "split": split,
            **{name: float(value) for name, value in figures.items()},
            "total": self.evaluator.total,
            "correct": self.evaluator.correct,
            "seconds": seconds,
            "images_per_second": self.evaluator.total / seconds,
            **together,
        }

    def write_evidence(self, cfg: Any, directory: str) -> None:
        """Write the evidence that the config asks for, beside the figures."""
        if self.predictions is not None:
            print(f"Predictions are in {self.predictions.write(directory)}")
        if cfg.TEST.PER_CLASS_RESULT or cfg.TEST.COMPUTE_CMAT:
            counts = self.evaluator.confusion(len(self.classnames))
            if cfg.TEST.PER_CLASS_RESULT:
                write_per_class(counts, self.classnames, directory)
            if cfg.TEST.COMPUTE_CMAT:
                picture = write_confusion(counts, self.classnames, directory)
                print(f"Confusion matrix is drawn in {picture}")


def evaluate(
    trainer: Any, split: str | None, scores_of: Callable[[Tensor], Tensor]
) -> dict[str, Any]:
    """A trainer's figures on `split` (default TEST.SPLIT); `scores_of` gives logits (B, C)."""
    split, loader = trainer.choose_split(split)
    keep = trainer.cfg.TEST.PREDICTIONS
    tally = Tally(trainer.evaluator, trainer.dm.dataset.classnames, keep)
    for batch in tqdm(loader):
        image, label = trainer.parse_batch_test(batch)
        tally.add(batch, scores_of(image), label)
    return conclude(trainer, split, tally)


def conclude(trainer: Any, split: str, tally: Tally) -> dict[str, Any]:
    """The figures of all batches of `split`, which are printed and written; then the evidence.

    Raises:
        FloatingPointError: some scores are not finite.
    """
    results = tally.finish(split)
    tally.write_evidence(trainer.cfg, trainer.output_dir)
    for name in ("accuracy", "error_rate", "macro_f1"):
        trainer.write_scalar(f"{split}/{name}", results[name], trainer.epoch)
    return results


def show_own_data(trainer: Any) -> None:
    """Print prompts, files of each class, and what CLIP itself makes of the test pictures."""
    states = random_states()  # looking must not change what training draws
    trainer.set_model_mode("eval")
    correct = 0
    for batch in trainer.test_loader:
        image, label = trainer.parse_batch_test(batch)
        features = trainer.model.frozen_features(image)
        correct += int((features.image @ features.text.t()).argmax(1).eq(label).sum())
    restore_random_states(states)
    show_zero_shot(trainer, correct)


def show_zero_shot(trainer: Any, correct: int) -> None:
    """As `show_own_data`, of which the number of correct test pictures is known."""
    c, dataset = trainer.cfg.DATASET, trainer.dm.dataset
    print_classes(dataset, prompts(dataset.classnames, c.NAME, c.TEMPLATE))
    share = 100 * correct / len(dataset.test)
    print(f"Zero-shot CLIP classifies {share:.1f}% of the test set correctly")
    if note := chance_note(share, len(dataset.classnames)):
        print(note)
