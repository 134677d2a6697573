"""The networks of the course, the activation a parameter."""

from collections.abc import Callable, Sequence
from itertools import pairwise

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
    make = catalog.get(activation).make if isinstance(activation, str) else activation
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers.append(nn.Linear(n_in, n_out))
        if make is not None:
            layers.append(make())
    return nn.Sequential(*layers[: len(layers) - (make is not None)])


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


def _check(sizes: Sequence[int]) -> None:
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"sizes must be at least two positive widths such as (2, 16, 1), got {tuple(sizes)}")
