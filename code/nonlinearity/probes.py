"""Look inside any network while it runs: hooks in context managers that take them off again.

``inspect_units`` tells dead units from zero outputs on a data set, ``check_up`` examines a model on a batch,
``watch`` follows a training. None of them changes the model, its gradients or the random numbers.
"""

import copy
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from nonlinearity import catalog, plotting

#: An output is called saturated where the slope is smaller than this: a hundredth of the gradient is left.
SATURATED = 0.01

# When the check-up speaks up. Conventions, not laws: each is far outside what healthy networks show.
_MANY_DEAD = 0.1  # share of the units
_MANY_SATURATED = 0.75  # share of the outputs; of ReLU's about half are, in good health
_UNEVEN = 1e3  # ratio of the signals, and of the gradients, of the layers at the two ends
_SAME_FOR_ALL = 0.01  # spread over examples, as a share of the first layer's and of the units' differences

_UNITS_FIRST = (  # after these, dimension 1 holds the units (channels); elsewhere the last one does
    nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm,
)  # fmt: skip
_HOLDERS = {"F": nn.functional, "torch": torch, "x": Tensor, "torch.special": torch.special}


@contextmanager
def record_inputs(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Record what flows into a model's activation modules in its next forward passes.

    Args:
        model: any module with element-wise activation modules of the catalogue in it.

    Yields:
        a dict that each forward pass fills anew: the activation's name in the model → a copy of its
        input, detached (a copy, since an in-place activation overwrites the original). A module that a
        forward pass calls again has a further entry, ``"act (call 2)"``.

    Raises:
        ValueError: if the model has no such module. (An activation that ``forward`` calls as a function is
            no module and cannot be seen this way.)
    """
    watched = _activation_modules(model)
    if not watched:
        raise ValueError(
            f"{type(model).__name__} has no element-wise activation module to watch; "
            "activations called as functions cannot be seen"
        )
    inputs: dict[str, Tensor] = {}
    calls: Counter[str] = Counter()

    def begin(*_: object) -> None:
        inputs.clear()
        calls.clear()

    def keep(name: str):
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            inputs[_call(name, calls)] = args[0].detach().clone()

        return hook

    with _attached() as handles:
        handles.append(model.register_forward_pre_hook(begin))
        handles += [module.register_forward_pre_hook(keep(name)) for name, module in watched.items()]
        yield inputs


@dataclass(frozen=True)
class UnitReport:
    """How the units behind one activation module answer to a data set.

    Attributes:
        mean: of all outputs, over samples and units.
        std: their standard deviation.
        zero_rate: share of all outputs that are exactly 0.
        saturated_rate: share of all outputs at a slope below ``SATURATED`` in magnitude.
        dead: (units,) bool: no sample of the set sends any gradient through the unit.
    """

    mean: float
    std: float
    zero_rate: float
    saturated_rate: float
    dead: Tensor

    @property
    def dead_rate(self) -> float:
        """Share of the units that are dead."""
        return float(self.dead.double().mean())


def inspect_units(model: nn.Module, x: Tensor) -> dict[str, UnitReport]:
    """Tell dead, saturated and zero apart, behind each activation module of a model.

    A zero output is one sample's affair. A unit is dead on a data set when its slope is exactly 0 for
    every sample, so that no gradient reaches the weights before it. A saturated output lets hardly any
    gradient through, zero or not.

    Args:
        model: any module. An activation's units are the channels, dimension 1, of what a convolution or its
            normalisation gives, and otherwise the last dimension.
        x: the whole data set that the verdict is about, on the model's device.

    Returns:
        the activation's name in the model → report, in the order of the forward pass.

    Raises:
        ValueError: if the model has no element-wise activation module.
    """
    with record_inputs(model):  # refuses a model without activation modules
        pass
    reader = _Reader(model)
    with reader.hooked(), torch.no_grad():
        model(x)
    keys = ("mean", "std", "zero_rate", "saturated_rate")
    return {
        name: UnitReport(*(float(read.statistics[key]) for key in keys), read.dead)
        for name, read in reader.activations.items()
    }


@dataclass(frozen=True)
class CheckUp:
    """What ``check_up`` found. ``print`` gives a report, ``draw`` a picture.

    Attributes:
        loss: of the batch.
        table: a row for each layer with weights and each activation module, in the order of the forward
            pass: ``name``, ``kind`` and, of the outputs, ``mean``, ``std``, ``spread`` (the standard
            deviation over the examples, root mean square over the units); of an activation ``zero_rate``,
            ``saturated_rate``, ``dead_rate``; of a layer ``gradient``, the norm of its weights' gradient.
            NaN where a column does not apply or nothing came by.
        unseen: activations that were called as functions, with how many times: not in the table.
        findings: what stands out, one sentence each.
        inputs: each activation's name → (n, 2): a sample of its inputs, and the slopes there.
    """

    loss: float
    table: pd.DataFrame
    unseen: dict[str, int]
    findings: list[str]
    inputs: dict[str, Tensor] = field(repr=False)

    def __str__(self) -> str:
        lines = [f"{'':23} {'mean':>9} {'std':>8} {'spread':>7}  zeros  flat  dead gradient"]
        for row in self.table.itertuples():
            rates = [_percent(rate) for rate in (row.zero_rate, row.saturated_rate, row.dead_rate)]
            gradient = "" if np.isnan(row.gradient) else f"{row.gradient:.1e}"
            lines.append(
                f"{_shortened(f'{row.name} {row.kind}'):23} {row.mean:9.3g} {row.std:8.3g} {row.spread:7.2g}"
                f"  {rates[0]:>5} {rates[1]:>5} {rates[2]:>5} {gradient:>8}".rstrip()
            )
        sentences = [f"Loss {self.loss:.4g}.", *self.findings]
        return "\n".join([*lines, "", *(textwrap.fill(sentence, 78) for sentence in sentences)])

    def draw(self) -> Figure:
        """Each activation's inputs, its zero, saturated and dead shares, and each layer's gradient."""
        return plotting.plot_check_up(self.table, self.inputs, SATURATED)


def check_up(model: nn.Module, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> CheckUp:
    """Examine a model on one batch: signals forwards, gradients backwards, units in between.

    A copy of the model is run, once forwards and once backwards, in the mode (training or evaluation) that
    the model is in: weights, gradients, running statistics and the random generator stay as they are.

    Args:
        model: any module; what it calls as functions is named under ``unseen``.
        x: (n, ...) inputs, on the model's device; a few hundred examples give steady figures.
        y: (n, ...) targets, as ``loss`` wants them.
        loss: from the model's outputs and the targets to their mean loss: ``nn.CrossEntropyLoss()``.

    Raises:
        ValueError: if the model has neither layers with weights nor activation modules, or if the loss is
            not one number.
    """
    model = copy.deepcopy(model)
    reader = _Reader(model)
    if not reader.watched:
        raise ValueError(f"{type(model).__name__} has neither layers with weights nor activation modules")
    devices = [x.device] if x.is_cuda else []
    with torch.random.fork_rng(devices), torch.enable_grad():
        with reader.hooked():
            outputs = model(x)
        value = loss(outputs, y)
        if value.ndim:
            raise ValueError(
                f"loss must give one number, the mean over the batch; got shape {tuple(value.shape)}"
            )
        value.backward()
    rows, value = reader.rows(), value.item()
    inputs = {name: read.sample for name, read in reader.activations.items()}
    findings = _findings(value, rows, reader.unseen)
    return CheckUp(value, _table(rows, _COLUMNS), dict(reader.unseen), findings, inputs)


class Monitor:
    """What ``watch`` has recorded so far."""

    def __init__(self) -> None:
        self._rows: list[dict[str, object]] = []
        #: Activations that were called as functions, with how many times in all: not in the table.
        self.unseen: dict[str, int] = {}

    @property
    def table(self) -> pd.DataFrame:
        """A row for each recorded step and module: ``step``, counted from 0, the columns of ``CheckUp.table``
        and, of a layer, ``update``: the norm of the step's change of its weights over the weights' norm."""
        return _table(self._rows, ["step", *_COLUMNS, "update"])

    def draw(self) -> Figure:
        """Gradient and update of each layer, dead and saturated share of each activation, over the steps."""
        return plotting.plot_watch(self.table)


@contextmanager
def watch(model: nn.Module, *, every: int = 1) -> Iterator[Monitor]:
    """Record a model's signals, gradients and updates while it is trained, by whatever loop.

    ::

        with watch(model) as monitor:
            fit(model, ...)  # or a loop of your own, an Ignite engine, a Lightning trainer
        monitor.table

    What counts as a step is a step of any PyTorch optimizer that holds parameters of the model; the figures
    are those of the forward passes since the step before and of the gradients that the optimizer saw.
    Passes in evaluation mode or without gradients are not recorded.

    Args:
        model: any module. A compiled one hides its inside: watch it before ``torch.compile``.
        every: record each so many steps; the first is always recorded.

    Raises:
        ValueError: if ``every`` is below 1 or the model has nothing to watch.
    """
    if every < 1:
        raise ValueError(f"every must be at least 1, got {every}")
    reader, monitor, step = _Reader(model, training_only=True), Monitor(), 0
    if not reader.watched:
        raise ValueError(f"{type(model).__name__} has neither layers with weights nor activation modules")
    own = {id(parameter) for parameter in model.parameters()}

    def concerns(optimizer: Optimizer) -> bool:
        return any(id(p) in own for group in optimizer.param_groups for p in group["params"])

    def before(optimizer: Optimizer, *_: object) -> None:
        if reader.active and concerns(optimizer):
            reader.remember_weights()

    def after(optimizer: Optimizer, *_: object) -> None:
        nonlocal step
        if not concerns(optimizer):
            return
        if reader.active:
            monitor._rows += [{"step": step} | row for row in reader.rows()]
            monitor.unseen = dict(reader.unseen)
        reader.clear()
        step += 1
        reader.active = step % every == 0

    with _attached() as handles, reader.hooked():
        handles += [register_optimizer_step_pre_hook(before), register_optimizer_step_post_hook(after)]
        yield monitor


_COLUMNS = [
    "name", "kind", "mean", "std", "spread", "zero_rate", "saturated_rate", "dead_rate", "gradient",
]  # fmt: skip


@dataclass
class _Read:
    """What one call of a module left behind."""

    module: nn.Module
    statistics: dict[str, Tensor]
    dead: Tensor | None = None
    sample: Tensor | None = None


class _Reader:
    """Reads modules as they are called. Its numbers stay tensors, so that no GPU is waited for."""

    def __init__(self, model: nn.Module, training_only: bool = False) -> None:
        self._activations = _activation_modules(model)
        self._layers = {
            name: module
            for name, module in _named_modules(model).items()
            if name not in self._activations and _weights(module)
        }
        self._training_only = training_only
        self._weights_before: dict[str, list[Tensor]] = {}
        self.active = True
        self.unseen: Counter[str] = Counter()
        self.clear()

    @property
    def watched(self) -> bool:
        return bool(self._activations or self._layers)

    @property
    def activations(self) -> dict[str, _Read]:
        return {name: read for name, read in self._reads.items() if read.dead is not None}

    def clear(self) -> None:
        self._reads: dict[str, _Read] = {}
        self._calls: Counter[str] = Counter()
        self._weights_before = {}
        self._last_layer: nn.Module | None = None

    @contextmanager
    def hooked(self) -> Iterator[None]:
        functions = _CountFunctions(self.unseen)
        with _attached() as handles, functions:
            for name, module in self._activations.items():
                handles += functions.pause_in(module)  # before the reading, which calls the function too
                handles.append(module.register_forward_pre_hook(self._read_activation(name)))
            for name, module in self._layers.items():
                handles.append(module.register_forward_hook(self._read_layer(name)))
            yield

    def _skips(self, module: nn.Module) -> bool:
        evaluating = self._training_only and not (module.training and torch.is_grad_enabled())
        return not self.active or evaluating

    def _read_layer(self, name: str):
        def hook(module: nn.Module, args: object, output: Tensor | tuple) -> None:
            self._last_layer = module
            if self._skips(module):
                return
            output = output[0] if isinstance(output, tuple) else output
            statistics = _statistics(output.detach(), _unit_dimension(module))
            self._reads[_call(name, self._calls)] = _Read(module, statistics)

        return hook

    def _read_activation(self, name: str):
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            if self._skips(module):
                return
            z = args[0].detach()
            a, slope = _value_and_slope(module, z)
            dim = _unit_dimension(self._last_layer)
            dead = _by_unit(slope == 0, dim).all(dim=1)
            statistics = _statistics(a, dim) | {
                "zero_rate": (a == 0).double().mean(),
                "saturated_rate": (slope.abs() < SATURATED).double().mean(),
                "dead_rate": dead.double().mean(),
            }
            sample = None if self._training_only else _sample(z, slope)
            self._reads[_call(name, self._calls)] = _Read(module, statistics, dead, sample)

        return hook

    def remember_weights(self) -> None:
        self._weights_before = {
            name: [weight.detach().clone() for weight in _weights(module)]
            for name, module in self._layers.items()
        }

    def rows(self) -> list[dict[str, object]]:
        """One row a module, in the order of the calls; layers that nothing called come last."""
        never_called = {
            name: _Read(module, {}) for name, module in self._layers.items() if not self._calls[name]
        }
        rows = []
        for name, read in (self._reads | never_called).items():
            row = {"name": name, "kind": type(read.module).__name__} | read.statistics
            if read.dead is None:
                row["gradient"] = _norm([w.grad for w in _weights(read.module)])
            if before := self._weights_before.get(name):
                changes = [w.detach() - old for w, old in zip(_weights(read.module), before)]
                row["update"] = _norm(changes) / _norm(before)
            rows.append(row)
        return rows


class _CountFunctions(TorchFunctionMode):
    """Counts the catalogue's functions that are called outside the catalogue's modules."""

    def __init__(self, counts: Counter[str]) -> None:
        super().__init__()
        self._counts = counts
        self._inside = 0
        self._names = _function_names()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if not self._inside and func in self._names:
            self._counts[self._names[func]] += 1
        return func(*args, **(kwargs or {}))

    def pause_in(self, module: nn.Module) -> list[RemovableHandle]:
        """Hooks on an activation module, which calls such a function itself."""

        def enter(*_: object) -> None:
            self._inside += 1

        def leave(*_: object) -> None:
            self._inside -= 1

        return [
            module.register_forward_pre_hook(enter),
            module.register_forward_hook(leave, always_call=True),
        ]


@contextmanager
def _attached() -> Iterator[list[RemovableHandle]]:
    """A list of hooks, all of which come off at the end, by an error too."""
    handles: list[RemovableHandle] = []
    try:
        yield handles
    finally:
        for handle in handles:
            handle.remove()


def _table(rows: list[dict[str, object]], columns: list[str]) -> pd.DataFrame:
    table = pd.DataFrame([{key: row.get(key) for key in columns} for row in rows], columns=columns)
    return table.astype({name: float for name in columns if name not in ("step", "name", "kind")})


def _named_modules(model: nn.Module) -> dict[str, nn.Module]:
    return {name or type(model).__name__: module for name, module in model.named_modules()}


def _activation_modules(model: nn.Module) -> dict[str, nn.Module]:
    known = tuple(a.module for a in catalog.elementwise(beyond_torch=True) if a.module is not None)
    return {name: module for name, module in _named_modules(model).items() if isinstance(module, known)}


def _weights(module: nn.Module) -> list[nn.Parameter]:
    """A module's own matrices and kernels; biases and the scales of a normalisation are none."""
    return [parameter for parameter in module.parameters(recurse=False) if parameter.ndim > 1]


def _function_names() -> dict[Callable, str]:
    """Each of torch's functions and methods that the catalogue knows → the activation's name."""
    names = {}
    for activation in catalog.elementwise():
        for spelling in activation.spellings:
            holder, _, name = spelling.rpartition(".")
            if holder in _HOLDERS:
                names[getattr(_HOLDERS[holder], name)] = activation.name
    return names


def _call(name: str, calls: Counter[str]) -> str:
    calls[name] += 1
    return name if calls[name] == 1 else f"{name} (call {calls[name]})"


def _unit_dimension(layer: nn.Module | None) -> int:
    return 1 if isinstance(layer, _UNITS_FIRST) else -1


def _by_unit(x: Tensor, dim: int) -> Tensor:
    """(units, samples and positions)"""
    return x.movedim(dim, 0).flatten(1) if x.ndim > 1 else x[None]


def _value_and_slope(module: nn.Module, z: Tensor) -> tuple[Tensor, Tensor]:
    """What an activation module makes of ``z``, past its hooks; randomness is drawn and put back."""
    z = z.clone().requires_grad_()
    with (
        torch.enable_grad(),
        torch.random.fork_rng([z.device] if z.is_cuda else [], isinstance(module, nn.RReLU)),
    ):
        a = module.forward(z.clone())  # a copy, since the module may work in place
        (slope,) = torch.autograd.grad(a.sum(), z)
    return a.detach(), slope


def _sample(z: Tensor, slope: Tensor, size: int = 20_000) -> Tensor:
    """(n, 2) pairs, n ≤ size, on the CPU, drawn with a generator of its own."""
    pairs = torch.stack([z.flatten(), slope.flatten()], dim=1).float().cpu()
    if len(pairs) <= size:
        return pairs
    return pairs[torch.randint(len(pairs), (size,), generator=torch.Generator().manual_seed(0))]


def _statistics(output: Tensor, dim: int) -> dict[str, Tensor]:
    output = output.double()
    spread = _by_unit(output, dim).var(dim=1, correction=0).mean().sqrt()
    return {"mean": output.mean(), "std": output.std(correction=0), "spread": spread}


def _norm(tensors: list[Tensor | None]) -> Tensor | None:
    """The Euclidean norm of all of them, in float64, whose range holds what has nearly vanished."""
    norms = [torch.linalg.vector_norm(t.detach(), dtype=torch.float64) for t in tensors if t is not None]
    return torch.stack(norms).norm() if norms else None


def _percent(rate: float) -> str:
    return "" if np.isnan(rate) else f"{rate:.0%}"


def _shortened(text: str) -> str:
    return text if len(text) <= 23 else f"…{text[-22:]}"


def _findings(loss: float, rows: list[dict[str, object]], unseen: Mapping[str, int]) -> list[str]:
    """One sentence for each thing that stands out, causes before their consequences."""
    called = [row for row in rows if "mean" in row]
    layers = [row for row in rows if "gradient" in row]
    found = _not_finite(loss, called, layers)
    if dead := _worst(called, "dead_rate", _MANY_DEAD):
        found.append(f"Dead units: {dead}; no example sends a gradient through them.")
    alive = [row for row in called if not row.get("dead_rate", 0) > _MANY_DEAD]
    if saturated := _worst(alive, "saturated_rate", _MANY_SATURATED):
        found.append(f"Saturated: {saturated} have a slope below {SATURATED}.")
    for row in called[1:]:
        if row["std"] > 0 and row["spread"] < _SAME_FOR_ALL * min(row["std"], called[0]["spread"]):
            found.append(f"Lost signal: from {_label(row)} on, all examples look nearly the same.")
            break
    if starving := [row for row in layers if row["gradient"] is None or row["gradient"] == 0]:
        found.append(f"No gradient arrives at the weights of {', '.join(map(_label, starving))}.")
    found += _uneven([row for row in layers if row["gradient"] is not None and row["gradient"] > 0])
    for name, count in unseen.items():
        times = "once" if count == 1 else f"{count} times"
        found.append(f"Unseen: {name} was called {times} as a function, where no hook can look.")
    return found or ["Nothing stands out."]


def _worst(rows: list[dict[str, object]], key: str, many: float, count: int = 3) -> str:
    """The modules with the largest rates above ``many``, in words; empty if there are none."""
    above = sorted((row for row in rows if row.get(key, 0) > many), key=lambda row: -float(row[key]))
    named = [f"{float(row[key]):.0%} of {_label(row)}" for row in above[:count]]
    further = [f"{len(above) - count} layers more"] if len(above) > count else []
    return ", ".join(named + further)


def _not_finite(loss: float, called: list[dict[str, object]], layers: list[dict[str, object]]) -> list[str]:
    """Where NaN or infinity comes up first: the rest follows from it."""
    if broken := [row for row in called if not row["mean"].isfinite()]:
        return [f"Not finite: the first outputs with NaN or infinity are those of {_label(broken[0])}."]
    if not np.isfinite(loss):
        return [f"Not finite: every output is finite, the loss is {loss}."]
    given = [row for row in layers if row["gradient"] is not None]
    if broken := [row for row in given if not row["gradient"].isfinite()]:
        return [f"Not finite: outputs and loss are finite, the gradient of {_label(broken[-1])} is not."]
    return []


def _uneven(layers: list[dict[str, object]]) -> list[str]:
    """What grows or shrinks from the input's end of the network to the other by more than ``_UNEVEN``."""
    found = []
    called = [row for row in layers if "std" in row]
    if called and 0 < called[0]["std"] * _UNEVEN < called[-1]["std"] < torch.inf:
        ratio = float(called[-1]["std"] / called[0]["std"])
        found.append(
            f"Exploding signal: {_label(called[-1])} gives {ratio:.0e} times what {_label(called[0])} does."
        )
    if layers and layers[0]["gradient"].isfinite() and layers[-1]["gradient"].isfinite():
        ratio = float(layers[0]["gradient"] / layers[-1]["gradient"])
        if not 1 / _UNEVEN <= ratio <= _UNEVEN:
            kind = "Vanishing" if ratio < 1 else "Exploding"
            first, last = _label(layers[0]), _label(layers[-1])
            found.append(f"{kind} gradient: that of {first} is {ratio:.0e} times that of {last}.")
    return found


def _label(row: Mapping[str, object]) -> str:
    return f"{row['name']} ({row['kind']})"
