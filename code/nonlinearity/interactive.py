"""Interactive charts without a kernel: torch computes the curves, sliders choose among them.

Each function returns a chart that displays as Vega-Lite (live in JupyterLab and in the site), with a PNG for
GitHub, print and readers without JavaScript. No formula is written here: a slider over a parameter selects
among curves that torch computed for each of its values.
"""

import base64
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import altair as alt
import torch
import torch.nn.functional as F
import vl_convert
from PIL import Image
from torch import Tensor, nn

from nonlinearity import catalog, models, plotting
from nonlinearity.catalog import Activation
from nonlinearity.data import Split, digits, moons
from nonlinearity.plotting import CLASS_COLOURS
from nonlinearity.properties import measure, value_and_slope

#: JupyterLab 4 draws this type with Vega-Lite 5.6; the type Altair 6 would give ("v6.json") it does not know,
#: and nbformat refuses it as JSON.
MIME_TYPE = "application/vnd.vegalite.v5+json"
SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
#: The Vega-Lite that draws the PNG and the site; the charts use nothing that 5.6 does not know.
VEGA_LITE = "6.4"

#: The parameters that the explorer gives a control, and the values to choose from.
GRIDS: dict[str, dict[str, Sequence[float] | Sequence[str]]] = {
    "leaky_relu": {"negative_slope": [i / 100 for i in range(31)]},
    "elu": {"alpha": [i / 4 for i in range(1, 9)]},
    "celu": {"alpha": [i / 4 for i in range(1, 9)]},
    "gelu": {"approximate": ["none", "tanh"]},
    "softplus": {"beta": [float(i) for i in range(1, 11)]},
}

_ACCENT = "#0072B2"
_INK = "#333333"
_FAINT = "#9a9a9a"
_ROW = 18  # height of one line of a reading, in pixels
_NONE = "none"
_WIDTH, _HEIGHT = 700, 230  # of a whole chart and of each panel, in pixels, where no page says otherwise
_ROUNDED = -10  # the power of ten below which differences of numbers near 1 are mostly rounding
_CHAIN = 8  # layers that depth_and_gain adds at a time: each depth has its own gradients to store
_GAP = 0.002  # between the points on either side of a kink
_CELLS = 30  # a side of the grid that shows a decision
_SNAPSHOTS = (0, 1, 2, 5, 10, 20, 40, 80)  # the steps at which dead units are counted
_SURFACE = ["#a9cfe8", "#f7f7f7", "#f3bd9b"]
_CONFIG = {
    "background": "white",
    "padding": 4,
    "font": "sans-serif",
    "view": {"stroke": None},
    "title": {"anchor": "start", "color": _INK, "fontSize": 14, "offset": 10, "subtitleColor": "#595959",
              "subtitleFontSize": 12, "subtitlePadding": 5},
    "axis": {"gridColor": "#dcdcdc", "domainColor": _FAINT, "tickColor": _FAINT, "labelColor": _INK,
             "titleColor": _INK, "labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": "normal"},
    # A fixed room for the labels: then a page can tell the chart's width from that of its panels.
    "axisY": {"minExtent": 26, "maxExtent": 26, "titlePadding": 6},
    "text": {"color": _INK, "fontSize": 12},
    "concat": {"spacing": 18},
    "aria": False,  # the chart as a whole has its description; thousands of marks need none
}  # fmt: skip


@dataclass(frozen=True)
class InteractiveChart:
    """A chart with controls.

    Attributes:
        spec: the Vega-Lite specification with all its data, as JSON-like objects.
        measured: the numbers that the chart shows, for the assertions of a notebook.
    """

    spec: dict[str, object]
    measured: Mapping[str, object] = field(default_factory=dict)

    @property
    def description(self) -> str:
        """What the chart shows, in words."""
        return str(self.spec["description"])

    def png(self) -> bytes:
        """The chart as a still picture, its controls as they are at the start."""
        picture = Image.open(io.BytesIO(vl_convert.vegalite_to_png(self.spec, vl_version=VEGA_LITE)))
        few = picture.convert("RGB").quantize(64, dither=Image.Dither.NONE)  # a seventh of the bytes
        file = io.BytesIO()
        few.save(file, "PNG", optimize=True)
        return file.getvalue()

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, object]:
        return {
            MIME_TYPE: self.spec,
            "image/png": base64.b64encode(self.png()).decode(),
            "text/plain": f"Interactive chart: {self.description}",
        }


def explorer(
    *names: str, grids: Mapping[str, Mapping[str, Sequence[float] | Sequence[str]]] | None = None
) -> InteractiveChart:
    """Read f(x) and f'(x) of up to three activations at any x.

    Menus choose the activations, a slider the point x, further controls the parameters in ``GRIDS``.

    Args:
        *names: the element-wise activations to choose from; all of them when none is named. The first
            three are chosen at the start (of all: ReLU, GELU and Tanh).
        grids: controls for further activations, in the form of ``GRIDS``: the values of one parameter each,
            equally spaced, the catalogue's default among them.

    Raises:
        ValueError: for an unknown activation, one that acts on a vector, or one named twice.
    """
    activations = [_single(name) for name in names] or list(catalog.elementwise())
    labels = [activation.label for activation in activations]
    if len(set(labels)) < len(labels):
        raise ValueError(f"each activation can be named once, got {', '.join(names)}")
    start = (labels if names else ["ReLU", "GELU", "Tanh"])[:3]
    start += [_NONE] * (min(3, len(labels)) - len(start))
    menus = []
    for slot, value in zip(("first", "second", "third"), start):
        options = labels if slot == "first" else [_NONE, *labels]
        bind = alt.binding_select(options=options, name=f"{slot.capitalize()} ")
        menus.append(alt.param(name=slot, value=value, bind=bind))
    variants, settings = [], []
    own = grids or {}
    for activation in activations:
        grid = (GRIDS | own).get(activation.name)
        if grid is None:
            variants.append((activation, {}))
            continue
        ((parameter, values),) = grid.items()
        variants += [(activation, {parameter: value}) for value in values]
        settings.append(_parameter_control(activation, parameter, values))
    return _curves(
        variants,
        slots=[menu.name for menu in menus],
        x=torch.arange(-40, 41, dtype=torch.float64) / 10,
        x_start=1.0,
        menus=menus,
        settings=settings,
        title="Values and slopes of activation functions",
        description=(
            "Two panels with the values f(x) and the slopes f′(x) of up to three activation functions for x "
            "from −4 to 4. Menus choose the functions, sliders the point x and the functions’ parameters; "
            "above each panel stands what each function gives at x."
        ),
        breaks=_places(
            partial(activation, **given) for activation, given in variants if activation.name in own
        ),
    )


def leaky_slope() -> InteractiveChart:
    """LeakyReLU beside ReLU, with a slider for its negative slope from 0 to 1 and one for x."""
    values = [i / 100 for i in range(101)]
    leaky = catalog.get("leaky_relu")
    variants = [(catalog.get("relu"), {}), *((leaky, {"negative_slope": value}) for value in values)]
    return _curves(
        variants,
        slots=["'ReLU'", "'LeakyReLU'"],
        x=torch.arange(-8, 9, dtype=torch.float64) / 2,  # straight pieces need no more
        x_start=-2.0,
        menus=[_parameter_control(leaky, "negative_slope", values, start=0.1)],
        settings=[],
        title="The slope that keeps a negative input alive",
        description=(
            "Values f(x) and slopes f′(x) of ReLU and LeakyReLU for x from −4 to 4. A slider sets the "
            "negative slope of LeakyReLU from 0, where it is ReLU, to 1, where it is the identity."
        ),
    )


def depth_chain(*names: str, width: int = 64, networks: int = 20, depth: int = 32) -> InteractiveChart:
    """How a gradient changes on its way back through the layers of random networks, by activation.

    Each network is a chain of layers f(W h) without biases. Its input is standard normal, its weights are
    normal with variance v/width for a v that a slider sets (1: Glorot and LeCun, 2: He). For each depth a
    random direction is sent back from the last layer to the input by the chain rule; shown is its length at
    the input over its length at the start: the median over the networks and the middle 80 %. All activations
    see the same networks.

    Args:
        *names: element-wise activations; sigmoid, tanh, ReLU and GELU when none is named.
        width: units of each layer.
        networks: how many random networks are measured.
        depth: the number of layers of the deepest.

    Returns:
        a chart; ``measured[label]`` is a (variances, depth) tensor of medians and ``measured["variances"]``
        lists the v.

    Raises:
        ValueError: for an unknown activation, one that acts on a vector, or a size below 1.
    """
    activations = [_single(name) for name in names or ("sigmoid", "tanh", "relu", "gelu")]
    if min(width, networks, depth) < 1:
        raise ValueError(f"width, networks and depth must be positive, got {width}, {networks}, {depth}")
    variances = [i / 2 for i in range(1, 9)]
    generator = torch.Generator().manual_seed(0)
    normal = partial(torch.randn, generator=generator, dtype=torch.float64)
    weights = normal(depth, networks, width, width) / width**0.5
    start, direction = normal(networks, width, 1), normal(networks, depth, width)
    rows, medians = [], {}
    for activation in activations:
        median = []
        for variance in variances:
            factors = _shrinkage(activation, variance**0.5 * weights, start, direction)
            low, middle, high = factors.quantile(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64), dim=0)
            columns = {"low": low, "middle": middle, "high": high}
            rows.append(
                {
                    "name": activation.label,
                    "variance": variance,
                    "layers": " ".join(map(str, range(1, depth + 1))),
                }
                | {
                    key: " ".join(f"{float(value):.3g}" for value in column)
                    for key, column in columns.items()
                }
            )
            median.append(middle)
        medians[activation.label] = torch.stack(median)
    labels = ", ".join(medians)
    return _finish(
        [_depth_chart(activations, rows, variances, depth)],
        title="What is left of a gradient after n layers",
        subtitle=[
            f"{networks} random networks, {width} units a layer:",
            "median, and a band for the middle 80 %",
        ],
        description=(
            f"The factor by which the length of a gradient changes on its way back through 1 to {depth} "
            f"layers of random networks, on a logarithmic scale, one line each for {labels}. Sliders set the "
            "number of layers and the variance of the weights; above the lines stand the factors."
        ),
        measured={**medians, "variances": variances},
    )


def _shrinkage(activation: Activation, weights: Tensor, h: Tensor, direction: Tensor) -> Tensor:
    """Length of a direction sent back to the input over its length before, for every depth at once.

    Args:
        activation: the element-wise activation f.
        weights: (depth, networks, width, width) matrices.
        h: (networks, width, 1) inputs.
        direction: (networks, depth, width); row d starts behind layer d + 1.

    Returns:
        (networks, depth).
    """
    slopes = []
    for weight in weights:
        h, slope = value_and_slope(activation, weight @ h)
        slopes.append(slope.mT)
    gradient = torch.zeros_like(direction)
    for layer in reversed(range(len(weights))):
        gradient[:, layer] = direction[:, layer]
        gradient[:, layer:] = (gradient[:, layer:] * slopes[layer]) @ weights[layer]
    return gradient.norm(dim=2) / direction.norm(dim=2)


def _depth_chart(
    activations: Sequence[Activation], rows: list[dict[str, object]], variances: Sequence[float], depth: int
) -> alt.LayerChart:
    layers = alt.param(name="layers", value=min(16, depth), bind=_slider(1, depth, 1, "Layers"))
    slider = _slider(variances[0], variances[-1], 0.5, "Variance of the weights × width")
    variance = alt.param(name="variance", value=1.0, bind=slider)
    labels = [activation.label for activation in activations]
    look = _look(activations)
    everywhere = _unpacked(
        alt.Chart(_inline(rows)).transform_filter("datum.variance == variance"),
        "layers",
        "low",
        "middle",
        "high",
    )
    here = everywhere.transform_filter("datum.layers == layers")
    x = alt.X("layers:Q", title="layers", scale=alt.Scale(domain=[0, depth], nice=False))
    powers = {-12: "10⁻¹²", -9: "10⁻⁹", -6: "10⁻⁶", -3: "10⁻³", 0: "1", 3: "10³", 6: "10⁶"}
    named = f"{ {str(power): text for power, text in powers.items()} }[round(log(datum.value) / LN10)]"
    axis = alt.Axis(values=[10.0**power for power in powers], labelExpr=named.strip(), title=None)
    y = {"scale": alt.Scale(type="log", domain=[1e-12, 1e6]), "axis": axis}
    numbers = [
        f"format(datum.{key}, datum.{key} < 0.001 ? '.2e' : '.3~g')" for key in ("middle", "low", "high")
    ]
    shown = "datum.name + ':  {} ({} to {})'".replace("{}", "' + {} + '").format(*numbers)
    return alt.layer(
        everywhere.mark_area(opacity=0.15, clip=True).encode(
            x, alt.Y("low:Q", **y), alt.Y2("high:Q"), color=look["color"]
        ),
        everywhere.mark_line(strokeWidth=2, clip=True).encode(x, alt.Y("middle:Q", **y), **look),
        _rule("layers"),
        here.mark_point(filled=True, size=60, opacity=1, clip=True).encode(
            x, alt.Y("middle:Q", **y), color=look["color"]
        ),
        *_reading("factor", here, shown, f"indexof({labels}, datum.name)", len(labels), look),
    ).add_params(layers, variance)


def depth_and_gain(
    *names: str, width: int = 64, networks: int = 3, examples: int = 8, depth: int = 32
) -> InteractiveChart:
    """Signal and gradient in every layer of random networks, by activation: sliders for depth and gain.

    Each network is a chain of layers f(W h) without biases, W normal with standard deviation gain / √width,
    its inputs are standard normal. The signal of a layer is the spread of its outputs over the examples (the
    standard deviation, root mean square over the units). A random gradient of norm 1 by the last layer's
    outputs is sent back; shown is its norm by each layer's outputs. Both are geometric means over the
    networks. All activations see the same networks. Spreads below 10⁻¹⁰, mostly rounding, are left out.

    Args:
        *names: element-wise activations; sigmoid, tanh, ReLU and GELU when none is named.
        width: units of each layer.
        networks: how many random networks are measured.
        examples: inputs, at least 2.
        depth: the number of layers of the deepest, a multiple of 8; the slider offers each multiple.

    Returns:
        a chart; ``measured[label]`` holds the decimal logarithms, ``"spread"`` (gains, depth) and
        ``"gradient"`` (gains, depths, depth), NaN where nothing is shown; ``measured["gains"]`` and
        ``measured["depths"]`` list what the sliders offer.

    Raises:
        ValueError: for an unknown activation, one that acts on a vector, or sizes that do not fit.
    """
    activations = [_single(name) for name in names or ("sigmoid", "tanh", "relu", "gelu")]
    if min(width, networks) < 1 or examples < 2 or depth < 8 or depth % _CHAIN:
        raise ValueError(
            "depth_and_gain needs a positive width and number of networks, 2 examples or more and a depth "
            f"that 8 divides, got {width}, {networks}, {examples} and {depth}"
        )
    gains = [round(0.6 + 0.2 * i, 1) for i in range(15)]
    depths = [*range(_CHAIN, depth + 1, _CHAIN)]
    generator = torch.Generator().manual_seed(0)
    normal = partial(torch.randn, generator=generator, dtype=torch.float64)
    weights = normal(depth, networks, width, width) / width**0.5
    start, direction = normal(networks, examples, width), normal(networks, examples, width)
    direction = direction / direction.norm(dim=(1, 2), keepdim=True)
    rows, measured = [], {"gains": gains, "depths": depths}
    for activation in activations:
        factors = torch.tensor(gains, dtype=torch.float64)
        spread, gradient = _signal_and_gradient(activation, factors, weights, start, direction)
        measured[activation.label] = {"spread": spread, "gradient": gradient}
        for gain, up, down in zip(gains, spread, gradient):
            row = {"name": activation.label, "gain": gain, "signal": _numbers(up, 2)}
            rows.append(row | {"gradient": _numbers(down[~down.isnan()], 2)})
    labels = [activation.label for activation in activations]
    return _finish(
        _depth_and_gain_panels(activations, rows, gains, depths),
        title="Signal and gradient, layer by layer",
        description=(
            "Two panels on logarithmic scales. Left, the spread of each layer’s outputs over the examples, "
            f"right, the gradient that reaches them, in random networks with {', '.join(labels)}. "
            "Sliders set the number of layers and the gain of the weights; above the panels stand the signal "
            "of the last layer and the gradient of the first."
        ),
        measured=measured,
    )


def _signal_and_gradient(
    activation: Activation, gains: Tensor, weights: Tensor, start: Tensor, direction: Tensor
) -> tuple[Tensor, Tensor]:
    """What chains of layers make of inputs, and of a direction sent back from each eighth layer's outputs.

    Args:
        activation: the element-wise activation f.
        gains: (gains,) factors of the weights.
        weights: (depth, networks, width, width) matrices.
        start: (networks, examples, width) inputs.
        direction: (networks, examples, width).

    Returns:
        decimal logarithms, averaged over the networks: (gains, depth) spreads of the outputs and
        (gains, depth / 8, depth) norms of the gradient by the outputs, NaN for layers that a chain lacks.
    """
    depth, networks = weights.shape[:2]
    chains, shape = depth // _CHAIN, (networks, -1, len(gains), *start.shape[1:])
    gains = gains[:, None, None]
    h, slopes, spreads = start[:, None].expand(-1, len(gains), -1, -1), [], []
    for weight in weights:
        rows = h.flatten(1, 2) @ weight.mT  # one product a network: much faster than many small ones
        h, slope = value_and_slope(activation, gains * rows.view(h.shape))
        slopes.append(slope[:, None])
        spreads.append(h.var(dim=2, correction=0).mean(dim=2).sqrt())
    gradient = torch.full((chains, len(gains), depth), torch.nan, dtype=h.dtype)
    sent = h.new_empty(networks, 0, *h.shape[1:])  # one direction for each chain that has begun
    for layer in reversed(range(depth)):
        if layer % _CHAIN == _CHAIN - 1:
            sent = torch.cat([direction[:, None, None].expand_as(h[:, None]), sent], dim=1)
        gradient[layer // _CHAIN :, :, layer] = sent.norm(dim=(3, 4)).log10().mean(dim=0)
        rows = (sent * slopes[layer]).flatten(1, 3)
        sent = gains * (rows @ weights[layer]).view(shape)
    spread = torch.stack(spreads, dim=2).log10().mean(dim=0)
    return spread.where(spread > _ROUNDED, torch.nan), gradient.movedim(1, 0)


def _depth_and_gain_panels(
    activations: Sequence[Activation],
    rows: list[dict[str, object]],
    gains: Sequence[float],
    depths: Sequence[int],
) -> list[alt.LayerChart]:
    labels, look = [activation.label for activation in activations], _look(activations)
    depth = alt.param(name="depth", value=16, bind=_slider(depths[0], depths[-1], _CHAIN, "Number of layers"))
    gain = alt.param(name="gain", value=1.0, bind=_slider(gains[0], gains[-1], 0.2, "Gain of the weights"))
    places = {
        "signal": ([depths[-1]] * depths[-1], range(1, depths[-1] + 1)),
        "gradient": ([d for d in depths for _ in range(d)], [n for d in depths for n in range(1, d + 1)]),
    }
    powers = {-20: "10⁻²⁰", -15: "10⁻¹⁵", -10: "10⁻¹⁰", -5: "10⁻⁵", 0: "1", 5: "10⁵", 10: "10¹⁰"}
    named = f"{ {str(power): text for power, text in powers.items()} }[datum.value]".strip()
    x = alt.X("layer:Q", title="layer", scale=alt.Scale(domain=[0, depths[-1]], nice=False))
    chosen = alt.Chart(_inline(rows)).transform_filter("abs(datum.gain - gain) < 1e-6")
    panels = []
    for key, where, title, low in (
        ("signal", "depth", "spread of the outputs", _ROUNDED),
        ("gradient", "1", "gradient of the outputs", -20),
    ):
        placed = chosen.transform_calculate(of=f"{key}_depths", layer=f"{key}_layers")
        every = _unpacked(placed, "of", "layer", key)
        shown = "datum.layer <= depth" if key == "signal" else "datum.of == depth"
        line = every.transform_filter(shown)
        y = alt.Y(
            f"{key}:Q",
            scale=alt.Scale(domain=[low, 12], nice=False),
            axis=alt.Axis(values=[power for power in powers if power >= low], labelExpr=named, title=None),
        )
        here = line.transform_filter(f"datum.layer == {where}")
        number = f"isValid(datum.{key}) ? format(pow(10, datum.{key}), '.1e') : 'below 1e-10'"
        text = f"datum.name + ', layer ' + datum.layer + ':  ' + ({number})"
        panels.append(
            alt.layer(
                line.mark_line(clip=True, strokeWidth=2).encode(x, y, **look),
                here.mark_point(filled=True, size=60, opacity=1, clip=True).encode(x, y, color=look["color"]),
                *_reading(key, here, text, f"indexof({labels}, datum.name)", len(labels), look),
                title=title,
            )
        )
    positions = [
        alt.param(name=f"{key}_{name}", value=" ".join(map(str, numbers)))
        for key, pair in places.items()
        for name, numbers in zip(("depths", "layers"), pair)
    ]
    panels[0] = panels[0].add_params(depth, gain, *positions)
    return panels


def relu_interpolant(function: Callable[[Tensor], Tensor], knots: Tensor) -> Callable[[Tensor], Tensor]:
    """The sum of ReLUs that meets a function at its knots and is straight between them.

    Each ReLU changes the slope at its knot by its weight, so k pieces take k ReLUs and one constant.

    Args:
        function: what to approximate, element-wise.
        knots: (k + 1,) increasing positions; a hinge at each but the last.

    Returns:
        a function of a tensor of any shape.
    """
    heights = function(knots)
    slopes = heights.diff() / knots.diff()
    weights = slopes.diff(prepend=torch.zeros_like(slopes[:1]))
    return lambda x: heights[0] + (weights * torch.relu(x.unsqueeze(-1) - knots[:-1])).sum(-1)


def hinges(
    function: Callable[[Tensor], Tensor] = torch.sin,
    low: float = -3.5,
    high: float = 3.5,
    *,
    most: int = 16,
    name: str = "sin x",
) -> InteractiveChart:
    """k ReLUs approximate a curve: a slider for k, the hinges, and the largest error.

    Args:
        function: the curve, element-wise.
        low: where it begins.
        high: where it ends.
        most: the largest k.
        name: what to call the curve.

    Returns:
        a chart; ``measured["error"]`` holds the largest error for k = 1, …, most.

    Raises:
        ValueError: unless low < high and most is at least 2.
    """
    if not low < high or most < 2:
        raise ValueError(f"the curve needs low < high and at least 2 hinges, got {low}, {high} and {most}")
    x = torch.linspace(low, high, 141, dtype=torch.float64)
    fine = torch.linspace(low, high, 14001, dtype=torch.float64)
    target = [{"x": _numbers(x), "y": _numbers(function(x))}]
    sums, errors = [], []
    for k in range(1, most + 1):
        knots = torch.linspace(low, high, k + 1, dtype=torch.float64)
        approximation = relu_interpolant(function, knots)
        errors.append(float((approximation(fine) - function(fine)).abs().max()))
        sums.append({"k": k, "x": _numbers(knots), "y": _numbers(approximation(knots))})
    error = [{"k": k, "error": float(f"{value:.3g}")} for k, value in enumerate(errors, 1)]
    slider = alt.param(name="k", value=4, bind=_slider(1, most, 1, "ReLUs"))
    position = alt.X("x:Q", title="x", scale=alt.Scale(domain=[low, high], nice=False))
    height = alt.Y("y:Q", title=None)
    now = "datum.k == k"
    curve = _unpacked(alt.Chart(_inline(target)), "x", "y")
    chosen = _unpacked(alt.Chart(_inline(sums)).transform_filter(now), "x", "y")
    powers = [2**i for i in range(most.bit_length())]
    scale = alt.Scale(type="log", domain=[1, most], nice=False)
    count = alt.X("k:Q", title="ReLUs", scale=scale, axis=alt.Axis(values=powers))
    ends = [float(f"{bound:.3g}") for bound in (0.8 * min(errors), 1.25 * max(errors))]
    ticks = alt.Axis(
        values=[float(f"{digit}e{power}") for power in range(-6, 3) for digit in (1, 3)], format="~g"
    )
    size = alt.Y("error:Q", title=None, scale=alt.Scale(type="log", domain=ends, nice=False), axis=ticks)
    chosen_row = alt.Chart(_inline(error)).transform_filter(now)
    left = alt.layer(
        curve.mark_line(color="#b8b8b8", strokeWidth=5).encode(position, height),
        chosen.mark_line(color=_ACCENT, strokeWidth=2).encode(position, height),
        chosen.transform_filter(f"datum.x < {high} - 0.001")
        .mark_point(color=_ACCENT, filled=True, size=50, opacity=1)
        .encode(position, height),
        _heading("sum", chosen_row, f"'{name} in grey, ' + k + (k == 1 ? ' ReLU' : ' ReLUs')"),
    )
    right = alt.layer(
        alt.Chart(_inline(error))
        .mark_line(color=_FAINT, point={"color": _FAINT, "size": 20})
        .encode(count, size),
        chosen_row.mark_point(color=_ACCENT, filled=True, size=90, opacity=1).encode(count, size),
        _heading("error", chosen_row, "'largest error ' + format(datum.error, '.3~g')"),
    )
    left = left.add_params(slider)
    return _finish(
        [left, right],
        title="A curve made of hinges",
        description=(
            f"Left, the curve {name} and its approximation by a sum of k ReLUs, straight between its hinges, "
            "which are marked. Right, the largest error against k on logarithmic axes. A slider sets k from "
            f"1 to {most}."
        ),
        measured={"error": errors},
    )


def decision_boundary(activation: str = "tanh", *, steps: int = 200, every: int = 10) -> InteractiveChart:
    """Two networks learn the moons, with and without a nonlinearity; a slider walks through the training.

    Both are 2-16-16-1 perceptrons that start from equal weights and take full-batch steps of Adam at a
    learning rate of 0.02. One run, to look at: no evidence that one network beats another.

    Args:
        activation: the nonlinearity of the first network.
        steps: training steps.
        every: steps between two positions of the slider; divides ``steps``.

    Returns:
        a chart; ``measured[label]`` and ``measured["linear"]`` list the training accuracies.

    Raises:
        ValueError: for an unknown activation or one that acts on a vector, or if every does not divide steps.
    """
    label = _single(activation).label
    if every < 1 or steps < every or steps % every:
        raise ValueError(f"every must divide steps, got every={every} and steps={steps}")
    x, y = moons(200, 0.2, seed=0)
    names = {label: f"with {label}", "linear": "without a nonlinearity"}
    low, high = x.min(0).values - 0.2, x.max(0).values + 0.2
    side = (torch.arange(_CELLS) + 0.5) / _CELLS
    second, first = torch.meshgrid(side, side, indexing="ij")
    grid = low + (high - low) * torch.stack([first.flatten(), second.flatten()], dim=1)
    rows, measured = [], {}
    for name in names:
        with torch.random.fork_rng():  # the notebook's own random numbers stay as they were
            torch.manual_seed(0)
            model = models.mlp((2, 16, 16, 1), None if name == "linear" else activation)
        measured[name] = []
        for step, accuracy in _learn(model, x, y, steps, every):
            with torch.no_grad():
                levels = (9.999 * model(grid).sigmoid()).int().flatten().tolist()
            measured[name].append(accuracy)
            rows.append(
                {
                    "name": name,
                    "step": step,
                    "accuracy": round(accuracy, 3),
                    "level": "".join(map(str, levels)),
                }
            )
    points = [
        {
            "x": _numbers(x[:, 0], 2),
            "y": _numbers(x[:, 1], 2),
            "label": " ".join(str(int(value)) for value in y.flatten()),
        }
    ]
    slider = alt.param(name="step", value=steps, bind=_slider(0, steps, every, "Training step"))
    (left, right), (bottom, top) = zip(low.tolist(), high.tolist())
    axis = {"axis": None}
    horizontal = alt.Scale(domain=[round(left, 3), round(right, 3)], nice=False)
    vertical = alt.Scale(domain=[round(bottom, 3), round(top, 3)], nice=False)
    surface = alt.Color("level:Q", legend=None, scale=alt.Scale(domain=[0, 4.5, 9], range=_SURFACE))
    colour = alt.Color("label:N", legend=None, scale=alt.Scale(domain=[0, 1], range=[*CLASS_COLOURS]))
    shape = alt.Shape("label:N", legend=None, scale=alt.Scale(domain=[0, 1], range=["circle", "square"]))
    panels = []
    for name, text in names.items():
        frame = alt.Chart(_inline(rows)).transform_filter(f"datum.name == '{name}' && datum.step == step")
        cells = (
            frame.transform_calculate(level="split(datum.level, '')", index=f"sequence({_CELLS**2})")
            .transform_flatten(["level", "index"])
            .transform_calculate(
                level="toNumber(datum.level)",
                x=f"{left:.3f} + datum.index % {_CELLS} * {(right - left) / _CELLS:.6f}",
                y=f"{bottom:.3f} + floor(datum.index / {_CELLS}) * {(top - bottom) / _CELLS:.6f}",
                right=f"datum.x + {(right - left) / _CELLS:.6f}",
                top=f"datum.y + {(top - bottom) / _CELLS:.6f}",
            )
        )
        panels.append(
            alt.layer(
                cells.mark_rect().encode(
                    alt.X("x:Q", scale=horizontal, **axis), alt.Y("y:Q", scale=vertical, **axis),
                    alt.X2("right:Q"), alt.Y2("top:Q"), fill=surface, stroke=surface,
                ),
                _unpacked(alt.Chart(_inline(points)), "x", "y", "label")
                .mark_point(filled=True, size=28, opacity=1, stroke="white", strokeWidth=0.5)
                .encode(alt.X("x:Q", scale=horizontal, **axis), alt.Y("y:Q", scale=vertical, **axis),
                        fill=colour, shape=shape),
                _heading(name, frame, f"'{text}: accuracy ' + format(datum.accuracy, '.3f')"),
            ).resolve_scale(color="independent", fill="independent", stroke="independent")
        )  # fmt: skip
    panels[0] = panels[0].add_params(slider)
    return _finish(
        panels,
        title="Learning to tell two moons apart",
        margin=6,
        description=(
            f"Two panels with the points of the two moons and the regions in which a network gives either "
            f"class: one network with {label} between its layers, one without a nonlinearity, whose border "
            f"stays straight. A slider walks through {steps} training steps; above each panel stands the "
            "accuracy."
        ),
        measured=measured,
    )


def _learn(model: nn.Module, x: Tensor, y: Tensor, steps: int, every: int) -> Iterator[tuple[int, float]]:
    """Train with full batches; before each step that ``every`` divides, give its number and the accuracy."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for step in range(steps + 1):
        logits = model(x)
        if step % every == 0:
            yield step, float(((logits > 0) == (y > 0.5)).float().mean())
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(logits, y).backward()
        optimizer.step()


def _curves(
    variants: Sequence[tuple[Activation, Mapping[str, float | str]]],
    slots: Sequence[str],
    x: Tensor,
    x_start: float,
    menus: Sequence[alt.Parameter],
    settings: Sequence[alt.Parameter],
    title: str,
    description: str,
    breaks: Iterable[float] = (),
) -> InteractiveChart:
    """The panels f(x) and f'(x) with a reading at x.

    Args:
        variants: each curve: an activation and the value of its parameter, if it has a control.
        slots: Vega expressions that give the labels of what is shown, one a line of the reading.
        x: (n,) positions that the slider for x offers, equally spaced.
        x_start: where the slider stands at first.
        menus: the controls that come before that of x.
        settings: those that come after it.
        title: of the chart.
        description: of the chart.
        breaks: where curves jump or bend beside the places where they do at the catalogue's parameters.
    """
    activations = list({activation.name: activation for activation, _ in variants}.values())
    fine, is_gap = _with_breaks(x, activations, breaks)
    rows = []
    for activation, parameters in variants:
        value, slope = value_and_slope(partial(activation, **parameters), fine)
        curves = {"f": _numbers(_broken(value, is_gap)), "slope": _numbers(_broken(slope, is_gap))}
        rows.append({"name": activation.label, "set": next(iter(parameters.values()), None)} | curves)
    step = round(float(x[1] - x[0]), 6)
    point = alt.param(name="x", value=x_start, bind=_slider(float(x[0]), float(x[-1]), step, "x"))
    chosen = {activation.label: f"{activation.name}_{key}" for activation, keys in variants for key in keys}
    values = ", ".join(f"{label}: {param}" for label, param in chosen.items())
    shown = f"[{', '.join(slots)}]"
    line = (
        alt.Chart(_inline(rows))
        .transform_filter(f"indexof({shown}, datum.name) >= 0")
        .transform_filter(f"!isValid(datum.set) || datum.set == {{{values}}}[datum.name]")
        .transform_calculate(x="positions")
    )
    panels = []
    for key, symbol, domain in (("f", "f", (-2, 4)), ("slope", "f′", (-0.6, 1.8))):
        look = _look(activations)
        curve = _unpacked(line, "x", key)
        here = curve.transform_filter("abs(datum.x - x) < 1e-6")
        horizontal = alt.X("x:Q", title="x", scale=alt.Scale(domain=[float(x[0]), float(x[-1])], nice=False))
        vertical = alt.Y(
            f"{key}:Q", title=None, axis=alt.Axis(grid=True), scale=alt.Scale(domain=domain, nice=False)
        )
        text = f"datum.name + ':  {symbol}(' + format(x, '~') + ') = ' + format(datum.{key}, '.4~f')"
        panels.append(
            alt.layer(
                alt.Chart(_inline([{}])).mark_rule(color=_FAINT).encode(y=alt.datum(0, type="quantitative")),
                curve.mark_line(clip=True, strokeWidth=2).encode(horizontal, vertical, **look),
                _rule("x"),
                here.mark_point(filled=True, size=60, opacity=1, clip=True)
                .encode(horizontal, vertical, color=look["color"]),
                *_reading(key, here, text, f"indexof({shown}, datum.name)", len(slots), look),
                title=f"{symbol}(x)" if key == "f" else "slope f′(x)",
            )
        )  # fmt: skip
    panels[0] = panels[0].add_params(
        *menus, point, *settings, alt.param(name="positions", value=_numbers(fine))
    )
    only = {param: label for label, param in chosen.items()}
    return _finish(panels, title=title, description=description, only=only)


def _places(functions: Iterable[Callable[[Tensor], Tensor]]) -> set[float]:
    """Where any of the functions has a kink or a jump."""
    measured = [measure(function) for function in functions]
    return {place for properties in measured for place in (*properties.kinks, *properties.jumps)}


def _with_breaks(
    x: Tensor, activations: Sequence[Activation], more: Iterable[float] = ()
) -> tuple[Tensor, Tensor]:
    """The positions x and four more around each kink and jump, with a mark at the two where lines break.

    Returns:
        (m,) positions in order, and a (m,) bool tensor that is true beside kinks and jumps.
    """
    breaks = _places(activations) | {*more}
    inside = torch.tensor(sorted(place for place in breaks if x[0] < place < x[-1]), dtype=x.dtype)
    near = torch.cat([inside - _GAP, inside + _GAP])
    positions = torch.cat([x, inside, near, inside - 2 * _GAP, inside + 2 * _GAP]).unique()
    return positions, torch.isin(positions, near)


def _broken(y: Tensor, is_gap: Tensor) -> Tensor:
    """A copy of y with NaN at those gaps where y jumps: a line through them would draw what is not there."""
    y = y.clone()
    for i in is_gap.nonzero().flatten().tolist():
        if abs(y[i + 1] - y[i - 1]) > 0.01:
            y[i] = torch.nan
    return y


def _rule(where: str) -> alt.Chart:
    """A dashed vertical line at the value of a control."""
    return (
        alt.Chart(_inline([{}]))
        .mark_rule(color=_INK, strokeDash=[3, 3], strokeWidth=1)
        .encode(x=alt.datum(alt.ExprRef(where), type="quantitative"))
    )


def _heading(name: str, row: alt.Chart, text: str) -> alt.Chart:
    """A line above a panel that says something about the one row of its data."""
    return (
        row.transform_calculate(shown=text)
        .mark_text(align="left", baseline="middle")
        .encode(text="shown:N", x=alt.value(0), y=alt.value(-_ROW))
        .properties(name=f"reading_{name}")
    )


def _reading(
    name: str, here: alt.Chart, text: str, slot: str, rows: int, look: Mapping[str, object]
) -> list[alt.Chart]:
    """One line above the panel for each activation: a piece of its curve, its name and its number."""
    row = here.transform_calculate(shown=text, row=f"({slot} - {rows}) * {_ROW}")
    y = alt.Y("row:Q", scale=None, axis=None)
    return [
        row.mark_rule(strokeWidth=2).encode(y, x=alt.value(0), x2=alt.value(22), **look),
        row.mark_text(align="left", baseline="middle")
        .encode(y, x=alt.value(28), text="shown:N")
        .properties(name=f"reading_{name}"),
    ]


def _single(name: str) -> Activation:
    """The element-wise activation of that name."""
    activation = catalog.get(name)
    if not activation.elementwise:
        raise ValueError(f"{name} acts on a vector and has no curve to show")
    return activation


def _numbers(values: Tensor | Iterable[float], decimals: int = 4) -> str:
    """Numbers as one string, for a notebook would store each element of a list on a line of its own.

    NaN becomes an empty word, which Vega reads as "no point here".
    """
    words = []
    for value in values.tolist() if isinstance(values, Tensor) else values:
        # Off the ties: else 0.00125 might be rounded one way here and the other way on another CPU.
        text = f"{value + 1e-9:.{decimals}f}".rstrip("0").rstrip(".")
        words.append("" if text == "nan" else "0" if text == "-0" else text)
    return " ".join(words)


def _unpacked(chart: alt.Chart, *columns: str) -> alt.Chart:
    """The chart with its strings of numbers split into one row a number."""
    words = {key: f"split(datum.{key}, ' ')" for key in columns}
    numbers = {key: f"toNumber(datum.{key})" for key in columns}
    return chart.transform_calculate(**words).transform_flatten([*columns]).transform_calculate(**numbers)


def _inline(rows: list[dict[str, object]]) -> alt.InlineData:
    return alt.InlineData(values=rows)


def _slider(low: float, high: float, step: float, name: str) -> alt.BindRange:
    return alt.binding_range(min=low, max=high, step=step, name=f"{name} ")


def _parameter_control(
    activation: Activation,
    parameter: str,
    values: Sequence[float] | Sequence[str],
    start: float | None = None,
) -> alt.Parameter:
    """The menu or slider of one parameter, at the catalogue's default unless told otherwise."""
    name = f"{activation.label} {parameter} "
    bind = (
        alt.binding_select(options=list(values), name=name)
        if isinstance(values[0], str)
        else _slider(values[0], values[-1], round(values[1] - values[0], 6), name.strip())
    )
    value = activation.parameters[parameter] if start is None else start
    return alt.param(name=f"{activation.name}_{parameter}", value=value, bind=bind)


def _look(activations: Sequence[Activation]) -> dict[str, object]:
    """Colour and dashes of each activation, as everywhere in the course."""
    styles = [plotting.style(activation.name) for activation in activations]
    labels = [str(style["label"]) for style in styles]
    dashes = [[round(2 * length, 1) for length in style["linestyle"][1]] or [1, 0] for style in styles]
    colours = alt.Scale(domain=labels, range=[style["color"] for style in styles])
    return {
        "color": alt.Color("name:N", legend=None, scale=colours),
        "strokeDash": alt.StrokeDash("name:N", legend=None, scale=alt.Scale(domain=labels, range=dashes)),
    }


def _finish(
    panels: Sequence[alt.LayerChart],
    *,
    title: str,
    description: str,
    subtitle: Sequence[str] = (),
    margin: int = 42,
    only: Mapping[str, str] | None = None,
    measured: Mapping[str, object] | None = None,
) -> InteractiveChart:
    """Set panels side by side under one title.

    What the site needs besides goes into ``usermeta``: ``margin``, the width of a panel beyond its axes, for
    it fits the panels to the page; and ``only``, which maps a control to the menu entry that it belongs to,
    for it hides the control while that is not chosen.
    """
    width = (_WIDTH - 18 * (len(panels) - 1)) // len(panels) - margin
    sized = [panel.properties(width=width, height=_HEIGHT) for panel in panels]
    heading = alt.Title(title, **({"subtitle": list(subtitle)} if subtitle else {}))
    chart = alt.concat(*sized, columns=len(sized)).properties(title=heading, description=description)
    spec = chart.to_dict() | {"$schema": SCHEMA, "config": _CONFIG}
    spec["usermeta"] = {"margin": margin, "only": dict(only or {})}
    return InteractiveChart(spec, measured or {})


def softmax_temperature() -> InteractiveChart:
    """Softmax of three logits at a temperature: sliders for all four.

    The probabilities are stored by the two differences of the logits, which is all that they depend on.
    """
    softmax = catalog.get("softmax")
    temperatures = torch.arange(1, 21, dtype=torch.float64) / 4
    differences = range(-6, 7)
    rows = []
    for first in differences:
        for second in differences:
            logits = torch.tensor([first, second, 0], dtype=torch.float64)
            probabilities = softmax(logits / temperatures[:, None], dim=1)
            columns = {key: _numbers(column, 3) for key, column in zip("abc", probabilities.T)}
            rows.append({"first": first, "second": second} | columns)
    start = {"first": 2, "second": 1, "third": 0}
    sliders = [
        alt.param(name=name, value=value, bind=_slider(-3, 3, 1, f"{name.capitalize()} logit"))
        for name, value in start.items()
    ]
    warmth = alt.param(name="temperature", value=1.0, bind=_slider(0.25, 5.0, 0.25, "Temperature"))
    names = [name.capitalize() for name in start]
    colours = alt.Scale(domain=names, range=["#0072B2", "#D55E00", "#00785A"])
    dashes = alt.Scale(domain=names, range=[[1, 0], [8, 3], [3, 3]])
    look = {
        "color": alt.Color("name:N", legend=None, scale=colours),
        "strokeDash": alt.StrokeDash("name:N", legend=None, scale=dashes),
    }
    chosen = (
        alt.Chart(_inline(rows))
        .transform_filter("datum.first == first - third && datum.second == second - third")
        .transform_calculate(t="temperatures")
    )
    every = (
        _unpacked(chosen, "t", "a", "b", "c")
        .transform_fold(["a", "b", "c"], as_=["key", "p"])
        .transform_calculate(name=f"{{a: '{names[0]}', b: '{names[1]}', c: '{names[2]}'}}[datum.key]")
    )
    now = every.transform_filter("datum.t == temperature")
    probability = alt.Y("p:Q", title=None, scale=alt.Scale(domain=[0, 1], nice=False))
    place = alt.X("name:N", title="logit", sort=names, axis=alt.Axis(labelAngle=0))
    horizontal = alt.X("t:Q", title="temperature", scale=alt.Scale(domain=[0, 5], nice=False))
    said = "'temperature ' + format(temperature, '.2f')"
    text = "datum.name + ':  p = ' + format(datum.p, '.3f')"
    left = alt.layer(
        now.mark_bar().encode(place, probability, color=look["color"]),
        _heading("at", alt.Chart(_inline([{}])), said),
        title="probabilities",
    ).add_params(*sliders, warmth, alt.param(name="temperatures", value=_numbers(temperatures)))
    right = alt.layer(
        every.mark_line(strokeWidth=2).encode(horizontal, probability, **look),
        _rule("temperature"),
        now.mark_point(filled=True, size=60, opacity=1).encode(horizontal, probability, color=look["color"]),
        *_reading("p", now, text, f"indexof({names}, datum.name)", len(names), look),
        title="at every temperature",
    )
    return _finish(
        [left, right],
        title="Three logits, one temperature",
        description=(
            "Left, the probabilities that softmax gives to three logits, as bars; right, how they change "
            "with the temperature from 0.25 to 5. Sliders set the three logits and the temperature; above "
            "the right panel stand the three probabilities."
        ),
    )


def gates(*names: str) -> InteractiveChart:
    """What gated activations make of a value a and a gate input b: sliders for both.

    Args:
        *names: activations that halve a dimension; GLU, SwiGLU, GEGLU and ReGLU when none is named.

    Raises:
        ValueError: for an unknown activation, or one that does not halve a dimension.
    """
    activations = [catalog.get(name) for name in names or ("glu", "swiglu", "geglu", "reglu")]
    for activation in activations:
        if activation(torch.zeros(2)).shape != (1,):
            raise ValueError(f"{activation.name} does not halve a dimension")
    tenths = torch.arange(-40, 41, dtype=torch.float64) / 10
    b, is_gap = _with_breaks(tenths, [catalog.get("relu")])  # ReGLU has the kink of ReLU
    values = [i / 2 for i in range(-4, 5)]
    rows = []
    for activation in activations:
        for a in values:

            def output(b: Tensor, a: float = a, activation: Activation = activation) -> Tensor:
                return activation(torch.stack([torch.full_like(b, a), b], dim=-1)).squeeze(-1)

            value, slope = value_and_slope(output, b)
            columns = {"f": value, "slope": _broken(slope, is_gap)}
            row = {"name": activation.label, "value": a}
            rows.append(row | {key: _numbers(column) for key, column in columns.items()})
    labels, look = [activation.label for activation in activations], _look(activations)
    controls = [
        alt.param(name="a", value=1.0, bind=_slider(-2.0, 2.0, 0.5, "Value a")),
        alt.param(name="b", value=1.0, bind=_slider(-4.0, 4.0, 0.1, "Gate input b")),
    ]
    line = alt.Chart(_inline(rows)).transform_filter("datum.value == a").transform_calculate(gate="positions")
    horizontal = alt.X("gate:Q", title="gate input b", scale=alt.Scale(domain=[-4, 4], nice=False))
    panels = []
    for key, title, domain in (("f", "output", (-4, 4)), ("slope", "slope with respect to b", (-2.5, 2.5))):
        curve = _unpacked(line, "gate", key)
        here = curve.transform_filter("abs(datum.gate - b) < 1e-6")
        vertical = alt.Y(f"{key}:Q", title=None, scale=alt.Scale(domain=domain, nice=False))
        text = f"datum.name + ':  ' + format(datum.{key}, '.4~f')"
        panels.append(
            alt.layer(
                curve.mark_line(clip=True, strokeWidth=2).encode(horizontal, vertical, **look),
                _rule("b"),
                here.mark_point(filled=True, size=60, opacity=1, clip=True)
                .encode(horizontal, vertical, color=look["color"]),
                *_reading(key, here, text, f"indexof({labels}, datum.name)", len(labels), look),
                title=title,
            )
        )  # fmt: skip
    panels[0] = panels[0].add_params(*controls, alt.param(name="positions", value=_numbers(b)))
    return _finish(
        panels,
        title="A value and its gate",
        description=(
            "Left, the outputs of gated activations for a value a against the input b of the gate; right, "
            "their slopes with respect to b. Sliders set a and b; above each panel stand the numbers there."
        ),
    )


def dying_units(activation: str = "relu") -> InteractiveChart:
    """Units die while networks learn the digits: sliders for the learning rate and for centring the inputs.

    Perceptrons of 64-64-10 units see pixels from 0 to 1, minus a share of each pixel's mean, and take 80
    steps of plain gradient descent on batches of 32. Each setting trains the same three networks on the same
    batches. Shown are their mean and a band from the lowest to the highest. A unit is dead when its slope is
    exactly 0 for every training image; the accuracy is that on the test images.

    Args:
        activation: an element-wise activation.

    Returns:
        a chart; ``measured`` lists the ``"rates"``, the ``"shares"`` of the mean that are subtracted and the
        ``"steps"``; its ``"dead"`` and ``"accuracy"`` are (rates, shares, networks, steps).

    Raises:
        ValueError: for an unknown activation or one that acts on a vector.
    """
    chosen = _single(activation)
    rates, shares = [i / 2 for i in range(1, 9)], [i / 4 for i in range(5)]
    data = digits()
    every = [_train_on_digits(data, chosen, rate, shares, networks=3) for rate in rates]
    measured = {key: torch.stack(part) for key, part in zip(("dead", "accuracy"), zip(*every))}
    rows = []
    for i, rate in enumerate(rates):
        for j, share in enumerate(shares):
            row = {"rate": rate, "share": share}
            for key, values in measured.items():
                each = values[i, j]
                ends = {"low": each.amin(0), "mean": each.mean(0), "high": each.amax(0)}
                row |= {f"{key}_{end}": _numbers(value, 3) for end, value in ends.items()}
            rows.append(row)
    steps, label = [*_SNAPSHOTS], chosen.label
    controls = [
        alt.param(name="rate", value=1.5, bind=_slider(rates[0], rates[-1], 0.5, "Learning rate")),
        alt.param(name="share", value=0.0, bind=_slider(0.0, 1.0, 0.25, "Share of the mean subtracted")),
        alt.param(name="snapshots", value=" ".join(map(str, steps))),
    ]
    now = (
        alt.Chart(_inline(rows))
        .transform_filter("datum.rate == rate && datum.share == share")
        .transform_calculate(step="snapshots")
    )
    horizontal = alt.X("step:Q", title="step", scale=alt.Scale(domain=[0, steps[-1]], nice=False))
    colour = str(plotting.style(chosen.name)["color"])
    panels = []
    for key, title in (("dead", "dead units"), ("accuracy", "test accuracy")):
        low, mean, high = (f"{key}_{end}" for end in ("low", "mean", "high"))
        curve = _unpacked(now, "step", low, mean, high)
        y = {"title": None, "scale": alt.Scale(domain=[0, 1], nice=False)}
        text = f"'{title} at the end:  ' + format(datum.{mean}, '.2f')"
        panels.append(
            alt.layer(
                curve.mark_area(opacity=0.18, color=colour).encode(
                    horizontal, alt.Y(f"{low}:Q", **y), alt.Y2(f"{high}:Q")
                ),
                curve.mark_line(color=colour, strokeWidth=2, point={"color": colour, "size": 20}).encode(
                    horizontal, alt.Y(f"{mean}:Q", **y)
                ),
                _heading(key, curve.transform_filter(f"datum.step == {steps[-1]}"), text),
                title=title,
            )
        )
    panels[0] = panels[0].add_params(*controls)
    return _finish(
        panels,
        title="What kills a unit",
        subtitle=["three networks: mean, and a band", "from the lowest to the highest"],
        description=(
            f"Left, the share of dead {label} units during {steps[-1]} steps of gradient descent on the "
            "digits; right, the accuracy on the test images. Sliders set the learning rate and how much of "
            "each pixel’s mean is subtracted; above the panels stand the values at the end."
        ),
        measured={"rates": rates, "shares": shares, "steps": steps} | measured,
    )


def _train_on_digits(
    data: Split, activation: Activation, rate: float, shares: Sequence[float], networks: int
) -> tuple[Tensor, Tensor]:
    """Train networks by gradient descent, one for each share of the mean and each seed, all at once.

    Returns:
        the share of dead units on the training images and the accuracy on the test images, both
        (shares, networks, snapshots).
    """
    batches, start = [], []
    with torch.random.fork_rng():  # the notebook's own random numbers stay as they were
        for seed in range(networks):
            generator = torch.Generator().manual_seed(seed)
            batches.append(torch.randint(len(data.x_train), (_SNAPSHOTS[-1], 32), generator=generator))
            torch.manual_seed(seed)
            start.append([parameter.detach() for parameter in models.mlp((64, 64, 10), None).parameters()])
    order = torch.stack(batches * len(shares), dim=1)  # (steps, models, 32)
    weights = [torch.stack(part * len(shares)).requires_grad_() for part in zip(*start)]
    shift = torch.tensor(shares).repeat_interleave(networks)[:, None, None] * data.x_train.mean(0)

    def sums(x: Tensor) -> Tensor:
        return torch.baddbmm(weights[1][:, None], x - shift, weights[0].mT)

    def logits(hidden: Tensor) -> Tensor:
        return torch.baddbmm(weights[3][:, None], activation(hidden), weights[2].mT)

    dead, right = [], []
    for step in range(_SNAPSHOTS[-1] + 1):
        if step in _SNAPSHOTS:
            with torch.no_grad():
                slope = value_and_slope(activation, sums(data.x_train))[1]
                dead.append((slope.abs().amax(1) == 0).float().mean(1))
                right.append((logits(sums(data.x_test)).argmax(2) == data.y_test).float().mean(1))
        if step < _SNAPSHOTS[-1]:
            x, y = data.x_train[order[step]], data.y_train[order[step]]
            loss = F.cross_entropy(logits(sums(x)).flatten(0, 1), y.flatten(), reduction="sum") / y.shape[1]
            gradients = torch.autograd.grad(loss, weights)  # of each model by its own weights
            with torch.no_grad():
                for weight, gradient in zip(weights, gradients):
                    weight -= rate * gradient
    return tuple(torch.stack(part, dim=1).unflatten(0, (len(shares), networks)) for part in (dead, right))
