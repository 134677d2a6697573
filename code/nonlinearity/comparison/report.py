"""What a comparison found, as tables, a paragraph and a picture."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats

from nonlinearity import plotting
from nonlinearity.comparison import tables
from nonlinearity.comparison.folder import Record
from nonlinearity.statistics import holm, mean_interval

_SIGNIFICANT = 0.05
_FEW_SEEDS = 5

NO_DIFFERENCE = "no difference seen"
UNCERTAIN = "lost in the correction"
TOO_FEW = "too few seeds"
DIVERGED = "diverged"


@dataclass(frozen=True)
class Comparison:
    """The results of ``compare``.

    Attributes:
        runs: a row for each run: ``activation``, ``learning_rate``, ``seed``; ``chosen``, whether the rate is
            the activation's best on the validation data; ``diverged``; ``loss`` (of training),
            ``validation_loss`` and ``validation_accuracy`` at the last epoch; ``test_loss`` and
            ``test_accuracy``, of chosen runs only; ``epochs_to_level``, counted from 1; ``seconds_per_step``,
            by the clock and with whatever else went on; ``dead_share``, of the units on the validation data.
            Missing (NaN): what does not apply, all measurements of a diverged run, accuracies where targets
            are no labels, an epoch for a level that was not reached, a dead share where the activations are
            functions, which cannot be seen.
        curves: a row for each run and epoch: ``activation``, ``learning_rate``, ``seed``, ``epoch`` from 1,
            ``loss``, ``validation_loss``, ``validation_accuracy``.
        step_times: a row for each activation and round: ``activation``, ``round``, ``seconds``: of a training
            step, measured side by side in one process.
        baseline: the activation that the others are compared with.
        level: the validation measure that ``epochs_to_level`` is about; NaN if every rate diverged.
        measure: "accuracy" or, where targets are no labels, "loss".
    """

    runs: pd.DataFrame
    curves: pd.DataFrame
    step_times: pd.DataFrame
    baseline: str
    level: float
    measure: str

    def summary(self) -> pd.DataFrame:
        """A row for each activation, about its runs at the chosen learning rate.

        Returns:
            a table with the columns

            - ``activation``, ``learning_rate`` (missing where no rate is free of diverged runs) and
              ``at_edge``: whether that rate is the smallest or largest of several that were tried;
            - ``mean``, ``low``, ``high``: of test accuracy (or loss) over seeds, with its 95 % interval;
            - ``difference``, ``difference_low``, ``difference_high``: from the baseline, paired by seed, with
              its 95 % interval by Student's t, each for itself;
            - ``p`` of the paired t-test and ``p_holm``, corrected for the number of comparisons;
            - ``verdict``: "no difference seen" where the interval holds 0; "better" or "worse" where
              ``p_holm`` is below 0.05; "lost in the correction" in between;
            - ``reached``: share of seeds that reached the level, and ``epochs_to_level``, their median over
              all seeds (infinite where half of them never reached it);
            - ``step_time``: of a training step as a multiple of the baseline's, median of the rounds' ratios,
              and ``step_time_low``, ``step_time_high``, their quartiles;
            - ``dead_share``: mean over seeds;
            - ``diverged``: number of diverged runs, at whatever rate.
        """
        table = pd.DataFrame([self._row(label) for label in self.activations])
        tested = table["p"].notna()
        table.loc[tested, "p_holm"] = holm(table.loc[tested, "p"].tolist())
        table["verdict"] = [self._verdict(row) for row in table.itertuples()]
        return table

    @property
    def activations(self) -> list[str]:
        """The labels, in the order in which they were given."""
        return self.runs["activation"].unique().tolist()

    def _scores(self, label: str) -> pd.Series:
        """Seed → test accuracy (or loss) at the chosen rate; empty if none could be chosen."""
        chosen = self.runs[self.runs["chosen"] & (self.runs["activation"] == label)]
        return chosen.set_index("seed")[f"test_{self.measure}"]

    def _difference(self, label: str) -> pd.Series:
        """Seed → score less the baseline's; empty for itself, or if one of both has none."""
        own, base = self._scores(label), self._scores(self.baseline)
        return own[:0] if label == self.baseline or base.empty else own - base

    def _row(self, label: str) -> dict[str, object]:
        runs = self.runs[self.runs["activation"] == label]
        chosen = runs[runs["chosen"]]
        rates = runs["learning_rate"].unique()
        rate = chosen["learning_rate"].iloc[0] if len(chosen) else math.nan
        mean, low, high = _interval(self._scores(label))
        difference = self._difference(label)
        centre, below, above = _interval(difference)
        epochs = chosen["epochs_to_level"]
        ratios = self._step_time_ratios(label)
        return {
            "activation": label,
            "learning_rate": rate,
            "at_edge": bool(len(rates) > 1 and rate in (min(rates), max(rates))),
            "mean": mean,
            "low": low,
            "high": high,
            "difference": centre,
            "difference_low": below,
            "difference_high": above,
            "p": _paired_p(difference),
            "p_holm": math.nan,
            "reached": epochs.notna().mean() if len(chosen) else math.nan,
            "epochs_to_level": epochs.fillna(math.inf).median(),
            "step_time": ratios.median(),
            "step_time_low": ratios.quantile(0.25),
            "step_time_high": ratios.quantile(0.75),
            "dead_share": chosen["dead_share"].mean(),
            "diverged": int(runs["diverged"].sum()),
        }

    def _step_time_ratios(self, label: str) -> pd.Series:
        times = self.step_times.pivot(index="round", columns="activation", values="seconds")
        return times[label] / times[self.baseline]

    def _verdict(self, row: object) -> str:
        if math.isnan(row.mean):
            return DIVERGED
        if row.activation == self.baseline:
            return "baseline"
        if math.isnan(row.difference):
            return "baseline diverged"
        if math.isnan(row.p):
            return TOO_FEW
        if row.difference_low <= 0 <= row.difference_high:
            return NO_DIFFERENCE
        if row.p_holm >= _SIGNIFICANT:
            return UNCERTAIN
        return "better" if (row.difference > 0) == (self.measure == "accuracy") else "worse"

    def text(self) -> str:
        """The findings and what to beware of, in one paragraph of plain words."""
        rows = list(self.summary().itertuples())
        sentences = [self._setting(), self._levels(rows), *self._differences(rows), *self._costs(rows)]
        return " ".join([*sentences, *self._cautions(rows)])

    def _setting(self) -> str:
        rates, seeds = self.runs["learning_rate"].nunique(), self.runs["seed"].nunique()
        tuned = "each at its best of" if rates > 1 else "all at"
        return (
            f"{_count(len(self.activations), 'activation')}, {tuned} {_count(rates, 'learning rate')}, "
            f"{_count(seeds, 'seed')}."
        )

    def _levels(self, rows: Sequence) -> str:
        trained = [row for row in rows if not math.isnan(row.mean)]
        each = ", ".join(
            f"{row.activation} {self._format(row.mean)}{self._range(row.low, row.high)} "
            f"at rate {row.learning_rate:g}"
            for row in trained
        )
        what = f"Mean test {self.measure} with its 95 % interval over seeds"
        return f"{what}: {each}." if trained else "No activation has a learning rate without diverged runs."

    def _differences(self, rows: Sequence) -> list[str]:
        sentences = []
        for row in rows:
            span = self._span(row)
            if row.verdict == NO_DIFFERENCE:
                sentences.append(f"{row.activation} against {self.baseline}: {NO_DIFFERENCE} ({span}).")
            elif row.verdict == UNCERTAIN:
                sentences.append(
                    f"{row.activation} against {self.baseline}: a difference ({span}) that does not outlast "
                    f"the correction for several comparisons (p = {row.p_holm:.2g})."
                )
            elif row.verdict in ("better", "worse"):
                sentences.append(
                    f"{row.activation} is {row.verdict} than {self.baseline} ({span}; p = {row.p_holm:.2g}, "
                    "corrected for the number of comparisons)."
                )
        return sentences

    def _costs(self, rows: Sequence) -> list[str]:
        trained = [row for row in rows if not math.isnan(row.mean)]
        epochs = ", ".join(f"{row.activation} {self._epochs(row)}" for row in trained)
        ratios = ", ".join(
            f"{row.activation} {row.step_time:.2f}" for row in rows if row.activation != self.baseline
        )
        dead = ", ".join(
            f"{row.activation} {100 * row.dead_share:.1f} %" for row in trained if row.dead_share > 0
        )
        return [
            sentence
            for sentence, known in (
                (f"Epochs to a validation {self.measure} of {self._format(self.level)}: {epochs}.", epochs),
                (f"Time of a training step as a multiple of {self.baseline}'s: {ratios}.", ratios),
                (f"Dead units: {dead}.", dead),
            )
            if known
        ]

    def _epochs(self, row: object) -> str:
        if math.isfinite(row.epochs_to_level):
            return f"{row.epochs_to_level:g}"
        return f"not reached in {100 * (1 - row.reached):.0f} % of the runs"

    def _cautions(self, rows: Sequence) -> list[str]:
        sentences = []
        seeds, rates = self.runs["seed"].nunique(), self.runs["learning_rate"]
        if seeds == 1:
            sentences.append("With one seed nothing can be said about differences.")
        elif seeds < _FEW_SEEDS:
            sentences.append(f"Beware: {seeds} seeds are few, so the intervals are wide.")
        if rates.nunique() == 1:
            sentences.append("Beware: with one learning rate no activation was tuned.")
        for row in rows:
            if row.at_edge:
                largest = row.learning_rate == rates.max()
                end, beyond = ("largest", "larger") if largest else ("smallest", "smaller")
                sentences.append(
                    f"Beware: the rate chosen for {row.activation} is the {end} that was tried; "
                    f"a {beyond} one may be better."
                )
            if row.diverged:
                sentences.append(self._divergence(row))
        return sentences

    def _divergence(self, row: object) -> str:
        runs = self.runs[self.runs["activation"] == row.activation]
        lost = runs[runs["diverged"]].groupby("learning_rate").size()
        seeds = runs["seed"].nunique()
        where = ", ".join(f"{count} of {seeds} at rate {rate:g}" for rate, count in lost.items())
        consequence = (
            "no rate is free of them, so it has no result"
            if math.isnan(row.mean)
            else "these rates could not be chosen"
        )
        return f"Beware: runs of {row.activation} diverged ({where}); {consequence}."

    def _format(self, value: float) -> str:
        return f"{100 * value:.1f} %" if self.measure == "accuracy" else f"{value:.4g}"

    def _range(self, low: float, high: float) -> str:
        if math.isnan(low):
            return ""
        scale, form = (100, ".1f") if self.measure == "accuracy" else (1, ".4g")
        return f" [{scale * low:{form}}, {scale * high:{form}}]"

    def _span(self, row: object) -> str:
        scale, form, unit = (100, "+.1f", " points") if self.measure == "accuracy" else (1, "+.3g", "")
        centre, low, high = (
            f"{scale * value:{form}}".replace("-", "−")
            for value in (row.difference, row.difference_low, row.difference_high)
        )
        return f"{centre}{unit}, interval {low} to {high}"

    def _style(self, label: str) -> dict[str, object]:
        """The activation's own look, or for a label of the caller's one by its place."""
        try:
            return plotting.style(label)
        except ValueError:
            return {"color": f"C{self.activations.index(label)}", "linestyle": "-.", "label": label}

    def plot(self) -> Figure:
        """Three panels: validation measure by learning rate and by epoch, and differences from the baseline.

        Bands and bars are 95 % intervals over seeds. Left: means over seeds, of rates without diverged runs;
        a ring marks the chosen one. Middle: at the chosen rates. Right: on the test data, paired by seed.
        """
        figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.1), layout="constrained")
        self._plot_rates(axes[0])
        self._plot_curves(axes[1])
        self._plot_differences(axes[2])
        return figure

    def _plot_rates(self, axes: Axes) -> None:
        measure = f"validation_{self.measure}"
        for label in self.activations:
            runs = self.runs[self.runs["activation"] == label]
            means = tables.of_undiverged_rates(runs).groupby("learning_rate")[measure].mean()
            axes.plot(means.index, means, marker="o", **self._style(label))
            chosen = runs.loc[runs["chosen"], "learning_rate"].unique()
            axes.plot(chosen, means[chosen], "o", ms=11, mfc="none", mec="#333333")
        axes.set(title="tuning", xscale="log", xlabel="learning rate", ylabel=f"validation {self.measure}")
        axes.legend()

    def _plot_curves(self, axes: Axes) -> None:
        measure = f"validation_{self.measure}"
        chosen = self.runs.loc[self.runs["chosen"], ["activation", "learning_rate", "seed"]]
        for label, curves in self.curves.merge(chosen).groupby("activation", sort=False):
            by_seed = curves.pivot(index="seed", columns="epoch", values=measure)
            if len(by_seed) > 1:
                samples = torch.tensor(by_seed.to_numpy())
                plotting.plot_intervals(axes, by_seed.columns, samples, **self._style(label))
            else:
                axes.plot(by_seed.columns, by_seed.iloc[0], **self._style(label))
        axes.axhline(self.level, color="#9a9a9a", linewidth=0.8, linestyle=":")
        axes.set(title="training", xlabel="epoch", ylabel=f"validation {self.measure}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    def _plot_differences(self, axes: Axes) -> None:
        others = self.summary().query("activation != @self.baseline")
        axes.axvline(0, color="#9a9a9a", linewidth=0.8)
        for i, row in enumerate(others.itertuples()):
            colour = self._style(row.activation)["color"]
            axes.plot([row.difference_low, row.difference_high], [i, i], color=colour)
            axes.plot(row.difference, i, "o", color=colour)
        baseline = self._style(self.baseline)["label"]
        axes.set(title=f"difference from {baseline}", xlabel=f"test {self.measure}")
        axes.set_yticks(range(len(others)), [self._style(label)["label"] for label in others["activation"]])
        axes.set_ylim(len(others) - 0.5, -0.5)


def assemble(
    trained: Iterable[Record],
    tested: Iterable[Record],
    seconds: Mapping[str, Sequence[float]],
    baseline: str,
    level: float | None,
) -> Comparison:
    """The comparison, from the records of training and test and the seconds of a step, by round."""
    trained = list(trained)
    curves, runs = tables.make_curves(trained), tables.make_runs(trained, tested)
    measure = tables.measure_of(curves)
    level = tables.default_level(runs, measure) if level is None else float(level)
    runs = tables.add_epochs_to_level(runs, curves, measure, level)
    rounds = [(label, i, second) for label, each in seconds.items() for i, second in enumerate(each)]
    step_times = pd.DataFrame(rounds, columns=["activation", "round", "seconds"])
    return Comparison(runs, curves, step_times, baseline, level, measure)


def _interval(samples: pd.Series) -> tuple[float, float, float]:
    """Mean and 95 % interval over seeds; no interval below two, no mean without any."""
    if len(samples) < 2:
        return samples.mean(), math.nan, math.nan
    return tuple(float(value) for value in mean_interval(torch.tensor(samples.to_numpy())))


def _paired_p(differences: pd.Series) -> float:
    """Two-sided p-value of Student's t test that the mean difference is 0; NaN for fewer than two."""
    n = len(differences)
    if n < 2:
        return math.nan
    mean, spread = np.mean(differences.to_numpy()), np.std(differences.to_numpy(), ddof=1)
    if spread == 0:  # every seed alike: the limit of the test
        return float(mean == 0)
    return float(2 * stats.t.sf(abs(mean) / spread * math.sqrt(n), n - 1))


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
