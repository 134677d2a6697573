"""What hidden tests are made of: fresh inputs, and reports of what the student's code made of them.

Nothing is decided in here: this runs in the student's kernel, where any comparison could be faked. Reports
are compared outside, with those about the solution on the same inputs.
"""

import hashlib
import os

import torch
from IPython.display import display

REPORT = "application/vnd.nonlinearity.report+json"


def fresh(name: str, *shape: int, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Normal random numbers that no one has seen before, the same ones for everybody in one grading.

    Args:
        name: names these numbers; another name gives others, in whatever order cells are run.
        shape: the tensor's shape.
        scale: their standard deviation.
        dtype: their type.
    """
    digest = hashlib.sha256(f"{os.environ['GRADING_SEED']} {name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7]))
    return (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)


def report(what: str, value: object, *, rtol: float | None = None, atol: float | None = None) -> None:
    """Tell the examiners outside a value, to be compared with the solution's.

    Args:
        what: says in the student's feedback what is wrong if the values differ: "softmax over dim 0".
        value: a tensor, a number, a text, a truth value or None, or a list or tuple of these.
        rtol: relative tolerance; by default 1e-8 in float64, 1e-5 in float32, more in half precision.
        atol: absolute tolerance; by default the same.
    """
    tolerance = {"rtol": rtol, "atol": atol}
    display({REPORT: {"what": what, "value": _encoded(value), **tolerance}}, raw=True)


def _encoded(value: object) -> dict:
    if isinstance(value, list | tuple):
        return {"type": type(value).__name__, "items": [_encoded(item) for item in value]}
    if isinstance(value, torch.Tensor):
        return {"type": "tensor", **_numbers(value.detach())}
    if isinstance(value, float):
        return {"type": "float", **_numbers(torch.tensor(value, dtype=torch.float64))}
    return {"type": type(value).__name__, "text": repr(value)}


def _numbers(tensor: torch.Tensor) -> dict:
    about = {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape)}
    return about | {
        "numbers": [repr(number) for number in tensor.double().flatten().tolist()]
    }  # nan and inf, too
