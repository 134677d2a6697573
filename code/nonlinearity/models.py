"""The networks of the course, the activation a parameter."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from nonlinearity import catalog


def mlp(sizes: Sequence[int], activation: str | Callable[[], nn.Module] | None = "relu") -> nn.Sequential:
    """A multilayer perceptron: linear layers with an activation between them, none after the last.

    The linear layers draw their weights from PyTorch's global generator in order, so that networks made
    after the same ``torch.manual_seed`` start from equal weights whatever the activation.

    Args:
        sizes: the widths from input to output, at least two positive integers: ``(784, 256, 10)``.
        activation: a name of the catalogue, a callable that makes a module, or None for a network
            that stays linear.

    Raises:
        ValueError: for fewer than two sizes, a size below 1, or an unknown activation.
    """
    _check(sizes)
    make = _maker(activation)
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers.append(nn.Linear(n_in, n_out))
        if make is not None:
            layers.append(make())
    return nn.Sequential(*layers[: len(layers) - (make is not None)])


def cnn(
    channels: Sequence[int] = (8, 16, 32),
    activation: str | Callable[[], nn.Module] | None = "relu",
    *,
    side: int = 28,
    classes: int = 10,
) -> nn.Sequential:
    """A convolutional network for grey pictures: blocks, then one linear layer.

    A block is a 3 × 3 convolution that keeps the size, the activation, and 2 × 2 max pooling that halves it;
    nothing follows the linear layer. As with ``mlp``, equal seeds give equal weights whatever the activation.

    Args:
        channels: of each block, one or more positive integers.
        activation: as for ``mlp``.
        side: pixels along each side of the square pictures; at least one must be left after the last block.
        classes: number of logits.

    Returns:
        a network from (n, 1, side, side) pictures, or the same pictures flattened to (n, side²) as
        ``data.fashion_mnist`` gives them, to (n, classes) logits.

    Raises:
        ValueError: for no channels, numbers below 1, pictures too small for so many blocks, or an unknown
            activation.
    """
    left = side // 2 ** len(channels)
    if not channels or min(*channels, classes) < 1:
        raise ValueError(
            f"channels and classes must be positive, got channels {tuple(channels)}, classes {classes}"
        )
    if left < 1:
        raise ValueError(f"pictures of side {side} cannot be halved {len(channels)} times, once a block")
    make = _maker(activation)
    layers: list[nn.Module] = [nn.Flatten(), nn.Unflatten(1, (1, side, side))]  # both kinds of input
    for n_in, n_out in pairwise([1, *channels]):
        layers.append(nn.Conv2d(n_in, n_out, kernel_size=3, padding=1))
        if make is not None:
            layers.append(make())
        layers.append(nn.MaxPool2d(2))
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * left**2, classes))
    return model.to(memory_format=torch.channels_last)  # the same numbers in another order: a quarter faster


class FunctionalMLP(nn.Module):
    """The network of ``mlp`` in the other style: the layers are modules, the activation a function.

    Made after the same ``torch.manual_seed``, it starts from the same weights as ``mlp`` and gives the same
    outputs to the last bit. Its parameters are named ``layers.0.weight`` and so on.

    Args:
        sizes: as for ``mlp``.
        activation: a name of the catalogue whose function has no parameters to learn, or a function from a
            tensor to a tensor: ``torch.tanh``.

    Raises:
        ValueError: as ``mlp``.
    """

    def __init__(self, sizes: Sequence[int], activation: str | Callable[[Tensor], Tensor] = "relu") -> None:
        super().__init__()
        _check(sizes)
        self.layers = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in pairwise(sizes))
        self.activation = catalog.get(activation) if isinstance(activation, str) else activation

    def forward(self, x: Tensor) -> Tensor:
        """From (n, sizes[0]) inputs to (n, sizes[-1]) logits."""
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation(layer(x))
        return last(x)


def _maker(activation: str | Callable[[], nn.Module] | None) -> Callable[[], nn.Module] | None:
    return catalog.get(activation).make if isinstance(activation, str) else activation


def _check(sizes: Sequence[int]) -> None:
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"sizes must be at least two positive widths such as (2, 16, 1), got {tuple(sizes)}")
