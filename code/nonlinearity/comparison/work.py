"""The pieces of work of a comparison, which give the same in whatever process they run."""

import copy
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nonlinearity import bench, catalog, probes
from nonlinearity.training import Data, Loss, evaluate, fit, fit_seeds

MakeModel = Callable[[object], nn.Module]
MakeOptimizer = Callable[..., Optimizer]

_CHUNK = 1000  # examples that are inspected at a time
_ROUNDS = 9  # of the timing
_TIMED_BATCHES = 8  # in an epoch of the timing
_TIMED_SECONDS = 0.01  # that an activation's turn lasts at least: a clock's noise is far below

_lock = threading.RLock()


@dataclass(frozen=True)
class Recipe:
    """How a model is made and trained, whatever its activation, its learning rate and its seed.

    ``registered`` are activations that other processes do not know by name until they are told.
    """

    make_model: MakeModel
    loss: Loss
    optimizer: MakeOptimizer
    epochs: int
    batch_size: int
    device: str
    registered: tuple[catalog.Activation, ...] = ()

    def make(self, activation: object) -> nn.Module:
        """A new model, its weights drawn on the CPU so that a seed stands for the same ones everywhere."""
        model = self.make_model(activation)
        if not isinstance(model, nn.Module):
            raise TypeError(f"make_model must make an nn.Module, got {type(model).__name__}")
        return model.to(self.device)

    def loss_here(self) -> Loss:
        """The loss, with class weights and the like on the device."""
        return copy.deepcopy(self.loss).to(self.device) if isinstance(self.loss, nn.Module) else self.loss

    def options(self, learning_rate: float) -> dict[str, object]:
        """The keywords of ``fit`` and ``fit_seeds``."""
        return {
            "loss": self.loss_here(),
            "optimizer": partial(self.optimizer, lr=learning_rate),
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "progress": False,
        }


@dataclass(frozen=True)
class Unit:
    """What is trained and saved as one: an activation at a rate, from one seed or from all of them together.

    Attributes:
        name: of the unit's files.
        label: of the activation.
        activation: what ``make_model`` gets.
        learning_rate: the optimizer's.
        seeds: one, or several that are trained in one pass.
        together: whether the trainer of many seeds does it.
    """

    name: str
    label: str
    activation: object
    learning_rate: float
    seeds: tuple[int, ...]
    together: bool


@contextmanager
def alone(device: str) -> Iterator[None]:
    """One thread, and nobody else at PyTorch's global generators; afterwards both are as they were.

    One thread, because sums depend on how many share them, and because processes with several each would
    spin against each other. The lock is for workers that are threads of one process, as Dask's can be: they
    would share the generators.
    """
    on_gpu = torch.device(device).type == "cuda"
    with _lock, torch.random.fork_rng([torch.device(device)] if on_gpu else []):
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


@contextmanager
def _known(activations: Iterable[catalog.Activation]) -> Iterator[None]:
    """With activations of the caller's own in the catalogue, in whatever process."""
    with ExitStack() as stack:
        for activation in activations:
            if activation.name not in catalog.registered():
                stack.enter_context(catalog.register(activation))
        yield


def seeded(seed: int, make: Callable[[], nn.Module]) -> nn.Module:
    """A model made right after the seed was set, so that a seed stands for its weights."""
    torch.manual_seed(seed)
    return make()


def train(
    recipe: Recipe, unit: Unit, x: Tensor, y: Tensor, x_validation: Tensor, y_validation: Tensor
) -> tuple[Unit, dict[str, object], bytes]:
    """Train a unit.

    Returns:
        the unit, the record of its runs, and the trained weights.
    """
    make = partial(recipe.make, unit.activation)
    options = recipe.options(unit.learning_rate) | {"validation": (x_validation, y_validation)}
    with alone(recipe.device), _known(recipe.registered):
        if unit.together:
            models, history = fit_seeds(make, x, y, seeds=unit.seeds, **options)
        else:
            (seed,) = unit.seeds
            models = [seeded(seed, make)]
            history = fit(models[0], x, y, seed=seed, **options)
        steps = recipe.epochs * math.ceil(len(x) / recipe.batch_size)
        curves = {
            name: _by_seed(getattr(history, name), len(models))
            for name in ("loss", "validation_loss", "validation_accuracy")
        }
        runs = [
            {
                "seed": seed,
                "seconds_per_step": history.seconds / steps / len(models),
                "dead_share": dead_share(model, x_validation.to(recipe.device)),
                **{name: values[i] for name, values in curves.items()},
            }
            for i, (seed, model) in enumerate(zip(unit.seeds, models))
        ]
        weights = pack(models)
    return unit, {"activation": unit.label, "learning_rate": unit.learning_rate, "runs": runs}, weights


def score(recipe: Recipe, unit: Unit, weights: bytes, data: Data) -> list[dict[str, object]]:
    """Evaluate a unit's trained models on the test data, one dict a seed."""
    with alone(recipe.device):
        models = [seeded(seed, partial(recipe.make, unit.activation)) for seed in unit.seeds]
        unpack(models, weights)
        measured = [evaluate(model, *data, recipe.loss_here()) for model in models]
    return [
        {"seed": seed, "test_loss": loss, "test_accuracy": right}
        for seed, (loss, right) in zip(unit.seeds, measured)
    ]


def time_steps(
    recipe: Recipe, activations: Mapping[str, object], learning_rate: float, x: Tensor, y: Tensor
) -> dict[str, list[float]]:
    """Seconds of a training step with each activation, one a round.

    The activations take turns in this one process. (The times of the runs themselves depend on what else
    the processors did meanwhile.) On a CPU the seconds are the processor's.
    """
    n = min(len(x), _TIMED_BATCHES * recipe.batch_size)
    x, y = x[:n].to(recipe.device), y[:n].to(recipe.device)
    on_cpu = torch.device(recipe.device).type == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter  # fit waits for the GPU before it returns
    with alone(recipe.device):
        models = {label: seeded(0, partial(recipe.make, a)) for label, a in activations.items()}

        def turns(epochs: int) -> dict[str, Callable[[], object]]:
            options = recipe.options(learning_rate) | {"epochs": epochs}
            return {label: partial(fit, model, x, y, **options) for label, model in models.items()}

        quickest = min(min(seconds) for seconds in bench.interleaved(turns(1), 1, clock).values())
        epochs = math.ceil(_TIMED_SECONDS / max(quickest, 1e-4))
        times = bench.interleaved(turns(epochs), _ROUNDS, clock)
    steps = epochs * math.ceil(n / recipe.batch_size)
    return {label: [second / steps for second in seconds] for label, seconds in times.items()}


def dead_share(model: nn.Module, x: Tensor) -> float | None:
    """The share of units, of all activation modules together, that no example sends a gradient through.

    None if the model has no element-wise activation module: a function that ``forward`` calls is not seen.
    """
    model.eval()
    try:
        reports = [probes.inspect_units(model, chunk) for chunk in x.split(_CHUNK)]
    except ValueError:  # no such module
        return None
    dead = [torch.stack([report[name].dead for report in reports]).all(0) for name in reports[0]]
    return torch.cat(dead).double().mean().item()


def pack(models: Sequence[nn.Module]) -> bytes:
    """The bytes of all parameters and buffers, in order."""
    values = [value for model in models for value in model.state_dict().values()]
    return b"".join(value.cpu().reshape(-1).view(torch.uint8).numpy().tobytes() for value in values)


def unpack(models: Sequence[nn.Module], content: bytes) -> None:
    """Put the bytes that ``pack`` made of such models into these."""
    content, start = torch.frombuffer(bytearray(content), dtype=torch.uint8), 0
    for model in models:
        for value in model.state_dict().values():
            part = content[start : start + value.numel() * value.element_size()]
            value.copy_(part.clone().view(value.dtype).reshape(value.shape))
            start += len(part)


def batching_obstacle(recipe: Recipe, activation: object, x: Tensor, y: Tensor) -> str | None:
    """Why ``fit_seeds`` cannot train what ``fit`` can, or None: found out on two examples."""
    options = recipe.options(learning_rate=0.1) | {"epochs": 1}
    try:
        fit_seeds(partial(recipe.make, activation), x[:2], y[:2], seeds=(0, 1), **options)
    except (ValueError, RuntimeError) as error:  # what it refuses, and what vmap cannot do
        return str(error)
    return None


def _by_seed(values: Tensor | None, seeds: int) -> list:
    return [None] * seeds if values is None else values.reshape(seeds, -1).tolist()
