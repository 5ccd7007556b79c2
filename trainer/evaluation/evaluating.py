"""Evaluation that the registered trainers share: a trainer -> results, and evidence beside them."""

from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

import clip
from clip.model import CLIP
from dassl.engine import TrainerX
from trainer.evaluation.evidence import write_confusion, write_per_class
from trainer.evaluation.tally import Tally
from trainer.published_values import prompts

__all__ = ["EvaluatingTrainer", "load_frozen_clip"]


def load_frozen_clip(cfg: Any, device: torch.device, check_size: bool = True) -> CLIP:
    """The backbone of a config on its device, matrices rounded as OpenAI's archives store them.

    Raises:
        ValueError: INPUT.SIZE is not the backbone's resolution.
    """
    name = cfg.MODEL.BACKBONE.NAME
    print(f"Loading CLIP (backbone: {name})")
    model = clip.load(name).round_to_half()
    side = model.visual.resolution
    if check_size and tuple(cfg.INPUT.SIZE) != (side, side):
        raise ValueError(
            f"INPUT.SIZE is {tuple(cfg.INPUT.SIZE)}, but CLIP {name} takes ({side}, {side}); "
            f'set INPUT.SIZE "({side},{side})"'
        )
    return model.to(device)


class EvaluatingTrainer(TrainerX):
    """Evaluation with its counts and its time kept in `self.results`."""

    results: dict[str, Any]

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Accuracy in percent on `split` (default TEST.SPLIT); `self.results` has the rest."""
        self.set_model_mode("eval")
        split, loader = self.choose_split(split)
        tally = self._tally(self.evaluator)
        for batch in tqdm(loader):
            image, label = self.parse_batch_test(batch)
            tally.add(batch, self.model_inference(image), label)
        self.results = tally.finish(split)
        self._write_evidence(tally)
        for name in ("accuracy", "error_rate", "macro_f1"):
            self.write_scalar(f"{split}/{name}", self.results[name], self.epoch)
        return self.results["accuracy"]

    def _write_evidence(self, tally: Tally) -> None:
        """What the config asks for beside the figures."""
        if tally.predictions is not None:
            print(f"Predictions are in {tally.predictions.write(self.output_dir)}")
        if self.cfg.TEST.PER_CLASS_RESULT:
            write_per_class(tally.confusion(), tally.classnames, self.output_dir)
        if self.cfg.TEST.COMPUTE_CMAT:
            picture = write_confusion(tally.confusion(), tally.classnames, self.output_dir)
            print(f"Confusion matrix is drawn in {picture}")

    def _tally(self, evaluator: Any) -> Tally:
        return Tally(evaluator, self.dm.dataset.classnames, self.cfg.TEST.PREDICTIONS)

    def prompts(self) -> Tensor:
        """Tokens (C, 77) of the class names in the data set's template, on the device."""
        c = self.cfg.DATASET
        texts = prompts(self.dm.dataset.classnames, c.NAME, c.TEMPLATE)
        return clip.tokenize(texts).to(self.device)
