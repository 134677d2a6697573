"""What can be measured of one activation function, by autograd in float64."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn

from nonlinearity import catalog

Function = Callable[[Tensor], Tensor]

_STEP = 2.0**-13
_REACH = 16.0
_FAR = 1e8
# In one step a continuous function, however steep, changes about as much as in the next ones; at a break it
# changes by a multiple of that. Breaks smaller than _JUMP are not looked for.
_JUMP = 0.001
_MULTIPLE = 10.0


@dataclass(frozen=True)
class Properties:
    """Measured properties of one activation function.

    Attributes:
        range: smallest and largest value; infinite where it grows without bound.
        slope_range: smallest and largest slope, likewise.
        value_at_0, slope_at_0: f(0) and the slope that autograd uses at 0.
        monotone: whether it never falls (or never rises).
        jumps: the inputs at which the value itself jumps.
        kinks: the inputs at which the slope jumps and the value does not.
        saturates: ``"left"``, ``"right"``, ``"both"`` or ``"no"``: where the slope tends to 0.
        mean, variance: of f(z) for z drawn from the standard normal distribution.
    """

    range: tuple[float, float]
    slope_range: tuple[float, float]
    value_at_0: float
    slope_at_0: float
    monotone: bool
    jumps: tuple[float, ...]
    kinks: tuple[float, ...]
    saturates: str
    mean: float
    variance: float

    @property
    def smooth(self) -> bool:
        """Whether the slope is continuous everywhere."""
        return not self.jumps and not self.kinks

    @property
    def zero_centred(self) -> bool:
        """Whether the mean output for standard normal input is 0."""
        return abs(self.mean) < 1e-6


def value_and_slope(function: Function, x: Tensor) -> tuple[Tensor, Tensor]:
    """Values f(x) and the slopes f'(x) that autograd computes.

    Args:
        function: element-wise function of a tensor.
        x: floating-point tensor of any shape.

    Returns:
        two detached tensors of the shape and dtype of ``x``.

    Raises:
        TypeError: if ``x`` is not floating-point.
        ValueError: if the function does not keep the shape of its input.
    """
    if not x.is_floating_point():
        raise TypeError(f"x must be a floating-point tensor to have slopes, got {x.dtype}")
    x = x.detach().clone().requires_grad_()
    with torch.enable_grad():  # under torch.no_grad every slope would seem to be 0
        value = function(x)
    if value.shape != x.shape:
        raise ValueError(
            f"an element-wise function keeps the shape {tuple(x.shape)}, got {tuple(value.shape)}"
        )
    if not value.requires_grad:  # a constant, as far as autograd can see
        return value, torch.zeros_like(x)
    (slope,) = torch.autograd.grad(value, x, torch.ones_like(value))
    return value.detach(), slope


def measure(function: Function) -> Properties:
    """Measure an element-wise activation function.

    Values and slopes are taken on a grid of step 2⁻¹³ over [−16, 16] and on a logarithmic one out to
    ±10⁸, in float64. Features narrower than the step, or outside the fine grid, are not seen.

    Args:
        function: element-wise function of a float64 tensor.
    """
    fine = torch.arange(-_REACH, _REACH + _STEP, _STEP, dtype=torch.float64)
    far = torch.logspace(math.log10(_REACH), math.log10(_FAR), 200, dtype=torch.float64)[1:]
    x = torch.cat([-far.flip(0), fine, far])
    value, slope = value_and_slope(function, x)
    on_fine = slice(len(far), len(far) + len(fine))
    jumps = _breaks(fine, value[on_fine])
    weight = torch.exp(-fine.square() / 2) / math.sqrt(2 * math.pi)
    mean = torch.trapezoid(value[on_fine] * weight, fine)
    variance = torch.trapezoid((value[on_fine] - mean).square() * weight, fine)
    rises = value.diff()  # NaN between two infinite values, which is neither a rise nor a fall
    tolerance = 1e-12
    at_zero = value_and_slope(function, torch.zeros(1, dtype=torch.float64))
    return Properties(
        range=_range(x, value),
        slope_range=_range(x, slope),
        value_at_0=float(at_zero[0]),
        slope_at_0=float(at_zero[1]),
        monotone=not ((rises < -tolerance).any() and (rises > tolerance).any()),
        jumps=jumps,
        kinks=tuple(kink for kink in _breaks(fine, slope[on_fine]) if kink not in jumps),
        saturates=_SATURATES[bool(slope[0].abs() < 1e-6), bool(slope[-1].abs() < 1e-6)],
        mean=float(mean),
        variance=float(variance),
    )


_SATURATES = {(False, False): "no", (True, False): "left", (False, True): "right", (True, True): "both"}


def _range(x: Tensor, value: Tensor) -> tuple[float, float]:
    """Smallest and largest value; infinite where an end of the grid holds it and values still move there."""
    low, high = float(value.min()), float(value.max())
    for end in (0, -1):
        inner = torch.searchsorted(x, x[end] / 10)
        if abs(value[end] - value[inner]) > 0.01:
            low = -math.inf if value[end] <= low else low
            high = math.inf if value[end] >= high else high
    return low + 0.0, high + 0.0  # no negative zero


def _breaks(x: Tensor, y: Tensor) -> tuple[float, ...]:
    """The places, to three decimals, where ``y`` changes by far more than two steps before and after.

    (Two steps, not one: at the break itself autograd may use a slope half-way, as it does for ``abs``.)
    """
    change = y.diff().abs()
    nearby = nn.functional.pad(change, (2, 2))
    broken = (change > _JUMP) & (change > _MULTIPLE * torch.maximum(nearby[:-4], nearby[4:]))
    middles = (x[:-1] + x[1:])[broken] / 2
    return tuple(sorted({round(middle, 3) + 0.0 for middle in middles.tolist()}))


def summary(function: Function) -> dict[str, str]:
    """The measured properties of an activation in words, for a table: property → what was measured."""
    p = measure(function)
    breaks = {"jump": p.jumps, "kink": p.kinks}
    return {
        "range": _interval(p.range),
        "slope": _interval(p.slope_range),
        "f(0)": _number(p.value_at_0),
        "f\u2032(0)": _number(p.slope_at_0),
        "monotone": _yes(p.monotone),
        "breaks": "; ".join(f"{k} at {', '.join(map(_number, at))}" for k, at in breaks.items() if at)
        or "none",
        "saturates": p.saturates,
        "mean for N(0, 1)": _number(p.mean),
        "variance for N(0, 1)": _number(p.variance),
        "zero-centred": _yes(p.zero_centred),
    }


def at_a_glance(name: str) -> pd.DataFrame:
    """The properties of one activation of the catalogue, a row each: columns "property" and "measured".

    Raises:
        ValueError: for an unknown activation.
    """
    return pd.DataFrame(list(summary(catalog.get(name)).items()), columns=["property", "measured"])


def _number(value: float) -> str:
    if math.isinf(value):
        return "\u221e" if value > 0 else "\u2212\u221e"
    return f"{value:.3g}".replace("-", "\u2212") if abs(value) >= 5e-7 else "0"


def _interval(ends: tuple[float, float]) -> str:
    return f"{_number(ends[0])} \u2026 {_number(ends[1])}"


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"
