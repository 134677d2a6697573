"""Intervals are those of SciPy, cover what they promise, and refuse what has no interval."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nonlinearity.statistics import describe, holm, mean_interval

samples_of_seeds = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30)


@given(samples_of_seeds, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
@settings(max_examples=40, deadline=None, database=None, derandomize=True)
def test_interval_is_that_of_the_t_distribution(samples, confidence):
    found = mean_interval(torch.tensor(samples, dtype=torch.float64), confidence)
    mean, error = np.mean(samples), stats.sem(samples)
    low, high = stats.t.interval(confidence, len(samples) - 1)
    np.testing.assert_allclose(found, [mean, mean + low * error, mean + high * error], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_interval_covers_the_truth_as_often_as_it_says(confidence):
    """Of 20,000 experiments with 5 seeds; the share's own standard deviation is below 0.3 %."""
    experiments = torch.randn(5, 20_000, generator=torch.Generator().manual_seed(0)) * 3 + 7
    _, low, high = mean_interval(experiments, confidence)
    covered = ((low < 7) & (high > 7)).double().mean()
    assert float(covered) == pytest.approx(confidence, abs=0.01)


def test_interval_is_taken_over_the_first_dimension():
    samples = torch.arange(24.0).reshape(4, 3, 2) ** 2
    for whole, column in zip(mean_interval(samples), mean_interval(samples[:, 1, 0])):
        assert whole.shape == (3, 2)
        torch.testing.assert_close(whole[1, 0], column)


def test_whole_numbers_are_averaged_as_numbers():
    mean, low, high = mean_interval(torch.tensor([1, 2]))
    assert float(mean) == 1.5
    assert float(low + high) == pytest.approx(3)


@pytest.mark.parametrize("seeds", [0, 1])
def test_too_few_seeds_are_refused(seeds):
    with pytest.raises(ValueError, match=f"an interval needs at least 2 seeds, got {seeds}"):
        mean_interval(torch.zeros(seeds))


@pytest.mark.parametrize("confidence", [0, 1, 95, -0.1, float("nan")])
def test_confidence_outside_0_to_1_is_refused(confidence):
    with pytest.raises(ValueError, match=f"confidence must lie between 0 and 1, got {confidence}"):
        mean_interval(torch.zeros(3), confidence)


def test_description_gives_mean_and_interval():
    """For 1, 2, 3: mean 2, standard error 1/√3, and the t quantile 4.303 for two degrees of freedom."""
    assert describe(torch.tensor([1.0, 2.0, 3.0])) == "2.000 [-0.484, 4.484]"
    assert describe(torch.tensor([1.0, 2.0, 3.0]), digits=1) == "2.0 [-0.5, 4.5]"


def test_holm_by_hand():
    """Sorted: 0.005 · 4, 0.01 · 3, 0.03 · 2, and 0.04 · 1, which may not be below the one before it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([0.7, 0.6]) == [1, 1]
    assert holm([0.03]) == pytest.approx([0.03])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None, database=None, derandomize=True)
def test_holm_is_the_closure_of_bonferroni(p_values):
    """By definition: the largest of Bonferroni's values over all sets of comparisons that hold this one."""
    indices = range(len(p_values))
    sets = [s for size in range(1, len(p_values) + 1) for s in itertools.combinations(indices, size)]
    expected = [max(min(1, len(s) * min(p_values[i] for i in s)) for s in sets if j in s) for j in indices]
    np.testing.assert_allclose(holm(p_values), expected)


@pytest.mark.parametrize("p_values", [[0.1, 1.1], [-0.1], [float("nan")]])
def test_holm_refuses_what_is_no_probability(p_values):
    with pytest.raises(ValueError, match=r"p-values must lie between 0 and 1, got \["):
        holm(p_values)
