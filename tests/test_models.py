"""The networks have the layers they promise and start from equal weights whatever the activation."""

from functools import partial
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nonlinearity import catalog
from nonlinearity.models import FunctionalMLP, cnn, mlp

few = settings(max_examples=25, deadline=None, database=None, derandomize=True)
widths = st.lists(st.integers(1, 9), min_size=2, max_size=5)


@given(widths, st.sampled_from(catalog.elementwise(beyond_torch=True)))
@few
def test_activation_stands_between_the_layers_and_not_after_the_last(sizes, activation):
    layers = list(mlp(sizes, activation.name))
    linear, between = layers[0::2], layers[1::2]
    assert [(type(layer), layer.in_features, layer.out_features) for layer in linear] == [
        (nn.Linear, n_in, n_out) for n_in, n_out in pairwise(sizes)
    ]
    assert [type(layer) for layer in between] == [activation.module] * (len(sizes) - 2)
    assert len({id(layer) for layer in layers}) == len(layers)  # none used twice: PReLU learns in each place


@given(widths)
@few
def test_network_computes_what_its_formula_says(sizes):
    model = mlp(sizes, "tanh").double()
    x = torch.linspace(-2, 2, 3 * sizes[0], dtype=torch.float64).reshape(3, sizes[0])
    expected = x
    for layer in model:
        if isinstance(layer, nn.Linear):
            expected = expected @ layer.weight.T + layer.bias
        else:
            expected = (expected.exp() - (-expected).exp()) / (expected.exp() + (-expected).exp())
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("other", [None, *(a.name for a in catalog.CATALOG if a.module)])
def test_weights_are_equal_after_the_same_seed_whatever_the_activation(other):
    def weights(activation):
        torch.manual_seed(3)
        model = mlp((4, 6, 6, 2), activation)
        return [value for layer in model if isinstance(layer, nn.Linear) for value in layer.parameters()]

    expected, found = weights("relu"), weights(other)
    assert len(expected) == len(found) == 6
    assert all(map(torch.equal, expected, found))
    assert not torch.equal(found[0], found[2][:, :4])  # and they are drawn, not constant


def test_network_without_activation_is_linear_layers_only():
    assert [type(layer) for layer in mlp((3, 5, 2), None)] == [nn.Linear, nn.Linear]


def test_activation_is_relu_unless_named():
    assert [type(layer) for layer in mlp((3, 5, 2))] == [nn.Linear, nn.ReLU, nn.Linear]


def test_callable_makes_the_activation():
    model = mlp((3, 5, 2), partial(nn.LeakyReLU, 0.3))
    assert model[1].negative_slope == 0.3
    assert isinstance(mlp((3, 5, 2), catalog.get("celu").make)[1], nn.CELU)


@pytest.mark.parametrize("sizes", [(), (3,), (3, 0, 2), (3, -1)])
def test_sizes_that_make_no_network_are_refused(sizes):
    with pytest.raises(ValueError, match="sizes must be at least two positive widths") as error:
        mlp(sizes)
    assert str(error.value).endswith(f"got {sizes}")


def test_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="unknown activation 'rleu'; did you mean 'relu'"):
        mlp((3, 5, 2), "rleu")


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu", "gelu"])
def test_functional_style_is_the_same_network_to_the_last_bit(name):
    torch.manual_seed(0)
    modules = mlp((7, 5, 4, 3), name)
    torch.manual_seed(0)
    functions = FunctionalMLP((7, 5, 4, 3), name)
    x = torch.randn(6, 7)
    assert torch.equal(modules(x), functions(x))
    for first, second in zip(modules.parameters(), functions.parameters(), strict=True):
        assert torch.equal(first, second)


def test_functional_style_takes_a_function_and_refuses_what_mlp_refuses():
    model = FunctionalMLP((2, 3, 1), torch.sin)
    first, last = model.layers
    x = torch.randn(4, 2)
    assert torch.equal(model(x), last(torch.sin(first(x))))
    with pytest.raises(ValueError, match="at least two positive widths"):
        FunctionalMLP((2,))
    with pytest.raises(ValueError, match="rellu"):
        FunctionalMLP((2, 3, 1), "rellu")


# --- the convolutional network --------------------------------------------------------------------------


def test_convolutional_network_is_three_blocks_and_a_linear_layer():
    block = [nn.Conv2d, nn.GELU, nn.MaxPool2d]
    model = cnn(activation="gelu")
    assert [type(layer) for layer in model] == [nn.Flatten, nn.Unflatten, *block * 3, nn.Flatten, nn.Linear]
    shapes = [tuple(parameter.shape) for parameter in model.parameters()]
    assert shapes == [(8, 1, 3, 3), (8,), (16, 8, 3, 3), (16,), (32, 16, 3, 3), (32,), (10, 288), (10,)]
    activations = [layer for layer in model if isinstance(layer, nn.GELU)]
    assert len({id(layer) for layer in activations}) == 3


@pytest.mark.parametrize(("activation", "function"), [("sigmoid", torch.sigmoid), (None, lambda x: x)])
def test_convolutional_network_computes_what_it_says(activation, function):
    torch.manual_seed(0)
    model = cnn((3, 5), activation, side=9, classes=4).double()
    pictures = torch.randn(6, 1, 9, 9, dtype=torch.float64)
    first, second = (layer for layer in model if isinstance(layer, nn.Conv2d))
    x = F.max_pool2d(function(F.conv2d(pictures, first.weight, first.bias, padding=1)), 2)
    x = F.max_pool2d(function(F.conv2d(x, second.weight, second.bias, padding=1)), 2)
    expected = x.reshape(6, 20) @ model[-1].weight.T + model[-1].bias
    torch.testing.assert_close(model(pictures), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(model(pictures), model(pictures.reshape(6, 81)))  # the same pictures


def test_convolutional_networks_start_from_equal_weights():
    def weights(activation):
        torch.manual_seed(3)
        layers = cnn((2, 3), activation, side=8)
        return [p for layer in layers if isinstance(layer, nn.Conv2d | nn.Linear) for p in layer.parameters()]

    expected = weights("relu")
    assert len(expected) == 6
    assert expected[0].std() > 0
    for other in ("prelu", nn.Tanh, None):
        assert all(map(torch.equal, expected, weights(other)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": ()}, r"channels and classes must be positive, got channels \(\), classes 10"),
        ({"channels": (8, 0)}, r"must be positive, got channels \(8, 0\)"),
        ({"classes": 0}, "must be positive, .* classes 0"),
        ({"side": 7}, "pictures of side 7 cannot be halved 3 times"),
        ({"activation": "rellu"}, "unknown activation 'rellu'; did you mean 'relu'"),
    ],
)
def test_convolutional_networks_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        cnn(**options)
