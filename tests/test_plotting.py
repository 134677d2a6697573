"""The figures draw what torch computes, on the same axes, in colours and dashes that can be told apart."""

from contextlib import ExitStack

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex, to_rgb
from scipy import stats

from nonlinearity import catalog, plotting
from nonlinearity.plotting import (
    CLASS_COLOURS,
    plot_activation,
    plot_decision,
    plot_intervals,
    style,
    use_style,
)

ELEMENTWISE = [activation.name for activation in catalog.elementwise(beyond_torch=True)]
BREAKS = {"threshold": [1], "softshrink": [-0.5, 0.5], "hardshrink": [-0.5, 0.5], "hardtanh": [-1, 1],
          "hardswish": [-3, 3], "hardsigmoid": [-3, 3],
          **{name: [0] for name in ("relu", "relu6", "leaky_relu", "prelu", "rrelu", "selu")}}  # fmt: skip


@pytest.fixture(autouse=True)
def _plain_style_before_and_after():
    with mpl.rc_context():
        yield
    plt.close("all")


# --- style ----------------------------------------------------------------------------------------------


def test_every_activation_has_a_colour_and_dashes_of_its_own():
    pairs = [(style(a.name)["color"], style(a.name)["linestyle"]) for a in catalog.CATALOG]
    assert len(set(pairs)) == len(catalog.CATALOG)


@pytest.mark.parametrize("name", ["leaky_relu", "LeakyReLU"])
def test_style_is_found_by_either_name_and_labels_the_module(name):
    assert style(name) == style("leaky_relu")
    assert style(name)["label"] == "LeakyReLU"


def test_style_of_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="did you mean 'relu'"):
        style("rleu")


def contrast_on_white(colour):
    """The ratio of WCAG 2.2, from relative luminance."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 1.05 / (np.dot([0.2126, 0.7152, 0.0722], linear) + 0.05)


def test_contrast_formula_gives_the_known_ratios():
    assert contrast_on_white("black") == pytest.approx(21)
    assert contrast_on_white("#767676") == pytest.approx(4.54, abs=0.005)  # the well-known grey of 4.5 : 1


@pytest.mark.parametrize(
    "colour", sorted({*(style(a.name)["color"] for a in catalog.CATALOG), *CLASS_COLOURS})
)
def test_every_line_stands_out_from_white(colour):
    assert contrast_on_white(colour) >= 3


@pytest.fixture
def registered():
    """Eight activations of one's own."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                catalog.register(catalog.Activation(f"atan_{n}", None, torch.atan, r"\arctan x"))
            )
            for n in range(8)
        ]


def test_registered_activations_have_a_colour_of_their_own_and_each_its_dashes(registered):
    looks = [style(activation.name) for activation in registered]
    (colour,) = {look["color"] for look in looks}
    assert colour not in {style(a.name)["color"] for a in catalog.CATALOG}
    assert contrast_on_white(colour) >= 3
    assert len({look["linestyle"] for look in looks}) == len(looks)
    assert [look["label"] for look in looks] == [activation.name for activation in registered]
    nearest = min(
        np.linalg.norm(np.subtract(to_rgb(colour), to_rgb(style(a.name)["color"]))) for a in catalog.CATALOG
    )
    assert nearest > 0.25


def test_registered_activation_keeps_its_look_when_another_goes():
    catalog.register(catalog.Activation("first", None, torch.atan, r"\arctan x"))
    with catalog.register(catalog.Activation("second", None, torch.atan, r"\arctan x")):
        before = style("second")
        catalog.unregister("first")
        assert style("second") == before


def test_registered_activation_is_drawn(registered):
    """torch.atan is the oracle, and its slope 1 / (1 + x²)."""
    figure = plot_activation("relu", "atan_3")
    left, right = ([line.get_xydata().T for line in axes.get_lines()[:2]] for axes in figure.axes)
    x = torch.linspace(-4, 4, 1601, dtype=torch.float64)
    np.testing.assert_allclose(left[1][1], torch.atan(x))
    np.testing.assert_allclose(right[1][1], 1 / (1 + x**2))
    (panel,) = plotting.plot_gallery("atan_3", columns=1).axes
    np.testing.assert_allclose(panel.get_lines()[1].get_ydata(), torch.atan(x))
    assert panel.get_lines()[1].get_color() == style("atan_3")["color"]


def test_style_sheet_draws_with_the_same_colours_on_white():
    use_style()
    cycle = mpl.rcParams["axes.prop_cycle"].by_key()["color"]
    assert {to_hex(colour).upper() for colour in cycle} == {style(a.name)["color"] for a in catalog.CATALOG}
    assert to_rgb(mpl.rcParams["figure.facecolor"]) == to_rgb(mpl.rcParams["axes.facecolor"]) == (1, 1, 1)
    assert mpl.rcParams["figure.dpi"] == 100


# --- activations ----------------------------------------------------------------------------------------


def curves(figure):
    """The lines of each of the two panels that belong to activations, as (x, y) arrays."""
    labels = {activation.label for activation in catalog.CATALOG}
    lines = [[line for line in axes.get_lines() if line.get_label() in labels] for axes in figure.axes]
    return [[line.get_xydata().T for line in of_panel] for of_panel in lines]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_curves_are_the_values_and_slopes_that_torch_computes(name):
    ((x, value),), ((x_of_slope, slope),) = curves(plot_activation(name))
    inputs = torch.tensor(x, requires_grad=True)
    expected = catalog.get(name).make().double().eval()(inputs)
    expected.sum().backward()
    shown, slope_shown = ~np.isnan(value), ~np.isnan(slope)
    np.testing.assert_array_equal(x, x_of_slope)
    np.testing.assert_allclose(value[shown], expected.detach()[shown], atol=1e-12)
    np.testing.assert_allclose(slope[slope_shown], inputs.grad[slope_shown], atol=1e-12)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_lines_have_a_gap_at_each_break_and_nowhere_else(name):
    """A line through a break would draw values or slopes that the function does not have."""
    breaks = BREAKS.get(name, [])
    jumps = breaks if name in ("threshold", "hardshrink") else []
    ((x, value),), ((_, slope),) = curves(plot_activation(name))
    for y, expected in ((value, jumps), (slope, breaks)):
        gaps = x[np.isnan(y)]
        assert gaps == pytest.approx(expected, abs=0.006)  # the step of the curve is 0.005
        assert np.nanmax(np.abs(np.diff(y))) < 0.05


@pytest.mark.parametrize("names", [("logsigmoid",), ("selu",), ("gelu", "silu", "tanh")])
def test_axes_are_the_same_on_every_page(names):
    def frame(figure):
        return [
            (axes.get_xlim(), axes.get_ylim(), axes.get_title(), axes.get_xlabel()) for axes in figure.axes
        ]

    assert frame(plot_activation(*names)) == frame(plot_activation("relu"))


def test_several_activations_keep_their_styles_and_get_a_legend():
    figure = plot_activation("gelu", "Tanh")
    left = figure.axes[0]
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["GELU", "Tanh"]
    assert [line.get_color() for line in left.get_lines()[:2]] == [
        style("gelu")["color"],
        style("tanh")["color"],
    ]
    assert plot_activation("gelu").axes[0].get_legend() is None


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "name at least one activation to plot"),
        (("softmax",), "softmax acts on a vector and has no curve to plot"),
        (("relu", "rleu"), "unknown activation 'rleu'; did you mean 'relu'"),
    ],
)
def test_what_cannot_be_plotted_is_refused(names, message):
    with pytest.raises(ValueError, match=message):
        plot_activation(*names)


def test_gallery_has_a_panel_for_each_activation_of_torch_or_for_each_that_is_named():
    shown = [axes.get_title() for axes in plotting.plot_gallery().axes if axes.get_visible()]
    assert shown == [activation.label for activation in catalog.elementwise()]
    figure = plotting.plot_gallery("swish", "squared_relu", "Tanh", "silu", columns=3)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == ["Swish", "SquaredReLU", "Tanh", "SiLU"]
    assert len(figure.axes) == 6
    x = torch.linspace(-4, 4, 1601, dtype=torch.float64)
    np.testing.assert_allclose(panels[2].get_lines()[1].get_ydata(), x.tanh())
    np.testing.assert_allclose(panels[2].get_lines()[0].get_ydata(), 1 - x.tanh() ** 2)
    with pytest.raises(ValueError, match="glu acts on a vector and has no curve to plot"):
        plotting.plot_gallery("relu", "glu")


# --- decisions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", [False, True], ids=["(n,) logits", "(n, 1) logits"])
def test_regions_are_those_of_a_linear_rule(column):
    """Class 1 above the line x₂ = 2 x₁ − 1, which no swap of the axes leaves in place."""

    def rule(x):
        logits = x[:, 1] - 2 * x[:, 0] + 1
        return logits[:, None] if column else logits

    points = torch.tensor([[-1.0, 0.0], [2.0, 0.5], [0.5, 3.0], [0.3, -2.0]])
    labels = torch.tensor([0, 1, 1, 0])
    axes = plt.figure().subplots()
    plot_decision(axes, rule, points, labels[:, None] if column else labels, title="a rule")

    mesh, zeros, ones = axes.collections
    corners = np.asarray(mesh.get_coordinates())
    centres = (corners[:-1, :-1] + corners[1:, 1:]) / 2
    above = centres[..., 1] - 2 * centres[..., 0] + 1
    clear = np.abs(above) > 1e-3
    np.testing.assert_array_equal(np.asarray(mesh.get_array())[clear], (above > 0)[clear])
    assert {*np.unique(mesh.get_array())} == {0, 1}

    low, high = points.min(0).values.numpy(), points.max(0).values.numpy()
    assert (corners.min((0, 1)) < low).all()  # the regions reach beyond the data
    assert (corners.max((0, 1)) > high).all()
    np.testing.assert_array_equal(zeros.get_offsets(), points[labels == 0])
    np.testing.assert_array_equal(ones.get_offsets(), points[labels == 1])
    assert [tuple(dots.get_facecolor()[0][:3]) for dots in (zeros, ones)] == [
        to_rgb(c) for c in CLASS_COLOURS
    ]
    markers = [dots.get_paths()[0].vertices.shape for dots in (zeros, ones)]
    assert markers[0] != markers[1]  # told apart without colour
    assert axes.get_title() == "a rule"


def test_surface_colours_are_paler_kin_of_the_class_colours():
    for pale, colour in zip(plotting._SURFACE.colors, CLASS_COLOURS):
        assert contrast_on_white(pale) < 1.5 < 3 <= contrast_on_white(colour)
        assert np.argmax(to_rgb(pale)) == np.argmax(to_rgb(colour))


# --- intervals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("logarithmic", [False, True])
def test_line_and_band_are_mean_and_confidence_interval(logarithmic):
    samples = torch.rand(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.1
    axes = plt.figure().subplots()
    plot_intervals(axes, [1, 2, 4, 8], samples, logarithmic=logarithmic, color="#D55E00", label="ours")

    y = np.log(samples.numpy()) if logarithmic else samples.numpy()
    back = np.exp if logarithmic else np.asarray
    interval = stats.ttest_1samp(y, 0).confidence_interval(0.95)
    (line,), (band,) = axes.get_lines(), axes.collections
    np.testing.assert_allclose(line.get_ydata(), back(y.mean(0)))
    np.testing.assert_array_equal(line.get_xdata(), [1, 2, 4, 8])
    corners = band.get_paths()[0].vertices
    for x, low, high in zip([1, 2, 4, 8], back(interval.low), back(interval.high)):
        at_x = corners[corners[:, 0] == x, 1]
        assert (at_x.min(), at_x.max()) == pytest.approx((low, high))
    assert line.get_label() == "ours"
    assert to_rgb(line.get_color()) == tuple(band.get_facecolor()[0][:3])
