"""Measure the course's training loops side by side: ``python -m nonlinearity.bench``, or ``make bench``.

Everything is measured in one run, on one thread, in rounds that visit each contestant once, so that a busy
machine slows all of them. Seconds are the processor's: what other programs take of it does not count. The
table gives medians over the rounds with the fastest and the slowest; ratios are medians of the rounds'
ratios. The exit status is 1 if a target is missed.
"""

import functools
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from nonlinearity import data
from nonlinearity.models import mlp
from nonlinearity.training import fit, fit_seeds

SIZES = (784, 512, 256, 256, 128, 10)
BATCH = 256
LOSS = nn.CrossEntropyLoss()
SGD = functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9)

SMALL_SIZES = (2, 16, 16, 1)
SEEDS = range(64)
SMALL_LOSS = nn.BCEWithLogitsLoss()
ADAM = functools.partial(torch.optim.Adam, lr=0.01)

Times = dict[str, list[float]]
"""Seconds of each contestant, one a round; the processor's unless another clock was given."""


@dataclass(frozen=True)
class Target:
    """What a ratio must be: at most ``most``, at least ``least``."""

    claim: str
    ratio: float
    least: float = 0.0
    most: float = float("inf")

    @property
    def met(self) -> bool:
        return self.least <= self.ratio <= self.most


def bare_loop(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """One epoch as one would write it by hand, and no more: what ``fit`` is measured against."""
    optimizer = SGD(model.parameters())
    generator = torch.Generator().manual_seed(0)
    for batch in torch.randperm(len(x), generator=generator).split(BATCH):
        loss = LOSS(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def to_tensor(image: Image.Image) -> Tensor:
    """A grey picture as a (1, height, width) float32 tensor from 0 to 1."""
    pixels = torch.from_numpy(np.array(image, np.uint8, copy=True))
    pixels = pixels.view(image.size[1], image.size[0], len(image.getbands()))
    return pixels.permute(2, 0, 1).contiguous().to(torch.float32).div(255)


class Normalise(nn.Module):
    """Subtract a mean and divide by a standard deviation, one of each a channel."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, image: Tensor) -> Tensor:
        image = image.clone()
        mean = torch.as_tensor(self.mean, dtype=image.dtype, device=image.device)
        std = torch.as_tensor(self.std, dtype=image.dtype, device=image.device)
        if (std == 0).any():
            raise ValueError(f"the standard deviation must not be 0, got {self.std}")
        return image.sub_(mean.view(-1, 1, 1)).div_(std.view(-1, 1, 1))


class PerItemImages(Dataset):
    """Images that are transformed one at a time, each time they are asked for.

    The operations are those of torchvision's ``FashionMNIST`` with ``ToTensor`` and ``Normalize``, which most
    tutorials use, in its order; written out because the course does not depend on torchvision. Its checks of
    arguments are left out, so that this is, if anything, faster than the original.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels
        self.transforms = [to_tensor, Normalise([0.286], [0.353])]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = Image.fromarray(self.images[index].numpy()), int(self.labels[index])
        for transform in self.transforms:
            image = transform(image)
        return image, label


def tutorial_loop(model: nn.Module, images: Dataset) -> float:
    """One epoch as most tutorials write it: a DataLoader over single images, the loss read at each step."""
    optimizer = SGD(model.parameters())
    total = 0.0
    for x, y in DataLoader(images, batch_size=BATCH, shuffle=True, num_workers=0):
        optimizer.zero_grad()
        loss = LOSS(model(x.flatten(1)), y)
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total


def flop_per_example(sizes: Sequence[int]) -> int:
    """Floating-point operations of the matrix products in one training step, for each example.

    A layer's product is computed three times over: forward, for the gradient of the weights and for the
    gradient of the input, which the first layer does not need.
    """
    products = [2 * n_in * n_out for n_in, n_out in itertools.pairwise(sizes)]
    return 3 * sum(products) - products[0]


def interleaved(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.process_time,
) -> Times:
    """Time each contestant once a round, after one round to warm up; every round begins with another one.

    Args:
        contestants: what to time, by name.
        rounds: how often to time each.
        clock: gives seconds. What runs on a GPU takes ``time.perf_counter``, and must wait for the GPU.
    """
    times: Times = {name: [] for name in contestants}
    names = list(contestants)
    for turn in range(rounds + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = clock()
            contestants[name]()
            if turn > 0:
                times[name].append(clock() - start)
    return times


def ratio(times: Times, slower: str, faster: str) -> float:
    """Median over the rounds of how many times longer the first took than the second."""
    return statistics.median(a / b for a, b in zip(times[slower], times[faster]))


def image_epochs(split: data.Split, rounds: int, matmul_size: int = 1024) -> tuple[str, list[Target]]:
    """Time one epoch of each loop over the images; a table and the targets."""
    x, y = split.x_train, split.y_train
    images = PerItemImages((x * 255).round().to(torch.uint8).view(-1, 28, 28), y)
    model = mlp(SIZES)
    left, right = torch.randn(2, matmul_size, matmul_size)
    bare, ours, tutorial, product = (
        "bare PyTorch loop",
        "fit",
        "DataLoader, per-item transform",
        "matrix product",
    )
    times = interleaved(
        {
            bare: lambda: bare_loop(model, x, y),
            ours: lambda: fit(
                model, x, y, loss=LOSS, optimizer=SGD, epochs=1, batch_size=BATCH, progress=False
            ),
            tutorial: lambda: tutorial_loop(model, images),
            product: lambda: left @ right,
        },
        rounds,
    )
    flop = dict.fromkeys(times, len(x) * flop_per_example(SIZES)) | {product: 2 * matmul_size**3}
    top = flop[product] / min(times[product])  # the rate that the machine can reach, not its usual one
    lines = [
        f"One epoch over {len(x):,} images of Fashion-MNIST: {'-'.join(map(str, SIZES))} ReLU MLP, "
        f"batch {BATCH}, SGD with momentum, {rounds} rounds",
        "",
        f"{'':32}{'seconds (fastest to slowest)':>32}{'against fit':>14}{'GFLOP/s':>10}{'matmul rate':>13}",
    ]
    for name in (bare, ours, tutorial):
        rate = flop[name] / statistics.median(times[name])
        lines.append(
            f"{name:32}{_spread(times[name]):>32}{ratio(times, name, ours):>12.2f} ×{rate / 1e9:>10.1f}"
            f"{rate / top:>13.0%}"
        )
    lines.append(f"{f'{product} {matmul_size} × {matmul_size}':32}{'':46}{top / 1e9:>10.1f}{1:>13.0%}")
    targets = [
        Target("fit takes at most 1.05 × the bare loop", ratio(times, ours, bare), most=1.05),
        Target("the tutorials' loop takes at least 3 × fit", ratio(times, tutorial, ours), least=3),
    ]
    return "\n".join(lines), targets


def seed_batches(rounds: int, epochs: int, seeds: Sequence[int] = SEEDS) -> tuple[str, list[Target]]:
    """Time many seeds of a small model, one after the other and in one pass; a table and the target."""
    x, y = data.moons()
    options = {
        "loss": SMALL_LOSS, "optimizer": ADAM, "epochs": epochs, "batch_size": 32, "progress": False,
    }  # fmt: skip

    def one_by_one() -> None:
        for seed in seeds:
            torch.manual_seed(seed)
            fit(mlp(SMALL_SIZES), x, y, seed=seed, **options)

    loop, together = "fit, seed after seed", "fit_seeds"
    times = interleaved(
        {
            loop: one_by_one,
            together: lambda: fit_seeds(lambda: mlp(SMALL_SIZES), x, y, seeds=seeds, **options),
        },
        rounds,
    )
    lines = [
        f"{len(seeds)} seeds of a {'-'.join(map(str, SMALL_SIZES))} ReLU MLP on {len(x)} points: "
        f"{epochs} epochs, batch 32, Adam, {rounds} rounds",
        "",
        f"{'':32}{'seconds (fastest to slowest)':>32}{'against fit_seeds':>20}",
        *(f"{name:32}{_spread(times[name]):>32}{ratio(times, name, together):>18.1f} ×" for name in times),
    ]
    claim = f"fit_seeds is at least 6 × faster than {len(seeds)} times fit"
    return "\n".join(lines), [Target(claim, ratio(times, loop, together), least=6)]


def _spread(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.3f} ({min(seconds):.3f} to {max(seconds):.3f})"


def report(tables: Sequence[str], targets: Sequence[Target]) -> int:
    """Print the tables and whether each target is met.

    Returns:
        the exit status: 1 if a target is missed.
    """
    print("\n\n".join(tables), end="\n\n")
    for target in targets:
        print(f"{'met   ' if target.met else 'MISSED'} {target.claim}: {target.ratio:.2f}")
    return int(not all(target.met for target in targets))


def main() -> int:
    """Measure everything, in about a minute."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"PyTorch {torch.__version__}, one thread, {torch.backends.cpu.get_cpu_capability()}\n")
    images, image_targets = image_epochs(data.fashion_mnist(), rounds=7)
    seeds, seed_targets = seed_batches(rounds=5, epochs=3)
    return report([images, seeds], image_targets + seed_targets)


if __name__ == "__main__":
    sys.exit(main())
