"""What a comparison is asked to do, checked before anything is trained."""

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral

import torch
from torch import Tensor, nn

from nonlinearity import catalog
from nonlinearity.comparison import work
from nonlinearity.comparison.folder import Record
from nonlinearity.comparison.work import Recipe, Unit
from nonlinearity.training import Data, check_pair, fit

_SMALL = 50_000  # parameters up to which fit_seeds was measured to be faster than fit, seed after seed
_TRIED = 100  # examples on which a model is tried


@dataclass(frozen=True)
class Plan:
    """A comparison that can be carried out.

    Attributes:
        recipe: what all runs share.
        activations: label → what ``make_model`` takes.
        learning_rates: to choose from.
        units: everything to train, in order.
        manifest: everything that the numbers depend on, in a form that can be read and compared.
    """

    recipe: Recipe
    activations: dict[str, object]
    learning_rates: tuple[float, ...]
    units: list[Unit]
    manifest: Record


def make_plan(
    recipe: Recipe,
    activations: Sequence[str | catalog.Activation] | Mapping[str, object],
    learning_rates: Iterable[float],
    seeds: Iterable[int],
    data: Mapping[str, Data],
    together: bool | None,
) -> Plan:
    """Check what ``compare`` was asked for, and try each model on a few examples.

    Args:
        data: train, validation and test.

    Raises:
        ValueError, TypeError: as ``compare``.
    """
    named, rates, seeds = _named(activations), _rates(learning_rates), _seeds(seeds)
    for name, value in {"epochs": recipe.epochs, "batch_size": recipe.batch_size}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    _check_data(data)
    if not callable(recipe.make_model):
        raise TypeError(f"make_model must make a model from an activation, got {recipe.make_model!r}")
    models = {}
    for label, activation in named.items():
        tried = _Trial(recipe, label, activation, rates[0], seeds[0], data)
        models[label] = tried.description | {"seeds_together": tried.together(together)}
    units = _units(named, rates, seeds, {label: model["seeds_together"] for label, model in models.items()})
    own = [name for name in named.values() if isinstance(name, str) and name in catalog.registered()]
    recipe = replace(recipe, registered=tuple(map(catalog.get, own)))
    return Plan(recipe, named, rates, units, _manifest(recipe, rates, seeds, models, data))


def _named(activations: Sequence[str | catalog.Activation] | Mapping[str, object]) -> dict[str, object]:
    """Label → what ``make_model`` takes."""
    if isinstance(activations, str) or not isinstance(activations, Mapping | Iterable):
        raise TypeError(f"activations must be several names or a mapping, got {activations!r}")
    if isinstance(activations, Mapping):
        named = dict(activations)
        for name in named.values():
            if isinstance(name, str):
                catalog.get(name)  # refuses an unknown one
    else:
        names = [_name(activation) for activation in activations]
        named = dict(zip(names, names))
        if len(named) < len(names):
            raise ValueError(f"each activation may be named once, got {', '.join(names)}")
    if not named:
        raise ValueError("activations must name at least one activation, got none")
    return named


def _name(activation: str | catalog.Activation) -> str:
    if isinstance(activation, str):
        return catalog.get(activation).name
    if isinstance(activation, catalog.Activation):
        return catalog.get(activation.name).name
    raise TypeError(
        "activations must be names of the catalogue, or a mapping from labels to what make_model takes; "
        f"got {activation!r} among them"
    )


def _rates(learning_rates: Iterable[float]) -> tuple[float, ...]:
    rates = tuple(float(rate) for rate in learning_rates)
    if not rates or len(set(rates)) < len(rates) or not all(0 < rate < math.inf for rate in rates):
        raise ValueError(f"learning_rates must be one or more different positive numbers, got {list(rates)}")
    return rates


def _seeds(seeds: Iterable[int]) -> tuple[int, ...]:
    if not isinstance(seeds, Iterable):
        raise TypeError(f"seeds must be several integers, such as range(5); got {seeds!r}")
    seeds = tuple(seeds)
    if not seeds or len(set(seeds)) < len(seeds) or not all(isinstance(seed, Integral) for seed in seeds):
        raise ValueError(f"seeds must be one or more different integers, got {list(seeds)}")
    return tuple(map(int, seeds))


def _check_data(data: Mapping[str, Data]) -> None:
    for name, pair in data.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(f"{name} must be a pair of inputs and targets, got {type(pair).__name__}")
        check_pair(*pair, f"{name}'s inputs and targets")
        for what, part, expected in zip(("inputs", "targets"), pair, data["train"]):
            if (part.shape[1:], part.dtype) != (expected.shape[1:], expected.dtype):
                raise ValueError(
                    f"{name}'s {what} must be of the shape and dtype of train's but for the length; got "
                    f"{tuple(part.shape)} {part.dtype} and {tuple(expected.shape)} {expected.dtype}"
                )


class _Trial:
    """A model and one step of its training on a few examples, so that what cannot work fails at once.

    On the CPU whatever the device, so that the first loss is the same everywhere.

    Attributes:
        description: what the model is, for the manifest; the loss before the step tells even models apart
            that look alike.
    """

    def __init__(
        self,
        recipe: Recipe,
        label: str,
        activation: object,
        learning_rate: float,
        seed: int,
        data: Mapping[str, Data],
    ) -> None:
        recipe = replace(recipe, device="cpu", epochs=1, batch_size=_TRIED)
        x, y = (part[:_TRIED].cpu() for part in data["train"])
        few = tuple(part[:_TRIED].cpu() for part in data["validation"])
        with work.alone("cpu"):
            self._model = work.seeded(seed, partial(recipe.make, activation))
            self.description = {
                "structure": str(self._model),
                "shapes": {name: str(tuple(value.shape)) for name, value in self._model.state_dict().items()},
            }
            try:
                history = fit(self._model, x, y, validation=few, **recipe.options(learning_rate))
            except (ValueError, RuntimeError, IndexError) as error:
                reason = str(error).splitlines()[0]
                raise ValueError(
                    f"the model of {label!r} cannot be trained on these data: {reason}"
                ) from error
            self._obstacle = work.batching_obstacle(recipe, activation, x, y)
        self.description["first_loss"] = history.loss.item()
        self._label = label

    def together(self, wanted: bool | None) -> bool:
        """Whether ``fit_seeds`` is to train the seeds: as is wanted, or where it can and gains."""
        if wanted and self._obstacle:
            raise ValueError(
                f"the seeds of the model of {self._label!r} cannot be trained together: {self._obstacle}"
            )
        return self._obstacle is None and _gains(self._model) if wanted is None else wanted


def _gains(model: nn.Module) -> bool:
    """Whether a stack of this model's seeds is known to train faster than one after the other.

    Measured for MLPs on one core: 1.5 to 2.5 times as fast up to 25,000 parameters, no gain from 100,000 on;
    and none for convolutions, whose weights have more than two dimensions.
    """
    parameters = list(model.parameters())
    return all(p.ndim <= 2 for p in parameters) and sum(p.numel() for p in parameters) <= _SMALL


def _units(
    activations: Mapping[str, object],
    rates: Sequence[float],
    seeds: tuple[int, ...],
    together: Mapping[str, bool],
) -> list[Unit]:
    units = []
    for label, activation in activations.items():
        for rate in rates:
            for group in [seeds] if together[label] else [(seed,) for seed in seeds]:
                name = f"{len(units) + 1:04d}-{re.sub('[^a-zA-Z0-9_]+', '-', label)}"
                units.append(Unit(name, label, activation, rate, group, together[label]))
    return units


def _manifest(
    recipe: Recipe,
    rates: Sequence[float],
    seeds: Sequence[int],
    models: Mapping[str, Record],
    data: Mapping[str, Data],
) -> Record:
    made = recipe.optimizer([nn.Parameter(torch.zeros(1, 1))], lr=rates[0])
    return {
        "torch": torch.__version__,
        "device": torch.device(recipe.device).type,
        "activations": list(models),
        "learning_rates": rates,
        "seeds": seeds,
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "loss": _described(recipe.loss),
        "optimizer": str(made),
        "data": {
            name: {"inputs": _fingerprint(x), "targets": _fingerprint(y)} for name, (x, y) in data.items()
        },
        "models": models,
    }


def _described(function: object) -> str:
    """Its name or repr, without the memory address that differs from process to process."""
    return re.sub(r" at 0x[0-9a-f]+", "", getattr(function, "__qualname__", str(function)))


def _fingerprint(x: Tensor) -> str:
    content = hashlib.sha256(x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)} sha256 {content.hexdigest()}"
