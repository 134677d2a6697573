"""Make the subset of Fashion-MNIST that ships with the course.

    python code/make_fashion_mnist.py FOLDER

FOLDER holds the four original files, from https://github.com/zalandoresearch/fashion-mnist or Debian's
package dataset-fashion-mnist (/usr/share/datasets/fashion-mnist). Takes the first 1,000 training and the
first 500 test images of each class, in the original order, and writes them as one grey PNG: a row for each
class, 1,500 images of 28 × 28 pixels to the right, the training images first. Lossless, smaller than a
compressed .npz, and any picture viewer shows it. A second run writes the same bytes (with the same Pillow).
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from nonlinearity.data import read_fashion_mnist

TARGET = Path(__file__).parent / "nonlinearity/assets/fashion-mnist.png"
TRAIN, TEST = 1000, 500


def first_of_each_class(images: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """The first ``count`` images of each class: (10, count, 28, 28) uint8."""
    return np.stack([images[labels == label][:count] for label in range(10)])


def make(folder: Path, target: Path = TARGET) -> None:
    """Write the picture to ``target``.

    Raises:
        FileNotFoundError, ValueError: if a file is missing from ``folder`` or is not the original.
    """
    x_train, y_train, x_test, y_test = read_fashion_mnist(folder)
    images = np.concatenate(
        [first_of_each_class(x_train, y_train, TRAIN), first_of_each_class(x_test, y_test, TEST)], axis=1
    )
    sheet = images.transpose(0, 2, 1, 3).reshape(10 * 28, -1)
    Image.fromarray(sheet).save(target, optimize=True)
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python code/make_fashion_mnist.py FOLDER")
    make(Path(sys.argv[1]))
