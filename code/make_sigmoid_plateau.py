"""Train the sigmoid network of the page on vanishing gradients at full size, and keep its curves.

    python code/make_sigmoid_plateau.py FOLDER

FOLDER holds the four original files of Fashion-MNIST, as for make_fashion_mnist.py. Five networks
784-512-256-256-128-10 with PyTorch's default weights learn from 50,000 of the training images and are
validated on the other 10,000 after each epoch: pixels from -1 to 1, SGD with learning rate 0.01 and momentum
0.9, batches of 256, 50 epochs, no early stopping. That takes a quarter of an hour on one core. The setting is
that of https://uvadlc-notebooks.readthedocs.io/en/latest/tutorial_notebooks/tutorial3/Activation_Functions.html
"""

import sys
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from nonlinearity.data import fashion_mnist
from nonlinearity.models import mlp
from nonlinearity.training import fit_seeds

TARGET = Path(__file__).parent / "nonlinearity/assets/sigmoid-plateau.csv"
SEEDS, EPOCHS, VALIDATION = range(5), 50, 10_000


def make(folder: Path, target: Path = TARGET) -> None:
    """Write one row a seed and epoch to ``target``.

    Raises:
        FileNotFoundError, ValueError: if a file is missing from ``folder`` or is not the original.
    """
    torch.set_num_threads(1)
    data = fashion_mnist(full=True, folder=folder)
    x, y = 2 * data.x_train - 1, data.y_train
    _, history = fit_seeds(
        partial(mlp, (784, 512, 256, 256, 128, 10), "sigmoid"),
        x[:-VALIDATION],
        y[:-VALIDATION],
        seeds=SEEDS,
        loss=nn.CrossEntropyLoss(),
        optimizer=partial(torch.optim.SGD, lr=0.01, momentum=0.9),
        epochs=EPOCHS,
        batch_size=256,
        validation=(x[-VALIDATION:], y[-VALIDATION:]),
        progress=True,
    )
    index = pd.MultiIndex.from_product([SEEDS, range(1, EPOCHS + 1)], names=["seed", "epoch"])
    columns = {
        "loss": history.loss,
        "validation_loss": history.validation_loss,
        "validation_accuracy": history.validation_accuracy,
    }
    table = pd.DataFrame({key: value.flatten() for key, value in columns.items()}, index=index)
    table.round(4).to_csv(target, lineterminator="\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    make(Path(sys.argv[1]))
