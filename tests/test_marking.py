"""How a submission is put back on its release, its reports compared, its code read."""

import re
from copy import deepcopy

import examiner
import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook, new_output
from submissions import ANSWERS, RELEASE, answered, half, rearranged, stripped, with_code

import reports
from marking import is_test, restored
from suspicion import suspicious


def names(notebook):
    return [cell.metadata.nbgrader.grade_id for cell in notebook.cells if "nbgrader" in cell.metadata]


@pytest.mark.parametrize("notebook", [RELEASE, answered(), half(), rearranged(), stripped(), new_notebook()])
def test_every_test_is_there_once_and_as_it_was(notebook):
    release = deepcopy(RELEASE)
    found = restored(deepcopy(notebook), deepcopy(RELEASE))
    originals = {cell.metadata.nbgrader.grade_id: cell for cell in filter(is_test, release.cells)}
    tests = {cell.metadata.nbgrader.grade_id: cell for cell in filter(is_test, found.cells)}
    assert tests == originals
    assert len(names(found)) == len(set(names(found)))
    assert names(found)[0] == "setup"


def test_what_a_student_wrote_stays_in_its_order():
    notebook = with_code("a = 1", "b = 2", notebook=answered())
    found = restored(deepcopy(notebook), deepcopy(RELEASE))
    assert [cell.source for cell in found.cells] == [cell.source for cell in notebook.cells]


def reported(*values, **tolerance):
    given = []
    original, examiner.display = examiner.display, lambda data, raw: given.append(data[reports.KIND])
    try:
        for value in values:
            examiner.report("it", value, **tolerance)
    finally:
        examiner.display = original
    return given


ONE = torch.ones(2, dtype=torch.float64)
INF = torch.tensor(torch.inf)
LIKE = [
    (ONE, ONE + 1e-9), (ONE.float(), ONE.float() + 1e-6), (INF - INF, INF - INF),
    (torch.tensor([torch.inf, -0.0]), torch.tensor([torch.inf, 0.0])), (ONE, ONE.requires_grad_()),
    (0.1 + 0.2, 0.3), ((ONE, "a", None), (ONE, "a", None)), (torch.Size([2]), torch.Size([2])), (True, True),
    (ONE.bool(), ONE.bool()), (torch.zeros(0, 3), torch.zeros(0, 3)),
]  # fmt: skip
UNLIKE = [
    (ONE, ONE + 1e-7, "2 of 2 numbers are wrong"), (ONE, ONE.float(), "dtype must be float64"),
    (ONE, ONE[:1], r"shape must be \[2\]"), (ONE, ONE[None], "shape"), (ONE, [1.0, 1.0], "must be a tensor"),
    (ONE, ONE * torch.nan, "with NaN among them"), (INF, -INF, "1 of 1"),
    (INF - INF, INF, "1 of 1"), (torch.tensor(1), torch.tensor(2), "1 of 1"),
    (True, 1, "must be a bool"), (True, False, "not as it should be"), ("a", "b", "not as it should be"),
    ((ONE, ONE), (ONE,), "there must be 2"), ((ONE, ONE), (ONE, 0 * ONE), "2 of 2"),
    ((ONE,), [ONE], "a tuple"),
    (1.0, 1.1, "1 of 1"),
]  # fmt: skip


@pytest.mark.parametrize(("wanted", "given"), LIKE)
def test_alike(wanted, given):
    assert reports.difference(reported(wanted), reported(given)) is None


@pytest.mark.parametrize(("wanted", "given", "why"), UNLIKE)
def test_unlike(wanted, given, why):
    assert re.match(f"it: .*{why}", reports.difference(reported(wanted), reported(given)))


def test_tolerances_are_the_solution_s_to_set():
    near = reported(ONE + 0.01, rtol=1.0, atol=1.0)
    assert reports.difference(reported(ONE, atol=0.02), reported(ONE + 0.01)) is None
    assert reports.difference(reported(ONE), near)
    assert reports.difference(reported(1e-30 * ONE, atol=0), reported(0 * ONE))


JUNK = [{}, [], "x", 7, None, {"what": "it"}, {"what": "it", "value": []}, {"what": ["it"]}]
NUMBERS = [None, 3, [], ["1"], ["1", "1", "1"], ["1", None], ["1", "x"], [1, {}], "12", [10**400, 1]]
ABOUT = {"type": "tensor", "dtype": "float64", "shape": [2]}
JUNK += [{"what": "it", "value": {**ABOUT, "numbers": numbers}} for numbers in NUMBERS]


@pytest.mark.parametrize("junk", JUNK)
def test_junk_is_no_report(junk):
    assert reports.difference(reported(ONE), [junk])


def test_each_report_must_be_there_once_and_in_its_place():
    wanted = reported(ONE, 2 * ONE)
    assert reports.difference(wanted, wanted) is None
    for found in ([], wanted[:1], [*wanted, wanted[0]], wanted[::-1]):
        assert reports.difference(wanted, found)


def test_what_a_test_cell_shows_is_taken_away():
    cell = new_code_cell(outputs=[
        new_output("execute_result", {"text/plain": "1000"}), new_output("stream", text="x"),
        new_output("display_data", {reports.KIND: {"what": "it"}}), new_output("error", ename="E"),
    ])  # fmt: skip
    assert reports.take(cell) == [{"what": "it"}]
    assert [output.output_type for output in cell.outputs] == ["stream", "error"]


HONEST_CODE = [
    "import torch, math\nimport numpy as np\nfrom matplotlib import pyplot as plt",
    "import torch.nn.functional as F\nfrom torch.testing import assert_close",
    "import torch.nn\nfrom torch.nn import functional as F",
    "%matplotlib inline\n%pip install torch numpy\n!pip install 'torch==2.13.0'\n# why is this 0?\nx = 1",
    "class Mine(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n        self._x = 1\n"
    "    def forward(self, x):\n        self.seen = x\n        return self._x * x",
    "x = torch.ones(3, requires_grad=True)\nx.grad = None\nx[0].data[:] = 2\nprint(type(x).__name__)",
    "F.softmax(torch.ones(3), 0)\nfor i in range(3):\n    print(i)",
    "def helper(x, any=None, sum=0):\n    total = max = x\n    return total",
    "this is not Python",
]
CROOKED_CODE = [
    "import os", "import sys as torch", "from concurrent import futures", "import torch._refs",
    "from torch import _C", "from warnings import sys", "eval('1')", "getattr(torch, 'x')",
    "torch.ops.aten.relu(x)", "t = torch\nt.jit.fork(f)", "torch._C", "f.__globals__",
    "warnings.sys.modules",
    "torch.relu = f", "del torch.relu", "torch.x[0] = 1",
    "any = f", "def same(*a): pass", "class Elementary: pass", "for slope in x: pass", "import math as torch",
    "import torch.nn.init as F", "from torch.nn import init as F", "import numpy.testing as torch",
    "with open('x') as same: pass", "Elementary.refused = []", "!ls", "%run x", "%%bash\nls",
    "x = !ls", "torch?",
    "def f():\n    global any\n    any = 1", "class T(torch.Tensor):\n    def __torch_function__(self): pass",
    "match torch:\n    case object(_C=c): pass", "await f()\nimport os", "[any := 1]", "(same := f)",
    "try: pass\nexcept E as e: e.__traceback__", "__import__('os')", "x = __builtins__", "g.gi_frame.f_back",
]  # fmt: skip


def reasons(code):
    return suspicious(with_code(code, notebook=answered()).cells)


@pytest.mark.parametrize("code", [*HONEST_CODE, *ANSWERS.values()])
def test_honest_code_is_not_suspicious(code):
    assert reasons(code) == []


@pytest.mark.parametrize("code", CROOKED_CODE)
def test_crooked_code_is_suspicious(code):
    assert reasons(code)
