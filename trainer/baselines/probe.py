"""Logistic regression on features (N, E): L-BFGS, and the search for its strength C.

As in the evaluation of CLIP (Radford et al., ICML 2021, section 3.2 and appendix A.3): the inverse
strength of the L2 penalty is searched from 1e-6 to 1e6 with 96 steps on a logarithmic scale, by
halving the steps around the best value so far.
"""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from trainer.baselines.features import FeatureSet

__all__ = ["DEFAULT_C", "Probe", "cross_validated", "fit_probe", "score_of", "search_c"]

# CLIP's example takes 0.316 for features of length 10 or so; these are of length 1.
DEFAULT_C = 31.6
_FIRST_STEP, _LAST_STEP = 2.0, 0.125  # decades between neighbours: 7 values, then 8 a decade
_TOLERANCE = 1e-8  # of the gradient: logits to five digits and more
_SEARCH_TOLERANCE = 1e-4  # enough to compare accuracies
_MOST_STEPS = 1000  # of L-BFGS, as in CLIP's evaluation
_MOST_FOLDS = 5

Score = tuple[float, float]  # accuracy, and minus the mean cross-entropy, which breaks ties


class Probe(NamedTuple):
    """A linear classifier; logits = features @ weight' + bias."""

    weight: Tensor  # (C, E)
    bias: Tensor  # (C,)

    def logits(self, image: Tensor) -> Tensor:
        """(N, E) -> (N, C)."""
        return image @ self.weight.t() + self.bias


def fit_probe(data: FeatureSet, strength: float, tolerance: float = _TOLERANCE) -> Probe:
    """The minimum of `strength` times the summed cross-entropy plus half the squared weights."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, tol=tolerance, max_iter=_MOST_STEPS)
    with warnings.catch_warnings():  # far ends of the search need not converge to be refused
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(data.image.double().numpy(), data.label.numpy())
    weight, bias = torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)
    if len(weight) == 1:  # of two classes: the score of the second over the first
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    return Probe(weight.float(), bias.float())


def score_of(strength: float, train: FeatureSet, data: FeatureSet) -> Score:
    """How well a probe of this C, fitted to `train`, does on `data`; higher is better."""
    logits = fit_probe(train, strength, _SEARCH_TOLERANCE).logits(data.image)
    accuracy = logits.argmax(1).eq(data.label).double().mean()
    return accuracy.item(), -torch.nn.functional.cross_entropy(logits, data.label).item()


def search_c(score: Callable[[float], Score]) -> float:
    """The best C by `score`, which is asked for 15 of the 97 values at most."""
    known: dict[float, Score] = {}

    def best(exponents: list[float]) -> float:
        for exponent in exponents:
            if abs(exponent) <= 6 and exponent not in known:
                known[exponent] = score(10.0**exponent)
        # of equals the smallest, which is the simplest model
        return max(sorted(known), key=known.__getitem__)

    step = _FIRST_STEP
    peak = best([-6 + step * i for i in range(7)])
    while step > _LAST_STEP:
        step /= 2
        peak = best([peak - step, peak + step])
    return float(10.0**peak)


def cross_validated(data: FeatureSet) -> Callable[[float], Score] | None:
    """A score from inside the training pictures; None if some class has a single one.

    Every picture is scored by a probe that has not seen it: the pictures of each class are dealt
    to as many folds as its smallest class has pictures, up to five.
    """
    folds = min(_MOST_FOLDS, int(torch.bincount(data.label).min()))
    if folds < 2:
        return None
    place = np.empty(len(data.label), dtype=int)
    for label in data.label.unique():
        of_class = (data.label == label).numpy()
        place[of_class] = np.arange(of_class.sum()) % folds

    def score(strength: float) -> Score:
        parts = []
        for fold in range(folds):
            held = torch.from_numpy(place == fold)
            seen, unseen = _part(data, ~held), _part(data, held)
            parts.append((*score_of(strength, seen, unseen), len(unseen.label)))
        accuracy, loss, counts = (np.asarray(column) for column in zip(*parts, strict=True))
        weights = counts / counts.sum()
        return float(accuracy @ weights), float(loss @ weights)

    return score


def _part(data: FeatureSet, chosen: Tensor) -> FeatureSet:
    return FeatureSet(data.image[chosen], data.label[chosen], [])
