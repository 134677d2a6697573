"""What the pages on frameworks say and cannot run themselves: a training in two processes, a progress bar."""

import io
import os
import subprocess
import sys
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from nonlinearity.data import fashion_mnist
from nonlinearity.models import mlp

EPOCHS, BATCH = 2, 100


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The script's run in two processes, and the folder of the weights that each ends with."""
    weights, elsewhere = tmp_path_factory.mktemp("weights"), tmp_path_factory.mktemp("elsewhere")
    command = [sys.executable, "-m", "nonlinearity.train_ddp", "--processes", "2"]
    command += ["--epochs", f"{EPOCHS}", "--batch", f"{BATCH}", "--weights", str(weights)]
    run = subprocess.run(
        command,
        cwd=elsewhere,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    return run, weights, elsewhere


def test_two_processes_train_quietly_and_leave_nothing_behind(trained):
    run, weights, elsewhere = trained
    assert run.stderr == ""
    lines = sorted(run.stdout.split("\n"))
    assert [line[:10] for line in lines if line] == ["process 0:", "process 1:"]
    assert lines[-1].partition("accuracy ")[2] == lines[-2].partition("accuracy ")[2]  # of all images
    assert sorted(path.name for path in weights.iterdir()) == ["0.pt", "1.pt"]
    assert not [*elsewhere.iterdir()]


def test_two_processes_end_with_the_same_weights(trained):
    first, second = (torch.load(trained[1] / f"{rank}.pt") for rank in (0, 1))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_averaged_gradients_are_those_of_the_whole_batch(trained):
    """One process, a plain loop, the same batches: equal weights up to rounding."""
    data = fashion_mnist()
    images = TensorDataset(data.x_train[:2000], data.y_train[:2000])
    order = DistributedSampler(images, num_replicas=1, rank=0)
    torch.manual_seed(0)
    model = mlp((784, 256, 128, 10), "relu")
    start = {name: value.clone() for name, value in model.state_dict().items()}
    adam = torch.optim.Adam(model.parameters(), lr=0.001)
    for epoch in range(EPOCHS):
        order.set_epoch(epoch)
        for x, y in DataLoader(images, BATCH, sampler=order):
            loss = F.cross_entropy(model(x), y)
            adam.zero_grad()
            loss.backward()
            adam.step()
    found = torch.load(trained[1] / "0.pt")
    for name, value in model.state_dict().items():
        moved = (value - start[name]).norm()
        assert (found[name] - value).norm() < 1e-3 * moved, name


def test_progress_bar_of_ignite_as_its_page_shows_it():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit, used by Ignite
        from ignite.engine import Engine
        from ignite.handlers import ProgressBar
    shown = io.StringIO()
    engine = Engine(lambda engine, batch: batch / 10)
    bar = ProgressBar(file=shown)
    bar.attach(engine, output_transform=lambda loss: {"loss": loss})
    engine.run(range(3))
    assert "Iteration: [2/3]" in shown.getvalue()
    assert "loss=" in shown.getvalue()
