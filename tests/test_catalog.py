"""The catalogue says what torch says: names, parameters, values, gradients; SciPy's closed forms agree."""

import dataclasses
import inspect
import re
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erfc, expit, log_expit, log_softmax, ndtr, softmax
from torch import nn

from nonlinearity import catalog
from nonlinearity.catalog import CATALOG

# torch's module for each name and, where it has parameters, two settings of them.
MODULES = {
    "relu": (nn.ReLU, {}),
    "leaky_relu": (nn.LeakyReLU, {"negative_slope": 0.3}, {"negative_slope": -0.5}),
    "prelu": (nn.PReLU, {"weight": 0.1}, {"weight": -1.0}),
    "rrelu": (nn.RReLU, {"lower": 0.1, "upper": 0.5}, {"upper": 0.25}),
    "relu6": (nn.ReLU6, {}),
    "threshold": (nn.Threshold, {"threshold": -0.5, "value": 2.0}, {"threshold": 0.0, "value": -1.0}),
    "elu": (nn.ELU, {"alpha": 0.5}, {"alpha": 2.0}),
    "celu": (nn.CELU, {"alpha": 0.5}, {"alpha": 2.0}),
    "selu": (nn.SELU, {}),
    "gelu": (nn.GELU, {"approximate": "tanh"}, {"approximate": "none"}),
    "silu": (nn.SiLU, {}),
    "mish": (nn.Mish, {}),
    "hardswish": (nn.Hardswish, {}),
    "sigmoid": (nn.Sigmoid, {}),
    "hardsigmoid": (nn.Hardsigmoid, {}),
    "logsigmoid": (nn.LogSigmoid, {}),
    "tanh": (nn.Tanh, {}),
    "hardtanh": (nn.Hardtanh, {"min_val": -2.0, "max_val": 0.5}, {"max_val": 6.0}),
    "softsign": (nn.Softsign, {}),
    "softplus": (nn.Softplus, {"beta": 2.0, "threshold": 5.0}, {"beta": 0.5}),
    "softshrink": (nn.Softshrink, {"lambd": 0.0}, {"lambd": 1.5}),
    "hardshrink": (nn.Hardshrink, {"lambd": 0.0}, {"lambd": 1.5}),
    "tanhshrink": (nn.Tanhshrink, {}),
    "softmax": (nn.Softmax, {"dim": 0}, {"dim": 1}),
    "softmin": (nn.Softmin, {"dim": 0}, {"dim": 1}),
    "log_softmax": (nn.LogSoftmax, {"dim": 0}, {"dim": 1}),
    "softmax2d": (nn.Softmax2d, {}),
    "glu": (nn.GLU, {"dim": 0}, {"dim": 1}),
}
CASES = [(name, parameters) for name, (_, *own) in MODULES.items() for parameters in [{}, *filter(None, own)]]
NAMES = [activation.name for activation in CATALOG]
every_activation = pytest.mark.parametrize("activation", CATALOG, ids=NAMES)

SHAPE = (2, 4, 4)  # even for GLU, three dimensions for Softmax2d


def torch_module(name: str, parameters: dict, dtype: torch.dtype) -> nn.Module:
    """The module built without the catalogue; in evaluation mode, in which RReLU draws no slopes."""
    defaults = {
        "threshold": {"threshold": 1.0, "value": 0.0},
        **{soft: {"dim": -1} for soft in ("softmax", "softmin", "log_softmax")},
    }
    if name == "prelu":
        return nn.PReLU(init=parameters.get("weight", 0.25), dtype=dtype)
    return MODULES[name][0](**{**defaults.get(name, {}), **parameters}).eval()


def inputs(dtype: type) -> st.SearchStrategy[torch.Tensor]:
    """Tensors of finite and infinite numbers, ordinary and huge, with the places of kinks among them."""
    kinks = st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 3.0, -3.0, 6.0, np.inf, -np.inf])
    width = np.dtype(dtype).itemsize * 8
    numbers = st.one_of(kinks, st.floats(-8, 8, width=width), st.floats(width=width, allow_nan=False))
    return hnp.arrays(dtype, SHAPE, elements=numbers).map(torch.from_numpy)


def value_and_gradient(function, x):
    """The value, and the gradient of a weighted sum of it (the plain sum of a softmax is constant)."""
    x = x.clone().requires_grad_()
    value = function(x)
    value.backward(torch.linspace(0.5, 1.5, value.numel(), dtype=x.dtype).reshape(value.shape))
    return value.detach(), x.grad


# --- names ----------------------------------------------------------------------------------------------


def test_catalogue_holds_every_activation_of_torch_and_no_other():
    """A release of torch that adds or removes one turns this red."""
    exported = set(nn.modules.activation.__all__) - {"MultiheadAttention"}  # a layer, not a function
    assert sorted(a.module.__name__ for a in CATALOG) == sorted(exported)
    assert all(a.module is getattr(nn, a.label) for a in CATALOG)
    assert {a.name: a.module for a in CATALOG} == {name: case[0] for name, case in MODULES.items()}


@every_activation
def test_activation_is_found_by_function_and_by_module(activation):
    assert catalog.get(activation.name) is activation
    assert catalog.get(activation.label) is activation


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("leaky_rleu", r"unknown activation 'leaky_rleu'; did you mean 'leaky_relu'"),
        ("swish", r"unknown activation 'swish'; did you mean 'hardswish'"),
        ("RELU", r"unknown activation 'RELU'; did you mean .*'ReLU'"),
        ("???", r"unknown activation '\?\?\?'; known: relu, leaky_relu, .*, glu"),
        (None, r"unknown activation None; "),
    ],
)
def test_unknown_name_is_refused_with_the_nearest_known(name, message):
    with pytest.raises(ValueError, match=message):
        catalog.get(name)


def test_elementwise_keeps_the_order_of_the_catalogue():
    assert [a.name for a in catalog.elementwise()] == [
        name for name in NAMES if catalog.get(name).elementwise
    ]


@every_activation
def test_elementwise_says_whether_an_output_depends_on_one_input_only(activation):
    x = torch.linspace(-0.95, 1.95, 32, dtype=torch.float64).reshape(SHAPE)
    jacobian = torch.autograd.functional.jacobian(activation, x)
    if activation(x).shape == x.shape:
        jacobian = jacobian.reshape(x.numel(), x.numel())
        diagonal = torch.equal(jacobian, jacobian.diagonal().diag())
    else:
        diagonal = False
    assert activation.elementwise == diagonal


# --- values, gradients, parameters: torch is the oracle -------------------------------------------------


@settings(max_examples=15, deadline=None, database=None, derandomize=True)
@given(x=st.one_of(inputs(np.float32), inputs(np.float64)))
def test_value_and_gradient_are_those_of_the_module(x):
    """Bit for bit: both must reach the same kernel."""
    for name, parameters in CASES:
        assert_equals_module(name, parameters, x)


def assert_equals_module(name, parameters, x):
    found = value_and_gradient(lambda x: catalog.get(name)(x, **parameters), x)
    expected = value_and_gradient(torch_module(name, parameters, x.dtype), x)
    told = {"msg": lambda message: f"{name} {parameters}: {message}"}
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True, **told)


@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_make_gives_the_module_with_the_parameters(name, parameters):
    made = catalog.get(name).make(**parameters)
    expected = torch_module(name, parameters, torch.float32)
    assert repr(made) == repr(expected)
    assert made.training  # a new module, as the class makes it
    x = torch.linspace(-8, 8, 32).reshape(SHAPE)
    torch.testing.assert_close(made.eval()(x), expected(x), rtol=0, atol=0)


@every_activation
def test_make_gives_a_new_module_each_time(activation):
    assert activation.make() is not activation.make()


@every_activation
def test_defaults_are_those_of_torch_where_it_has_them(activation):
    own_names = {"weight": "init"}  # PReLU's module calls the start of its learned slope so
    signature = inspect.signature(activation.module).parameters
    for key, value in activation.parameters.items():
        default = signature[own_names.get(key, key)].default
        assert default in (value, None, inspect.Parameter.empty)


@every_activation
def test_parameters_are_all_that_torch_has(activation):
    """Beside those that say where and how to compute, and hardtanh's names of old."""
    beside = {"inplace", "num_parameters", "device", "dtype", "args", "kwargs", "min_value", "max_value"}
    own_names = {"init": "weight"}
    theirs = {own_names.get(key, key) for key in inspect.signature(activation.module).parameters} - beside
    assert set(activation.parameters) == theirs


@every_activation
@pytest.mark.parametrize("use", [lambda a: a(torch.zeros(SHAPE), wrong=1), lambda a: a.make(wrong=1)])
def test_unknown_parameter_is_refused_with_the_known_ones(activation, use):
    has = ", ".join(activation.parameters) or "no parameters"
    with pytest.raises(TypeError, match=f"^{activation.label} has no parameter 'wrong'; it has {has}$"):
        use(activation)


@every_activation
def test_gradient_agrees_with_finite_differences_away_from_kinks(activation):
    x = torch.tensor([-7.3, -2.2, -0.7, -0.3, 0.2, 0.8, 2.4, 6.9], dtype=torch.float64).reshape(2, 2, 2)
    assert torch.autograd.gradcheck(activation, x.requires_grad_(), eps=1e-6, atol=1e-6, rtol=1e-5)


# --- values: closed forms are the oracle ----------------------------------------------------------------

# The fixed point of mean 0 and variance 1 that defines SELU (Klambauer et al. 2017, equation 14).
_E1, _E2 = erfc(np.sqrt(0.5)) * np.sqrt(np.e), erfc(np.sqrt(2)) * np.exp(2)
SELU_ALPHA = -np.sqrt(2 / np.pi) / (_E1 - 1)
SELU_SCALE = (1 - _E1) * np.sqrt(2 * np.pi / (2 * _E2 + np.pi * _E1**2 - 2 * (2 + np.pi) * _E1 + np.pi + 2))

CLOSED_FORMS = {
    "relu": lambda x: np.where(x > 0, x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "prelu": lambda x: np.where(x > 0, x, x / 4),
    "rrelu": lambda x: np.where(x > 0, x, 11 / 48 * x),
    "relu6": lambda x: np.clip(x, 0, 6),
    "threshold": lambda x: np.where(x > 1, x, 0),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "celu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "selu": lambda x: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0))),
    "gelu": lambda x: x * ndtr(x),
    "silu": lambda x: x * expit(x),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "hardswish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "sigmoid": expit,
    "hardsigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "logsigmoid": log_expit,
    "tanh": lambda x: 2 * expit(2 * x) - 1,
    "hardtanh": lambda x: np.clip(x, -1, 1),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "softplus": lambda x: np.logaddexp(0, x),
    "softshrink": lambda x: x - np.clip(x, -0.5, 0.5),
    "hardshrink": lambda x: np.where(np.abs(x) > 0.5, x, 0),
    "tanhshrink": lambda x: x - np.tanh(x),
    "softmax": lambda x: softmax(x, axis=-1),
    "softmin": lambda x: softmax(-x, axis=-1),
    "log_softmax": lambda x: log_softmax(x, axis=-1),
    "softmax2d": lambda x: softmax(x, axis=-3),
    "glu": lambda x: x[..., : x.shape[-1] // 2] * expit(x[..., x.shape[-1] // 2 :]),
}


@every_activation
def test_value_is_that_of_the_closed_form(activation):
    """To 1e-8, since torch's softplus leaves out ln(1 + e^-x), below 2.1e-9, from x = 20 on."""
    x = np.linspace(-40, 40, 2 * 3 * 41 * 24).reshape(2, 3, 41, 24)
    found = activation(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, CLOSED_FORMS[activation.name](x), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_alpha_scales_elu_and_stretches_celu(alpha):
    x = np.linspace(-6, 6, 121)
    elu, celu = (catalog.get(name)(torch.from_numpy(x), alpha=alpha).numpy() for name in ("elu", "celu"))
    left = np.minimum(x, 0)
    np.testing.assert_allclose(elu, np.where(x > 0, x, alpha * np.expm1(left)), atol=1e-14)
    np.testing.assert_allclose(celu, np.where(x > 0, x, alpha * np.expm1(left / alpha)), atol=1e-14)


def test_gelu_by_tanh_is_the_cubic_approximation():
    x = np.linspace(-6, 6, 121)
    found = catalog.get("gelu")(torch.from_numpy(x), approximate="tanh").numpy()
    np.testing.assert_allclose(found, x * expit(2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)), atol=1e-14)


# --- a catalogue cannot be changed ----------------------------------------------------------------------


@every_activation
def test_entry_cannot_be_changed(activation):
    with pytest.raises(dataclasses.FrozenInstanceError):
        activation.name = "other"
    with pytest.raises(TypeError):
        activation.parameters["other"] = 1.0


def test_entry_keeps_its_own_copy_of_the_parameters():
    given_parameters = {"alpha": 1.0}
    entry = dataclasses.replace(catalog.get("elu"), parameters=given_parameters)
    given_parameters["alpha"] = 7.0
    assert entry.parameters == {"alpha": 1.0}


def test_every_source_is_in_the_bibliography():
    bibliography = (Path(__file__).parents[1] / "chapters" / "references.bib").read_text()
    known = set(re.findall(r"^@\w+\{([^,]+),", bibliography, re.MULTILINE))
    assert {a.source for a in catalog.CATALOG if a.source} <= known
