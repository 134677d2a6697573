"""Every activation in ``torch.nn`` and ``torch.nn.functional``, and those that torch lacks, named once.

Tables, plots, tests and pages read this catalogue; a fact about an activation that is
written down anywhere else is a fact that can drift. ``register`` adds one of your own while a program runs.
"""

import difflib
import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nonlinearity import beyond

# What a module takes beside the parameters of its function: where and how to compute, a column of its own in
# every table (inplace), and names of old.
_BESIDE = {"inplace", "device", "dtype", "min_value", "max_value", "args", "kwargs", "logits", "eps"}


def _spelled(where: str, holder: object, name: str) -> str | None:
    return f"{where}.{name}" if hasattr(holder, name) else None


@dataclass(frozen=True, eq=False)
class Activation:
    """One activation function and how PyTorch spells it.

    Attributes:
        name: the key, spelled as PyTorch spells the function (``"leaky_relu"``).
        module: the class in ``torch.nn``, or ours where torch lacks the function; None where torch has the
            function and no module.
        function: the function of a tensor and, by keyword, of its parameters.
        formula: its definition in LaTeX, as a function of ``x``.
        parameters: each parameter with the value the course uses when none is given:
            PyTorch's default where it has one.
        elementwise: whether each output depends on one input only. (Softmax and its
            relatives act on a vector, GLU on two halves of one.)
        source: the key of the paper in ``references.bib``, or None.
    """

    name: str
    module: type[nn.Module] | None
    function: Callable[..., Tensor]
    formula: str
    parameters: Mapping[str, float | str] = field(default_factory=dict)
    elementwise: bool = True
    source: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", MappingProxyType(dict(self.parameters)))

    def __reduce__(self) -> tuple:
        """Pickled and copied by name, so that an activation of the catalogue stays the one object it is.

        One that was registered goes by its parts: another process has not registered it.
        """
        if self in CATALOG:
            return get, (self.name,)
        parts = (self.name, self.module, self.function, self.formula, dict(self.parameters))
        return Activation, (*parts, self.elementwise, self.source)

    @property
    def label(self) -> str:
        """The name of the module, as it stands in figures and tables."""
        return self.name if self.module is None else self.module.__name__

    @property
    def in_torch(self) -> bool:
        """Whether torch has it, as a module or as a function."""
        return self.torch_module is not None or self.functional is not None

    @property
    def torch_module(self) -> str | None:
        """The class in ``torch.nn``: ``"nn.ReLU"``."""
        found = self.module is not None and getattr(nn, self.label, None) is self.module
        return f"nn.{self.label}" if found else None

    @property
    def functional(self) -> str | None:
        """The function in ``torch.nn.functional``: ``"F.relu"``."""
        return _spelled("F", F, self.name)

    @property
    def functional_inplace(self) -> str | None:
        """The function that overwrites its input: ``"F.relu_"``."""
        return _spelled("F", F, f"{self.name}_")

    @property
    def torch_function(self) -> str | None:
        """The function in ``torch``: ``"torch.relu"``."""
        return _spelled("torch", torch, self.name)

    @property
    def torch_function_inplace(self) -> str | None:
        """The function in ``torch`` that overwrites its input: ``"torch.relu_"``."""
        return _spelled("torch", torch, f"{self.name}_")

    @property
    def tensor_method(self) -> str | None:
        """The method of a tensor: ``"x.relu"``."""
        return _spelled("x", Tensor, self.name)

    @property
    def tensor_method_inplace(self) -> str | None:
        """The method that overwrites its tensor: ``"x.relu_"``."""
        return _spelled("x", Tensor, f"{self.name}_")

    @property
    def special(self) -> str | None:
        """The function in ``torch.special``, which has SciPy's names: ``"torch.special.expit"``."""
        return _spelled("torch.special", torch.special, {"sigmoid": "expit"}.get(self.name, self.name))

    @property
    def spellings(self) -> tuple[str, ...]:
        """Every way in which torch spells it, the module first."""
        found = (
            self.torch_module, self.functional, self.functional_inplace, self.torch_function,
            self.torch_function_inplace, self.tensor_method, self.tensor_method_inplace, self.special,
        )  # fmt: skip
        return tuple(spelling for spelling in found if spelling is not None)

    @property
    def inplace(self) -> bool:
        """Whether the module has the parameter ``inplace``."""
        return "inplace" in self._signature()

    @property
    def defaults(self) -> Mapping[str, object]:
        """Each parameter of the module, as it calls it, with its default.

        One that must be given stands for itself: ``inspect.Parameter.empty``. (Without a module, those of
        the function.)
        """
        return {key: parameter.default for key, parameter in self._signature().items() if key not in _BESIDE}

    @property
    def learnable(self) -> tuple[str, ...]:
        """The parameters that the module learns."""
        return () if self.module is None else tuple(dict(self.make().named_parameters()))

    def _signature(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.function if self.module is None else self.module).parameters

    def __call__(self, x: Tensor, **parameters: float | str) -> Tensor:
        """Apply the function to ``x``.

        Args:
            x: floating-point tensor of any shape (for GLU: an even last dimension).
            **parameters: parameters that differ from ``self.parameters``.

        Returns:
            a tensor of the dtype of ``x``, and of its shape unless the activation halves a dimension as GLU
            does.

        Raises:
            TypeError: for a parameter that this activation does not have.
        """
        self._check(parameters)
        return self.function(x, **{**self.parameters, **parameters})

    def make(self, **parameters: float | str) -> nn.Module:
        """A new module of this activation.

        Raises:
            TypeError: for a parameter that this activation does not have, or if it has no module.
        """
        self._check(parameters)
        if self.module is None:
            raise TypeError(f"{self.label} is a function only; torch has no module for it")
        chosen = {**self.parameters, **parameters}
        accepted = inspect.signature(self.module).parameters
        if self.name == "prelu":  # the module learns its slope and calls the start "init"
            chosen = {"init": chosen["weight"]}
        return self.module(**{key: chosen[key] for key in chosen if key in accepted})

    def _check(self, parameters: Mapping[str, object]) -> None:
        for key in parameters:
            if key not in self.parameters:
                has = ", ".join(self.parameters) or "no parameters"
                raise TypeError(f"{self.label} has no parameter {key!r}; it has {has}")


def _prelu(x: Tensor, weight: float) -> Tensor:
    return F.prelu(x, torch.as_tensor([weight], dtype=x.dtype, device=x.device))


def _rrelu(x: Tensor, lower: float, upper: float) -> Tensor:
    return F.rrelu(x, lower, upper, training=False)


CATALOG: tuple[Activation, ...] = (
    Activation("relu", nn.ReLU, F.relu, r"\max(0, x)", source="nair2010rectified"),
    Activation(
        "leaky_relu", nn.LeakyReLU, F.leaky_relu,
        r"\max(0, x) + a \min(0, x)", {"negative_slope": 0.01}, source="maas2013rectifier",
    ),
    Activation(
        "prelu", nn.PReLU, _prelu,
        r"\max(0, x) + a \min(0, x)", {"weight": 0.25}, source="he2015delving",
    ),
    Activation(
        "rrelu", nn.RReLU, _rrelu,
        r"\max(0, x) + \tfrac{l+u}{2} \min(0, x)", {"lower": 1 / 8, "upper": 1 / 3},
        source="xu2015empirical",
    ),
    Activation("relu6", nn.ReLU6, F.relu6, r"\min(\max(0, x), 6)", source="howard2017mobilenets"),
    Activation(
        "threshold", nn.Threshold, F.threshold,
        r"x \text{ if } x > t \text{ else } v", {"threshold": 1.0, "value": 0.0},
    ),
    Activation(
        "elu", nn.ELU, F.elu,
        r"\max(0, x) + \min(0, \alpha (e^x - 1))", {"alpha": 1.0}, source="clevert2016fast",
    ),
    Activation(
        "celu", nn.CELU, F.celu,
        r"\max(0, x) + \min(0, \alpha (e^{x/\alpha} - 1))", {"alpha": 1.0},
        source="barron2017continuously",
    ),
    Activation(
        "selu", nn.SELU, F.selu,
        r"s\,(\max(0, x) + \min(0, \alpha (e^x - 1)))", source="klambauer2017self",
    ),
    Activation(
        "gelu", nn.GELU, F.gelu,
        r"x\,\Phi(x)", {"approximate": "none"}, source="hendrycks2016gaussian",
    ),
    Activation("silu", nn.SiLU, F.silu, r"x\,\sigma(x)", source="elfwing2018sigmoid"),
    Activation("mish", nn.Mish, F.mish, r"x \tanh(\ln(1 + e^x))", source="misra2019mish"),
    Activation(
        "hardswish", nn.Hardswish, F.hardswish,
        r"x \min(\max(0, x + 3), 6) / 6", source="howard2019searching",
    ),
    Activation("sigmoid", nn.Sigmoid, torch.sigmoid, r"1 / (1 + e^{-x})"),
    Activation("hardsigmoid", nn.Hardsigmoid, F.hardsigmoid, r"\min(\max(0, x + 3), 6) / 6"),
    Activation("logsigmoid", nn.LogSigmoid, F.logsigmoid, r"\ln \sigma(x)"),
    Activation("tanh", nn.Tanh, torch.tanh, r"(e^x - e^{-x}) / (e^x + e^{-x})"),
    Activation(
        "hardtanh", nn.Hardtanh, F.hardtanh,
        r"\min(\max(l, x), u)", {"min_val": -1.0, "max_val": 1.0},
    ),
    Activation(
        "softsign", nn.Softsign, F.softsign, r"x / (1 + \lvert x\rvert)", source="glorot2010understanding",
    ),
    Activation(
        "softplus", nn.Softplus, F.softplus,
        r"\tfrac1\beta \ln(1 + e^{\beta x})", {"beta": 1.0, "threshold": 20.0},
        source="dugas2000incorporating",
    ),
    Activation(
        "softshrink", nn.Softshrink, F.softshrink,
        r"\operatorname{sign}(x) \max(0, \lvert x\rvert - \lambda)", {"lambd": 0.5},
    ),
    Activation(
        "hardshrink", nn.Hardshrink, F.hardshrink,
        r"x \text{ if } \lvert x\rvert > \lambda \text{ else } 0", {"lambd": 0.5},
    ),
    Activation("tanhshrink", nn.Tanhshrink, F.tanhshrink, r"x - \tanh x"),
    Activation(
        "softmax", nn.Softmax, F.softmax,
        r"e^{x_i} / \textstyle\sum_j e^{x_j}", {"dim": -1}, elementwise=False,
    ),
    Activation(
        "softmin", nn.Softmin, F.softmin,
        r"e^{-x_i} / \textstyle\sum_j e^{-x_j}", {"dim": -1}, elementwise=False,
    ),
    Activation(
        "log_softmax", nn.LogSoftmax, F.log_softmax,
        r"x_i - \ln \textstyle\sum_j e^{x_j}", {"dim": -1}, elementwise=False,
    ),
    Activation(
        "softmax2d", nn.Softmax2d, lambda x: F.softmax(x, dim=-3),
        r"e^{x_c} / \textstyle\sum_k e^{x_k} \text{ over channels}", elementwise=False,
    ),
    Activation(
        "glu", nn.GLU, F.glu, r"a \odot \sigma(b)", {"dim": -1}, elementwise=False,
        source="dauphin2017language",
    ),
    # In torch, as a function only.
    Activation(
        "gumbel_softmax", None, F.gumbel_softmax,
        r"\operatorname{softmax}((x + g) / \tau)_i,\ g \text{ Gumbel noise}",
        {"tau": 1.0, "hard": False, "dim": -1}, elementwise=False, source="jang2017categorical",
    ),
    # Not in torch.
    Activation(
        "squared_relu", beyond.SquaredReLU, beyond.squared_relu, r"\max(0, x)^2", source="so2021primer",
    ),
    Activation(
        "swish", beyond.Swish, beyond.swish, r"x\,\sigma(\beta x)", {"beta": 1.0},
        source="ramachandran2017searching",
    ),
    Activation(
        "swiglu", beyond.SwiGLU, beyond.swiglu, r"a \odot \operatorname{SiLU}(b)", {"dim": -1},
        elementwise=False, source="shazeer2020glu",
    ),
    Activation(
        "geglu", beyond.GEGLU, beyond.geglu, r"a \odot \operatorname{GELU}(b)", {"dim": -1},
        elementwise=False, source="shazeer2020glu",
    ),
    Activation(
        "reglu", beyond.ReGLU, beyond.reglu, r"a \odot \max(0, b)", {"dim": -1},
        elementwise=False, source="shazeer2020glu",
    ),
)  # fmt: skip

# Those that were registered. A place that was given back stays as None until the next one takes it, so that
# each keeps its place, and with it its look in figures.
_REGISTERED: list[Activation | None] = []


class _Registration(AbstractContextManager[Activation]):
    """What ``register`` gives back; only a ``with`` makes use of it."""

    def __init__(self, activation: Activation) -> None:
        self._activation = activation

    def __enter__(self) -> Activation:
        return self._activation

    def __exit__(self, *_: object) -> None:
        if self._activation in _REGISTERED:
            unregister(self._activation.name)

    def __repr__(self) -> str:
        return f"{self._activation.name} is registered"


def register(activation: Activation) -> AbstractContextManager[Activation]:
    """Add an activation of your own to the catalogue, so that every tool of the course accepts its name.

    It stays until ``unregister`` or, in ``with catalog.register(activation):``, to the end of the block. It
    is known in this process only; where work goes to others, pass its ``make`` in place of its name.

    Args:
        activation: one whose name, and whose module's name, neither the catalogue nor
            ``torch.nn.functional`` has.

    Returns:
        a context manager that gives the activation and takes it out again; it may be ignored.

    Raises:
        TypeError: for what is no ``Activation``.
        ValueError: for a name that is taken.
    """
    if not isinstance(activation, Activation):
        raise TypeError(f"only an Activation can be registered, got {activation!r}")
    by_spelling = _by_spelling()
    for name in (activation.name, activation.label):
        if name in by_spelling:
            owner = by_spelling[name]
            how = "is in the catalogue" if owner in CATALOG else "can be taken out by unregister"
            raise ValueError(f"the name {name!r} is taken: {owner.name!r} {how}")
    if activation.functional:  # every table would take torch's function for this one
        raise ValueError(f"the name {activation.name!r} is taken: torch has {activation.functional}")
    if None in _REGISTERED:
        _REGISTERED[_REGISTERED.index(None)] = activation
    else:
        _REGISTERED.append(activation)
    return _Registration(activation)


def unregister(name: str) -> None:
    """Take out an activation that was registered.

    Raises:
        ValueError: for an unknown name, or one that belongs to the catalogue.
    """
    activation = get(name)
    if activation in CATALOG:
        raise ValueError(f"{name!r} was not registered: it belongs to the catalogue")
    _REGISTERED[_REGISTERED.index(activation)] = None


def registered() -> Mapping[str, int]:
    """The names of the activations that were registered, each with its place: 0 for the first."""
    return {activation.name: place for place, activation in enumerate(_REGISTERED) if activation is not None}


def _known() -> tuple[Activation, ...]:
    return (*CATALOG, *(activation for activation in _REGISTERED if activation is not None))


def _by_spelling() -> dict[str, Activation]:
    known = _known()
    return {a.name: a for a in known} | {a.label: a for a in known}


def get(name: str) -> Activation:
    """The activation of that name, as PyTorch's function or its module spells it.

    Raises:
        ValueError: for an unknown name; the message lists the nearest known ones.
    """
    by_spelling = _by_spelling()
    if name not in by_spelling:
        near = difflib.get_close_matches(str(name), by_spelling, n=3, cutoff=0.5)
        known = ", ".join(activation.name for activation in _known())
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {known}"
        raise ValueError(f"unknown activation {name!r}; {hint}")
    return by_spelling[name]


def elementwise(*, beyond_torch: bool = False) -> tuple[Activation, ...]:
    """The activations that act on each number alone, in the catalogue's order.

    Args:
        beyond_torch: whether to give those as well that torch does not have, the registered ones last.
    """
    return tuple(a for a in _known() if a.elementwise and (a.in_torch or beyond_torch))
