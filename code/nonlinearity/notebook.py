"""The set-up that every notebook of the course begins with."""

import random

import numpy as np
import torch

from nonlinearity import plotting


def setup(seed: int = 0) -> None:
    """Make a notebook repeatable and give its figures the course's style.

    Seeds Python, NumPy and PyTorch; keeps PyTorch on one thread, because the small
    tensors of this course gain nothing from more and two threads on a busy machine
    spin against each other; sets the plotting style and plain four-digit printing.

    Args:
        seed: the seed of all three random generators.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    torch.set_printoptions(precision=4, sci_mode=False)
    plotting.use_style()
