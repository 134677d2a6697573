"""Train the classifier of the course in several processes.

    python -m nonlinearity.train_ddp --processes 2

Each process holds the whole network and sees its share of every batch; the
gradients are averaged before each step. Works with GPUs and without.
"""

import argparse
import logging
import tempfile
import warnings
from pathlib import Path

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from nonlinearity.data import fashion_mnist
from nonlinearity.models import mlp


class Classifier(L.LightningModule):
    """The 784-256-128-10 network."""

    def __init__(self, activation: str, lr: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.model = mlp((784, 256, 128, 10), activation)
        self.accuracy = MulticlassAccuracy(10, average="micro")

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.model(x), y)

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        x, y = batch
        self.accuracy(self.model(x), y)
        self.log("accuracy", self.accuracy)  # adds up over processes

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)


def main() -> None:
    """Train; print the accuracy as each process has it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--activation", default="relu")
    parser.add_argument("--accelerator", default="cpu", help="or gpu")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--batch", type=int, default=100, help="of a step")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--weights", type=Path, help="a folder to save to")
    options = parser.parse_args()

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning uses a class that PyTorch 2.13 has announced to remove.
    warnings.filterwarnings("ignore", ".*LeafSpec", category=FutureWarning)
    # The images are in memory: nothing for worker processes to do.
    warnings.filterwarnings("ignore", ".*does not have many workers")

    data = fashion_mnist()
    x, y = data.x_train, data.y_train
    share = options.batch // options.processes
    train = DataLoader(TensorDataset(x[:2000], y[:2000]), share, shuffle=True)
    validation = DataLoader(TensorDataset(x[2000:3000], y[2000:3000]), 500)

    L.seed_everything(0, verbose=False)  # equal initial weights everywhere
    classifier = Classifier(options.activation, lr=0.001)
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            accelerator=options.accelerator,
            devices=options.processes,
            strategy="ddp",
            max_epochs=options.epochs,
            default_root_dir=folder,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(classifier, train, validation)
    rank, accuracy = trainer.global_rank, trainer.callback_metrics["accuracy"]
    print(f"process {rank}: accuracy {accuracy:.3f}")
    if options.weights:
        weights = classifier.model.state_dict()
        torch.save(weights, options.weights / f"{rank}.pt")


if __name__ == "__main__":
    main()
