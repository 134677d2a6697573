"""The set-up that every notebook of the course begins with."""

import random

import numpy as np
import pandas as pd
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


class Table:
    """A data frame shown as a plain table: every column headed, no index, numbers rounded.

    (A data frame's own display has an empty corner, which a screen reader cannot name.)

    Args:
        frame: what to show; reset the index first if it says something.
        digits: decimals of floating-point columns.
    """

    def __init__(self, frame: pd.DataFrame, digits: int = 3) -> None:
        self._frame = frame
        self._format = {"index": False, "float_format": f"{{:.{digits}f}}".format}

    def _repr_html_(self) -> str:
        return self._frame.to_html(border=0, justify="left", **self._format)

    def __repr__(self) -> str:
        return self._frame.to_string(**self._format)
