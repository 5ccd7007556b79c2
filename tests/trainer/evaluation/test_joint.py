"""Figures of base and new pictures together: equal to their definitions, pair by pair."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.evaluation.joint import Joint, auroc_percent, openworld_auc_percent
from trainer.method.readout import ReadOut

CPU = torch.device("cpu")
# few values, so that ties are the rule
pictures = st.lists(st.tuples(st.integers(-2, 2), st.booleans()), min_size=1, max_size=12)


@given(base=pictures, new=pictures)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_the_shares_of_pairs_equal_their_definitions(base, new):
    pairs = [(i, j) for i in base for j in new]
    strict = sum(i[0] > j[0] and i[1] and j[1] for i, j in pairs)
    halves = sum((i[0] > j[0]) + 0.5 * (i[0] == j[0]) for i, j in pairs)
    base_scores, base_right = (np.array(column) for column in zip(*base, strict=True))
    new_scores, new_right = (np.array(column) for column in zip(*new, strict=True))
    got = openworld_auc_percent(base_scores, base_right, new_scores, new_right)
    assert got == 100 * strict / len(pairs)
    assert auroc_percent(base_scores, new_scores) == 100 * halves / len(pairs)


def by_brute_force(scores, labels, base, new):
    """(OpenworldAUC, AUROC) in percent from the softmax's mass, a pair at a time."""
    mass = scores.double().softmax(1)[:, base].sum(1).tolist()
    right = {
        kind: [kind[scores[n, kind].argmax()] for n in range(len(scores))] for kind in (base, new)
    }
    firsts = [n for n, label in enumerate(labels) if label in base]
    seconds = [n for n, label in enumerate(labels) if label in new]
    both_right = halves = 0
    for i in firsts:
        for j in seconds:
            is_right = right[base][i] == labels[i] and right[new][j] == labels[j]
            both_right += is_right and mass[i] > mass[j]
            halves += (mass[i] > mass[j]) + (mass[i] == mass[j]) / 2
    return [100 * count / (len(firsts) * len(seconds)) for count in (both_right, halves)]


@given(seed=st.integers(0, 2**32), batch=st.integers(1, 40), scale=st.sampled_from([0.1, 1.0, 5.0]))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_figures_of_batches_equal_brute_force(seed, batch, scale):
    generator = torch.Generator().manual_seed(seed)
    base, new = (0, 3, 4), (1, 2)
    scores = scale * torch.randn(40, 5, generator=generator)
    labels = torch.randint(0, 5, (40,), generator=generator)
    labels[:2] = torch.tensor([0, 1])  # at least one picture of each kind
    joint = Joint(ReadOut(torch.tensor(base), torch.tensor(new)))
    for part in zip(scores.split(batch), labels.split(batch), strict=True):
        joint.add(*part)
    got = joint.figures()
    want = by_brute_force(scores, labels.tolist(), base, new)
    assert [got["openworld_auc"], got["auroc"]] == pytest.approx(want, abs=1e-9)
    is_base = torch.isin(labels, torch.tensor(base))
    right = scores.argmax(1) == labels
    assert got["base_accuracy"] == pytest.approx(100 * right[is_base].double().mean().item())
    assert got["new_accuracy"] == pytest.approx(100 * right[~is_base].double().mean().item())
    assert got["base_total"] + got["new_total"] == 40


def test_a_mass_that_rounds_to_1_still_orders_pictures():
    joint = Joint(ReadOut(torch.tensor([0]), torch.tensor([1])))
    joint.add(torch.tensor([[90.0, 0.0], [80.0, 0.0]]), torch.tensor([0, 1]))
    assert joint.figures()["openworld_auc"] == 100


def test_nothing_right_has_a_harmonic_mean_of_0_and_one_kind_has_no_figures():
    read_out = ReadOut.of([True, False], CPU)
    joint, lone = Joint(read_out), Joint(read_out)
    joint.add(torch.eye(2), torch.tensor([1, 0]))
    assert joint.figures()["harmonic_mean"] == 0
    lone.add(torch.eye(2), torch.tensor([0, 0]))
    assert set(lone.figures()) == {"read_out", "base_total", "new_total"}
