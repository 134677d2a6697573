"""Every figure of the course, in one style; each activation keeps its colour everywhere."""

from collections.abc import Callable, Sequence
from importlib.resources import as_file, files

import matplotlib.pyplot as plt
import numpy as np
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
    colour, dashes = _STYLES[activation.name]
    return {"color": colour, "linestyle": dashes, "label": activation.label}


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
