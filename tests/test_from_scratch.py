"""What the pages write from scratch is what torch computes, in value and in gradient."""

import ast
import inspect
import math
import re
from functools import partial
from pathlib import Path

import hypothesis.extra.numpy as hnp
import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from test_catalog import MODULES
from torch import nn

from nonlinearity import catalog

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for path in (ROOT / "chapters" / "activations").glob("*.ipynb")
    if path.stem not in ("catalogue", "explorer", "self-check")  # which explain no activation
)
SUFFIX = "_from_scratch"


def definitions(path):
    """The functions that a page defines from scratch, by name.

    Only imports, constants and functions of the tagged cells are run: beside them may stand the comparison
    with torch, which needs the cells before it.
    """
    namespace = {"torch": torch, "F": F, "nn": nn, "math": math}
    for cell in nbformat.read(path, as_version=nbformat.NO_CONVERT).cells:
        if "from-scratch" in cell.metadata.get("tags", []):
            tree = ast.parse(cell.source)
            kept = (ast.Import, ast.ImportFrom, ast.FunctionDef)
            body = [node for node in tree.body if isinstance(node, kept) or _is_constant(node)]
            exec(compile(ast.Module(body, []), path.name, "exec"), namespace)
    return {name: value for name, value in namespace.items() if name.endswith(SUFFIX)}


def _is_constant(node):
    names = [getattr(target, "id", "") for target in getattr(node, "targets", [])]
    return bool(names) and all(re.fullmatch("[A-Z][A-Z0-9_]*", name) for name in names)


FOUND = {path.stem: definitions(path) for path in PAGES}
CASES = [(name.removesuffix(SUFFIX), function) for page in FOUND.values() for name, function in page.items()]
each = pytest.mark.parametrize(("name", "function"), CASES, ids=[name for name, _ in CASES])


def parameters_to_try(name):
    return [{}, *(given for given in MODULES.get(name, (None,))[1:] if given)]


def seeded(function, x):
    """With the same random numbers in each call, for gumbel_softmax."""
    torch.manual_seed(0)
    return function(x)


def value_and_gradient(function, x):
    x = x.clone().requires_grad_()
    value = seeded(function, x)
    weights = torch.linspace(0.5, 1.5, value.numel(), dtype=x.dtype).reshape(value.shape)
    return value.detach(), torch.autograd.grad(value, x, weights)[0]


@pytest.mark.parametrize("page", FOUND)
def test_every_page_of_an_activation_writes_one_from_scratch(page):
    assert FOUND[page], f"{page}.ipynb has no function *{SUFFIX} in a cell tagged from-scratch"


def test_every_activation_of_torch_is_written_from_scratch():
    assert {name for name, _ in CASES} >= {a.name for a in catalog.CATALOG if a.in_torch}


def test_nothing_is_written_twice():
    names = [name for name, _ in CASES]
    assert len({*names}) == len(names)


@each
def test_function_is_named_after_the_catalogue_and_takes_its_parameters(name, function):
    activation = catalog.get(name)
    assert activation.name == name
    (_, *parameters) = inspect.signature(function).parameters.values()
    theirs = {parameter.name: parameter.default for parameter in parameters}
    assert {*theirs} >= {*activation.parameters}
    for key, value in activation.parameters.items():
        assert theirs[key] == value or theirs[key] is inspect.Parameter.empty


@each
def test_function_has_five_lines_at_most(name, function):
    lines = ast.unparse(_tree(name)).splitlines()
    assert len(lines) <= 6  # with its head


def _tree(name):
    for path in PAGES:
        for cell in nbformat.read(path, as_version=nbformat.NO_CONVERT).cells:
            if "from-scratch" in cell.metadata.get("tags", []):
                for node in ast.walk(ast.parse(cell.source)):
                    if isinstance(node, ast.FunctionDef) and node.name == name + SUFFIX:
                        return node
    raise AssertionError(name)


def inputs(dtype):
    """Ordinary numbers, large ones, kinks and the ends; in a shape that every activation takes."""
    width = np.dtype(dtype).itemsize * 8
    kinks = st.sampled_from([0.0, 0.5, -0.5, 1.0, -1.0, 3.0, -3.0, 6.0, np.inf, -np.inf, np.nan])
    numbers = st.one_of(st.floats(-8, 8, width=width), st.floats(-1e4, 1e4, width=width), kinks)
    return hnp.arrays(dtype, (2, 4, 4), elements=numbers).map(torch.from_numpy)


def assert_is_that_of_torch(name, function, x, parameters):
    """Wherever torch has an answer: SiLU of minus infinity, for one, is NaN in torch."""
    found = value_and_gradient(partial(function, **parameters), x)
    expected = value_and_gradient(partial(catalog.get(name), **parameters), x)
    for mine, theirs, what in zip(found, expected, ("value", "gradient")):
        assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
        known = ~theirs.isnan()
        if what == "gradient":  # that of softshrink at NaN depends on where in the tensor it stands
            known &= ~x.isnan()
        told = {"msg": lambda message, what=what: f"{what} {parameters} {message}"}
        torch.testing.assert_close(mine[known], theirs[known], **told)
    if catalog.get(name).elementwise:
        assert found[0][x.isnan()].isnan().all()


@each
@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(x=st.one_of(inputs(np.float32), inputs(np.float64)))
def test_value_and_gradient_are_those_of_torch(name, function, x):
    for parameters in parameters_to_try(name):
        assert_is_that_of_torch(name, function, x, parameters)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("relu", lambda x: x * (x > 0)),  # NaN at minus infinity
        ("relu", lambda x: x.clamp(min=0)),  # another slope at the kink
        ("relu", lambda x: torch.where(x > 0, x, 0.0)),  # hides a NaN
        ("softplus", lambda x: torch.log1p(x.exp())),  # overflows
        ("silu", lambda x: x / (1 + (-x).exp()) + 1e-4),
        ("softmax", lambda x: x.exp() / x.exp().sum(-1, keepdim=True)),  # overflows
        ("softmax", lambda x: F.softmax(x, dim=0)),
    ],
)
def test_what_is_nearly_right_is_refused(name, wrong):
    x = torch.tensor([torch.nan, -torch.inf, -1e4, 0.0, 0.5, 1e4, 3.0, 8.0]).repeat(2, 2, 1)
    x[:, :, 0] = 0 if name == "softmax" else torch.nan
    with pytest.raises(AssertionError):
        assert_is_that_of_torch(name, wrong, x, {})


@each
def test_gradient_agrees_with_finite_differences_away_from_kinks(name, function):
    x = torch.tensor([-7.3, -2.2, -0.7, -0.3, 0.2, 0.8, 2.4, 6.9], dtype=torch.float64).reshape(2, 2, 2)
    for parameters in parameters_to_try(name):
        call = partial(seeded, partial(function, **parameters))
        assert torch.autograd.gradcheck(call, x.requires_grad_(), eps=1e-6, atol=1e-6, rtol=1e-5)
