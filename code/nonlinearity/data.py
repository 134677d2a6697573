"""The course's data: three problems in the plane, and two sets of small images.

Nothing here reaches for the network unless ``fashion_mnist(full=True, download=True)`` is asked for.
"""

import gzip
import hashlib
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from PIL import Image
from sklearn import datasets
from sklearn.model_selection import train_test_split
from torch import Tensor

FASHION_MNIST_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
"""The names of the labels 0 to 9, as Zalando gives them."""

FASHION_MNIST_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
"""Where Zalando publishes the four files. Plain http: the checksums below are what is trusted."""

_SUBSET_TRAIN = 1000  # images of each class in the training part of the embedded subset; the rest are test


@dataclass(frozen=True)
class Checksums:
    """The SHA-256 of one of Fashion-MNIST's files.

    Attributes:
        download: of the gzip file as Zalando publishes it.
        content: of what it unpacks to. Copies that were packed anew, such as Debian's, keep only this one.
    """

    download: str
    content: str


FASHION_MNIST_FILES: Mapping[str, Checksums] = MappingProxyType(
    {
        "train-images-idx3-ubyte.gz": Checksums(
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        "train-labels-idx1-ubyte.gz": Checksums(
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
        "t10k-images-idx3-ubyte.gz": Checksums(
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        "t10k-labels-idx1-ubyte.gz": Checksums(
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    }
)
"""The four original files, in the order training images, training labels, test images, test labels."""


@dataclass(frozen=True)
class Split:
    """Examples to train on and examples to test with.

    Attributes:
        x_train, x_test: (n, features) float32.
        y_train, y_test: (n,) int64 class labels.
    """

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor


def xor(n: int = 400, noise: float = 0.15, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points around the corners (±1, ±1) of a square, labelled 1 where the two signs differ.

    The corners come in turn, so the first 4k points hold k of each; with ``noise=0, n=4`` they are the
    four rows of the truth table.

    Args:
        n: number of points, at least 1.
        noise: standard deviation of the normal noise added to both coordinates, 0 or more.
        seed: of the noise.

    Returns:
        x: (n, 2) float32. y: (n, 1) float32, 0 or 1.

    Raises:
        ValueError: for ``n`` below 1 or a negative or infinite ``noise``.
    """
    _check_plane(n, noise)
    corners = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
    labels = torch.tensor([[0.0], [1.0], [1.0], [0.0]])
    turn = torch.arange(n) % 4
    generator = torch.Generator().manual_seed(seed)
    return corners[turn] + noise * torch.randn(n, 2, generator=generator), labels[turn]


def moons(n: int = 400, noise: float = 0.15, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two interleaving half circles of radius 1, each coordinate then standardised over the ``n`` points.

    Args:
        n: number of points, at least 2, half of them in each class (the odd one in class 1).
        noise: standard deviation of the normal noise before standardisation, 0 or more.
        seed: of the noise and of the order of the points.

    Returns:
        x: (n, 2) float32 of mean 0 and standard deviation 1. y: (n, 1) float32, 0 or 1.

    Raises:
        ValueError: for ``n`` below 2 or a negative or infinite ``noise``.

    Source: ``sklearn.datasets.make_moons``.
    """
    _check_plane(n, noise, at_least=2)
    return _standardised(*datasets.make_moons(n, noise=noise, random_state=seed))


def circles(n: int = 400, noise: float = 0.1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A circle (class 1) inside one of twice its radius (class 0), each coordinate then standardised.

    Args:
        n: number of points, at least 2, half of them in each class (the odd one in class 1).
        noise: standard deviation of the normal noise, where the radii are 1 and 0.5; 0 or more.
        seed: of the noise and of the order of the points.

    Returns:
        x: (n, 2) float32 of mean 0 and standard deviation 1. y: (n, 1) float32, 0 or 1.

    Raises:
        ValueError: for ``n`` below 2 or a negative or infinite ``noise``.

    Source: ``sklearn.datasets.make_circles``.
    """
    _check_plane(n, noise, at_least=2)
    return _standardised(*datasets.make_circles(n, noise=noise, factor=0.5, random_state=seed))


def digits(seed: int = 0) -> Split:
    """Handwritten digits of 8 × 8 pixels: 1,297 to train on and 500 to test with.

    Args:
        seed: of the split, in which each class keeps its share.

    Returns:
        a split with 64 pixels an image, row by row, from 0 (paper) to 1 (ink), and labels 0 to 9.

    Source: ``sklearn.datasets.load_digits``, whose pixels count ink from 0 to 16.
    """
    x, y = datasets.load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        x / 16, y, test_size=500, stratify=y, random_state=seed
    )
    return Split(
        torch.from_numpy(x_train).float(),
        torch.from_numpy(y_train).long(),
        torch.from_numpy(x_test).float(),
        torch.from_numpy(y_test).long(),
    )


def fashion_mnist(*, full: bool = False, folder: str | Path | None = None, download: bool = False) -> Split:
    """Fashion-MNIST: 28 × 28 grey pictures of clothes in ten classes.

    Without arguments: the subset that ships with the course, the first 1,000 training and 500 test images
    of each class, the classes in turn (image i has label i mod 10), so that any first part of it is
    balanced too.

    Args:
        full: all 60,000 training and 10,000 test images, in the original order.
        folder: where the four original ``.gz`` files lie, or are to be put (default: pooch's cache folder).
            Only with ``full``.
        download: fetch those of the four files that are not in the folder (31 MB). Only with ``full``.

    Returns:
        a split with 784 pixels an image, row by row, from 0 (black, the background) to 1, and labels
        0 to 9, named in ``FASHION_MNIST_CLASSES``.

    Raises:
        ValueError: if ``full`` comes with neither ``folder`` nor ``download``, or one of these without
            ``full``, or if a file's content is not the original's.
        FileNotFoundError: if a file is missing from the folder; the message names it.
        ConnectionError: if a file cannot be fetched.

    Source: Xiao, Rasul and Vollgraf (2017), https://arxiv.org/abs/1708.07747; MIT licence, Zalando SE.
    """
    if not full:
        if folder is not None or download:
            raise ValueError("folder and download are for the full set: add full=True")
        return _fashion_mnist_subset()
    if folder is None and not download:
        raise ValueError(
            "the full Fashion-MNIST does not ship with the course: pass folder= with its four .gz files, "
            "or download=True to fetch them (31 MB)"
        )
    folder = _cache_folder() if folder is None else Path(folder)
    if download:
        _download(folder)
    x_train, y_train, x_test, y_test = read_fashion_mnist(folder)
    return Split(_pixels(x_train), _labels(y_train), _pixels(x_test), _labels(y_test))


def read_fashion_mnist(folder: str | Path) -> list[np.ndarray]:
    """Read and verify Fashion-MNIST's four original files.

    Args:
        folder: where they lie, under their original names.

    Returns:
        the arrays of ``FASHION_MNIST_FILES``, in that order: images (n, 28, 28) and labels (n,), uint8.

    Raises:
        FileNotFoundError: if files are missing; the message names them.
        ValueError: if a file's content is not the original's.
    """
    folder = Path(folder)
    missing = [name for name in FASHION_MNIST_FILES if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{folder} lacks {', '.join(missing)} of the original Fashion-MNIST")
    return [_read_idx(folder / name, checksums.content) for name, checksums in FASHION_MNIST_FILES.items()]


def _check_plane(n: int, noise: float, at_least: int = 1) -> None:
    if n < at_least:
        raise ValueError(f"n must be at least {at_least}, got {n}")
    if not 0 <= noise < math.inf:
        raise ValueError(f"noise must be a finite number of at least 0, got {noise}")


def _standardised(x: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor]:
    x = (x - x.mean(0)) / x.std(0)
    return torch.from_numpy(x).float(), torch.from_numpy(y).float()[:, None]


def _fashion_mnist_subset() -> Split:
    with resources.files("nonlinearity").joinpath("assets/fashion-mnist.png").open("rb") as file:
        sheet = np.asarray(Image.open(file))
    # The sheet has a row of pictures for each class; image i is number i // 10 of class i % 10.
    images = sheet.reshape(10, 28, -1, 28).transpose(2, 0, 1, 3)
    train, test = images[:_SUBSET_TRAIN].reshape(-1, 28, 28), images[_SUBSET_TRAIN:].reshape(-1, 28, 28)
    return Split(
        _pixels(train), torch.arange(len(train)) % 10, _pixels(test), torch.arange(len(test)) % 10
    )  # fmt: skip


def _pixels(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images.reshape(len(images), -1).astype(np.float32)).div_(255)


def _labels(labels: np.ndarray) -> Tensor:
    return torch.from_numpy(labels.astype(np.int64))


# pooch is imported where it is needed: it loads tqdm's notebook bar, which warns in a kernel without widgets.


def _cache_folder() -> Path:
    import pooch

    return Path(pooch.os_cache("nonlinearity")) / "fashion-mnist"


def _download(folder: Path) -> None:
    import pooch

    for name, checksums in FASHION_MNIST_FILES.items():
        if (folder / name).exists():  # pooch would fetch a file anew that was merely packed anew
            continue
        try:
            pooch.retrieve(FASHION_MNIST_URL + name, f"sha256:{checksums.download}", name, folder)
        except OSError as error:  # what requests raises is an OSError
            raise ConnectionError(
                f"{FASHION_MNIST_URL}{name} cannot be fetched ({error}); "
                f"the four files may also be put into a folder by hand and named with folder="
            ) from error


def _read_idx(path: Path, sha256: str) -> np.ndarray:
    """Read one gzip file in the idx format: two zeros, the type (8: uint8), the dimensions, the data."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is not a whole gzip file ({error}); fetch it anew") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(
            f"{path} is not the original: its content has SHA-256 {found}, expected {sha256}; fetch it anew"
        )
    dimensions = content[3]
    shape = np.frombuffer(content, ">u4", dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
