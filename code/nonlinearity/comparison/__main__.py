"""The comparison from the command line: ``python -m nonlinearity.comparison --help``."""

import argparse
import math
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor, nn

from nonlinearity import data
from nonlinearity.comparison import Comparison, compare, save
from nonlinearity.comparison.work import MakeModel
from nonlinearity.models import cnn, mlp
from nonlinearity.training import Data

_PLANE = {"moons": data.moons, "circles": data.circles, "xor": data.xor}
_IMAGES = {
    "digits": (data.digits, 1000),
    "fashion_mnist": (data.fashion_mnist, 8000),
}  # with how many to train on
_OPTIMIZERS = {"adam": torch.optim.Adam, "sgd": partial(torch.optim.SGD, momentum=0.9)}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line and status 2, without the usage, which --help gives."""
        self.exit(2, f"{self.prog}: error: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print what was found, and write it beside the saved runs.

    Args:
        arguments: those of the command line; by default this process's.

    Returns:
        the exit status; bad input exits with 2 and one line on standard error.
    """
    parser = _make_parser()
    options = parser.parse_args(arguments)
    try:
        result = _compare(options)
    except (ValueError, TypeError, OSError) as error:
        parser.error(" ".join(str(error).split()))
    except KeyboardInterrupt:
        print("Interrupted; the same command goes on from here.", file=sys.stderr)
        return 130
    given = sys.argv[1:] if arguments is None else arguments
    save(result, options.output, shlex.join(["python", "-m", "nonlinearity.comparison", *given]))
    _report(result)
    print(f"Tables and runs: {options.output}")
    return 0


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m nonlinearity.comparison",
        description="Compare activations over seeds, each at its best learning rate. Every finished run is "
        "saved in the output folder; an interrupted comparison goes on when the same command is given again.",
    )

    def several(option: str, kind: type, default: Sequence, metavar: str, meaning: str) -> None:
        shown = " ".join(map(str, default))
        parser.add_argument(
            option, nargs="+", type=kind, default=default, metavar=metavar, help=f"{meaning} ({shown})"
        )

    def one(option: str, kind: type, default: object, meaning: str, **more: object) -> None:
        shown = "" if default is None else f" ({default})"
        parser.add_argument(option, type=kind, default=default, help=f"{meaning}{shown}", **more)

    several("--activations", str, ["relu", "gelu", "sigmoid"], "NAME", "of the catalogue, the baseline first")
    several("--rates", float, [0.001, 0.003, 0.01, 0.03], "RATE", "learning rates to choose from")
    one("--seeds", int, 5, "number of paired seeds", metavar="N")
    one("--data", str, "digits", "data set", choices=[*_IMAGES, *_PLANE])
    one("--full", Path, None, "all of Fashion-MNIST, from its four original files there", metavar="FOLDER")
    one("--examples", int, None, "train on the first so many only (all)", metavar="N")
    parser.add_argument(
        "--standardise",
        action="store_true",
        help="subtract the mean of all training inputs and divide by their standard deviation",
    )
    one("--model", str, "mlp", "the CNN is for images", choices=["mlp", "cnn"])
    several("--widths", int, [64], "N", "of the MLP's hidden layers")
    several("--channels", int, [8, 16, 32], "N", "of the CNN's blocks")
    one("--optimizer", str, "adam", "SGD is with momentum 0.9", choices=list(_OPTIMIZERS))
    one("--epochs", int, 10, "of each run", metavar="N")
    one("--batch-size", int, 64, "examples a step", metavar="N")
    one(
        "--level",
        float,
        None,
        "validation accuracy whose first epoch is noted (5 %% below the best at the end)",
    )
    one("--output", Path, Path("comparison-results"), "for runs and tables", metavar="FOLDER")
    one("--jobs", int, 1, "processes", metavar="N")
    one("--device", str, None, "such as cpu, cuda, cuda:1 (cuda if there is one, or else cpu)")
    return parser


def _compare(options: argparse.Namespace) -> Comparison:
    train, validation, test = load(options.data, options.full)
    if options.examples is not None:
        if options.examples < 1:
            raise ValueError(f"--examples must be at least 1, got {options.examples}")
        train = tuple(part[: options.examples] for part in train)
    if options.standardise:
        x = train[0].double()  # whose sums are the same with any number of threads, once rounded
        mean, deviation = x.mean().float(), x.std().float()
        train, validation, test = (((x - mean) / deviation, y) for x, y in (train, validation, test))
    binary = options.data in _PLANE
    return compare(
        _model(options, train[0]),
        activations=options.activations,
        learning_rates=options.rates,
        seeds=range(options.seeds),
        train=train,
        validation=validation,
        test=test,
        loss=nn.BCEWithLogitsLoss() if binary else nn.CrossEntropyLoss(),
        optimizer=_OPTIMIZERS[options.optimizer],
        epochs=options.epochs,
        batch_size=options.batch_size,
        level=options.level,
        folder=options.output,
        jobs=options.jobs,
        device=options.device,
    )


def load(name: str, full: Path | None = None) -> tuple[Data, Data, Data]:
    """A data set of the course for training, validation and test.

    Args:
        name: "digits" (1,000, 297 and 500 images), "fashion_mnist" (8,000, 2,000 and 5,000), or "moons",
            "circles", "xor" (400 points each).
        full: the folder with the four original files of Fashion-MNIST, for all of it (50,000, 10,000 and
            10,000 images).

    Raises:
        ValueError: for another data set with ``full``, or files that are not the originals.
        FileNotFoundError: for missing files.
    """
    if full is not None and name != "fashion_mnist":
        raise ValueError(f"--full is for --data fashion_mnist, got {name}")
    if name in _IMAGES:
        read, n = _IMAGES[name]
        if full is not None:
            read, n = partial(read, full=True, folder=full), 50_000
        split = read()
        return (
            (split.x_train[:n], split.y_train[:n]),
            (split.x_train[n:], split.y_train[n:]),
            (split.x_test, split.y_test),
        )
    x, y = _PLANE[name](n=1200)
    return tuple(zip(x.split(400), y.split(400)))


def _model(options: argparse.Namespace, x: Tensor) -> MakeModel:
    features = x.shape[1]
    if options.model == "mlp":
        return partial(mlp, (features, *options.widths, 1 if options.data in _PLANE else 10))
    if options.data in _PLANE:
        raise ValueError(f"the cnn is for images, and {options.data} are points: use --model mlp")
    return partial(cnn, tuple(options.channels), side=math.isqrt(features))


def _report(result: Comparison) -> None:
    shown = [
        "activation",
        "learning_rate",
        "mean",
        "low",
        "high",
        "difference",
        "p_holm",
        "verdict",
        "step_time",
        "dead_share",
        "diverged",
    ]
    print(result.summary()[shown].to_string(index=False, float_format="{:.4g}".format, na_rep=""))
    print(f"\n{result.text()}\n")


if __name__ == "__main__":
    sys.exit(main())
