"""The comparison against loops written out here, SciPy and tables made by hand; also killed midway."""

import json
import math
import os
import re
import shlex
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import date
from functools import cache, partial
from typing import ClassVar

import joblib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import nn

from nonlinearity import catalog, data, probes
from nonlinearity.comparison import __main__ as command_line
from nonlinearity.comparison import compare, protocol, read, save, work
from nonlinearity.comparison.__main__ import load, main
from nonlinearity.comparison.folder import ResultsFolder, differences
from nonlinearity.comparison.report import assemble
from nonlinearity.comparison.tables import choose_rates
from nonlinearity.models import FunctionalMLP, cnn, mlp
from nonlinearity.training import accuracy, fit

BINARY = nn.BCEWithLogitsLoss()
ADAM = torch.optim.Adam
SEEDS = (4, 0, 7)
RATES = (0.003, 0.03)
RUN = ["activation", "learning_rate", "seed"]
MLP = partial(mlp, (2, 8, 1))


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def short_timing(monkeypatch):
    """Two short rounds; the tests of the timing itself ask for more."""
    monkeypatch.setattr(work, "_ROUNDS", 2)
    monkeypatch.setattr(work, "_TIMED_SECONDS", 1e-4)


@cache
def moons():
    x, y = data.moons(240)
    train, validation, test = zip(x.split(80), y.split(80))
    return {"train": train, "validation": validation, "test": test}


def options(**changes):
    return {
        "activations": ["relu", "tanh"], "learning_rates": RATES, "seeds": SEEDS, **moons(), "loss": BINARY,
        "optimizer": ADAM, "epochs": 3, "batch_size": 32,
    } | changes  # fmt: skip


def compared(make_model=MLP, **changes):
    return compare(make_model, **options(**changes))


@pytest.fixture(scope="module")
def in_one_piece():
    return compared()


def assert_same(found, expected, **tolerance):
    """Equal tables, but for how long things took."""
    for one, other in ((found.runs, expected.runs), (found.curves, expected.curves)):
        one, other = (table.drop(columns="seconds_per_step", errors="ignore") for table in (one, other))
        pd.testing.assert_frame_equal(one, other, **tolerance or {"check_exact": True})
    assert (found.level, found.measure, found.baseline) == (
        expected.level,
        expected.measure,
        expected.baseline,
    )


# --- the numbers ----------------------------------------------------------------------------------------


def loop_of_fit(make_model, activations, data=None, loss=BINARY, epochs=3):
    """The runs as one would write them down: for each the model and its history."""
    data = data or moons()
    runs = {}
    for activation in activations:
        for rate in RATES:
            for seed in SEEDS:
                torch.manual_seed(seed)
                model = make_model(activation)
                history = fit(
                    model, *data["train"], loss=loss, optimizer=partial(ADAM, lr=rate), epochs=epochs,
                    batch_size=32, seed=seed, validation=data["validation"],
                )  # fmt: skip
                runs[activation, rate, seed] = model, history
    return runs


def test_numbers_are_those_of_a_loop_of_fit():
    result = compared(together=False)
    by_hand = loop_of_fit(MLP, ["relu", "tanh"])
    assert list(result.runs[RUN].itertuples(index=False, name=None)) == list(by_hand)
    for run, (model, history) in zip(result.runs.itertuples(), by_hand.values()):
        curves = result.curves.merge(result.runs.loc[[run.Index], RUN])
        assert curves["epoch"].tolist() == [1, 2, 3]
        assert curves["loss"].tolist() == history.loss.tolist()
        assert curves["validation_loss"].tolist() == history.validation_loss.tolist()
        assert curves["validation_accuracy"].tolist() == history.validation_accuracy.tolist()
        assert (run.loss, run.validation_loss) == (history.loss[-1], history.validation_loss[-1])
        assert run.validation_accuracy == history.validation_accuracy[-1]
        if run.chosen:
            assert run.test_accuracy == accuracy(model, *moons()["test"])
            with torch.no_grad():
                x, y = moons()["test"]
                assert run.test_loss == BINARY(model(x), y)
        (report,) = probes.inspect_units(model.eval(), moons()["validation"][0]).values()
        assert run.dead_share == report.dead_rate
    for label in ("relu", "tanh"):
        means = {
            rate: statistics.mean(
                by_hand[label, rate, seed][1].validation_accuracy[-1].item() for seed in SEEDS
            )
            for rate in RATES
        }
        chosen = result.runs.query("activation == @label and chosen")
        assert means[0.003] != means[0.03]
        assert chosen["learning_rate"].tolist() == [max(means, key=means.get)] * len(SEEDS)
        assert tuple(chosen["seed"]) == SEEDS
    assert result.runs["chosen"].sum() == 6
    unchosen = result.runs[~result.runs["chosen"]]
    assert unchosen[["test_loss", "test_accuracy"]].isna().all(axis=None)


def test_seeds_together_are_the_same_runs_up_to_rounding():
    assert_same(compared(together=True), compared(together=False), rtol=1e-4, atol=1e-4)


class Random(nn.Module):
    """With a layer that draws, and one whose buffers training updates."""

    def __init__(self, activation):
        super().__init__()
        first, act, last = mlp((2, 8, 1), activation)
        self.layers = nn.Sequential(first, nn.BatchNorm1d(8), act, nn.Dropout(0.3), last)

    def forward(self, x):
        return self.layers(x)


def test_models_that_cannot_be_trained_together_are_trained_one_by_one():
    result = compared(Random)
    for run, (model, history) in zip(
        result.runs.itertuples(), loop_of_fit(Random, ["relu", "tanh"]).values()
    ):
        assert run.validation_loss == history.validation_loss[-1]
        if run.chosen:  # the running statistics of the normalisation must be there at the test
            assert run.test_accuracy == accuracy(model, *moons()["test"])
    with pytest.raises(
        ValueError, match="seeds of the model of 'relu' cannot be trained together: fit_seeds"
    ):
        compared(Random, together=True)


class Branching(nn.Module):
    """Decides by a value, which vmap cannot."""

    def __init__(self, activation):
        super().__init__()
        self.layers = mlp((2, 8, 1), activation)

    def forward(self, x):
        return self.layers(x) if self.layers[0].weight.sum() > -1e9 else x


@pytest.mark.parametrize(
    ("make", "together"),
    [
        (MLP, True),
        (partial(FunctionalMLP, (2, 8, 1)), True),
        (partial(mlp, (2, 250, 250, 1)), False),  # too large to gain
        (lambda activation: cnn((2,), activation, side=2, classes=1), False),
        (Branching, False),
    ],
)
def test_seeds_are_trained_together_where_that_is_possible_and_gains(make, together, monkeypatch):
    units = []
    train = work.train
    monkeypatch.setattr(
        work, "train", lambda recipe, unit, *data: units.append(unit) or train(recipe, unit, *data)
    )
    data = {name: (x.repeat(1, 2), y) for name, (x, y) in moons().items()} if "lambda" in str(make) else {}
    compared(make, activations=["relu"], epochs=1, **data)
    groups = [SEEDS] if together else [(seed,) for seed in SEEDS]
    expected = [(rate, group, together) for rate in RATES for group in groups]
    assert [(unit.learning_rate, unit.seeds, unit.together) for unit in units] == expected


def test_without_labels_the_loss_decides():
    moon = moons()
    data = {name: (x, x @ torch.tensor([[0.3, 1.0], [-1.0, 0.1]]) + 0.05) for name, (x, _) in moon.items()}
    loss = nn.MSELoss()
    result = compared(
        partial(mlp, (2, 8, 2)), **data, loss=loss, together=False, activations=["relu", "sigmoid"]
    )
    by_hand = loop_of_fit(partial(mlp, (2, 8, 2)), ["relu", "sigmoid"], data, loss)
    assert result.measure == "loss"
    assert result.runs[["validation_accuracy", "test_accuracy"]].isna().all(axis=None)
    tests = {}
    for label in ("relu", "sigmoid"):
        means = {
            rate: statistics.mean(by_hand[label, rate, seed][1].validation_loss[-1].item() for seed in SEEDS)
            for rate in RATES
        }
        best = min(means, key=means.get)
        assert result.runs.query("activation == @label and chosen")["learning_rate"].unique() == [best]
        with torch.no_grad():
            x, y = data["test"]
            tests[label] = [loss(by_hand[label, best, seed][0](x), y).item() for seed in SEEDS]
    summary = result.summary().set_index("activation")
    assert summary.loc["sigmoid", "mean"] == pytest.approx(statistics.mean(tests["sigmoid"]))
    assert summary.loc["sigmoid", "difference"] == pytest.approx(
        statistics.mean(tests["sigmoid"]) - statistics.mean(tests["relu"])
    )
    assert summary.loc["sigmoid", "verdict"] == "worse"  # a greater loss
    assert "Mean test loss" in result.text()
    assert result.level == pytest.approx(
        1.05 * result.runs[result.runs["chosen"]].groupby("activation")["validation_loss"].mean().min()
    )


def test_activations_may_be_anything_that_the_factory_takes():
    named = {"flat": "sigmoid", "leaky 0.3": partial(nn.LeakyReLU, 0.3), "none": None}
    result = compared(activations=named, together=False)
    assert result.activations == list(named)
    assert result.baseline == "flat"
    by_hand = loop_of_fit(lambda label: mlp((2, 8, 1), named[label]), named)
    expected = [history.loss[-1] for _, history in by_hand.values()]
    assert result.runs["loss"].tolist() == expected
    dead = result.runs.groupby("activation")["dead_share"].max()
    assert dead["leaky 0.3"] == 0
    assert math.isnan(dead["none"])  # no activation, so none that could be dead
    tuning, training, differences = result.plot().axes
    colours = {line.get_label(): line.get_color() for line in tuning.lines[::2]}
    assert list(colours) == list(named)
    assert len(set(colours.values())) == 3
    assert [line.get_color() for line in training.lines[:3]] == list(colours.values())
    assert [line.get_color() for line in differences.lines[1::2]] == list(colours.values())[1:]
    plt.close("all")


def test_dead_share_counts_units_over_all_layers_and_all_examples():
    class Halves(nn.Module):
        """3 of 5 units of the first layer are dead, and 1 of 3 of the second; one lives on one example."""

        def __init__(self):
            super().__init__()
            self.first, self.second = nn.ReLU(), nn.ReLU()

        def forward(self, x):
            ones = torch.ones(len(x), 1)
            self.second(torch.cat([ones, -ones, ones], dim=1))
            return self.first(torch.cat([-ones, -ones, -ones, ones, x - 2499.5], dim=1))

    assert work.dead_share(Halves(), torch.arange(2501.0)[:, None]) == 4 / 8
    assert work.dead_share(FunctionalMLP((2, 8, 1)), moons()["test"][0]) is None


def test_dead_share_is_about_the_validation_data():
    few = tuple(part[:2] for part in moons()["validation"])
    result = compared(activations=["relu"], validation=few, together=False)
    by_hand = loop_of_fit(MLP, ["relu"], moons() | {"validation": few})
    expected = [probes.inspect_units(model.eval(), few[0])["1"].dead_rate for model, _ in by_hand.values()]
    assert result.runs["dead_share"].tolist() == expected
    assert max(expected) > 0


def test_functions_cannot_be_seen_so_their_dead_share_is_missing():
    result = compared(partial(FunctionalMLP, (2, 8, 1)), epochs=1)
    assert result.runs["dead_share"].isna().all()
    assert result.summary()["dead_share"].isna().all()
    assert "Dead units" not in result.text()


def on_one_thread(make_model):
    def make(activation):
        assert torch.get_num_threads() == 1
        return make_model(activation)

    return make


def test_generators_and_threads_are_left_as_they_were():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    torch.set_num_threads(2)
    compared(on_one_thread(Random), epochs=1)
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_survive_packing_whatever_their_kind():
    def make():
        odd = nn.Linear(2, 1).to(torch.bfloat16)  # six bytes, which the next ones are not aligned to
        layers = nn.Sequential(odd, nn.BatchNorm1d(5), nn.Linear(3, 5))
        layers.register_buffer("scalar", torch.rand((), dtype=torch.float64))
        for parameter in layers.parameters():
            nn.init.normal_(parameter)
        return layers

    models, copies = [make(), make()], [make(), make()]
    models[1][1].num_batches_tracked += 7
    work.unpack(copies, work.pack(models))
    for model, copy in zip(models, copies):
        torch.testing.assert_close(copy.state_dict(), model.state_dict(), rtol=0, atol=0)


# --- choosing, and divergence ---------------------------------------------------------------------------


def record(activation, rate, accuracies, losses=None, **more):
    """A unit's record: for each seed its curves of validation accuracy and loss."""
    losses = losses or [[1.0] * len(curve) for curve in accuracies]
    runs = [
        {
            "seed": seed, "loss": loss, "validation_loss": loss, "validation_accuracy": curve,
            "seconds_per_step": 0.1, "dead_share": 0.0,
        } | more
        for seed, (curve, loss) in enumerate(zip(accuracies, losses))
    ]  # fmt: skip
    return {"activation": activation, "learning_rate": rate, "runs": runs}


def test_rate_with_the_best_mean_is_chosen_and_ties_fall_to_the_lower_loss():
    best_mean = [
        record("relu", 0.1, [[0.5, 0.9], [0.5, 0.5]]),
        record("relu", 0.2, [[0.9, 0.8], [0.9, 0.7]]),  # at the end
        record("relu", 0.3, [[0.9, 0.7], [0.9, 0.7]]),
    ]
    assert choose_rates(best_mean) == {"relu": 0.2}
    tie = [
        record("relu", 0.3, [[0.8], [0.8]], [[0.4], [0.4]]),
        record("relu", 0.1, [[0.8], [0.8]], [[0.5], [0.5]]),
        record("relu", 0.2, [[0.8], [0.8]], [[0.4], [0.4]]),
    ]
    assert choose_rates(tie) == {"relu": 0.2}
    tie_but_for_rounding = [
        record("relu", 0.1, [[0.6], [0.6], [0.9]], [[0.5]] * 3),
        record("relu", 0.2, [[0.7], [0.7], [0.7]], [[0.4]] * 3),
    ]
    assert choose_rates(tie_but_for_rounding) == {"relu": 0.2}
    without_labels = [
        record("relu", 0.3, [None, None], [[0.4], [0.4]]),
        record("relu", 0.2, [None, None], [[0.3], [0.3]]),
    ]
    assert choose_rates(without_labels) == {"relu": 0.2}


def test_rate_with_a_diverged_run_is_not_chosen():
    records = [
        record("relu", 0.1, [[0.7], [0.7]]),
        record("relu", 0.2, [[0.9], [0.9]], [[1.0], [None]]),
        record("tanh", 0.1, [[0.9], [0.9]], [[None], [1.0]]),
        record("tanh", 0.2, [[0.9], [0.9]], [[1.0], [None]]),
    ]
    assert choose_rates(records) == {"relu": 0.1, "tanh": None}


@pytest.mark.parametrize("where", ["loss", "validation_loss"])
def test_run_has_diverged_if_either_loss_was_not_finite_at_any_time(where):
    diverged = record("relu", 0.2, [[0.9, 0.9]], [[1.0, 1.0]], **{where: [None, 1.0]})
    assert choose_rates([record("relu", 0.1, [[0.7, 0.7]]), diverged]) == {"relu": 0.1}


def unstable(parameters, lr):
    """Explodes at rate 0.03 from those starts whose first weight is positive; from all of them at 1."""
    explodes = lr == 1 or (lr == 0.03 and parameters[0].flatten()[0] > 0)
    return ADAM(parameters, lr=math.inf if explodes else lr)


def starts_positive(seed):
    torch.manual_seed(seed)
    return bool(mlp((2, 8, 1))[0].weight.flatten()[0] > 0)


def test_diverged_runs_are_reported_and_averaged_into_nothing():
    seeds = range(4)
    exploding = [starts_positive(seed) for seed in seeds]
    assert 0 < sum(exploding) < 4
    same = {"optimizer": unstable, "seeds": seeds, "together": False}
    result = compared(**same)
    at_high_rate = result.runs.query("learning_rate == 0.03")
    assert at_high_rate["diverged"].tolist() == exploding * 2
    assert not at_high_rate["chosen"].any()
    assert set(result.runs[result.runs["chosen"]]["learning_rate"]) == {0.003}
    lost = result.runs[result.runs["diverged"]]
    measured = [
        "loss", "validation_loss", "validation_accuracy", "test_loss", "test_accuracy", "epochs_to_level",
        "dead_share",
    ]  # fmt: skip
    assert lost[measured].isna().all(axis=None)
    alone = compared(**same | {"learning_rates": [0.003], "level": result.level})
    expected = result.runs.query("learning_rate == 0.003").reset_index(drop=True)
    pd.testing.assert_frame_equal(
        alone.runs.drop(columns="seconds_per_step"), expected.drop(columns="seconds_per_step")
    )
    where = f"{sum(exploding)} of 4 at rate 0.03"
    caution = f"Beware: runs of relu diverged ({where}); these rates could not be chosen."
    assert caution in result.text()
    result.plot().canvas.draw()
    plt.close("all")


def test_activation_that_diverges_everywhere_has_no_result():
    def optimizer(parameters, lr):
        return ADAM(parameters, lr=math.inf if lr == 1 else lr)

    result = compared(optimizer=optimizer, learning_rates=[1.0])
    assert result.runs["diverged"].all()
    assert result.summary()["verdict"].tolist() == ["diverged", "diverged"]
    assert math.isnan(result.level)
    assert "No activation has a learning rate without diverged runs." in result.text()
    assert "runs of tanh diverged (3 of 3 at rate 1); no rate is free of them" in result.text()
    result.plot().canvas.draw()
    plt.close("all")


def test_comparison_without_its_baseline_still_gives_the_others():
    records = [
        record("relu", 0.1, [[0.9], [0.9]], [[None], [None]]),
        record("tanh", 0.1, [[0.9], [0.8]]),
    ]
    tested = {"activation": "tanh", "learning_rate": 0.1, "runs": scores([0.9, 0.7])}
    result = assemble(records, [tested], {"relu": [1.0], "tanh": [1.0]}, "relu", None)
    summary = result.summary()
    assert summary["verdict"].tolist() == ["diverged", "baseline diverged"]
    assert summary["mean"].tolist()[1] == pytest.approx(0.8)
    assert summary[["difference", "p", "p_holm"]].isna().all(axis=None)
    assert "tanh 80.0 %" in result.text()


class Poisoned(nn.Module):
    """Not a number from the start, where the first weight drawn is positive."""

    def __init__(self, activation):
        super().__init__()
        self.layers = mlp((2, 8, 1), activation)
        with torch.no_grad():
            self.layers[0].weight *= torch.where(self.layers[0].weight[0, 0] > 0, math.nan, 1.0)

    def forward(self, x):
        return self.layers(x)


def test_diverged_run_does_not_touch_those_trained_with_it():
    healthy = [seed for seed in range(6) if not starts_positive(seed)]
    assert 1 < len(healthy) < 6
    mixed = compared(Poisoned, seeds=range(6), together=True).curves
    expected = compared(Poisoned, seeds=healthy, together=True).curves
    found = mixed[mixed["seed"].isin(healthy)].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-5)
    assert mixed[~mixed["seed"].isin(healthy)]["loss"].isna().all()


# --- summaries ------------------------------------------------------------------------------------------


def scores(accuracies):
    return [
        {"seed": seed, "test_loss": 1.0, "test_accuracy": accuracy}
        for seed, accuracy in enumerate(accuracies)
    ]


def made_up(tests, rates=(0.1, 0.2, 0.3), chosen=0.2, curves=None, seconds=None, level=None, baseline=None):
    """A comparison whose test accuracies are given, label → one a seed."""
    n = len(next(iter(tests.values())))
    records = [
        record(label, rate, (curves or {}).get(label) or [[0.5]] * n) for label in tests for rate in rates
    ]
    tested = [
        {"activation": label, "learning_rate": chosen, "runs": scores(each)} for label, each in tests.items()
    ]
    seconds = seconds or {label: [1.0] for label in tests}
    return assemble(records, tested, seconds, baseline or next(iter(tests)), level)


BASE = [0.80, 0.82, 0.81, 0.83, 0.80]
TESTS = {
    "relu": BASE,
    "gelu": [0.82, 0.81, 0.80, 0.84, 0.81],  # no difference
    "sigmoid": [0.70, 0.71, 0.72, 0.71, 0.70],  # far below
    "tanh": [0.82, 0.822, 0.815, 0.842, 0.817],  # above, but not after the correction
    "silu": [0.90, 0.91, 0.92, 0.91, 0.90],  # far above
}


def test_summary_has_the_statistics_of_scipy():
    summary = made_up(TESTS).summary().set_index("activation")
    assert list(summary.index) == list(TESTS)
    p = {}
    for label, values in TESTS.items():
        row = summary.loc[label]
        low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
        np.testing.assert_allclose(row[["mean", "low", "high"]].astype(float), [np.mean(values), low, high])
        if label == "relu":
            assert row[["difference", "difference_low", "difference_high", "p", "p_holm"]].isna().all()
            continue
        test = stats.ttest_rel(values, BASE)
        interval = test.confidence_interval()
        expected = [np.mean(values) - np.mean(BASE), interval.low, interval.high, test.pvalue]
        found = row[["difference", "difference_low", "difference_high", "p"]].astype(float)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        p[label] = test.pvalue
    ordered = sorted(p, key=p.get)
    assert set(ordered[:2]) == {"sigmoid", "silu"}
    assert ordered[2:] == ["tanh", "gelu"]
    assert summary.loc[ordered[0], "p_holm"] == pytest.approx(4 * p[ordered[0]])
    assert summary.loc["tanh", "p_holm"] == pytest.approx(2 * p["tanh"])
    assert p["tanh"] < 0.05 < 2 * p["tanh"]
    assert summary["verdict"].to_dict() == {
        "relu": "baseline",
        "gelu": "no difference seen",
        "sigmoid": "worse",
        "tanh": "lost in the correction",
        "silu": "better",
    }


def test_differences_are_paired_by_seed_not_by_row():
    result = made_up({"relu": [0.1, 0.2, 0.6], "tanh": [0.2, 0.3, 0.7]})
    shuffled = result.runs.sample(frac=1, random_state=0).reset_index(drop=True)
    summary = type(result)(**vars(result) | {"runs": shuffled}).summary().set_index("activation")
    assert summary.loc["tanh", "difference"] == pytest.approx(0.1)
    assert summary.loc["tanh", "p"] < 1e-6


@pytest.mark.parametrize(
    ("others", "p", "verdict"), [([0.8, 0.8, 0.8], 1, "no difference seen"), ([0.75] * 3, 0, "worse")]
)
def test_seeds_that_all_agree(others, p, verdict):
    """As on an easy problem that every run solves: there is no spread to divide by."""
    row = made_up({"relu": [0.8, 0.8, 0.8], "tanh": others}).summary().iloc[1]
    assert (row["p"], row["verdict"]) == (p, verdict)


def test_baseline_may_be_any_of_them():
    result = made_up(TESTS, baseline="silu")
    assert result.summary().set_index("activation").loc["relu", "difference"] == pytest.approx(-0.096)
    assert "relu is worse than silu (−9.6 points" in result.text()


def test_epochs_to_a_level_are_the_first_at_which_it_is_reached():
    curves = {
        "relu": [[0.2, 0.8, 0.7], [0.8, 0.9, 0.9], [0.1, 0.2, 0.8]],
        "tanh": [[0.1, 0.1, 0.1], [0.1, 0.1, 0.79], [0.9, 0.1, 0.1]],
    }
    tests = dict.fromkeys(curves, [0.8] * 3)
    result = made_up(tests, curves=curves, level=0.8)
    chosen = result.runs[result.runs["chosen"]]
    assert chosen["epochs_to_level"].fillna(-1).tolist() == [2, 1, 3, -1, -1, 1]
    summary = result.summary()
    assert summary["epochs_to_level"].tolist() == [2, math.inf]
    assert summary["reached"].tolist() == pytest.approx([1, 1 / 3])
    assert "accuracy of 80.0 %: relu 2, tanh not reached in 67 % of the runs." in result.text()
    assert made_up(tests, curves=curves).level == pytest.approx(0.95 * 0.8)


def test_level_of_a_loss_is_reached_from_above():
    losses = [[3.0, 1.0, 0.5], [1.0, 2.0, 2.0]]
    records = [record("relu", 0.1, [None, None], losses)]
    tested = [{"activation": "relu", "learning_rate": 0.1, "runs": scores([None, None])}]
    result = assemble(records, tested, {"relu": [1.0]}, "relu", 1.0)
    assert result.runs["epochs_to_level"].tolist() == [2, 1]


def test_step_times_are_compared_round_by_round():
    seconds = {"relu": [1.0, 10.0, 2.0, 4.0, 5.0], "gelu": [1.5, 20.0, 5.0, 4.0, 5.0]}
    row = made_up({"relu": BASE, "gelu": BASE}, seconds=seconds).summary().iloc[1]
    ratios = [1.5, 2, 2.5, 1, 1]
    assert row["step_time"] == np.median(ratios)
    assert (row["step_time_low"], row["step_time_high"]) == tuple(np.quantile(ratios, [0.25, 0.75]))


def test_text_says_what_was_found():
    text = made_up(TESTS).text()
    for sentence in (
        "5 activations, each at its best of 3 learning rates, 5 seeds.",
        "Mean test accuracy with its 95 % interval over seeds: relu 81.2 % [79.6, 82.8] at rate 0.2, gelu",
        "gelu against relu: no difference seen (+0.4 points, interval −1.3 to +2.1).",
        "sigmoid is worse than relu (−10.4 points, interval −11.8 to −9.0; p = 0.00014",
        "tanh against relu: a difference (+1.1 points, interval +0.2 to +2.1) that does not outlast the",
        "silu is better than relu (+9.6 points",
        "multiple of relu's: gelu 1.00, sigmoid 1.00, tanh 1.00, silu 1.00.",
    ):
        assert sentence in text
    assert "Beware" not in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"chosen": 0.3},
            "the rate chosen for relu is the largest that was tried; a larger one may be better.",
        ),
        ({"chosen": 0.1}, "the rate chosen for tanh is the smallest that was tried; a smaller one may be"),
        ({"rates": (0.2,)}, "Beware: with one learning rate no activation was tuned."),
        (
            {"tests": {"relu": BASE[:3], "tanh": BASE[:3]}},
            "Beware: 3 seeds are few, so the intervals are wide.",
        ),
        ({"tests": {"relu": [0.8], "tanh": [0.9]}}, "With one seed nothing can be said about differences."),
    ],
)
def test_text_warns(changes, sentence):
    text = made_up(**{"tests": {"relu": BASE, "tanh": BASE}} | changes).text()
    assert sentence in text


def test_only_rate_is_at_no_edge():
    result = made_up({"relu": BASE, "tanh": BASE}, rates=(0.2,))
    assert not result.summary()["at_edge"].any()
    assert "that was tried" not in result.text()


def test_one_seed_has_means_and_no_intervals():
    result = made_up({"relu": [0.8], "tanh": [0.9]})
    summary = result.summary()
    assert summary["mean"].tolist() == [0.8, 0.9]
    assert summary[["low", "high", "difference_low", "p", "p_holm"]].isna().all(axis=None)
    assert summary["verdict"].tolist() == ["baseline", "too few seeds"]
    assert "relu 80.0 % at rate 0.2, tanh" in result.text()
    result.plot().canvas.draw()
    plt.close("all")


def test_plot_shows_tuning_training_and_differences():
    curves = {"relu": [[0.2, 0.6]] * 5, "gelu": [[0.3, 0.7]] * 5, "silu": [[0.1, 0.5]] * 5}
    result = made_up({label: TESTS[label] for label in curves}, curves=curves)
    tuning, training, differences = result.plot().axes
    labelled = {line.get_label(): line for line in tuning.lines if not line.get_label().startswith("_")}
    assert list(labelled) == ["ReLU", "GELU", "SiLU"]
    assert labelled["GELU"].get_xdata().tolist() == [0.1, 0.2, 0.3]
    assert labelled["GELU"].get_ydata().tolist() == pytest.approx([0.7] * 3)
    rings = [line for line in tuning.lines if line.get_markerfacecolor() == "none"]
    assert [ring.get_xdata().tolist() for ring in rings] == [[0.2]] * 3
    assert [line.get_ydata().tolist() for line in training.lines[:3]] == [
        pytest.approx(curve[0]) for curve in curves.values()
    ]
    assert [label.get_text() for label in differences.get_yticklabels()] == ["GELU", "SiLU"]
    assert "difference from ReLU" in (differences.get_title("left"), differences.get_title())
    assert all(tick == int(tick) for tick in training.get_xticks())
    points = [line.get_xdata() for line in differences.lines if line.get_marker() == "o"]
    assert [point[0] for point in points] == pytest.approx([0.004, 0.096])
    plt.close("all")


# --- the timing -----------------------------------------------------------------------------------------


class Laborious(nn.Module):
    def forward(self, x):
        for _ in range(60):
            x = x.sin()
        return x


def test_step_times_are_measured_in_turns_in_one_process(monkeypatch):
    monkeypatch.setattr(work, "_ROUNDS", 5)
    activations = {"relu": nn.ReLU, "laborious": Laborious}
    result = compared(activations=activations, epochs=1, batch_size=10)
    assert result.step_times["activation"].value_counts().to_dict() == {"relu": 5, "laborious": 5}
    assert (result.step_times["seconds"] > 0).all()
    assert result.summary()["step_time"].tolist()[1] > 1.5
    assert "multiple of relu's: laborious" in result.text()


def test_seconds_are_those_of_one_step(monkeypatch):
    """By a clock that advances by 1 with every step of the optimizer."""
    monkeypatch.setattr(work, "_TIMED_SECONDS", 20)
    ticks = 0

    class Ticking(ADAM):
        def step(self, closure=None):
            nonlocal ticks
            ticks += 1
            return super().step(closure)

    monkeypatch.setattr(time, "process_time", lambda: ticks)
    recipe = work.Recipe(MLP, BINARY, Ticking, 3, 32, "cpu")
    seconds = work.time_steps(recipe, {"relu": "relu", "tanh": "tanh"}, 0.1, *moons()["train"])
    assert seconds == {"relu": [1, 1], "tanh": [1, 1]}


# --- the results folder ---------------------------------------------------------------------------------


class InterruptedRunError(Exception):
    pass


def interrupt_after(n, monkeypatch):
    """Let the n-th saved record be the last."""
    write, names = ResultsFolder.write, []

    def stopping(self, name, content):
        write(self, name, content)
        names.append(name)
        if len(names) == n:
            raise InterruptedRunError

    monkeypatch.setattr(ResultsFolder, "write", stopping)


def counted(monkeypatch):
    """Which units are trained and which are scored, from now on."""
    calls = {"train": [], "score": []}
    for name, names in calls.items():
        original = getattr(work, name)

        def spy(recipe, unit, *data, original=original, names=names):
            names.append(unit.name)
            return original(recipe, unit, *data)

        monkeypatch.setattr(work, name, spy)
    return calls


@pytest.mark.parametrize("together", [True, False])
def test_interrupted_comparison_goes_on_and_loses_nothing(tmp_path, monkeypatch, together):
    expected = compared(together=together)
    units = 4 if together else 12
    for saved in (1, 3, units + 1, units + 2):  # the manifest is the first, the test comes after the units
        folder = tmp_path / str(saved)
        with monkeypatch.context() as patch:
            interrupt_after(saved, patch)
            with pytest.raises(InterruptedRunError):
                compared(together=together, folder=folder)
        with monkeypatch.context() as patch:
            calls = counted(patch)
            assert_same(compared(together=together, folder=folder), expected)
            assert len(calls["train"]) == units - min(saved - 1, units)
            assert len(calls["score"]) == (0 if saved == units + 2 else 2 if together else 6)


def test_finished_comparison_is_read_and_not_run_again(tmp_path, monkeypatch):
    first = compared(folder=tmp_path)
    calls = counted(monkeypatch)
    again = compared(folder=tmp_path)
    assert calls == {"train": [], "score": []}
    for name in ("runs", "curves", "step_times"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(first, name), check_exact=True)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json"}  # no weights are left behind
    for path in tmp_path.iterdir():
        json.loads(path.read_text("utf-8"), parse_constant=pytest.fail)  # plain JSON, without NaN


def test_baseline_and_level_may_change_afterwards(tmp_path, monkeypatch):
    compared(folder=tmp_path)
    calls = counted(monkeypatch)
    other = compared(folder=tmp_path, baseline="tanh", level=0.5)
    assert calls["train"] == []
    assert (other.baseline, other.level) == ("tanh", 0.5)


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change_a_digit(path):
    path.write_text(path.read_text().replace('"dead_share": 0.', '"dead_share": 1.', 1))


@pytest.mark.parametrize(
    ("pattern", "spoil"),
    [
        ("0002*.json", halve),
        ("0002*.json", lambda path: path.write_text("")),
        ("0002*.json", lambda path: path.write_text("[1]")),
        ("0002*.json", lambda path: path.write_bytes(b"\xff\xfe")),
        ("0002*.json", change_a_digit),
        ("0002*.weights", halve),
        ("0002*.weights", lambda path: path.unlink()),
        ("0002*.weights", lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?")),
    ],
)
def test_half_written_file_is_not_believed(tmp_path, monkeypatch, in_one_piece, pattern, spoil):
    with monkeypatch.context() as patch:
        interrupt_after(5, patch)  # all four units
        with pytest.raises(InterruptedRunError):
            compared(folder=tmp_path)
    (path,) = tmp_path.glob(pattern)
    spoil(path)
    calls = counted(monkeypatch)
    result = compared(folder=tmp_path)
    assert calls["train"] == ["0002-relu"]
    assert_same(result, in_one_piece)


def test_record_is_never_seen_half_written(tmp_path, monkeypatch):
    """What a killed process leaves is a file of another name."""
    folder = ResultsFolder(tmp_path / "new", {"a": 1})
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(InterruptedRunError))
    for write in (lambda: folder.write("unit", {"b": 2}), lambda: folder.write_weights("unit", b"12")):
        with pytest.raises(InterruptedRunError):
            write()
    assert folder.read("unit") is None
    assert folder.read_weights("unit", "") is None
    left = sorted(path.name for path in folder.path.iterdir())
    assert [name for name in left if not name.endswith(".part")] == ["comparison.json"]
    monkeypatch.undo()
    assert ResultsFolder(tmp_path / "new", {"a": 1}).read("comparison") == {"a": 1}


def biased(activation):
    model = mlp((2, 8, 1), activation)
    nn.init.constant_(model[-1].bias, 0.5)  # looks the same, computes something else
    return model


OTHER = {name: (x + 1e-3, y) for name, (x, y) in moons().items()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"seeds": [4, 0]},
            r"another comparison: seeds \(\[4, 0, 7\] there, \[4, 0\] here\)\. Choose another",
        ),
        (
            {"learning_rates": [0.003, 0.01]},
            r"learning_rates \(\[0.003, 0.03\] there, \[0.003, 0.01\] here\)",
        ),
        ({"activations": ["relu", "gelu"]}, r"activations .*; models.tanh .*; models.gelu "),
        ({"epochs": 4}, r"epochs \(3 there, 4 here\)"),
        ({"batch_size": 16}, r"batch_size \(32 there, 16 here\)"),
        ({"optimizer": partial(ADAM, eps=1e-5)}, r"optimizer \(.*eps: 1e-08.* there, .*eps: 1e-05.* here"),
        ({"optimizer": torch.optim.SGD}, r"optimizer \(Adam .* there, SGD .* here"),
        ({"loss": nn.MSELoss()}, r"loss \(BCEWithLogitsLoss\(\) there, MSELoss\(\) here\)"),
        ({"loss": nn.BCEWithLogitsLoss(pos_weight=torch.tensor(2.0))}, r"models.relu.first_loss"),
        ({"train": OTHER["train"]}, "data.train.inputs"),
        ({"validation": OTHER["validation"]}, "data.validation.inputs"),
        ({"test": OTHER["test"]}, r"data.test.inputs \(\.\.\..* there, \.\.\..* here\)\. Choose"),
        ({"test": (moons()["test"][0], 1 - moons()["test"][1])}, "data.test.targets"),
        ({"make_model": partial(mlp, (2, 9, 1))}, "models.relu.structure .*out_features=8.*out_features=9"),
        (
            {"make_model": biased},
            r"models.relu.first_loss \(0.\d+ there, 0.\d+ here\); models.tanh.first_loss",
        ),
        ({"together": False}, "models.relu.seeds_together"),
    ],
)
def test_folder_of_another_comparison_is_refused(folder_of_one, changes, message):
    before = {path: path.read_bytes() for path in folder_of_one.iterdir()}
    with pytest.raises(ValueError, match=message) as error:
        compared(**changes, folder=folder_of_one)
    assert "\n" not in str(error.value)
    assert {path: path.read_bytes() for path in folder_of_one.iterdir()} == before


@pytest.fixture(scope="module")
def folder_of_one(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one") / "results"
    compared(folder=folder)
    return folder


def test_other_version_of_torch_is_another_comparison(folder_of_one, monkeypatch):
    monkeypatch.setattr(torch, "__version__", "9.9")
    with pytest.raises(ValueError, match=r"torch \(.* there, 9.9 here\)"):
        compared(folder=folder_of_one)


def test_manifests_may_differ_by_rounding_only():
    assert differences({"a": {"loss": 0.5}}, {"a": {"loss": 0.50001}}) == []
    assert differences({"a": {"loss": 0.5}}, {"a": {"loss": 0.501}}) == ["a.loss (0.5 there, 0.501 here)"]
    assert differences({"a": None}, {"a": None}) == []
    assert differences({"a": 1}, {"b": 1}) == ["a (1 there, None here)", "b (None there, 1 here)"]


def test_folders_that_are_none_of_ours_are_refused(tmp_path):
    file, other, damaged = tmp_path / "file", tmp_path / "other", tmp_path / "damaged"
    file.write_text("")
    other.mkdir()
    (other / "thesis.tex").write_text("")
    compared(folder=damaged, epochs=1)
    halve(damaged / "comparison.json")
    for folder, message in (
        (file, "file is a file; the results need a folder"),
        (other, "other is not empty and holds no comparison; choose another folder"),
        (damaged, "comparison.json is damaged; choose another folder, or delete this one"),
    ):
        with pytest.raises(ValueError, match=message):
            compared(folder=folder, epochs=1)


# --- the test set ---------------------------------------------------------------------------------------


class Watched(nn.Module):
    """Counts how many examples with a mark have passed through, over all models."""

    seen: ClassVar = Counter()

    def __init__(self, activation):
        super().__init__()
        self.activation, self.layers = activation, mlp((2, 8, 1), activation)

    def forward(self, x):
        if (x.detach() > 1e6).any():
            Watched.seen[self.activation, round(float(self.layers[0].bias[0]), 4)] += len(x)
        return self.layers(x)


def test_test_set_is_touched_once_and_by_the_chosen_runs_only():
    Watched.seen.clear()
    x, y = moons()["test"]
    result = compared(Watched, test=(x + 1e7, y), together=False)
    assert sorted(Watched.seen.values()) == [len(x)] * 6  # six models, each once
    assert Counter(activation for activation, _ in Watched.seen) == {"relu": 3, "tanh": 3}
    assert result.runs["chosen"].sum() == 6


# --- other processes ------------------------------------------------------------------------------------


def noting_process(folder, activation):
    (folder / str(os.getpid())).touch()
    return MLP(activation)


def two_parts(x):
    return torch.where(x > 0, x, 0.1 * x.sin())


class TwoParts(nn.Module):
    def forward(self, x):
        return two_parts(x)


def test_other_processes_give_the_same_numbers(tmp_path):
    """With activations that these do not know by name."""
    make = partial(noting_process, tmp_path)
    own = catalog.Activation("two_parts", TwoParts, two_parts, "x")
    with catalog.register(own):
        same = {"activations": ["relu", "two_parts"], "seeds": range(4), "together": False}
        expected = compared(make, **same)
        assert len(list(tmp_path.iterdir())) == 1
        assert_same(compared(make, **same, jobs=2), expected)
        assert len(list(tmp_path.iterdir())) > 1
        assert expected.runs["dead_share"].notna().all()


def test_threads_take_turns():
    """They share the random generators that weights and dropout are drawn from."""
    expected = compared(Random, epochs=1)
    with joblib.parallel_config(backend="threading", n_jobs=3):
        assert_same(compared(Random, epochs=1), expected)


def test_what_cannot_be_sent_to_other_processes_is_named():
    lock = threading.Lock()
    message = r"{} cannot be sent to other processes \(cannot pickle '_thread.lock' object\): make it from"
    for name, part in (
        ("make_model", lambda activation: mlp((2, 8, 1), activation) if lock else None),
        ("loss", lambda outputs, targets: BINARY(outputs, targets) if lock else None),
        ("optimizer", lambda parameters, lr: ADAM(parameters, lr=lr) if lock else None),
        ("activations", {"relu": lambda: nn.ReLU() if lock else None}),
    ):
        with pytest.raises(ValueError, match=message.format(name)):
            compared(**{name: part}, epochs=1, jobs=2)
    compared(lambda activation: mlp((2, 8, 1), activation) if lock else None, epochs=1)  # here it is fine


def slow_mlp(activation):
    """Slow enough for its worker to be in the midst of it at any time."""
    time.sleep(0.1)
    return MLP(activation)


def test_dask_cluster_that_loses_a_worker_gives_the_same_numbers(tmp_path, monkeypatch):
    from distributed import Client, LocalCluster

    same = {"together": False, "learning_rates": [0.003], "seeds": range(6)}
    expected = compared(**same)
    write, saved = ResultsFolder.write, []
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        ) as cluster,
        Client(cluster) as client,
    ):
        workers = list(client.run(os.getpid).values())
        assert len(set(workers)) == 2

        def killing(self, name, content):
            write(self, name, content)
            saved.append(name)
            if len(saved) == 4:  # the manifest and three of twelve units
                os.kill(workers[0], signal.SIGKILL)

        monkeypatch.setattr(ResultsFolder, "write", killing)
        with joblib.parallel_config(backend="dask"):
            result = compared(slow_mlp, **same, folder=tmp_path)
        assert workers[0] not in client.run(os.getpid).values()
    assert_same(result, expected)
    assert len(set(saved)) == len(saved) == 15  # each unit once, the manifest, the test and the timing


# --- saved tables ---------------------------------------------------------------------------------------


def test_saved_tables_read_back_to_the_last_bit(in_one_piece, tmp_path):
    save(in_one_piece, tmp_path / "new", "the command")
    found, about = read(str(tmp_path / "new"))
    for name in ("runs", "curves", "step_times"):
        pd.testing.assert_frame_equal(
            getattr(found, name), getattr(in_one_piece, name), check_exact=True, check_dtype=False
        )
    assert found.text() == in_one_piece.text()
    assert about.command == "the command"


def test_saved_tables_may_hold_what_is_missing(tmp_path):
    """Infinite rates diverge; without labels there is no accuracy."""
    x = torch.linspace(-1, 1, 40)[:, None]
    data = dict.fromkeys(("train", "validation", "test"), (x, x))
    sgd = {"optimizer": torch.optim.SGD, "learning_rates": [0.1, 1e30]}
    result = compared(partial(mlp, (1, 4, 1)), **data, **sgd, loss=nn.MSELoss())
    assert result.runs["diverged"].any()
    save(result, tmp_path, "")
    found, _ = read(tmp_path)
    assert found.text() == result.text()
    pd.testing.assert_frame_equal(found.runs, result.runs, check_exact=True, check_dtype=False)


def test_changed_or_missing_tables_are_refused(in_one_piece, tmp_path):
    save(in_one_piece, tmp_path, "")
    table = tmp_path / "runs.csv"
    table.write_text(table.read_text().replace("True", "False", 1))
    with pytest.raises(ValueError, match=re.escape(f"{table} was changed: its SHA-256 is ")):
        read(tmp_path)
    table.unlink()
    with pytest.raises(FileNotFoundError, match=r"runs\.csv"):
        read(tmp_path)


# --- the command line -----------------------------------------------------------------------------------

QUICK = [
    "--data", "moons", "--widths", "8", "--rates", "0.01", "0.1", "--seeds", "3", "--epochs", "8",
    "--activations", "relu", "tanh",
]  # fmt: skip


def test_killed_command_goes_on_when_given_again(tmp_path, capsys):
    """Killed by the system, not asked to stop."""
    arguments = [*QUICK, "--output"]
    command = [sys.executable, "-m", "nonlinearity.comparison", *arguments, str(tmp_path / "killed")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while len(list(tmp_path.glob("killed/0*.json"))) < 2 and process.poll() is None:
            time.sleep(0.002)
        process.kill()
    saved = {path: path.read_bytes() for path in tmp_path.glob("killed/0*.json")}
    assert len(saved) >= 2
    assert main([*arguments, str(tmp_path / "killed")]) == 0
    assert main([*arguments, str(tmp_path / "whole")]) == 0
    assert all(path.read_bytes() == content for path, content in saved.items())
    killed, whole = (pd.read_csv(tmp_path / name / "runs.csv") for name in ("killed", "whole"))
    assert len(whole) == 2 * 2 * 3
    pd.testing.assert_frame_equal(
        killed.drop(columns="seconds_per_step"), whole.drop(columns="seconds_per_step"), check_exact=True
    )
    text = (tmp_path / "whole" / "summary.txt").read_text("utf-8")
    assert text.startswith("2 activations, each at its best of 2 learning rates, 3 seeds.")
    shown = capsys.readouterr().out
    assert text in shown
    assert all(word in shown for word in ("activation", "p_holm", "verdict"))
    summary = pd.read_csv(tmp_path / "whole" / "summary.csv")
    assert summary["activation"].tolist() == ["relu", "tanh"]
    result, about = read(tmp_path / "whole")
    assert result.text() == text.strip()
    assert about.command == shlex.join(["python", "-m", *command[2:-1], str(tmp_path / "whole")])
    assert about.made == f"{date.today()}"
    assert about.environment["torch"] == torch.__version__


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--activations", "relu", "gleu"],
            "unknown activation 'gleu'; did you mean 'glu' or 'gelu'",
        ),
        (["--activations", "relu", "ReLU"], "each activation may be named once, got relu, relu"),
        (["--activations", "relu", "gumbel_softmax"], "gumbel_softmax is a function only"),
        (["--activations", "relu", "glu"], "the model of 'glu' cannot be trained on these data: mat1 and"),
        (["--seeds", "0"], "seeds must be one or more different integers, got []"),
        (["--seeds", "many"], "argument --seeds: invalid int value: 'many'"),
        (["--rates", "-1"], "learning_rates must be one or more different positive numbers, got [-1.0]"),
        (["--epochs", "0"], "epochs must be at least 1, got 0"),
        (["--batch-size", "0"], "batch_size must be at least 1, got 0"),
        (["--examples", "0"], "--examples must be at least 1, got 0"),
        (["--model", "cnn"], "the cnn is for images, and moons are points: use --model mlp"),
        (["--data", "mnist"], "argument --data: invalid choice: 'mnist'"),
        (["--full", "."], "--full is for --data fashion_mnist, got moons"),
        (["--data", "fashion_mnist", "--full", "."], ". lacks train-images-idx3-ubyte.gz, "),
        (["--widths", "0"], "sizes must be at least two positive widths"),
        (["--level", "nan"], "level must be a finite number, got nan"),
        (["--device", "abacus"], "device 'abacus' cannot be used here: "),
        (["--jobs", "0"], "n_jobs == 0"),
        (["--output", __file__], "test_comparison.py is a file; the results need a folder"),
    ],
)
def test_command_line_refuses_in_one_line(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([*QUICK, "--output", str(tmp_path / "results"), *arguments])
    assert exit_.value.code == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("python -m nonlinearity.comparison: error: ")
    assert message in error
    assert error.count("\n") == 1


def test_command_line_that_is_interrupted_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(work, "train", interrupted)
    assert main([*QUICK, "--output", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "Interrupted; the same command goes on from here.\n"


@pytest.mark.parametrize(
    "model", [["--widths", "4", "--optimizer", "sgd"], ["--model", "cnn", "--channels", "2"]]
)
def test_command_line_trains_on_images(tmp_path, capsys, model):
    arguments = [*model, "--rates", "0.01", "--seeds", "2", "--epochs", "1", "--activations", "relu", "tanh"]
    assert main([*arguments, "--examples", "100", "--output", str(tmp_path)]) == 0
    manifest = json.loads((tmp_path / "comparison.json").read_text("utf-8"))
    assert manifest["data"]["train"]["inputs"].startswith("float32 (100, 64) ")
    assert ("Conv2d" in manifest["models"]["relu"]["structure"]) == ("cnn" in model)
    assert manifest["optimizer"].startswith("SGD" if "sgd" in model else "Adam")


@pytest.mark.parametrize(
    ("name", "sizes", "features"),
    [("digits", [1000, 297, 500], 64), ("fashion_mnist", [8000, 2000, 5000], 784), ("xor", [400] * 3, 2)],
)
def test_data_sets_come_in_three_parts_without_overlap(name, sizes, features):
    parts = load(name)
    assert [tuple(x.shape) for x, _ in parts] == [(n, features) for n in sizes]
    assert [len(y) for _, y in parts] == sizes
    assert all(set(y.flatten().tolist()) == set(parts[0][1].flatten().tolist()) for _, y in parts)
    rows = [{tuple(row) for row in x[:1000].tolist()} for x, _ in parts]
    assert sum(map(len, rows)) - len(set.union(*rows)) <= 0.01 * len(set.union(*rows))


# --- what is refused, and the rest ----------------------------------------------------------------------

X, Y = moons()["train"]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"activations": ["relu", "sigmod"]},
            ValueError,
            "unknown activation 'sigmod'; did you mean 'sigmoid'",
        ),
        ({"activations": {"a": "sigmod"}}, ValueError, "unknown activation 'sigmod'; did you mean 'sigmoid'"),
        ({"activations": []}, ValueError, "activations must name at least one activation, got none"),
        ({"activations": {}}, ValueError, "activations must name at least one activation, got none"),
        ({"activations": "relu"}, TypeError, "activations must be several names or a mapping, got 'relu'"),
        (
            {"activations": [nn.ReLU]},
            TypeError,
            "names of the catalogue, or a mapping .* got <class .*ReLU'> among",
        ),
        ({"activations": ["relu", "ReLU"]}, ValueError, "each activation may be named once, got relu, relu"),
        ({"learning_rates": []}, ValueError, r"learning_rates must be one or more different .*, got \[\]"),
        ({"learning_rates": [0.1, 0.1]}, ValueError, r"different positive numbers, got \[0.1, 0.1\]"),
        ({"learning_rates": [0.0]}, ValueError, r"positive numbers, got \[0.0\]"),
        ({"learning_rates": [math.nan]}, ValueError, r"positive numbers, got \[nan\]"),
        ({"learning_rates": [math.inf]}, ValueError, r"positive numbers, got \[inf\]"),
        ({"seeds": []}, ValueError, r"seeds must be one or more different integers, got \[\]"),
        ({"seeds": [1, 1]}, ValueError, r"different integers, got \[1, 1\]"),
        ({"seeds": np.array([0.5])}, ValueError, r"different integers, got \[.*0.5"),
        ({"seeds": 5}, TypeError, r"seeds must be several integers, such as range\(5\); got 5"),
        ({"epochs": 0}, ValueError, "epochs must be at least 1, got 0"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"baseline": "gelu"}, ValueError, "baseline must be one of relu, tanh; got 'gelu'"),
        ({"level": math.inf}, ValueError, "level must be a finite number, got inf"),
        ({"device": "abacus"}, ValueError, "device 'abacus' cannot be used here: "),
        ({"train": (X, Y[:9])}, ValueError, "train's inputs and targets must be of the same length"),
        (
            {"test": (X[:0], Y[:0])},
            ValueError,
            "test's inputs and targets must be of the same length, at least 1",
        ),
        ({"validation": X}, TypeError, "validation must be a pair of inputs and targets, got Tensor"),
        (
            {"validation": (X.numpy(), Y)},
            TypeError,
            "validation's inputs and targets must be tensors, got ndarray",
        ),
        (
            {"test": (X[:, :1], Y)},
            ValueError,
            r"test's inputs must be of the shape .* got \(80, 1\) .* \(80, 2\)",
        ),
        (
            {"test": (X.double(), Y)},
            ValueError,
            "test's inputs must be of the .* dtype .* got .* torch.float64",
        ),
        ({"test": (X, Y.flatten())}, ValueError, r"test's targets must be of the shape .* got \(80,\)"),
        (
            {"make_model": partial(mlp, (3, 8, 1))},
            ValueError,
            "model of 'relu' cannot be trained on these data: mat",
        ),
        (
            {"make_model": partial(mlp, (2, 8, 2))},
            ValueError,
            "model of 'relu' cannot be trained on these data: Tar",
        ),
        (
            {"make_model": partial(mlp, (2, 8))},
            ValueError,
            "the model of 'relu' cannot be trained on these data",
        ),
        (
            {"make_model": lambda activation: torch.relu},
            TypeError,
            "make_model must make an nn.Module, got builtin",
        ),
        ({"loss": nn.MSELoss(reduction="none")}, ValueError, "model of 'relu' .* loss must give one number"),
        ({"loss": "bce"}, TypeError, "loss must be a function"),
        ({"optimizer": nn.Linear}, TypeError, "lr"),
        ({"optimizer": lambda parameters, lr: None}, TypeError, "optimizer must make a PyTorch optimizer"),
        ({"make_model": None}, TypeError, "make_model must make a model from an activation, got None"),
    ],
)
def test_bad_input_is_refused_before_anything_is_trained(changes, error, message, monkeypatch):
    monkeypatch.setattr(work, "train", pytest.fail)
    with pytest.raises(error, match=message):
        compared(**changes)


def test_bar_counts_the_runs_that_are_missing(tmp_path, monkeypatch):
    bars, original = [], protocol.progress_bar

    def spy(total, progress, unit):
        bar = original(total, True, unit)
        bars.append((total, progress, unit, bar))
        return bar

    monkeypatch.setattr(protocol, "progress_bar", spy)
    with monkeypatch.context() as patch:
        interrupt_after(3, patch)
        with pytest.raises(InterruptedRunError):
            compared(folder=tmp_path)
    compared(folder=tmp_path, progress=False)
    (*first, broken), (*second, whole) = bars
    assert (first, second) == ([12, None, "run"], [6, False, "run"])
    assert (broken.n, whole.n) == (3, 6)


def test_all_of_fashion_mnist_comes_in_three_parts(monkeypatch):
    def originals(*, full, folder):
        assert (full, folder) == (True, "here")
        train, test = torch.arange(60_000.0)[:, None], torch.arange(10_000.0)[:, None]
        return data.Split(train, train[:, 0].long(), test, test[:, 0].long())

    monkeypatch.setitem(command_line._IMAGES, "fashion_mnist", (originals, 8000))
    parts = load("fashion_mnist", "here")
    numbers = [x.flatten().tolist() for x, _ in parts]
    assert numbers == [[*range(50_000)], [*range(50_000, 60_000)], [*range(10_000)]]
    assert all(torch.equal(x.flatten().long(), y) for x, y in parts)


def test_inputs_are_standardised_by_those_of_training(tmp_path, monkeypatch):
    given = {}

    def note(*_, **options):
        given.update(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "compare", note)
    main(["--data", "digits", "--examples", "300", "--standardise", "--output", str(tmp_path)])
    raw = [x.numpy().astype(float) for x, _ in load("digits")]
    mean, deviation = raw[0][:300].mean(), raw[0][:300].std(ddof=1)
    for name, x in zip(("train", "validation", "test"), (raw[0][:300], *raw[1:])):
        np.testing.assert_allclose(given[name][0].numpy(), (x - mean) / deviation, atol=1e-5)
