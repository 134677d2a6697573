"""The training loop of the course, for one model and for many seeds of one model at once."""

import copy
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.optim import Optimizer
from tqdm import tqdm

Loss = Callable[[Tensor, Tensor], Tensor]
MakeOptimizer = Callable[[list[Tensor]], Optimizer]
Data = tuple[Tensor, Tensor]

_CHUNK = 1000  # examples that are evaluated at a time: bounds the memory that activations take

# These change each number of a parameter by its own gradient's history alone, so that a stack of
# parameters is optimised as each of them would be. LBFGS, Muon and Adafactor are not of that kind.
ELEMENTWISE_OPTIMIZERS = (
    torch.optim.ASGD,
    torch.optim.Adadelta,
    torch.optim.Adagrad,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.Adamax,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.RMSprop,
    torch.optim.Rprop,
    torch.optim.SGD,
)


@dataclass(frozen=True)
class History:
    """What was measured while a model was trained. All tensors are on the CPU.

    Attributes:
        loss: (epochs,) mean over the epoch's batches of the loss before each step, every example counted
            once; from ``fit_seeds`` (seeds, epochs), as the next two.
        validation_loss: (epochs,) loss after each epoch on the validation data, or None without such data.
        validation_accuracy: (epochs,) share right there, from 0 to 1; None too unless targets are labels.
        seconds: wall-clock time of the whole training.
    """

    loss: Tensor
    validation_loss: Tensor | None
    validation_accuracy: Tensor | None
    seconds: float


def fit(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    loss: Loss,
    optimizer: MakeOptimizer,
    epochs: int,
    batch_size: int,
    seed: int = 0,
    validation: Data | None = None,
    progress: bool | None = None,
) -> History:
    """Train a model in place by minibatches, a fresh permutation of the data each epoch.

    The data is moved to the model's device once. The permutations are drawn on the CPU, so that a seed
    stands for the same batches everywhere.

    Args:
        model: any module with parameters. It is trained in training mode, evaluated in evaluation mode.
        x: (n, ...) inputs.
        y: (n, ...) targets, as ``loss`` wants them.
        loss: from the model's output and the targets of a batch to their mean loss, a scalar:
            ``nn.CrossEntropyLoss()``.
        optimizer: from a list of parameters to a PyTorch optimizer:
            ``functools.partial(torch.optim.SGD, lr=0.1)``.
        epochs: passes over the data, at least 1.
        batch_size: examples a step, at least 1; the epoch's last batch may be smaller.
        seed: of the order of the examples; the weights and dropout are PyTorch's global generator's.
        validation: inputs and targets to evaluate after each epoch.
        progress: whether to show a progress bar. None: where a person watches, which is a terminal or a
            live Jupyter session; never in a notebook that is executed to be stored. The environment
            variable ``TQDM_DISABLE=1`` turns that off too. The bar takes itself away at the end.

    Returns:
        the history of the training.

    Raises:
        ValueError: for empty data, inputs and targets of different lengths, ``epochs`` or ``batch_size``
            below 1, or a model without parameters.
        TypeError: for data that are no tensors, or an ``optimizer`` that does not make one.
    """
    _check(x, y, loss, epochs, batch_size, validation)
    parameters = list(model.parameters())
    if not parameters:
        raise ValueError(f"the model has no parameters to train: {model}")
    device = parameters[0].device
    x, y = x.to(device), y.to(device)
    stepper = _make_optimizer(optimizer, parameters)
    weights = _batch_weights(len(x), batch_size).to(device)
    generator = torch.Generator().manual_seed(seed)
    record = _Record(validation, loss, device)
    start = time.perf_counter()
    with _mode(model, training=True), progress_bar(epochs, progress) as bar:
        for _ in range(epochs):
            losses = []
            for batch in torch.randperm(len(x), generator=generator).to(device).split(batch_size):
                value = _scalar(loss(model(x.index_select(0, batch)), y.index_select(0, batch)))
                stepper.zero_grad()
                value.backward()
                stepper.step()
                losses.append(value.detach())  # no .item(): a GPU would have to be waited for at every step
            record.add(torch.stack(losses) @ weights.to(losses[0].dtype), partial(_predict, model))
            _advance(bar, record)
    return record.history(start)


def fit_seeds(
    make_model: Callable[[], nn.Module],
    x: Tensor,
    y: Tensor,
    *,
    seeds: Iterable[int],
    loss: Loss,
    optimizer: MakeOptimizer,
    epochs: int,
    batch_size: int,
    validation: Data | None = None,
    progress: bool | None = None,
) -> tuple[list[nn.Module], History]:
    """Train one model a seed, all of them in one pass: each as ``fit`` would, many times faster when small.

    For each seed s the result is that of ::

        torch.manual_seed(s)
        model = make_model()
        history = fit(model, x, y, seed=s, ...)

    up to rounding: the parameters of all models are stacked, and ``torch.func.vmap`` turns a step of each
    into one step of the stack. PyTorch's global generator is left as it was.

    Args:
        make_model: makes a new model whose initial weights come from PyTorch's global generator.
        x, y, loss, epochs, batch_size, validation, progress: as for ``fit``.
        seeds: of each model's weights and of the order in which it sees the examples; at least one.
        optimizer: as for ``fit``; it gets parameters with a leading dimension of seeds, so it must be one of
            ``ELEMENTWISE_OPTIMIZERS`` and not tell parameters apart by their shape.

    Returns:
        the trained models, one a seed, and their history with a leading dimension of seeds; its ``seconds``
        are those of all together.

    Raises:
        ValueError: as ``fit``, and for no seeds, an optimizer that is not element-wise, or a model with
            random layers (dropout, RReLU) or with buffers that training updates (batch normalisation).
        TypeError: as ``fit``.

    Source: https://docs.pytorch.org/tutorials/intermediate/ensembling.html
    """
    _check(x, y, loss, epochs, batch_size, validation)
    seeds = list(seeds)
    if not seeds:
        raise ValueError("seeds must name at least one seed, got none")
    models = []
    with torch.random.fork_rng():
        for seed in seeds:
            torch.manual_seed(seed)
            models.append(make_model())
    first_parameters = list(models[0].parameters())
    if not first_parameters:
        raise ValueError(f"the model has no parameters to train: {models[0]}")
    _refuse_coupled(_make_optimizer(optimizer, first_parameters))
    _refuse_random_or_updating(models[0], x[:2])

    device = first_parameters[0].device
    x, y = x.to(device), y.to(device)
    parameters, buffers = stack_module_state(models)
    skeleton = copy.deepcopy(models[0]).train()  # lends its structure; the numbers come from the stack

    def outputs(parameters: dict, buffers: dict, inputs: Tensor) -> Tensor:
        return functional_call(skeleton, (parameters, buffers), (inputs,))

    def batch_loss(parameters: dict, buffers: dict, inputs: Tensor, targets: Tensor) -> Tensor:
        return _scalar(loss(outputs(parameters, buffers, inputs), targets))

    def predict(inputs: Tensor) -> Tensor:
        with _mode(skeleton, training=False):
            each = vmap(outputs, in_dims=(0, 0, None))
            return _in_chunks(lambda chunk: each(parameters, buffers, chunk), inputs, dim=1)

    stepper = _make_optimizer(optimizer, list(parameters.values()))
    weights = _batch_weights(len(x), batch_size).to(device)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    record = _Record(validation, loss, device, seeds=True)
    start = time.perf_counter()
    with progress_bar(epochs, progress) as bar:
        for _ in range(epochs):
            losses = []
            orders = torch.stack([torch.randperm(len(x), generator=generator) for generator in generators])
            for batch in orders.to(device).split(batch_size, dim=1):
                values = vmap(batch_loss)(parameters, buffers, x[batch], y[batch])
                stepper.zero_grad()
                values.sum().backward()  # the sum's gradient by a seed's weights is that of its own loss
                stepper.step()
                losses.append(values.detach())
            record.add(torch.stack(losses, dim=1) @ weights.to(losses[0].dtype), predict)
            _advance(bar, record)
    with torch.no_grad():
        for i, model in enumerate(models):
            for name, parameter in model.named_parameters():
                parameter.copy_(parameters[name][i])
    return models, record.history(start)


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """The share of examples that a classifier gets right, from 0 to 1.

    Args:
        model: gives (n, k) logits, k ≥ 2, or (n, 1) logits of class 1. It is evaluated in evaluation mode.
        x: (n, ...) inputs.
        y: (n,) integer labels 0 to k − 1, or (n, 1) labels 0 and 1 of any dtype.

    Raises:
        ValueError: for empty data, different lengths, or labels that do not fit the logits.
        TypeError: for data that are no tensors.
    """
    check_pair(x, y, "x and y")
    parameter = next(model.parameters(), x)
    logits = _predict(model, x.to(parameter.device))
    return _share_right(logits, y.to(parameter.device)).item()


def evaluate(model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> tuple[float, float | None]:
    """A model's loss on a whole data set and, where the targets are labels, its accuracy from 0 to 1.

    What ``fit`` measures on its validation data after an epoch: the model is in evaluation mode.

    Args:
        model, x, y: as for ``fit``; labels as for ``accuracy``.
        loss: as for ``fit``, called once on all outputs.

    Raises:
        ValueError, TypeError: as ``fit`` and ``accuracy``.
    """
    check_pair(x, y, "x and y")
    parameter = next(model.parameters(), x)
    outputs, y = _predict(model, x.to(parameter.device)), y.to(parameter.device)
    right = _share_right(outputs, y).item() if _are_labels(y) else None
    return _scalar(loss(outputs, y)).item(), right


def progress_bar(total: int, progress: bool | None = None, unit: str = "epoch") -> tqdm:
    """A bar for whoever watches, which takes itself away at the end.

    Args:
        total: of the units of work.
        progress: as for ``fit``.
        unit: its name.
    """
    return tqdm(
        total=total,
        disable=not (_is_watched() if progress is None else progress),
        file=_CellText() if _in_kernel() else sys.stderr,
        unit=unit,
        leave=False,
        delay=0.5,  # shorter work needs no bar
    )


def _check(x: Tensor, y: Tensor, loss: Loss, epochs: int, batch_size: int, validation: Data | None) -> None:
    check_pair(x, y, "x and y")
    if not callable(loss) or isinstance(loss, type):
        raise TypeError(
            f"loss must be a function of outputs and targets: nn.CrossEntropyLoss(); got {loss!r}"
        )
    if validation is not None:
        check_pair(*validation, "validation's inputs and targets")
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")


def check_pair(x: Tensor, y: Tensor, names: str) -> None:
    """Refuse what are not inputs and targets of the same length.

    Args:
        x, y: (n, ...) tensors, n at least 1.
        names: of the two, for the message: ``"x and y"``.

    Raises:
        ValueError: for empty data or different lengths.
        TypeError: for data that are no tensors.
    """
    if not (isinstance(x, Tensor) and isinstance(y, Tensor)):
        raise TypeError(f"{names} must be tensors, got {type(x).__name__} and {type(y).__name__}")
    if len(x) != len(y) or len(x) == 0:
        raise ValueError(f"{names} must be of the same length, at least 1; got {len(x)} and {len(y)}")


def _make_optimizer(optimizer: MakeOptimizer, parameters: list[Tensor]) -> Optimizer:
    made = optimizer(parameters) if callable(optimizer) else optimizer
    if made is optimizer or not isinstance(made, Optimizer):
        raise TypeError(
            "optimizer must make a PyTorch optimizer from parameters, such as "
            f"functools.partial(torch.optim.SGD, lr=0.1); got {type(made).__name__}"
        )
    return made


def _refuse_coupled(stepper: Optimizer) -> None:
    if type(stepper) not in ELEMENTWISE_OPTIMIZERS:
        accepted = ", ".join(kind.__name__ for kind in ELEMENTWISE_OPTIMIZERS)
        raise ValueError(
            f"{type(stepper).__name__} is not known to be element-wise, so it would mix the seeds; "
            f"fit_seeds accepts {accepted}; fit accepts any"
        )


def _refuse_random_or_updating(model: nn.Module, x: Tensor) -> None:
    """Find out on a copy on the CPU, whose single random generator shows whether anything was drawn."""
    probe = copy.deepcopy(model).cpu().train()
    buffers = {name: buffer.clone() for name, buffer in probe.named_buffers()}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        state = torch.get_rng_state()
        probe(x.cpu())
        drew = not torch.equal(state, torch.get_rng_state())
    # RReLU draws for negative inputs only, of which the probe may have seen none.
    if drew or any(isinstance(module, nn.RReLU) for module in model.modules()):
        raise ValueError("fit_seeds cannot train models with random layers such as Dropout or RReLU; fit can")
    if any(not torch.equal(buffer, buffers[name]) for name, buffer in probe.named_buffers()):
        raise ValueError("fit_seeds cannot train models that update buffers, such as BatchNorm; fit can")


def _batch_weights(n: int, batch_size: int) -> Tensor:
    """Each batch's share of the examples: (batches,) float64."""
    return torch.tensor([len(batch) / n for batch in torch.arange(n).split(batch_size)], dtype=torch.float64)


@torch.no_grad()
def _in_chunks(function: Callable[[Tensor], Tensor], x: Tensor, dim: int = 0) -> Tensor:
    return torch.cat([function(chunk) for chunk in x.split(_CHUNK)], dim=dim)


def _predict(model: nn.Module, x: Tensor) -> Tensor:
    """The model's outputs in evaluation mode, without gradients."""
    with _mode(model, training=False):
        return _in_chunks(model, x)


@contextmanager
def _mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Put the model in training or evaluation mode, and back."""
    before = model.training
    model.train(training)
    try:
        yield
    finally:
        model.train(before)


def _scalar(loss: Tensor) -> Tensor:
    if loss.ndim > 0:
        raise ValueError(f"loss must give one number, the mean over the batch; got shape {tuple(loss.shape)}")
    return loss


def _are_labels(y: Tensor) -> bool:
    return not y.is_floating_point() or bool(((y == 0) | (y == 1)).all())


def _share_right(logits: Tensor, y: Tensor) -> Tensor:
    if logits.ndim == 2 and logits.shape[1] > 1 and y.ndim == 1 and not y.is_floating_point():
        right = logits.argmax(1) == y
    elif logits.shape == y.shape == (len(y), 1) and _are_labels(y):
        right = (logits > 0) == (y == 1)
    else:
        raise ValueError(
            "accuracy is for (n, k) logits with (n,) integer labels, or (n, 1) logits with (n, 1) labels 0 "
            f"and 1; got logits {tuple(logits.shape)} and labels {tuple(y.shape)} of {y.dtype}"
        )
    return right.double().mean()


class _Record:
    """Gathers what is measured after each epoch."""

    def __init__(
        self, validation: Data | None, loss: Loss, device: torch.device, seeds: bool = False
    ) -> None:
        self._validation = None if validation is None else tuple(part.to(device) for part in validation)
        self._measures = {"loss": loss}
        if validation is not None and _are_labels(validation[1]):
            self._measures["accuracy"] = _share_right
        self._seeds = seeds
        self._loss: list[Tensor] = []
        self._measured: dict[str, list[Tensor]] = {name: [] for name in self._measures}

    @torch.no_grad()
    def add(self, loss: Tensor, predict: Callable[[Tensor], Tensor]) -> None:
        self._loss.append(loss)
        if self._validation is None:
            return
        x, y = self._validation
        outputs = predict(x)
        for name, measure in self._measures.items():
            each = (
                torch.stack([measure(output, y) for output in outputs])
                if self._seeds
                else measure(outputs, y)
            )
            self._measured[name].append(each)

    def last_loss(self) -> str:
        return f"{self._loss[-1].mean().item():.4f}"

    def history(self, start: float) -> History:
        loss = torch.stack(self._loss, dim=-1).cpu()  # waits for the device, so it comes before the time
        seconds = time.perf_counter() - start
        measured = {
            name: torch.stack(values, dim=-1).cpu() for name, values in self._measured.items() if values
        }
        return History(loss, measured.get("loss"), measured.get("accuracy"), seconds)


def _advance(bar: tqdm, record: _Record) -> None:
    if not bar.disable:
        bar.set_postfix_str(f"loss {record.last_loss()}", refresh=False)
        bar.update()


def _in_kernel() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def _is_watched() -> bool:
    """Whether a person is there to see a bar.

    A notebook is executed to be stored by nbconvert or nbval, whose kernels have neither a terminal nor the
    name of a session; Jupyter's server gives that name to the kernels of its live sessions.
    """
    if os.environ.get("TQDM_DISABLE"):
        return False
    return "JPY_SESSION_NAME" in os.environ if _in_kernel() else sys.stderr.isatty()


class _CellText:
    """A file for tqdm that shows its last line in the notebook's cell.

    Not standard error: what a stream has shown stays in the notebook when it is saved.
    """

    encoding = "utf-8"

    def __init__(self) -> None:
        self._handle = None

    def write(self, text: str) -> None:
        from IPython.display import display

        line = {"text/plain": text.strip()} if text.strip() else {}
        if self._handle is not None:
            self._handle.update(line, raw=True)
        elif line:
            self._handle = display(line, raw=True, display_id=True)

    def flush(self) -> None:
        """Nothing is held back."""
