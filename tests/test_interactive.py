import base64
import json
import math
import re
import struct
import sys
from functools import cache
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import vl_convert
from hypothesis import given
from hypothesis import strategies as st

from nonlinearity import catalog, interactive, plotting
from nonlinearity.data import digits
from nonlinearity.models import mlp
from nonlinearity.probes import inspect_units
from nonlinearity.training import accuracy

ROOT = Path(__file__).parents[1]
CHARTS = (
    "explorer",
    "leaky_slope",
    "depth_chain",
    "depth_and_gain",
    "hinges",
    "decision_boundary",
    "softmax_temperature",
    "gates",
    "dying_units",
)


@cache
def chart(name):
    return getattr(interactive, name)()


@cache
def bundle(name):
    return chart(name)._repr_mimebundle_()


def rows(name, key):
    """The chart's table that has this column."""
    (table,) = [table for table in chart(name).spec["datasets"].values() if table and key in table[0]]
    return table


def numbers(text):
    return [math.nan if word == "" else float(word) for word in text.split(" ")]


def params(name):
    return {param["name"]: param for param in chart(name).spec["params"]}


# --- every chart ---


@pytest.mark.parametrize("name", CHARTS)
def test_a_notebook_can_store_the_bundle(name):
    data = bundle(name)
    assert set(data) == {"application/vnd.vegalite.v5+json", "image/png", "text/plain"}
    output = nbformat.v4.new_output("display_data", data=data)
    cell = nbformat.v4.new_code_cell(outputs=[output], execution_count=1)
    notebook = nbformat.v4.new_notebook(cells=[cell])
    nbformat.validate(notebook)
    assert len(nbformat.writes(notebook)) < 150_000
    assert len(data["text/plain"]) > 80


@pytest.mark.parametrize("name", CHARTS)
def test_the_bundle_is_the_same_each_time(name):
    again = getattr(interactive, name)()._repr_mimebundle_()
    assert json.dumps(again) == json.dumps(bundle(name))


@pytest.mark.parametrize("name", CHARTS)
def test_the_picture_is_small_and_of_the_size_of_the_chart(name):
    png = base64.b64decode(bundle(name)["image/png"])
    width, height = struct.unpack(">II", png[16:24])
    assert png.startswith(b"\x89PNG")
    assert len(png) < 25_000
    assert 600 < width <= 710
    assert 250 < height < 450


@pytest.mark.parametrize("name", CHARTS)
def test_nothing_is_stored_at_full_precision(name):
    """Else a chart would differ between CPUs in the last bit."""
    spec = json.dumps({**chart(name).spec, "config": {}})
    assert all(len(digits) <= 6 for digits in re.findall(r"\d\.(\d+)", spec))


@pytest.mark.parametrize("name", CHARTS)
def test_each_control_starts_at_a_value_that_it_offers(name):
    bound = [param for param in params(name).values() if "bind" in param]
    assert bound
    for param in bound:
        bind, value = param["bind"], param["value"]
        assert bind["name"].strip()
        if bind["input"] == "select":
            assert value in bind["options"]
        else:
            steps = (value - bind["min"]) / bind["step"]
            assert bind["min"] <= value <= bind["max"]
            assert steps == pytest.approx(round(steps))


@pytest.mark.parametrize("name", CHARTS)
def test_an_older_vega_lite_draws_the_same(name):
    """JupyterLab 4.6 has Vega-Lite 5.6; the oldest that can be tried here is 5.8."""
    old, new = (vl_convert.vegalite_to_svg(chart(name).spec, vl_version=v) for v in ("5.8", "6.4"))
    assert old.count("<path") == new.count("<path")
    assert old.count("<text") == new.count("<text")


def test_the_site_draws_with_the_same_vega_lite(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT / "website"), *sys.path])
    import vegalite

    assert vegalite.MIME_TYPE == interactive.MIME_TYPE
    assert vegalite.VEGA_LITE == interactive.VEGA_LITE


# --- curves ---


def reference(activation, x, **parameters):
    """Value and slope by the module of torch.nn, apart from the package's own way to them."""
    at = torch.tensor([x], dtype=torch.float64, requires_grad=True)
    module = activation.make(**parameters).double().eval()
    value = module(at)
    (slope,) = torch.autograd.grad(value.sum(), at, allow_unused=True)
    return value.item(), 0.0 if slope is None else slope.item()


@given(st.data())
def test_the_explorer_holds_what_torch_computes(data):
    table = rows("explorer", "slope")
    row = data.draw(st.sampled_from(table))
    tenths = data.draw(st.integers(-40, 40))
    activation = catalog.get(row["name"])
    keys = interactive.GRIDS.get(activation.name, {})
    value, slope = reference(activation, tenths / 10, **{key: row["set"] for key in keys})
    at = numbers(params("explorer")["positions"]["value"]).index(tenths / 10)
    assert numbers(row["f"])[at] == pytest.approx(value, abs=0.51e-4)
    assert numbers(row["slope"])[at] == pytest.approx(slope, abs=0.51e-4)


@given(st.integers(0, 100), st.integers(-8, 8))
def test_leaky_slope_holds_what_torch_computes(hundredths, halves):
    (row,) = [row for row in rows("leaky_slope", "slope") if row["set"] == hundredths / 100]
    value, slope = reference(catalog.get("leaky_relu"), halves / 2, negative_slope=hundredths / 100)
    at = numbers(params("leaky_slope")["positions"]["value"]).index(halves / 2)
    assert numbers(row["f"])[at] == pytest.approx(value, abs=0.51e-4)
    assert numbers(row["slope"])[at] == pytest.approx(slope, abs=0.51e-4)


def test_the_explorer_offers_every_elementwise_activation():
    labels = [activation.label for activation in catalog.elementwise()]
    assert params("explorer")["second"]["bind"]["options"] == ["none", *labels]
    assert params("explorer")["first"]["bind"]["options"] == labels
    assert {row["name"] for row in rows("explorer", "slope")} == set(labels)


def test_lines_break_where_the_slope_jumps_and_nowhere_else():
    x = numbers(params("explorer")["positions"]["value"])
    gaps = {
        row["name"]: [at for at, slope in zip(x, numbers(row["slope"])) if math.isnan(slope)]
        for row in rows("explorer", "slope")
    }
    assert gaps["ReLU"] == [0.002]  # at 0 itself torch's slope is 0, that of the left
    assert len(gaps["Hardtanh"]) == 2
    assert gaps["Softshrink"] == [-0.502, 0.502]
    assert gaps["GELU"] == gaps["Tanh"] == gaps["CELU"] == []


def test_named_activations_are_what_is_offered_and_chosen():
    named = interactive.explorer("tanh", "elu")
    controls = {param["name"]: param for param in named.spec["params"]}
    assert controls["first"]["value"] == "Tanh"
    assert controls["second"]["value"] == "ELU"
    assert "third" not in controls
    assert "elu_alpha" in controls
    assert "softplus_beta" not in controls
    assert named.spec["usermeta"]["only"] == {"elu_alpha": "ELU"}


def test_further_controls_break_the_lines_where_their_values_do():
    values = [i / 2 for i in range(4)]
    chart = interactive.explorer("hardshrink", "relu", grids={"hardshrink": {"lambd": values}})
    controls = {param["name"]: param for param in chart.spec["params"]}
    assert controls["hardshrink_lambd"]["bind"]["max"] == 1.5
    x = np.array(numbers(controls["positions"]["value"]))
    (table,) = [table for table in chart.spec["datasets"].values() if table and "slope" in table[0]]
    for row in table[:4]:
        value = np.array(numbers(row["f"]))
        expected = np.where(abs(x) > row["set"], x, 0)
        shown = ~np.isnan(value)
        np.testing.assert_allclose(value[shown], expected[shown], atol=0.51e-4)
        jumps = [-row["set"], row["set"]] if row["set"] else []
        assert x[~shown] == pytest.approx(jumps, abs=0.0021)
    assert controls["hardshrink_lambd"]["value"] == 0.5
    with pytest.raises(ValueError, match="unknown activation"):
        interactive.explorer("hardshrnk", grids={})


def test_colours_are_those_of_the_course():
    text = json.dumps(chart("explorer").spec)
    for activation in catalog.elementwise():
        assert plotting.style(activation.name)["color"] in text


# --- depth ---


def test_shrinkage_is_what_autograd_gives():
    torch.manual_seed(0)
    weights = torch.randn(4, 3, 5, 5, dtype=torch.float64)
    start, direction = torch.randn(3, 5, 1).double(), torch.randn(3, 4, 5).double()
    factors = interactive._shrinkage(catalog.get("tanh"), weights, start, direction)
    for depth in range(1, 5):
        h = x = start.clone().requires_grad_()
        for weight in weights[:depth]:
            h = torch.tanh(weight @ h)
        sent = direction[:, depth - 1]
        (gradient,) = torch.autograd.grad((h.squeeze(2) * sent).sum(), x)
        torch.testing.assert_close(factors[:, depth - 1], gradient.norm(dim=(1, 2)) / sent.norm(dim=1))


def test_depth_chain_shows_the_theory_of_initialisation():
    measured = chart("depth_chain").measured
    at = {variance: i for i, variance in enumerate(measured["variances"])}
    # He et al. 2015: ReLU halves the square, so a variance of 2/width keeps it and one of 1/width halves it.
    assert 0.1 < measured["ReLU"][at[2.0], -1] < 2
    assert measured["ReLU"][at[1.0], 15].log2() == pytest.approx(-8, abs=1.5)
    assert (measured["Sigmoid"][at[1.0], 1:] < 0.25 ** torch.arange(2, 33)).all()


def test_depth_chain_shows_what_it_measured():
    medians = chart("depth_chain").measured["GELU"]
    for i, row in enumerate(row for row in rows("depth_chain", "middle") if row["name"] == "GELU"):
        assert numbers(row["middle"]) == pytest.approx(medians[i].tolist(), rel=0.006)
        low, middle, high = (np.array(numbers(row[key])) for key in ("low", "middle", "high"))
        assert (low <= middle).all()
        assert (middle <= high).all()


# --- depth and gain ---


def test_signal_and_gradient_are_what_autograd_gives():
    torch.manual_seed(0)
    gains, weights = torch.tensor([0.7, 2.0]).double(), torch.randn(16, 3, 5, 5, dtype=torch.float64)
    start, direction = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    tanh = catalog.get("tanh")
    spread, gradient = interactive._signal_and_gradient(tanh, gains, weights, start, direction)
    assert gradient[:, 0, :8].isfinite().all()
    assert gradient[:, 0, 8:].isnan().all()
    for i, gain in enumerate(gains):
        outputs = [start.clone().requires_grad_()]
        for weight in weights:
            outputs.append(torch.tanh(outputs[-1] @ (gain * weight).mT))
        stds = torch.stack([h.var(1, correction=0).mean(1).sqrt() for h in outputs[1:]])
        torch.testing.assert_close(spread[i], stds.log10().mean(1))
        for chain, last in enumerate((8, 16)):
            wanted = outputs[1 : last + 1]
            back = torch.autograd.grad((outputs[last] * direction).sum(), wanted, retain_graph=True)
            norms = torch.stack([each.norm(dim=(1, 2)) for each in back])
            torch.testing.assert_close(gradient[i, chain, :last], norms.log10().mean(1))


def test_depth_and_gain_shows_what_the_page_says():
    measured = chart("depth_and_gain").measured
    small, he, large = (measured["gains"].index(gain) for gain in (1.0, 1.4, 3.4))
    deepest = {
        label: (each["spread"][:, -1], each["gradient"][:, -1, 0])
        for label, each in measured.items()
        if label not in ("gains", "depths")
    }
    assert deepest["ReLU"][1][he].abs() < 1
    assert deepest["ReLU"][1][small] < -3
    assert deepest["Sigmoid"][1][large] < -5
    spread, gradient = deepest["Tanh"]
    assert -0.5 < spread[large] < 0  # bounded
    assert gradient[large] > 4  # and yet


@given(st.data())
def test_depth_and_gain_shows_what_it_measured(data):
    measured, sliders = chart("depth_and_gain").measured, params("depth_and_gain")
    row = data.draw(st.sampled_from(rows("depth_and_gain", "signal")))
    gain = measured["gains"].index(row["gain"])
    wanted = measured[row["name"]]["spread"][gain].tolist()
    assert numbers(row["signal"]) == pytest.approx(wanted, abs=0.0051, nan_ok=True)
    places = zip(*(numbers(sliders[f"gradient_{key}"]["value"]) for key in ("depths", "layers")))
    for value, (depth, layer) in zip(numbers(row["gradient"]), places, strict=True):
        chain = measured["depths"].index(depth)
        wanted = measured[row["name"]]["gradient"][gain, chain, int(layer) - 1].item()
        assert value == pytest.approx(wanted, abs=0.0051)


# --- hinges ---


@given(
    st.lists(st.integers(-50, 50), min_size=2, max_size=9, unique=True),
    st.lists(st.floats(-5, 5), min_size=9, max_size=9),
    st.floats(0, 1),
)
def test_a_sum_of_relus_is_linear_interpolation(knots, heights, share):
    knots = torch.tensor(sorted(knots), dtype=torch.float64)
    heights = torch.tensor(heights[: len(knots)], dtype=torch.float64)
    x = knots[0] + share * (knots[-1] - knots[0])
    approximation = interactive.relu_interpolant(lambda _: heights, knots)(x)
    assert float(approximation) == pytest.approx(np.interp(x, knots, heights), abs=1e-9)


def test_the_error_falls_with_the_square_of_the_number_of_hinges():
    error = np.array(chart("hinges").measured["error"])
    k = np.arange(1, len(error) + 1)
    rate = np.polyfit(np.log(k[3:]), np.log(error[3:]), 1)[0]
    assert rate == pytest.approx(-2, abs=0.2)
    stored = [row["error"] for row in rows("hinges", "error")]
    assert stored == pytest.approx(error, rel=0.005)


# --- decision boundary ---


def test_only_the_network_with_a_nonlinearity_learns_the_moons():
    measured = chart("decision_boundary").measured
    assert len(measured["Tanh"]) == len(measured["linear"]) == 21
    assert measured["Tanh"][-1] > 0.93
    assert measured["linear"][-1] < 0.91
    assert measured["Tanh"][0] != measured["Tanh"][-1]


def test_the_decision_boundary_leaves_the_random_numbers_alone():
    before = torch.get_rng_state()
    interactive.decision_boundary("relu", steps=2, every=1)
    assert torch.equal(before, torch.get_rng_state())


def test_levels_follow_the_accuracy():
    """The regions are those of the network: they tell the training points apart as often as it does."""
    table = rows("decision_boundary", "level")
    (points,) = rows("decision_boundary", "label")
    x, y, label = (np.array(numbers(points[key])) for key in ("x", "y", "label"))
    side = interactive._CELLS
    for name in ("Tanh", "linear"):
        (last,) = [row for row in table if row["name"] == name and row["step"] == 200]
        level = np.array([*last["level"]], dtype=int).reshape(side, side)
        column, line = ((v - v.min() + 0.2) / (v.max() - v.min() + 0.4) * side for v in (x, y))
        correct = (level[line.astype(int), column.astype(int)] >= 5) == label
        assert correct.mean() == pytest.approx(last["accuracy"], abs=0.05)


# --- what cannot be shown ---


@pytest.mark.parametrize(
    "make",
    [
        interactive.explorer,
        interactive.depth_chain,
        interactive.depth_and_gain,
        interactive.dying_units,
        interactive.decision_boundary,
    ],
)
def test_errors_name_the_activation_and_what_would_do(make):
    with pytest.raises(ValueError, match="unknown activation 'rleu'; did you mean 'relu'"):
        make("rleu")
    with pytest.raises(ValueError, match="softmax acts on a vector"):
        make("softmax")


# --- softmax ---


@given(*[st.integers(-3, 3)] * 3, st.integers(1, 20))
def test_softmax_temperature_holds_what_torch_computes(first, second, third, quarters):
    table = rows("softmax_temperature", "second")
    (row,) = [r for r in table if (r["first"], r["second"]) == (first - third, second - third)]
    at = numbers(params("softmax_temperature")["temperatures"]["value"]).index(quarters / 4)
    expected = torch.tensor([first, second, third]).double().div(quarters / 4).softmax(0)
    assert [numbers(row[key])[at] for key in "abc"] == pytest.approx(expected.tolist(), abs=0.51e-3)


# --- gates ---


@given(st.data())
def test_gates_hold_what_torch_computes(data):
    row = data.draw(st.sampled_from(rows("gates", "slope")))
    tenths = data.draw(st.integers(-40, 40))
    x = torch.tensor([row["value"], tenths / 10], dtype=torch.float64, requires_grad=True)
    value = catalog.get(row["name"])(x)
    (slope,) = torch.autograd.grad(value.sum(), x)
    at = numbers(params("gates")["positions"]["value"]).index(tenths / 10)
    assert numbers(row["f"])[at] == pytest.approx(value.item(), abs=0.51e-4)
    assert numbers(row["slope"])[at] == pytest.approx(slope[1].item(), abs=0.51e-4)


# --- dying units ---


def test_dying_units_are_those_of_plain_training():
    """One of the chart's networks, trained by torch's own optimiser."""
    data, measured = digits(), chart("dying_units").measured
    x = data.x_train - 0.25 * data.x_train.mean(0)
    torch.manual_seed(1)
    model = mlp((64, 64, 10), "relu")
    optimizer = torch.optim.SGD(model.parameters(), lr=2.0)
    batches = torch.randint(len(x), (80, 32), generator=torch.Generator().manual_seed(1))
    dead, right = [], []
    for step in range(41):
        if step in measured["steps"]:
            dead.append(inspect_units(model, x)["1"].dead_rate)
            right.append(accuracy(model, data.x_test - 0.25 * data.x_train.mean(0), data.y_test))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x[batches[step]]), data.y_train[batches[step]]).backward()
        optimizer.step()
    at = measured["rates"].index(2.0), measured["shares"].index(0.25), 1
    # Rounding grows as the training goes on, so the last steps may differ.
    for key, found in (("dead", dead), ("accuracy", right)):
        assert measured[key][at][:5].tolist() == pytest.approx(found[:5], abs=0.02), key
        assert measured[key][at][:7].tolist() == pytest.approx(found, abs=0.1), key


def test_dying_units_shows_what_the_page_says():
    measured = chart("dying_units").measured
    dead = measured["dead"].mean(2)[..., -1]  # rates × shares of the mean
    assert dead[measured["rates"].index(1.5), 0] > 0.5 > 0.35 > dead[measured["rates"].index(1.5), 1]
    assert dead[-1, 0] > 0.7 > 0.15 > dead[:, 3:].max()


@given(st.data())
def test_dying_units_shows_what_it_measured(data):
    measured = chart("dying_units").measured
    row = data.draw(st.sampled_from(rows("dying_units", "rate")))
    at = measured["rates"].index(row["rate"]), measured["shares"].index(row["share"])
    for key in ("dead", "accuracy"):
        networks = measured[key][at]
        for end, expected in (
            ("low", networks.amin(0)),
            ("mean", networks.mean(0)),
            ("high", networks.amax(0)),
        ):
            assert numbers(row[f"{key}_{end}"]) == pytest.approx(expected.tolist(), abs=0.51e-3)


def test_dying_units_leaves_the_random_numbers_alone():
    state = torch.get_rng_state()
    interactive.dying_units("tanh")
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: interactive.gates("swiglu", "silu"), "silu does not halve a dimension"),
        (lambda: interactive.explorer("relu", "ReLU"), "each activation can be named once, got relu, ReLU"),
        (lambda: interactive.depth_chain("relu", width=0), "must be positive, got 0, 20, 32"),
        (lambda: interactive.depth_and_gain(depth=12), "a depth that 8 divides, got 64, 3, 8 and 12"),
        (lambda: interactive.hinges(low=1, high=1), "low < high and at least 2 hinges, got 1, 1 and 16"),
        (lambda: interactive.hinges(most=1), "at least 2 hinges"),
        (lambda: interactive.decision_boundary(steps=10, every=3), "every=3 and steps=10"),
        (lambda: interactive.decision_boundary(steps=10, every=0), "every=0 and steps=10"),
    ],
)
def test_errors_name_the_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()
