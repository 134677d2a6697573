"""What `measure` measures is what mathematics says: closed forms, SciPy's optimiser and quadrature."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats
from scipy.special import expit, ndtr

from nonlinearity import catalog
from nonlinearity.properties import Properties, at_a_glance, measure, summary, value_and_slope

INF = math.inf
MEASURED = {activation.name: measure(activation) for activation in catalog.elementwise(beyond_torch=True)}
few = settings(max_examples=6, deadline=None, database=None, derandomize=True)


def density(z):
    return math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


# --- values and slopes ----------------------------------------------------------------------------------

numbers = st.lists(st.floats(-20, 20), min_size=1, max_size=8).map(
    lambda values: torch.tensor(values, dtype=torch.float64)
)


@given(numbers)
@few
def test_value_and_slope_are_the_analytic_ones(x):
    value, slope = value_and_slope(torch.sigmoid, x)
    s = expit(x.numpy())
    np.testing.assert_allclose(value, s, rtol=1e-14)
    np.testing.assert_allclose(slope, s * expit(-x.numpy()), atol=1e-15)
    value, slope = value_and_slope(catalog.get("gelu"), x)
    np.testing.assert_allclose(slope, ndtr(x.numpy()) + x.numpy() * stats.norm.pdf(x.numpy()), atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 1, 4)])
def test_value_and_slope_keep_shape_and_dtype_and_leave_the_input_alone(dtype, shape):
    x = torch.full(shape, -2.0, dtype=dtype, requires_grad=True)
    for result in value_and_slope(torch.relu, x):
        assert (result.shape, result.dtype, result.requires_grad) == (x.shape, dtype, False)
    assert x.grad is None


def test_slope_of_a_constant_is_zero():
    value, slope = value_and_slope(torch.ones_like, torch.arange(3.0))
    assert (value.tolist(), slope.tolist()) == ([1, 1, 1], [0, 0, 0])


def test_slope_is_found_under_no_grad():
    with torch.no_grad():
        assert value_and_slope(torch.square, torch.tensor([3.0]))[1].tolist() == [6]


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_tensor_without_slopes_is_refused(dtype):
    with pytest.raises(TypeError, match=f"x must be a floating-point tensor to have slopes, got {dtype}"):
        value_and_slope(torch.relu, torch.zeros(2, dtype=dtype))


def test_function_that_changes_the_shape_is_refused():
    with pytest.raises(ValueError, match=r"an element-wise function keeps the shape \(4,\), got \(2,\)"):
        value_and_slope(catalog.get("glu"), torch.zeros(4))


# --- every activation: facts from the definitions -------------------------------------------------------

ROOT_PI = math.sqrt(2 * math.pi)
SELU_LOW = 1.7580993408473766  # scale times alpha, the constants of Klambauer et al. 2017

#            range          slope at 0  monotone  jumps        kinks      saturates
FACTS = {
    "relu": ((0, INF), 0, True, (), (0,), "left"),
    "leaky_relu": ((-INF, INF), 0.01, True, (), (0,), "no"),
    "prelu": ((-INF, INF), 0.25, True, (), (0,), "no"),
    "rrelu": ((-INF, INF), 11 / 48, True, (), (0,), "no"),
    "relu6": ((0, 6), 0, True, (), (0, 6), "both"),
    "threshold": ((0, INF), 0, True, (1,), (), "left"),
    "elu": ((-1, INF), 1, True, (), (), "left"),
    "celu": ((-1, INF), 1, True, (), (), "left"),
    "selu": ((-SELU_LOW, INF), SELU_LOW, True, (), (0,), "left"),
    "gelu": ((-0.16997, INF), 0.5, False, (), (), "left"),
    "silu": ((-0.27846, INF), 0.5, False, (), (), "left"),
    "mish": ((-0.30884, INF), 0.6, False, (), (), "left"),
    "hardswish": ((-3 / 8, INF), 0.5, False, (), (-3, 3), "left"),
    "sigmoid": ((0, 1), 0.25, True, (), (), "both"),
    "hardsigmoid": ((0, 1), 1 / 6, True, (), (-3, 3), "both"),
    "logsigmoid": ((-INF, 0), 0.5, True, (), (), "right"),
    "tanh": ((-1, 1), 1, True, (), (), "both"),
    "hardtanh": ((-1, 1), 1, True, (), (-1, 1), "both"),
    "softsign": ((-1, 1), 1, True, (), (), "both"),
    "softplus": ((0, INF), 0.5, True, (), (), "left"),
    "softshrink": ((-INF, INF), 0, True, (), (-0.5, 0.5), "no"),
    "hardshrink": ((-INF, INF), 0, True, (-0.5, 0.5), (), "no"),
    "tanhshrink": ((-INF, INF), 0, True, (), (), "no"),
    "squared_relu": ((0, INF), 0, True, (), (), "left"),
    "swish": ((-0.27846, INF), 0.5, False, (), (), "left"),
}


@pytest.mark.parametrize("name", MEASURED)
def test_measured_facts_are_those_of_the_definition(name):
    """Slopes to 1e-7: torch's hardsigmoid uses a sixth rounded to float32."""
    found = MEASURED[name]
    range_, slope_at_0, monotone, jumps, kinks, saturates = FACTS[name]
    assert found.range == pytest.approx(range_, abs=1e-5)
    assert found.slope_at_0 == pytest.approx(slope_at_0, abs=1e-7)
    assert (found.monotone, found.saturates) == (monotone, saturates)
    assert (found.jumps, found.kinks) == (jumps, kinks)
    assert found.smooth == (not jumps and not kinks)


@pytest.mark.parametrize("name", MEASURED)
def test_mean_and_variance_are_those_of_quadrature(name):
    """To 2e-5; a jump of height h at z costs the grid about h · density(z) · step / 2."""
    activation = catalog.get(name)
    # A Python number at a time, so that SciPy places its own points, split where the function breaks.
    broken = [-INF, *sorted({*MEASURED[name].jumps, *MEASURED[name].kinks}), INF]

    def expectation(power):
        def integrand(z):
            return float(activation(torch.tensor(z, dtype=torch.float64))) ** power * density(z)

        return sum(integrate.quad(integrand, a, b, epsabs=1e-9)[0] for a, b in pairwise(broken))

    mean = expectation(1)
    assert MEASURED[name].mean == pytest.approx(mean, abs=2e-5)
    assert MEASURED[name].variance == pytest.approx(expectation(2) - mean**2, abs=2e-4)


def test_closed_forms_of_mean_and_variance():
    """Where mathematics gives them: to 1e-6, far below what a page prints."""
    relu, selu, sigmoid, threshold = (MEASURED[name] for name in ("relu", "selu", "sigmoid", "threshold"))
    assert relu.mean == pytest.approx(1 / ROOT_PI, abs=1e-6)
    assert relu.variance == pytest.approx(1 / 2 - 1 / (2 * math.pi), abs=1e-6)
    assert (selu.mean, selu.variance) == pytest.approx((0, 1), abs=1e-6)
    assert sigmoid.mean == pytest.approx(1 / 2, abs=1e-12)
    assert MEASURED["gelu"].mean == pytest.approx(1 / (2 * math.sqrt(math.pi)), abs=1e-9)
    assert threshold.mean == pytest.approx(density(1), abs=2e-5)


@pytest.mark.parametrize("name", MEASURED)
def test_zero_centred_are_the_odd_functions_and_selu(name):
    x = torch.linspace(0.01, 9, 100, dtype=torch.float64)
    activation = catalog.get(name)
    odd = torch.allclose(activation(-x), -activation(x))
    assert MEASURED[name].zero_centred == (odd or name == "selu")


@pytest.mark.parametrize(
    ("name", "where", "lowest"),
    [("gelu", -0.7518, -0.17), ("silu", -1.2785, -0.2785), ("mish", -1.1924, -0.3088)],
)
def test_minimum_is_the_one_that_an_optimiser_finds(name, where, lowest):
    def at(x):
        return float(catalog.get(name)(torch.tensor(x, dtype=torch.float64)))

    found = optimize.minimize_scalar(at, bounds=(-3, 0), method="bounded", options={"xatol": 1e-10})
    assert (found.x, found.fun) == pytest.approx((where, lowest), abs=1e-4)
    assert MEASURED[name].range[0] == pytest.approx(found.fun, abs=1e-8)


def test_slope_range_goes_beyond_0_and_1_where_the_function_dips():
    """GELU's slope Φ(x) + x φ(x) is extreme where 2 − x² = 0."""
    extreme = ndtr(math.sqrt(2)) + math.sqrt(2) * density(math.sqrt(2))
    assert MEASURED["gelu"].slope_range == pytest.approx((1 - extreme, extreme), abs=1e-7)
    assert MEASURED["sigmoid"].slope_range == pytest.approx((0, 1 / 4), abs=1e-12)
    assert MEASURED["tanh"].slope_range == pytest.approx((0, 1), abs=1e-12)
    assert MEASURED["hardswish"].slope_range == pytest.approx((-0.5, 1.5), abs=1e-4)


def test_slope_range_is_infinite_where_the_slope_grows_without_bound():
    assert MEASURED["squared_relu"].slope_range == (0, INF)
    assert measure(lambda x: -(x**3)).slope_range == (-INF, 0)
    assert MEASURED["leaky_relu"].slope_range == (0.01, 1)


# --- parametrised breaks --------------------------------------------------------------------------------

places = st.floats(0.01, 15).map(lambda place: round(place, 3))


def near(*places):
    """Equal to three decimals, give or take the step of the grid."""
    return pytest.approx(places, abs=6e-4)


@given(places)
@few
def test_hardshrink_jumps_and_softshrink_bends_at_lambd(lambd):
    hard = measure(lambda x: catalog.get("hardshrink")(x, lambd=lambd))
    assert (hard.jumps, hard.kinks) == (near(-lambd, lambd), ())
    soft = measure(lambda x: catalog.get("softshrink")(x, lambd=lambd))
    assert (soft.jumps, soft.kinks) == ((), near(-lambd, lambd))


@given(st.floats(-15, 15), st.floats(-5, 5))
@few
def test_threshold_jumps_at_its_threshold_unless_it_goes_on_from_there(threshold, value):
    if 0 < abs(value - threshold) < 0.01:  # too small a jump to be looked for
        value = threshold
    found = measure(lambda x: catalog.get("threshold")(x, threshold=threshold, value=value))
    assert (found.kinks, found.jumps) == (
        (near(threshold), ()) if value == threshold else ((), near(threshold))
    )
    assert found.monotone == (value <= threshold)


@given(st.floats(-2, 0.99))
@few
def test_leaky_relu_bends_at_0_and_falls_if_its_slope_is_negative(slope):
    found = measure(lambda x: catalog.get("leaky_relu")(x, negative_slope=slope))
    assert (found.kinks, found.jumps, found.slope_at_0) == ((0.0,), (), slope)
    assert found.monotone == (slope >= 0)
    assert found.mean == pytest.approx((1 - slope) / ROOT_PI, abs=1e-6)


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_elu_bends_at_0_unless_alpha_is_1_and_celu_never(alpha):
    assert measure(lambda x: catalog.get("elu")(x, alpha=alpha)).kinks == (0.0,)
    assert measure(lambda x: catalog.get("celu")(x, alpha=alpha)).smooth


# --- functions that are not in the catalogue ------------------------------------------------------------

#    function       range        monotone  jumps    kinks   saturates
OTHERS = {
    "identity": (lambda x: x, (-INF, INF), True, (), (), "no"),
    "constant": (torch.ones_like, (1, 1), True, (), (), "both"),
    "step": (lambda x: (x > 0.3).double(), (0, 1), True, (0.3,), (), "both"),
    "sign": (torch.sign, (-1, 1), True, (0,), (), "both"),
    "minus relu": (lambda x: -torch.relu(x), (-INF, 0), True, (), (0,), "left"),
    "abs": (torch.abs, (0, INF), False, (), (0,), "no"),
    "abs, moved": (lambda x: (x - 0.375).abs(), (0, INF), False, (), (0.375,), "no"),
    "cube": (lambda x: x**3, (-INF, INF), True, (), (), "no"),
    "exp": (torch.exp, (0, INF), True, (), (), "left"),
    "asinh": (torch.asinh, (-INF, INF), True, (), (), "both"),
    "steep": (lambda x: F.softplus(x, beta=900), (0, INF), True, (), (), "left"),
    "high ceiling": (lambda x: x.clamp(max=1e6), (-INF, 1e6), True, (), (), "right"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_other_functions_are_measured_as_well(name):
    function, *facts = OTHERS[name]
    found = measure(function)
    assert [found.range, found.monotone, found.jumps, found.kinks, found.saturates] == facts


# --- in words -------------------------------------------------------------------------------------------


def test_summary_puts_the_measured_properties_in_words():
    assert summary(catalog.get("hardtanh")) == {
        "range": "−1 … 1",
        "slope": "0 … 1",
        "f(0)": "0",
        "f′(0)": "1",
        "monotone": "yes",
        "breaks": "kink at −1, 1",
        "saturates": "both",
        "mean for N(0, 1)": "0",
        "variance for N(0, 1)": "0.516",
        "zero-centred": "yes",
    }
    gelu = summary(catalog.get("gelu"))
    assert (gelu["range"], gelu["monotone"], gelu["breaks"]) == ("−0.17 … ∞", "no", "none")
    assert summary(catalog.get("logsigmoid"))["range"] == "−∞ … 0"


def test_summary_lists_jumps_and_kinks_in_order():
    both = summary(lambda x: torch.relu(x) + (x > 2) + (x < -2))
    assert both["breaks"] == "jump at −2, 2; kink at 0"


def test_table_holds_the_summary():
    table = at_a_glance("ReLU")
    assert list(table.columns) == ["property", "measured"]
    assert dict(table.itertuples(index=False)) == summary(catalog.get("relu"))
    with pytest.raises(ValueError, match="did you mean 'relu'"):
        at_a_glance("rleu")


def test_properties_cannot_be_changed():
    with pytest.raises(AttributeError):
        MEASURED["relu"].mean = 0.0
    assert isinstance(MEASURED["relu"], Properties)
