"""The baselines' numbers equal independent NumPy implementations of their papers' equations."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from trainer.baselines.cache_model import Weights, grid, one_hot, search_weights, tip_logits
from trainer.baselines.features import FeatureSet
from trainer.baselines.probe import cross_validated, fit_probe, score_of, search_c

WIDTH = 16


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def features(num_classes, per_class, seed, spread=0.5):
    """Unit vectors around a direction for each class, and their labels."""
    centres = unit(np.random.default_rng(1).normal(size=(num_classes, WIDTH)))
    labels = np.tile(np.arange(num_classes), per_class)
    noise = np.random.default_rng(seed).normal(size=(len(labels), WIDTH))
    return unit(centres[labels] + spread * noise).astype(np.float32), labels


def as_set(image, labels):
    return FeatureSet(torch.from_numpy(image), torch.from_numpy(labels), [])


def numpy_probe(x, labels, strength):
    """C sum CE + |W|^2 / 2 over a softmax with a row per class, minimised by SciPy."""
    x, num_classes = x.astype(np.float64), labels.max() + 1
    wanted = np.eye(num_classes)[labels]

    def objective(flat):
        weight, bias = np.split(flat.reshape(num_classes, WIDTH + 1), [WIDTH], axis=1)
        z = x @ weight.T + bias[:, 0]
        z -= z.max(1, keepdims=True)
        log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
        slope = strength * (np.exp(log_p) - wanted)
        gradient = np.concatenate([slope.T @ x + weight, slope.sum(0)[:, None]], axis=1)
        return -strength * (wanted * log_p).sum() + (weight**2).sum() / 2, gradient.ravel()

    start = np.zeros(num_classes * (WIDTH + 1))
    options = {"maxiter": 5000, "ftol": 1e-16, "gtol": 1e-9}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options).x
    return np.split(found.reshape(num_classes, WIDTH + 1), [WIDTH], axis=1)


def log_softmax(z):
    z = z - z.max(1, keepdims=True)
    return z - np.log(np.exp(z).sum(1, keepdims=True))


@pytest.mark.parametrize("strength", [0.1, 10.0])
def test_the_probe_is_the_minimum_of_penalised_cross_entropy(strength):
    (x, labels), (other, truth) = features(5, 6, seed=2), features(5, 10, seed=3)
    weight, bias = numpy_probe(x, labels, strength)
    want = other @ weight.T + bias[:, 0]
    got = fit_probe(as_set(x, labels), strength).logits(torch.from_numpy(other)).numpy()
    # a constant added to all classes is free, so log-probabilities are compared
    np.testing.assert_allclose(log_softmax(got), log_softmax(want), atol=1e-5)
    assert (got.argmax(1) == truth).mean() == (want.argmax(1) == truth).mean()


def test_of_two_classes_the_probability_is_the_logistic_function():
    x, labels = features(2, 8, seed=2)
    probe = fit_probe(as_set(x, labels), 3.0)

    def objective(flat):
        margin = (2 * labels - 1) * (x.astype(np.float64) @ flat[:-1] + flat[-1])
        slope = -3.0 * (2 * labels - 1) / (1 + np.exp(margin))
        gradient = np.append(slope @ x.astype(np.float64) + flat[:-1], slope.sum())
        return 3.0 * np.logaddexp(0, -margin).sum() + (flat[:-1] ** 2).sum() / 2, gradient

    options = {"ftol": 1e-16, "gtol": 1e-9}
    found = minimize(objective, np.zeros(WIDTH + 1), jac=True, method="L-BFGS-B", options=options).x
    logits = probe.logits(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], x @ found[:-1] + found[-1], atol=1e-5)


def test_c_is_searched_as_in_clips_evaluation():
    asked = []

    def score(strength):
        asked.append(np.log10(strength))
        return -abs(np.log10(strength) - 1.4), 0.0

    assert np.log10(search_c(score)) == pytest.approx(1.375)
    assert sorted(np.round(asked[:7], 6)) == [-6, -4, -2, 0, 2, 4, 6]
    assert np.round(asked[7:], 6).tolist() == [1, 3, 0.5, 1.5, 1.25, 1.75, 1.375, 1.625]


def test_c_stays_within_the_range_and_equal_scores_give_the_smallest():
    assert search_c(lambda strength: (strength, 0.0)) == pytest.approx(1e6)
    assert search_c(lambda strength: (0.0, 0.0)) == pytest.approx(1e-6)


def test_cross_validation_scores_pictures_by_probes_that_have_not_seen_them():
    x, labels = features(3, 4, seed=5, spread=1.0)
    place = np.repeat(np.arange(4), 3)  # of every class a picture a fold
    correct, loss = [], []
    for fold in range(4):
        weight, bias = numpy_probe(x[place != fold], labels[place != fold], 5.0)
        log_p = log_softmax(x[place == fold] @ weight.T + bias[:, 0])
        correct.append(log_p.argmax(1) == labels[place == fold])
        loss.append(log_p[range(3), labels[place == fold]])
    accuracy, negative_loss = cross_validated(as_set(x, labels))(5.0)
    assert accuracy == pytest.approx(np.mean(correct))
    assert negative_loss == pytest.approx(np.mean(loss), abs=1e-3)
    assert cross_validated(as_set(x[:4], labels[:4])) is None  # one class has one picture


def numpy_tip(f, text, keys, one_hot_labels, alpha, beta):
    affinity = np.exp(-beta * (1 - f @ keys.T))
    return 100 * f @ text.T + alpha * affinity @ one_hot_labels


def tip_inputs():
    (keys, labels), (f, truth) = features(4, 3, seed=2), features(4, 6, seed=3)
    # weak prompts: the cache has something to say
    text = unit(0.02 * np.random.default_rng(4).normal(size=(4, WIDTH)) + 1).astype(np.float32)
    return keys, labels, f, truth, text


def test_tip_adapters_logits_follow_its_equation():
    keys, labels, f, _, text = tip_inputs()
    values = one_hot(torch.from_numpy(labels), 4)
    got = tip_logits(*map(torch.from_numpy, (f, text, keys)), values, Weights(1.17, 5.5)).numpy()
    want = numpy_tip(*(x.astype(np.float64) for x in (f, text, keys)), np.eye(4)[labels], 1.17, 5.5)
    # float32 products of about 100, of which softmax sees the differences
    np.testing.assert_allclose(log_softmax(got), log_softmax(want), atol=1e-4)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_tip_adapters_numbers_are_the_first_of_the_best_on_the_grid():
    keys, labels, f, truth, text = tip_inputs()
    best = (-1, 0.0, 0.0)
    for beta in [0.1 + i * (7 - 0.1) / 20 for i in range(20)]:
        for alpha in [0.1 + i * (30 - 0.1) / 10 for i in range(10)]:
            z = numpy_tip(f, text, keys, np.eye(4, dtype=np.float32)[labels], alpha, beta)
            if (correct := int((z.argmax(1) == truth).sum())) > best[0]:
                best = (correct, alpha, beta)
    image, prompts, cached, label, wanted = map(torch.from_numpy, (f, text, keys, labels, truth))
    found, accuracy = search_weights(
        100 * image @ prompts.t(), image @ cached.t(), one_hot(label, 4), wanted, (7, 30), (20, 10)
    )
    assert found == pytest.approx((best[1], best[2]))
    assert accuracy == pytest.approx(100 * best[0] / len(truth))
    clip_alone = (100 * f @ text.T).argmax(1) == truth
    assert best[0] > clip_alone.sum()


def test_the_grid_is_the_published_one():
    assert grid(7, 200)[:2] == pytest.approx([0.1, 0.1345])
    assert grid(7, 200)[-1] < 7
    assert len(grid(7, 200)) == 200


def test_the_score_breaks_ties_by_the_loss():
    x, labels = features(3, 5, seed=2, spread=0.1)
    data = as_set(x, labels)
    weak, strong = (score_of(strength, data, data) for strength in (1.0, 100.0))
    assert weak[0] == strong[0] == 1
    assert strong > weak
