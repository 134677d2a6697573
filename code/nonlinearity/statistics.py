"""Intervals for what was measured over seeds."""

from collections.abc import Sequence

import numpy as np
from scipy import stats
from torch import Tensor


def mean_interval(samples: Tensor, confidence: float = 0.95) -> tuple[Tensor, Tensor, Tensor]:
    """Mean over seeds with its confidence interval by Student's t distribution.

    Args:
        samples: (seeds,) or (seeds, ...) measurements; for "A beats B" pass the paired differences.
        confidence: between 0 and 1.

    Returns:
        mean, lower end and upper end, each of the shape that is left without the first dimension.

    Raises:
        ValueError: for fewer than two seeds or a confidence outside (0, 1).
    """
    if len(samples) < 2:
        raise ValueError(f"an interval needs at least 2 seeds, got {len(samples)}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    samples = samples.double()
    mean = samples.mean(0)
    half = float(stats.t.ppf((1 + confidence) / 2, len(samples) - 1)) * samples.std(0) / len(samples) ** 0.5
    return mean, mean - half, mean + half


def describe(samples: Tensor, digits: int = 3) -> str:
    """Mean and 95 % interval for a table or a report: ``"0.957 [0.951, 0.963]"``.

    Args:
        samples: (seeds,) measurements.
        digits: decimals to print.
    """
    mean, low, high = (float(value) for value in mean_interval(samples))
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for being several, by Holm's step-down method.

    Where every corrected value below 0.05 is called a difference, the chance of even one false call among
    all of them is at most 5 %, however they depend on each other.

    Args:
        p_values: one of each comparison, from 0 to 1; may be empty.

    Returns:
        the corrected values in the same order: the k-th smallest of m times (m − k + 1), at least the one
        before it, at most 1.

    Raises:
        ValueError: for a value outside 0 to 1.

    Source: Holm (1979), https://www.jstor.org/stable/4615733
    """
    p = np.asarray(p_values, dtype=float)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p-values must lie between 0 and 1, got {list(p_values)}")
    order = np.argsort(p)
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return corrected.tolist()
