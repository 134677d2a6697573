"""From the records of runs to tables, and from these to the chosen learning rates."""

import math
from collections.abc import Iterable

import pandas as pd

from nonlinearity.comparison.folder import Record

_RUN = ["activation", "learning_rate", "seed"]
_CURVES = ["loss", "validation_loss", "validation_accuracy"]
_MARGIN = 0.05  # by which the default level is easier than the best mean at the end


def make_runs(trained: Iterable[Record], tested: Iterable[Record]) -> pd.DataFrame:
    """A row for each run, as ``Comparison.runs`` has them but for the epochs to a level."""
    runs = pd.DataFrame(_flat(trained))
    runs["diverged"] = [_diverged(run) for run in runs.to_dict("records")]
    for name in _CURVES:
        runs[name] = [math.nan if values is None else values[-1] for values in runs[name]]
    scores = pd.DataFrame(_flat(tested), columns=[*_RUN, "test_loss", "test_accuracy"]).assign(chosen=True)
    runs = runs.merge(scores, how="left", on=_RUN)
    runs["chosen"] = runs["chosen"].notna()
    measured = [*_CURVES, "test_loss", "test_accuracy", "dead_share"]
    runs[measured] = runs[measured].astype(float).mask(runs["diverged"])
    return runs[[*_RUN, "chosen", "diverged", *measured[:-1], "seconds_per_step", "dead_share"]]


def make_curves(trained: Iterable[Record]) -> pd.DataFrame:
    """A row for each run and epoch, as ``Comparison.curves`` has them."""
    rows = []
    for run in _flat(trained):
        curves = [run[name] or [math.nan] * len(run["loss"]) for name in _CURVES]
        for epoch, values in enumerate(zip(*curves), start=1):
            rows.append([*(run[name] for name in _RUN), epoch, *values])
    return pd.DataFrame(rows, columns=[*_RUN, "epoch", *_CURVES]).astype(dict.fromkeys(_CURVES, float))


def measure_of(curves: pd.DataFrame) -> str:
    """What tells good from bad: "accuracy", or "loss" where targets are no labels."""
    return "accuracy" if curves["validation_accuracy"].notna().any() else "loss"


def choose_rates(trained: Iterable[Record]) -> dict[str, float | None]:
    """The learning rate of each activation that is best on the validation data.

    That is the one with the best mean over seeds of the accuracy at the end, among equals the one with the
    lowest mean loss, then the smallest; without labels the one with the lowest mean loss. A rate at which any
    seed diverged is left out: the mean over the others would flatter it.

    Returns:
        label → rate, or None where every rate has a diverged run.
    """
    runs = make_runs(trained, tested=[])
    runs["error"] = -runs["validation_accuracy"].fillna(0)  # none without labels: all are equal
    criteria = ["error", "validation_loss", "learning_rate"]
    chosen = {}
    for label, of_label in runs.groupby("activation", sort=False):
        means = of_undiverged_rates(of_label).groupby("learning_rate", as_index=False)[criteria[:2]].mean()
        best = means.round({"error": 12}).sort_values(criteria)["learning_rate"]  # ties are up to rounding
        chosen[label] = float(best.iloc[0]) if len(best) else None
    return chosen


def of_undiverged_rates(runs: pd.DataFrame) -> pd.DataFrame:
    """Of one activation's runs, those at rates at which no run diverged."""
    return runs[~runs.groupby("learning_rate")["diverged"].transform("any")]


def default_level(runs: pd.DataFrame, measure: str) -> float:
    """A level that is 5 % easier than the best mean at the end; NaN without chosen runs."""
    means = runs[runs["chosen"]].groupby("activation")[f"validation_{measure}"].mean()
    best = means.max() if measure == "accuracy" else means.min()
    return float(best - _MARGIN * abs(best) if measure == "accuracy" else best + _MARGIN * abs(best))


def add_epochs_to_level(runs: pd.DataFrame, curves: pd.DataFrame, measure: str, level: float) -> pd.DataFrame:
    """The runs with the first epoch, counted from 1, after which each was at the level or better."""
    values = curves[f"validation_{measure}"]
    there = curves[values >= level if measure == "accuracy" else values <= level]
    first = there.groupby(_RUN)["epoch"].min().rename("epochs_to_level").reset_index()
    runs = runs.merge(first, how="left", on=_RUN)
    runs["epochs_to_level"] = runs["epochs_to_level"].astype(float).mask(runs["diverged"])
    return runs


def _flat(records: Iterable[Record]) -> list[Record]:
    """A dict for each run of the units."""
    return [
        {"activation": unit["activation"], "learning_rate": unit["learning_rate"]} | run
        for unit in records
        for run in unit["runs"]
    ]


def _diverged(run: Record) -> bool:
    """Whether a loss was not finite after some epoch, which is stored as null."""
    return None in run["loss"] or None in run["validation_loss"]
