"""Look inside a network while it runs: context managers that hook a model and take the hooks off again."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nonlinearity import catalog

_ELEMENTWISE = tuple(activation.module for activation in catalog.elementwise(beyond_torch=True))


@contextmanager
def record_inputs(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Record what flows into a model's activation modules in its next forward passes.

    The hooks come off when the block ends, by an error too. An activation that ``forward`` calls as
    a function is no module and cannot be seen this way.

    Args:
        model: any module with element-wise activation modules of the catalogue in it.

    Yields:
        a dict that each forward pass fills anew: the activation's name in the model → a copy of its
        input, detached (a copy, since an in-place activation overwrites the original).

    Raises:
        ValueError: if the model has no such module.
    """
    watched = {name: module for name, module in model.named_modules() if isinstance(module, _ELEMENTWISE)}
    if not watched:
        raise ValueError(
            f"{type(model).__name__} has no element-wise activation module to watch; "
            "activations called as functions cannot be seen"
        )
    inputs: dict[str, Tensor] = {}

    def keep(name: str):
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            inputs[name] = args[0].detach().clone()

        return hook

    handles = [module.register_forward_pre_hook(keep(name)) for name, module in watched.items()]
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class UnitReport:
    """How the units behind one activation module answer to a data set.

    Attributes:
        zero_rate: share of all outputs, over samples and units, that are exactly 0.
        dead: (units,) bool: no sample of the set sends any gradient through the unit.
    """

    zero_rate: float
    dead: Tensor

    @property
    def dead_rate(self) -> float:
        """Share of the units that are dead."""
        return float(self.dead.double().mean())


def inspect_units(model: nn.Module, x: Tensor) -> dict[str, UnitReport]:
    """Tell dead units from zero outputs, behind each activation module of a model.

    A zero output is one sample's affair. A unit is dead on a data set when its slope is exactly 0 for
    every sample, so that no gradient reaches the weights before it.

    Args:
        model: a module whose activation modules receive (samples, units, ...) tensors.
        x: the whole data set that the verdict is about, on the model's device.

    Returns:
        the activation's name in the model → report, in the model's order.

    Raises:
        ValueError: if the model has no element-wise activation module.
    """
    with record_inputs(model) as inputs, torch.no_grad():
        model(x)
    modules = dict(model.named_modules())
    reports = {}
    for name, z in inputs.items():
        z.requires_grad_()
        a = modules[name](z.clone())  # a copy, since the module may work in place
        (slope,) = torch.autograd.grad(a.sum(), z)
        flat = slope.transpose(0, 1).flatten(1)  # (units, samples and positions)
        reports[name] = UnitReport(float((a == 0).double().mean()), (flat == 0).all(dim=1))
    return reports
