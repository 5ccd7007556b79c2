"""What an evaluation counts, and what it refuses to count."""

import pytest
import torch

from dassl.config import get_cfg_default
from dassl.evaluation import build_evaluator
from trainer.evaluation.tally import Tally


def test_scores_that_are_not_finite_give_no_accuracy():
    tally = Tally(build_evaluator(get_cfg_default()), ["a", "b"], keep_predictions=False)
    labels = torch.tensor([0, 1])
    tally.add({}, torch.tensor([[2.0, 1.0], [0.0, 3.0]]), labels)
    assert tally.finish("test")["accuracy"] == 100
    tally.add({}, torch.tensor([[2.0, float("nan")], [0.0, float("inf")]]), labels)
    with pytest.raises(FloatingPointError, match=r"2 pictures of the test set .* not finite"):
        tally.finish("test")
