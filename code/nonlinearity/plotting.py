"""Every figure of the course, in one style; each activation keeps its colour everywhere."""

from collections.abc import Callable, Mapping, Sequence
from importlib.resources import as_file, files

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor

from nonlinearity import catalog
from nonlinearity.properties import value_and_slope
from nonlinearity.statistics import mean_interval

# Seven hues that stay apart for colour-blind readers (after Okabe & Ito 2008, the light ones darkened to a
# contrast of 3 : 1 on white); relatives share a hue and differ by their dashes.
_HUES = {
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "green": "#009E73",
    "pink": "#B65C92",
    "ochre": "#8A6A00",
    "grey": "#4D4D4D",
    "sky": "#2E93C9",
}
_DASHES = ((0, ()), (0, (5, 1.5)), (0, (2, 1.2)), (0, (6, 1.5, 1.5, 1.5)), (0, (1, 1)))
_FAMILIES = {
    "blue": ("relu", "relu6", "threshold", "squared_relu"),
    "sky": ("leaky_relu", "prelu", "rrelu", "softshrink", "hardshrink"),
    "pink": ("gelu", "elu", "celu", "selu"),
    "ochre": ("silu", "mish", "hardswish", "swish"),
    "vermilion": ("sigmoid", "hardsigmoid", "logsigmoid", "softplus"),
    "green": ("tanh", "hardtanh", "softsign", "tanhshrink"),
    "grey": ("softmax", "softmin", "log_softmax", "softmax2d", "gumbel_softmax"),
}
_STYLES = {
    name: (_HUES[hue], dashes) for hue, names in _FAMILIES.items() for name, dashes in zip(names, _DASHES)
} | {  # each with the hue of its gate
    "glu": (_HUES["vermilion"], (0, (9, 2))),
    "swiglu": (_HUES["ochre"], (0, (4, 1, 1, 1, 1, 1))),
    "geglu": (_HUES["pink"], (0, (3, 3))),
    "reglu": (_HUES["blue"], (0, (1.5, 1.5))),
}
_OF_REGISTERED = "#4B0082"  # indigo, dark enough to stay apart from the blues for every eye

#: The two classes of a toy data set, as point colours and as paler surface colours.
CLASS_COLOURS = ("#0072B2", "#D55E00")
_SURFACE = ListedColormap(["#cfe3f1", "#f9dcc8"])


def use_style() -> None:
    """Give every figure made from now on the course's style sheet."""
    with as_file(files("nonlinearity") / "assets" / "course.mplstyle") as sheet:
        plt.style.use(sheet)


def style(name: str) -> dict[str, object]:
    """The colour, dashes and label of an activation, as keywords of ``Axes.plot``.

    Raises:
        ValueError: for an unknown activation.
    """
    activation = catalog.get(name)
    place = catalog.registered().get(activation.name)
    colour, dashes = _STYLES[activation.name] if place is None else (_OF_REGISTERED, _dashes(place))
    return {"color": colour, "linestyle": dashes, "label": activation.label}


def _dashes(place: int) -> tuple[float, tuple[float, ...]]:
    """Dashes that no smaller place has: the usual ones, then longer and longer ones."""
    return _DASHES[place] if place < len(_DASHES) else (0, (2.0 * place, 2.0))


def plot_activation(*names: str) -> Figure:
    """Draw activations on the left and their slopes on the right, on the course's usual axes.

    Args:
        *names: one or more element-wise activations of the catalogue.

    Raises:
        ValueError: for no name, an unknown one, or an activation that acts on a vector.
    """
    if not names:
        raise ValueError("name at least one activation to plot")
    figure, (left, right) = plt.subplots(1, 2)
    x = torch.linspace(-4, 4, 1601, dtype=torch.float64)
    for name in names:
        activation = _single(name)
        value, slope = value_and_slope(activation, x)
        left.plot(x, _broken(value), **style(name))
        right.plot(x, _broken(slope), **style(name))
    left.set(title="$f(x)$", xlabel="$x$", xlim=(-4, 4), ylim=(-2, 4))
    right.set(title="slope $f\\,'(x)$", xlabel="$x$", xlim=(-4, 4), ylim=(-0.6, 1.8))
    for axes in (left, right):
        axes.axhline(0, color="#9a9a9a", linewidth=0.8, zorder=1)
        axes.axvline(0, color="#9a9a9a", linewidth=0.8, zorder=1)
    if len(names) > 1:
        left.legend(loc="upper left")
    return figure


def _single(name: str) -> catalog.Activation:
    activation = catalog.get(name)
    if not activation.elementwise:
        raise ValueError(f"{name} acts on a vector and has no curve to plot")
    return activation


def _broken(y: Tensor) -> np.ndarray:
    """A curve with a gap at each jump: a line through one would draw what the function does not have."""
    return np.where(np.append(np.abs(np.diff(y)) > 0.05, False), np.nan, y)


def plot_gallery(*names: str, columns: int = 6) -> Figure:
    """Draw activations in a small panel each, the slope in grey behind the function.

    Args:
        *names: element-wise activations; all of torch's when none is named.
        columns: panels in a row.

    Raises:
        ValueError: for an unknown activation, or one that acts on a vector.
    """
    activations = [_single(name) for name in names] or catalog.elementwise()
    rows = -(-len(activations) // columns)
    size = (1.4 * columns, 1.3 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, sharex=True, sharey=True, squeeze=False)
    x = torch.linspace(-4, 4, 1601, dtype=torch.float64)
    for panel, activation in zip(axes.flat, activations):
        value, slope = value_and_slope(activation, x)
        panel.plot(x, _broken(slope), color="#b0b0b0", linewidth=1.2)
        panel.plot(x, _broken(value), **style(activation.name) | {"linestyle": "-"})
        panel.set_title(activation.label, fontsize=9, pad=3)
    for panel in axes.flat:
        panel.set(xlim=(-4, 4), ylim=(-2, 3), xticks=[-4, 0, 4], yticks=[-2, 0, 2])
        panel.set_visible(panel.has_data())
    return figure


def plot_decision(
    axes: Axes, predict: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, title: str = ""
) -> None:
    """Draw the regions in which a two-class model gives either class, with the data on top.

    Args:
        axes: where to draw.
        predict: maps (n, 2) points to (n,) or (n, 1) logits; class 1 where positive.
        x: (n, 2) points.
        y: (n,) labels 0 and 1.
        title: of the axes.
    """
    low, high = x.min(0).values - 0.4, x.max(0).values + 0.4
    first, second = torch.meshgrid(
        torch.linspace(float(low[0]), float(high[0]), 200),
        torch.linspace(float(low[1]), float(high[1]), 200),
        indexing="xy",
    )
    with torch.no_grad():
        logits = predict(torch.stack([first.flatten(), second.flatten()], dim=1))
    region = (logits.reshape(first.shape) > 0).int()
    axes.pcolormesh(
        first.numpy(), second.numpy(), region.numpy(), cmap=_SURFACE, vmin=0, vmax=1, rasterized=True
    )
    for label, colour in enumerate(CLASS_COLOURS):
        points = x[y.flatten() == label].numpy()
        axes.scatter(*points.T, s=9, color=colour, marker="os"[label], edgecolor="white", linewidth=0.3)
    axes.set(title=title, xticks=[], yticks=[], aspect="equal")
    axes.grid(False)
    axes.spines[:].set_visible(False)


def plot_intervals(
    axes: Axes, x: Sequence[float], samples: Tensor, *, logarithmic: bool = False, **kwargs: object
) -> None:
    """Draw a line through means with a band for their 95 % confidence interval.

    Args:
        axes: where to draw.
        x: (n,) positions.
        samples: (seeds, n) measurements.
        logarithmic: average the logarithms instead, for quantities that spread over magnitudes.
        **kwargs: passed to ``Axes.plot``.
    """
    centre, low, high = mean_interval(samples.log() if logarithmic else samples)
    if logarithmic:
        centre, low, high = centre.exp(), low.exp(), high.exp()
    (line,) = axes.plot(x, centre, **kwargs)
    axes.fill_between(x, low, high, color=line.get_color(), alpha=0.18, linewidth=0)


def plot_check_up(table: pd.DataFrame, inputs: Mapping[str, Tensor], saturated: float) -> Figure:
    """Draw what ``probes.check_up`` measured; the input of the network is at the top.

    Args:
        table: its ``table``.
        inputs: its ``inputs``.
        saturated: the slope below which an output counts as saturated.
    """
    layers = table[table["gradient"].notna()]
    activations = table[table["dead_rate"].notna()]
    rows = max(len(layers), len(activations), 3)
    figure, (spread, shares, gradients) = plt.subplots(
        1, 3, figsize=(7.6, 1.4 + 0.3 * rows), width_ratios=(1.3, 1, 1.1)
    )
    _draw_inputs(spread, inputs, saturated)
    _label_rows(spread, activations["name"] + " " + activations["kind"])
    _draw_shares(shares, activations)
    if len(activations):
        figure.legend(*shares.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    places = np.arange(len(layers))
    gradients.plot(layers["gradient"].replace(0, np.nan), places, "o-", color=_HUES["grey"], markersize=4)
    gradients.set(title="gradient of the weights", xscale="log", xlabel="norm")
    low, high = gradients.get_xlim()
    gradients.set_xlim(min(low, high / 100), high)  # a flat line shall look flat
    _label_rows(gradients, layers["name"] + " " + layers["kind"])
    return figure


def _draw_inputs(axes: Axes, inputs: Mapping[str, Tensor], saturated: float) -> None:
    """One histogram a row: blue where gradients pass, vermilion where the slope is nearly 0."""
    every = torch.cat([pairs[:, 0] for pairs in inputs.values()]) if inputs else torch.zeros(1)
    every = every[every.isfinite()].double()
    low, high = (float(q) for q in torch.quantile(every[:1_000_000], torch.tensor([0.002, 0.998]).double()))
    edges = np.linspace(low, high + (low == high), 61)
    for place, pairs in enumerate(inputs.values()):
        z, slope = pairs.numpy().T
        passing = np.histogram(z[np.abs(slope) >= saturated], edges)[0]
        flat = np.histogram(z[np.abs(slope) < saturated], edges)[0]
        height = 0.85 / max(1, (passing + flat).max())
        bottom = place + 0.4
        for counts, above, hue in ((flat, 0, "vermilion"), (passing, flat, "blue")):
            top = bottom - height * (counts + above)
            axes.stairs(top, edges, baseline=bottom - height * above, fill=True, color=_HUES[hue])
    axes.axvline(0, color="#9a9a9a", linewidth=0.8, zorder=1)
    axes.set(title="what flows in", xlabel=f"$z$ (red: slope below {saturated})", xlim=(edges[0], edges[-1]))


def _draw_shares(axes: Axes, activations: pd.DataFrame) -> None:
    """Three marks a row: zero and saturated ones among the outputs, dead ones among the units."""
    places = np.arange(len(activations))
    for key, label, mark, hue in (
        ("zero_rate", "zero outputs", "o", "blue"),
        ("saturated_rate", "saturated outputs", "|", "vermilion"),
        ("dead_rate", "dead units", "x", "grey"),
    ):
        face = "none" if mark == "o" else _HUES[hue]
        axes.scatter(
            activations[key], places, marker=mark, s=45, color=_HUES[hue], facecolor=face, label=label
        )
    axes.set(title="shares", xlabel="share", xlim=(-0.05, 1.05))
    axes.xaxis.set_major_formatter("{x:.0%}")
    _label_rows(axes, [""] * len(activations))


def _label_rows(axes: Axes, labels: Sequence[str]) -> None:
    """From the top down, at most 16 of them named."""
    step = -(-len(labels) // 16) or 1
    axes.set_yticks(range(0, len(labels), step), list(labels)[::step])
    axes.set_ylim(max(len(labels), 1) - 0.4, -0.6)
    axes.grid(False, axis="y")


def plot_watch(table: pd.DataFrame) -> Figure:
    """Draw what ``probes.watch`` recorded: one line a module, the darker the nearer to the input.

    Args:
        table: a monitor's ``table``.
    """
    figure, axes = plt.subplots(2, 2, figsize=(7.6, 5), sharex=True)
    panels = (
        ("gradient", "gradient of the weights", "log"),
        ("update", "update / weights", "log"),
        ("saturated_rate", "saturated outputs", "linear"),
        ("dead_rate", "dead units", "linear"),
    )
    for panel, (key, title, scale) in zip(axes.flat, panels):
        rows = table[table[key].notna()]
        names = list(dict.fromkeys(rows["name"]))
        for place, name in enumerate(names):
            line = rows[rows["name"] == name]
            values = line[key].replace(0, np.nan) if scale == "log" else line[key]
            colour = plt.get_cmap("cividis")(0.85 * place / max(1, len(names) - 1))
            panel.plot(
                line["step"], values, color=colour, linewidth=1.3, label=f"{name} {line['kind'].iloc[0]}"
            )
        panel.set(title=title, yscale=scale)
        if scale == "linear":
            panel.set_ylim(-0.03, 1.03)
            panel.yaxis.set_major_formatter("{x:.0%}")
    axes[0, 1].axhline(1e-3, color=_HUES["grey"], linestyle=":", linewidth=1)
    for row in axes:
        if 0 < len(row[1].lines) <= 9:
            row[1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    for panel in axes[1]:
        panel.set_xlabel("step")
    return figure
