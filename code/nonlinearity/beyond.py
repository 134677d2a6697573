"""Well-known activations that ``torch`` does not have, each as a function and as a module."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def squared_relu(x: Tensor) -> Tensor:
    """ReLU², the square of what ReLU lets through (So et al. 2021)."""
    return F.relu(x).square()


def swish(x: Tensor, beta: float | Tensor = 1.0) -> Tensor:
    """x σ(βx) (Ramachandran et al. 2017): SiLU for β = 1, x/2 for β = 0, nearly ReLU for a large β."""
    return x * torch.sigmoid(beta * x)


def swiglu(x: Tensor, dim: int = -1) -> Tensor:
    """The first half of a dimension times SiLU of the second half, its gate (Shazeer 2020)."""
    value, gate = _halves(x, dim)
    return value * F.silu(gate)


def geglu(x: Tensor, dim: int = -1) -> Tensor:
    """The first half of a dimension times GELU of the second half, its gate (Shazeer 2020)."""
    value, gate = _halves(x, dim)
    return value * F.gelu(gate)


def reglu(x: Tensor, dim: int = -1) -> Tensor:
    """The first half of a dimension times ReLU of the second half, its gate (Shazeer 2020)."""
    value, gate = _halves(x, dim)
    return value * F.relu(gate)


def _halves(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The value and the gate, in the order of ``F.glu``.

    Raises:
        ValueError: if the dimension is of odd size.
    """
    if x.shape[dim] % 2:
        raise ValueError(f"dimension {dim} must be of even size to be halved, got {x.shape[dim]}")
    value, gate = x.chunk(2, dim)
    return value, gate


class SquaredReLU(nn.Module):
    """``squared_relu`` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        return squared_relu(x)


class Swish(nn.Module):
    """``swish`` with a β that is learned, one for all units.

    Args:
        beta: where β starts.
    """

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.tensor(float(beta)))

    def forward(self, x: Tensor) -> Tensor:
        return swish(x, self.beta)


class _Gated(nn.Module):
    """Halve a dimension: one half is the value, the other one opens and closes it.

    Args:
        dim: the dimension to halve.
    """

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class SwiGLU(_Gated):
    """``swiglu`` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        return swiglu(x, self.dim)


class GEGLU(_Gated):
    """``geglu`` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        return geglu(x, self.dim)


class ReGLU(_Gated):
    """``reglu`` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        return reglu(x, self.dim)
