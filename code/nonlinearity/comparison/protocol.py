"""The protocol of a comparison: train everything, choose the rates, test what was chosen."""

import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import cloudpickle
import joblib
import torch

from nonlinearity import catalog
from nonlinearity.comparison import work
from nonlinearity.comparison.folder import Record, ResultsFolder
from nonlinearity.comparison.plan import Plan, make_plan
from nonlinearity.comparison.report import Comparison, assemble
from nonlinearity.comparison.tables import choose_rates
from nonlinearity.comparison.work import MakeModel, MakeOptimizer, Recipe, Unit
from nonlinearity.training import Data, Loss, progress_bar


def compare(
    make_model: MakeModel,
    *,
    activations: Sequence[str | catalog.Activation] | Mapping[str, object],
    learning_rates: Iterable[float],
    seeds: Iterable[int],
    train: Data,
    validation: Data,
    test: Data,
    loss: Loss,
    optimizer: MakeOptimizer,
    epochs: int,
    batch_size: int,
    baseline: str | None = None,
    level: float | None = None,
    folder: str | Path | None = None,
    jobs: int | None = None,
    device: str | torch.device | None = None,
    together: bool | None = None,
    progress: bool | None = None,
) -> Comparison:
    """Compare activations over seeds, each at the learning rate that suits it best.

    ::

        split = data.fashion_mnist()
        result = compare(
            functools.partial(mlp, (784, 64, 10)),
            activations=["relu", "gelu", "sigmoid"],
            learning_rates=[1e-3, 3e-3, 1e-2],
            seeds=range(5),
            train=(split.x_train[:8000], split.y_train[:8000]),
            validation=(split.x_train[8000:], split.y_train[8000:]),
            test=(split.x_test, split.y_test),
            loss=nn.CrossEntropyLoss(),
            optimizer=torch.optim.Adam,
            epochs=5,
            batch_size=64,
            folder="results",
            jobs=2,
        )
        print(result.text())

    What is measured is accuracy where the targets are labels, otherwise the loss. A run that diverged (whose
    loss is not finite after some epoch) is reported as such, and a learning rate at which any seed diverged
    is not chosen. Whether it runs in one piece or is resumed, here or on a cluster, the numbers are the same,
    times apart; on a GPU up to what PyTorch promises there.

    Runs in other processes are spread by joblib: by ``jobs``, or under ``joblib.parallel_config``. With
    ``parallel_config(backend="dask", scatter=[*train, *validation])`` they go to a Dask cluster, and the data
    once to each of its workers; without ``scatter`` the data goes with each run. Whatever other processes
    need must be picklable, which is checked beforehand.

    Args:
        make_model: makes a new model from an activation, its initial weights drawn from PyTorch's global
            generator: ``functools.partial(mlp, (64, 32, 10))``.
        activations: names of the catalogue; or a mapping from labels to whatever ``make_model`` takes, such
            as ``{"relu": "relu", "leaky 0.3": functools.partial(nn.LeakyReLU, 0.3)}``.
        learning_rates: to choose from, the same for all; positive.
        seeds: of the initial weights and of the order of the examples.
        train: inputs (n, ...) and targets (n, ...) to train on.
        validation: others, to choose the learning rate with and to follow the training.
        test: others again, for the chosen runs after their last epoch.
        loss: from a batch's outputs and targets to their mean loss: ``nn.CrossEntropyLoss()``.
        optimizer: makes a PyTorch optimizer from parameters and ``lr``: ``torch.optim.Adam``,
            ``functools.partial(torch.optim.SGD, momentum=0.9)``.
        epochs: of each run, at least 1.
        batch_size: examples a step, at least 1.
        baseline: the label that the others are compared with; by default the first.
        level: validation accuracy (or loss) whose first epoch is noted for each run; by default 95 % of the
            best mean accuracy at the end (or a loss higher by 5 %).
        folder: where each finished piece is saved, and from where an interrupted comparison goes on when it
            is called again; one comparison a folder, and one process at a time. By default a temporary one.
        jobs: processes; by default what ``joblib.parallel_config`` says, or else this one alone.
        device: of the models; by default "cuda" if there is one, or else "cpu".
        together: whether ``fit_seeds`` trains the seeds of an activation at a rate in one pass. By default
            where it can and is known to be faster: for models of at most 50,000 parameters without
            convolutions. Up to rounding the runs are the same either way.
        progress: as for ``fit``; the bar counts runs.

    Returns:
        the comparison's tables, from which its summary, text and plot are made.

    Raises:
        ValueError: for an unknown activation, data that do not fit together or the model, no seeds, no
            learning rates, a folder of another comparison (the message names what differs), what cannot be
            sent to other processes, and what ``fit`` refuses.
        TypeError: for activations, data, loss or optimizer of a wrong kind.
    """
    data = {"train": train, "validation": validation, "test": test}
    recipe = Recipe(make_model, loss, optimizer, epochs, batch_size, _usable(device))
    plan = make_plan(recipe, activations, learning_rates, seeds, data, together)
    baseline = next(iter(plan.activations)) if baseline is None else baseline
    if baseline not in plan.activations:
        raise ValueError(f"baseline must be one of {', '.join(plan.activations)}; got {baseline!r}")
    if level is not None and not math.isfinite(level):
        raise ValueError(f"level must be a finite number, got {level}")
    with _opened(folder, plan.manifest) as results:
        records = _train_all(plan, data, results, jobs, progress)
        chosen = _test_chosen(plan, records, test, results)
        seconds = _time_steps(plan, train, results)
    return assemble(records.values(), chosen, seconds, baseline, level)


def _usable(device: str | torch.device | None) -> str:
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter where PyTorch is built without a GPU
        raise ValueError(f"device {str(device)!r} cannot be used here: {error}") from error
    return str(device)


@contextmanager
def _opened(folder: str | Path | None, manifest: Record) -> Iterator[ResultsFolder]:
    if folder is not None:
        yield ResultsFolder(folder, manifest)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            yield ResultsFolder(temporary, manifest)


def _train_all(
    plan: Plan, data: Mapping[str, Data], results: ResultsFolder, jobs: int | None, progress: bool | None
) -> dict[str, Record]:
    """Train what the folder lacks and save each unit as it is finished; the record of each unit's name."""
    missing = [unit for unit in plan.units if not _is_finished(unit, results)]
    parallel = joblib.Parallel(n_jobs=jobs, batch_size=1, return_as="generator_unordered")
    if joblib.effective_n_jobs(jobs) > 1:
        _check_picklable(plan)
    tasks = (
        joblib.delayed(work.train)(plan.recipe, unit, *data["train"], *data["validation"]) for unit in missing
    )
    with progress_bar(sum(len(unit.seeds) for unit in missing), progress, unit="run") as bar:
        for unit, record, weights in parallel(tasks):
            checksum = results.write_weights(unit.name, weights)  # first: a record says that they are there
            results.write(unit.name, record | {"weights_sha256": checksum})
            bar.update(len(unit.seeds))
    return {unit.name: results.read(unit.name) for unit in plan.units}


def _is_finished(unit: Unit, results: ResultsFolder) -> bool:
    record = results.read(unit.name)
    return record is not None and (_test_is_done(results) or _weights(unit, record, results) is not None)


def _test_is_done(results: ResultsFolder) -> bool:
    return results.read("test") is not None


def _weights(unit: Unit, record: Record, results: ResultsFolder) -> bytes | None:
    return results.read_weights(unit.name, record["weights_sha256"])


def _check_picklable(plan: Plan) -> None:
    recipe = plan.recipe
    parts = {"make_model": recipe.make_model, "loss": recipe.loss, "optimizer": recipe.optimizer}
    for name, part in (parts | {"activations": (plan.activations, recipe.registered)}).items():
        try:
            cloudpickle.dumps(part)
        except Exception as error:  # whatever an object's own way of pickling raises
            raise ValueError(
                f"{name} cannot be sent to other processes ({error}): "
                "make it from functions, classes and plain values, or use jobs=1"
            ) from error


def _test_chosen(
    plan: Plan, records: Mapping[str, Record], test: Data, results: ResultsFolder
) -> list[Record]:
    """Choose each activation's learning rate, then evaluate its runs on the test data: once in all."""
    if not _test_is_done(results):
        chosen = choose_rates(records.values())
        tests = [
            {
                "activation": unit.label,
                "learning_rate": unit.learning_rate,
                "runs": work.score(plan.recipe, unit, _weights(unit, records[unit.name], results), test),
            }
            for unit in plan.units
            if chosen[unit.label] == unit.learning_rate
        ]
        results.write("test", {"examples": len(test[0]), "chosen": tests})
    results.discard_weights()
    return results.read("test")["chosen"]


def _time_steps(plan: Plan, train: Data, results: ResultsFolder) -> dict[str, list[float]]:
    """Seconds of a step with each activation, one a round."""
    if results.read("timing") is None:
        seconds = work.time_steps(plan.recipe, plan.activations, min(plan.learning_rates), *train)
        results.write("timing", {"seconds_per_step": seconds})
    return results.read("timing")["seconds_per_step"]
