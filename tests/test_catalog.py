"""The catalogue says what torch says: names, parameters, values, gradients; SciPy's closed forms agree."""

import copy
import dataclasses
import inspect
import pickle
import re
from functools import partial
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erfc, expit, log_expit, log_softmax, ndtr, softmax
from torch import nn

from nonlinearity import beyond, catalog
from nonlinearity.catalog import CATALOG
from nonlinearity.models import FunctionalMLP, mlp
from nonlinearity.probes import record_inputs
from nonlinearity.properties import at_a_glance

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
    "squared_relu": (beyond.SquaredReLU, {}),
    "swish": (beyond.Swish, {"beta": 0.5}, {"beta": 2.0}),
    "swiglu": (beyond.SwiGLU, {"dim": 0}, {"dim": 1}),
    "geglu": (beyond.GEGLU, {"dim": 0}, {"dim": 1}),
    "reglu": (beyond.ReGLU, {"dim": 0}, {"dim": 1}),
}
CASES = [(name, parameters) for name, (_, *own) in MODULES.items() for parameters in [{}, *filter(None, own)]]
NAMES = [activation.name for activation in CATALOG]
every_activation = pytest.mark.parametrize("activation", CATALOG, ids=NAMES)
every_module = pytest.mark.parametrize("activation", [a for a in CATALOG if a.module], ids=lambda a: a.name)

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


# What torch.nn.functional holds beside the activations, the names that it imports among them.
NO_ACTIVATIONS = """
    Callable DType Optional ScalingType SwizzleType Tensor adaptive_avg_pool1d adaptive_avg_pool2d
    adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool1d_with_indices adaptive_max_pool2d
    adaptive_max_pool2d_with_indices adaptive_max_pool3d adaptive_max_pool3d_with_indices affine_grid
    alpha_dropout assert_int_or_pair avg_pool1d avg_pool2d avg_pool3d batch_norm bilinear
    binary_cross_entropy binary_cross_entropy_with_logits boolean_dispatch channel_shuffle conv1d conv2d
    conv3d conv_tbc conv_transpose1d conv_transpose2d conv_transpose3d cosine_embedding_loss
    cosine_similarity cross_entropy ctc_loss dropout dropout1d dropout2d dropout3d embedding embedding_bag
    feature_alpha_dropout fold fractional_max_pool2d fractional_max_pool2d_with_indices
    fractional_max_pool3d fractional_max_pool3d_with_indices gaussian_nll_loss grid_sample group_norm
    grouped_mm handle_torch_function has_torch_function has_torch_function_unary has_torch_function_variadic
    hinge_embedding_loss huber_loss instance_norm interpolate kl_div l1_loss layer_norm linear
    linear_cross_entropy local_response_norm lp_pool1d lp_pool2d lp_pool3d margin_ranking_loss max_pool1d
    max_pool1d_with_indices max_pool2d max_pool2d_with_indices max_pool3d max_pool3d_with_indices
    max_unpool1d max_unpool2d max_unpool3d mse_loss multi_head_attention_forward multi_margin_loss
    multilabel_margin_loss multilabel_soft_margin_loss native_channel_shuffle nll_loss normalize one_hot pad
    pairwise_distance pdist pixel_shuffle pixel_unshuffle poisson_nll_loss rms_norm
    scaled_dot_product_attention scaled_grouped_mm scaled_mm smooth_l1_loss soft_margin_loss
    triplet_margin_loss triplet_margin_with_distance_loss unfold upsample upsample_bilinear upsample_nearest
""".split()  # noqa: SIM905


def test_catalogue_holds_every_activation_module_of_torch():
    """A release of torch that adds or removes one turns this red."""
    exported = set(nn.modules.activation.__all__) - {"MultiheadAttention"}  # a layer, not a function
    assert sorted(a.label for a in CATALOG if a.torch_module) == sorted(exported)
    assert all(a.module is getattr(nn, a.label) for a in CATALOG if a.torch_module)
    assert {a.name: a.module for a in CATALOG if a.module} == {
        name: case[0] for name, case in MODULES.items()
    }


def test_catalogue_holds_every_activation_function_of_torch():
    """Here too: what torch.nn.functional has is in the catalogue or known to be no activation."""
    public = {name for name, value in vars(F).items() if callable(value) and not name.startswith("_")}
    ours = {a.functional for a in CATALOG} | {a.functional_inplace for a in CATALOG}
    assert {name.removeprefix("F.") for name in ours if name} == public - {*NO_ACTIVATIONS}
    assert public >= {*NO_ACTIVATIONS}


def test_one_activation_of_torch_has_no_module_and_five_are_not_in_torch():
    assert [a.name for a in CATALOG if a.in_torch and not a.torch_module] == ["gumbel_softmax"]
    others = ["squared_relu", "swish", "swiglu", "geglu", "reglu"]
    assert [a.name for a in CATALOG if not a.in_torch] == others
    assert not any(a.spellings for a in CATALOG if not a.in_torch)


@every_activation
def test_activation_is_found_by_function_and_by_module(activation):
    assert catalog.get(activation.name) is activation
    assert catalog.get(activation.label) is activation


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("leaky_rleu", r"unknown activation 'leaky_rleu'; did you mean 'leaky_relu'"),
        ("hard_swish", r"unknown activation 'hard_swish'; did you mean 'hardswish'"),
        ("RELU", r"unknown activation 'RELU'; did you mean .*'ReLU'"),
        ("???", r"unknown activation '\?\?\?'; known: relu, leaky_relu, .*, glu, .*, reglu"),
        (None, r"unknown activation None; "),
    ],
)
def test_unknown_name_is_refused_with_the_nearest_known(name, message):
    with pytest.raises(ValueError, match=message):
        catalog.get(name)


def test_elementwise_keeps_the_order_of_the_catalogue():
    every = [name for name in NAMES if catalog.get(name).elementwise]
    assert [a.name for a in catalog.elementwise(beyond_torch=True)] == every
    assert [a.name for a in catalog.elementwise()] == every[:-2]
    assert every[-2:] == ["squared_relu", "swish"]


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


@every_module
def test_make_gives_a_new_module_each_time(activation):
    assert activation.make() is not activation.make()


@every_activation
def test_defaults_are_those_of_torch_where_it_has_them(activation):
    own_names = {"weight": "init"}  # PReLU's module calls the start of its learned slope so
    signature = inspect.signature(activation.module or activation.function).parameters
    for key, value in activation.parameters.items():
        default = signature[own_names.get(key, key)].default
        assert default in (value, None, inspect.Parameter.empty)


@every_activation
def test_parameters_are_all_that_torch_has(activation):
    """Beside those that say where and how to compute, and hardtanh's names of old."""
    beside = {"inplace", "num_parameters", "device", "dtype", "args", "kwargs", "min_value", "max_value"}
    beside |= {"logits", "eps"}  # of gumbel_softmax: its input, and what has no effect any more
    own_names = {"init": "weight"}
    signature = inspect.signature(activation.module or activation.function).parameters
    assert set(activation.parameters) == {own_names.get(key, key) for key in signature} - beside


@every_activation
@pytest.mark.parametrize("use", [lambda a: a(torch.zeros(SHAPE), wrong=1), lambda a: a.make(wrong=1)])
def test_unknown_parameter_is_refused_with_the_known_ones(activation, use):
    has = ", ".join(activation.parameters) or "no parameters"
    with pytest.raises(TypeError, match=f"^{activation.label} has no parameter 'wrong'; it has {has}$"):
        use(activation)


def seeded(function):
    """With the same random numbers in each call, for gumbel_softmax."""

    def call(x):
        torch.manual_seed(0)
        return function(x)

    return call


@every_activation
def test_gradient_agrees_with_finite_differences_away_from_kinks(activation):
    x = torch.tensor([-7.3, -2.2, -0.7, -0.3, 0.2, 0.8, 2.4, 6.9], dtype=torch.float64).reshape(2, 2, 2)
    assert torch.autograd.gradcheck(seeded(activation), x.requires_grad_(), eps=1e-6, atol=1e-6, rtol=1e-5)


def test_activation_without_a_module_says_so():
    with pytest.raises(TypeError, match=r"^gumbel_softmax is a function only; torch has no module for it$"):
        catalog.get("gumbel_softmax").make()


@pytest.mark.parametrize("name", ["glu", "swiglu", "geglu", "reglu"])
@pytest.mark.parametrize(("shape", "dim"), [((4, 3), -1), ((3, 4), 0), ((1,), -1)])
def test_dimension_of_odd_size_is_refused(name, shape, dim):
    with pytest.raises((ValueError, RuntimeError), match=r"must be (of )?even"):
        catalog.get(name)(torch.zeros(shape), dim=dim)


def test_modules_of_ours_name_what_was_given():
    made = [beyond.SquaredReLU(), beyond.Swish(2.0), beyond.SwiGLU(), beyond.GEGLU(1), beyond.ReGLU(dim=0)]
    assert [str(module) for module in made] == [
        "SquaredReLU()",
        "Swish()",
        "SwiGLU(dim=-1)",
        "GEGLU(dim=1)",
        "ReGLU(dim=0)",
    ]
    assert made[1].beta.item() == 2


def test_swish_learns_its_beta():
    """d/dβ x σ(βx) = x² σ(βx) (1 − σ(βx))."""
    module = catalog.get("swish").make(beta=0.5).double()
    x = np.linspace(-6, 6, 121)
    module(torch.from_numpy(x)).sum().backward()
    assert module.beta.grad.item() == pytest.approx((x**2 * expit(x / 2) * expit(-x / 2)).sum())


# --- spellings: torch's own lists are the oracle --------------------------------------------------------

X = torch.tensor([[-2.5, -0.3, 0.0, 0.7], [1.3, 4.0, -7.0, 0.2]])
ON_TENSORS = {a.name: a for a in catalog.elementwise()}


def same_values(function):
    """The element-wise activations of torch whose values a function of one tensor has, at their defaults."""
    try:
        found = function(X.clone())
        assert found.shape == X.shape
        assert found.dtype == X.dtype
        found = (found.to_dense() if found.layout != torch.strided else found).cpu()
    except (TypeError, RuntimeError, ValueError, AttributeError, AssertionError):
        return set()
    return {
        name for name, activation in ON_TENSORS.items() if torch.allclose(activation(X), found, atol=1e-6)
    }


def activations_in(holder, call):
    """The public names of a namespace that turn out to be activations, without "_" at the end."""
    names = [name for name in dir(holder) if not name.startswith("_") and callable(getattr(holder, name))]
    found = {name: same_values(lambda x, name=name: call(name, x)) for name in names}
    for name, same in found.items():
        assert not same or {"expit": "sigmoid"}.get(name, name).removesuffix("_") in same
    return {name for name, same in found.items() if same}


@pytest.mark.filterwarnings("ignore")  # each function is tried, the deprecated ones too
def test_every_function_of_torch_that_is_an_activation_is_a_spelling():
    operations = torch._C._VariableFunctions  # torch itself has functions that change its settings as well
    found = activations_in(operations, lambda name, x: getattr(operations, name)(x))
    spelled = {a.torch_function for a in CATALOG} | {a.torch_function_inplace for a in CATALOG}
    need_more = {"torch.prelu", "torch.threshold", "torch.threshold_", "torch.softmax", "torch.log_softmax"}
    assert {f"torch.{name}" for name in found} == spelled - need_more - {None}


@pytest.mark.filterwarnings("ignore")
def test_every_method_that_is_an_activation_is_a_spelling():
    found = activations_in(torch.Tensor, lambda name, x: getattr(x, name)())
    spelled = {a.tensor_method for a in CATALOG} | {a.tensor_method_inplace for a in CATALOG}
    need_more = {"x.prelu", "x.softmax", "x.log_softmax"}
    assert {f"x.{name}" for name in found} == spelled - need_more - {None}


def test_every_function_of_torch_special_that_is_an_activation_is_a_spelling():
    found = activations_in(torch.special, lambda name, x: getattr(torch.special, name)(x))
    assert found == {"expit"}
    vectors = {name for name in dir(torch.special) if "softm" in name}
    assert vectors == {"softmax", "log_softmax"}
    named = {a.special.removeprefix("torch.special.") for a in CATALOG if a.special}
    assert named == {*found, *vectors}


@pytest.mark.parametrize("name", NAMES)
def test_all_spellings_give_the_same_values(name):
    activation = catalog.get(name)
    x = torch.linspace(-4, 4, 32).reshape(SHAPE)
    expected = seeded(activation)(x)
    spaces = {"F": F, "torch": torch, "torch.special": torch.special}
    for spelling in activation.spellings:
        where, _, what = spelling.rpartition(".")
        if where == "nn":
            found = activation.make().eval()(x)
        elif where == "x":
            found = getattr(x.clone(), what)(**_as_torch_takes_them(name, activation.parameters))
        else:
            copy = x.clone()
            function = getattr(spaces[where], what)
            found = seeded(partial(function, **_as_torch_takes_them(name, activation.parameters)))(copy)
            assert torch.equal(found, copy) == what.endswith("_"), spelling
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def _as_torch_takes_them(name, parameters):
    """PReLU's weight is a tensor for torch's functions."""
    return {"weight": torch.tensor([parameters["weight"]])} if name == "prelu" else parameters


@every_activation
def test_inplace_is_a_parameter_of_the_function_as_well(activation):
    if activation.functional:
        function = getattr(F, activation.functional.removeprefix("F."))
        function = partial(function, **_as_torch_takes_them(activation.name, activation.parameters))
        x = torch.linspace(-4, 4, 32).reshape(SHAPE)
        if activation.inplace:
            assert function(x, inplace=True).data_ptr() == x.data_ptr()
        else:
            with pytest.raises(TypeError):
                function(x, inplace=True)
    if activation.functional_inplace:
        assert activation.inplace


def test_defaults_are_what_the_documentation_says():
    empty = inspect.Parameter.empty
    assert {a.name: dict(a.defaults) for a in CATALOG if a.defaults} == {
        "leaky_relu": {"negative_slope": 0.01},
        "prelu": {"num_parameters": 1, "init": 0.25},
        "rrelu": {"lower": 1 / 8, "upper": 1 / 3},
        "threshold": {"threshold": empty, "value": empty},
        "elu": {"alpha": 1.0},
        "celu": {"alpha": 1.0},
        "gelu": {"approximate": "none"},
        "hardtanh": {"min_val": -1.0, "max_val": 1.0},
        "softplus": {"beta": 1.0, "threshold": 20.0},
        "softshrink": {"lambd": 0.5},
        "hardshrink": {"lambd": 0.5},
        "softmax": {"dim": None},
        "softmin": {"dim": None},
        "log_softmax": {"dim": None},
        "glu": {"dim": -1},
        "gumbel_softmax": {"tau": 1, "hard": False, "dim": -1},
        "swish": {"beta": 1.0},
        "swiglu": {"dim": -1},
        "geglu": {"dim": -1},
        "reglu": {"dim": -1},
    }


def test_two_activations_learn_a_parameter():
    assert {a.name: a.learnable for a in CATALOG if a.learnable} == {"prelu": ("weight",), "swish": ("beta",)}


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
    "glu": lambda x: np.split(x, 2, axis=-1)[0] * expit(np.split(x, 2, axis=-1)[1]),
    "gumbel_softmax": lambda x: softmax(x + gumbel_noise(x.shape), axis=-1),
    "squared_relu": lambda x: np.where(x > 0, x**2, 0),
    "swish": lambda x: x * expit(x),
    "swiglu": lambda x: np.prod(np.split(x, 2, axis=-1), axis=0) * expit(np.split(x, 2, axis=-1)[1]),
    "geglu": lambda x: np.prod(np.split(x, 2, axis=-1), axis=0) * ndtr(np.split(x, 2, axis=-1)[1]),
    "reglu": lambda x: np.split(x, 2, axis=-1)[0] * np.maximum(np.split(x, 2, axis=-1)[1], 0),
}


def gumbel_noise(shape):
    """As ``F.gumbel_softmax`` draws it: minus the logarithm of an exponentially distributed number."""
    torch.manual_seed(0)
    return -np.log(torch.empty(shape, dtype=torch.float64).exponential_().numpy())


@every_activation
def test_value_is_that_of_the_closed_form(activation):
    """To 1e-8, since torch's softplus leaves out ln(1 + e^-x), below 2.1e-9, from x = 20 on."""
    x = np.linspace(-40, 40, 2 * 3 * 41 * 24).reshape(2, 3, 41, 24)
    found = seeded(activation)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, CLOSED_FORMS[activation.name](x), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("beta", "limit"), [(0.0, lambda x: x / 2), (400.0, lambda x: np.maximum(x, 0))])
def test_swish_runs_from_half_the_identity_to_relu(beta, limit):
    x = np.linspace(-6, 6, 121)
    np.testing.assert_allclose(catalog.get("swish")(torch.from_numpy(x), beta=beta), limit(x), atol=1e-3)


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


@pytest.mark.parametrize("activation", catalog.CATALOG, ids=lambda activation: activation.name)
def test_activations_are_pickled_and_copied_as_themselves(activation):
    assert pickle.loads(pickle.dumps(activation)) is activation
    assert copy.deepcopy(activation) is activation


def test_an_activation_outside_the_catalogue_can_be_pickled_too():
    mine = catalog.Activation("sine", None, torch.sin, r"\sin x", {}, source="somebody")
    copied = pickle.loads(pickle.dumps(mine))
    assert (copied.name, copied.function, copied.parameters, copied.source) == (
        "sine", torch.sin, {}, "somebody",
    )  # fmt: skip


# --- activations of one's own: functions of torch that the catalogue lacks ------------------------------


def wave(x, frequency=1.0):
    return torch.sin(frequency * x)


class Wave(nn.Module):
    def __init__(self, frequency=1.0):
        super().__init__()
        self.frequency = nn.Parameter(torch.tensor(float(frequency)))

    def forward(self, x):
        return torch.sin(self.frequency * x)


class Bell(nn.Module):
    def forward(self, x):
        return torch.exp(-x.square())


WAVE = catalog.Activation("wave", Wave, wave, r"\sin(\omega x)", {"frequency": 1.0})
BELL = catalog.Activation("bell", Bell, Bell(), "e^{-x^2}")


@pytest.fixture(autouse=True)
def _nothing_stays_registered():
    yield
    assert not catalog.registered()


def test_registered_activation_is_found_used_and_made_like_any_other():
    x = torch.linspace(-5, 5, 101, dtype=torch.float64)
    with catalog.register(WAVE) as entry:
        assert entry is catalog.get("wave") is catalog.get("Wave") is WAVE
        found = value_and_gradient(partial(catalog.get("wave"), frequency=2.0), x)
        torch.testing.assert_close(found, value_and_gradient(lambda x: torch.sin(2 * x), x))
        made = catalog.get("wave").make(frequency=0.5)
        assert made.frequency.item() == 0.5
        torch.testing.assert_close(made(x), torch.sin(0.5 * x))
        assert (entry.learnable, entry.spellings, entry.in_torch) == (("frequency",), (), False)
        with pytest.raises(TypeError, match=r"^Wave has no parameter 'phase'; it has frequency$"):
            entry(x, phase=1.0)


def test_every_tool_takes_a_registered_name():
    torch.manual_seed(0)
    x = torch.randn(6, 3)
    with catalog.register(WAVE), catalog.register(BELL):
        model = mlp((3, 4, 4, 2), "wave")
        first, _, second, _, last = model
        torch.testing.assert_close(model(x), last(torch.sin(second(torch.sin(first(x))))))
        functional = FunctionalMLP((3, 4, 2), "bell")
        hidden, out = functional.layers
        torch.testing.assert_close(functional(x), out(torch.exp(-(hidden(x) ** 2))))
        with record_inputs(model) as inputs:
            model(x)
        torch.testing.assert_close(inputs["1"], first(x))
        measured = dict(at_a_glance("Bell").itertuples(index=False))
        assert (measured["range"], measured["f(0)"], measured["saturates"]) == ("0 … 1", "1", "both")


def test_elementwise_gives_registered_ones_last_and_only_beyond_torch():
    row = dataclasses.replace(BELL, name="row", module=None, elementwise=False)
    before = catalog.elementwise(), catalog.elementwise(beyond_torch=True)
    with catalog.register(WAVE), catalog.register(row), catalog.register(BELL):
        assert catalog.elementwise() == before[0]
        assert catalog.elementwise(beyond_torch=True) == (*before[1], WAVE, BELL)
    assert (catalog.elementwise(), catalog.elementwise(beyond_torch=True)) == before


def test_registration_ends_with_its_block_by_an_error_too():
    with pytest.raises(ZeroDivisionError), catalog.register(WAVE):
        raise ZeroDivisionError
    with pytest.raises(ValueError, match="unknown activation 'wave'"):
        catalog.get("wave")
    with catalog.register(WAVE):
        catalog.unregister("wave")  # before the block ends


def test_registration_without_a_block_stays_until_it_is_taken_back():
    assert str(catalog.register(WAVE)) == "wave is registered"
    assert catalog.get("wave") is WAVE
    catalog.unregister("Wave")
    with pytest.raises(ValueError, match="unknown activation 'wave'"):
        catalog.get("wave")


def test_each_keeps_its_place_and_a_free_place_is_taken_first():
    with catalog.register(BELL):
        catalog.register(WAVE)
        assert catalog.registered() == {"bell": 0, "wave": 1}
    assert catalog.registered() == {"wave": 1}
    with catalog.register(BELL):
        assert catalog.registered() == {"bell": 0, "wave": 1}
        catalog.unregister("wave")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (dataclasses.replace(BELL, name="relu"), "the name 'relu' is taken: 'relu' is in the catalogue"),
        (dataclasses.replace(BELL, name="ReLU"), "the name 'ReLU' is taken: 'relu' is in the catalogue"),
        (
            dataclasses.replace(BELL, module=nn.GELU),
            "the name 'GELU' is taken: 'gelu' is in the catalogue",
        ),
        (dataclasses.replace(BELL, name="dropout"), "the name 'dropout' is taken: torch has F.dropout"),
        (WAVE, "the name 'wave' is taken: 'wave' can be taken out by unregister"),
        (
            dataclasses.replace(WAVE, name="other"),
            "the name 'Wave' is taken: 'wave' can be taken out by unregister",
        ),
    ],
)
def test_taken_name_is_refused_and_named(entry, message):
    with catalog.register(WAVE):
        with pytest.raises(ValueError, match=f"^{message}$"):
            catalog.register(entry)
        assert catalog.registered() == {"wave": 0}


@pytest.mark.parametrize("wrong", [torch.sin, Wave, "wave", None])
def test_only_an_activation_can_be_registered(wrong):
    with pytest.raises(TypeError, match=r"^only an Activation can be registered, got "):
        catalog.register(wrong)


def test_hints_name_registered_ones():
    with catalog.register(WAVE):
        with pytest.raises(ValueError, match=r"unknown activation 'wav'; did you mean 'wave' or 'Wave'"):
            catalog.get("wav")
        with pytest.raises(ValueError, match=r"known: relu, .*, reglu, wave$"):
            catalog.get("???")


def test_what_was_not_registered_cannot_be_taken_out():
    with pytest.raises(ValueError, match=r"^'relu' was not registered: it belongs to the catalogue$"):
        catalog.unregister("relu")
    with pytest.raises(ValueError, match="unknown activation 'wave'"):
        catalog.unregister("wave")


def test_registered_activation_is_pickled_by_its_parts():
    """A worker process has not registered it."""
    with catalog.register(WAVE):
        pickled = pickle.dumps(WAVE)
    copied = pickle.loads(pickled)
    x = torch.linspace(-2, 2, 9)
    assert (copied.name, copied.module, dict(copied.parameters)) == ("wave", Wave, {"frequency": 1.0})
    assert torch.equal(copied(x, frequency=3.0), torch.sin(3 * x))
