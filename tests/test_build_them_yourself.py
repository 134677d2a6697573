"""The tests of assignment 1, tested: right answers keep their points, wrong ones lose some."""

import math

import pytest
import torch
import torch.nn.functional as F
from assignment_marks import Assignment

# Parts of the solution that are replaced below
RELU = "torch.where(x <= 0, 0.0, x)"
SIGMOID = "torch.exp(-softplus(-x))"
TANH = "torch.where(x >= 0, -above / (above + 2), below / (below + 2))"
SOFTPLUS = "torch.logaddexp(x, torch.zeros_like(x))"
SLOPE_OF_SIGMOID = "torch.sigmoid(x) * torch.sigmoid(-x)"
SOFTMAX = "e / e.sum(dim, keepdim=True)"
LOG_SOFTMAX = "z - z.exp().sum(dim, keepdim=True).log()"
GLU = "a * torch.sigmoid(b)"

# Answers a student may well give, each by what it changes in the solution, in the cell of that question.
WRONG = {
    "q1-answer": {
        "clamp: slope 1 at 0": (RELU, "x.clamp(min=0)"),
        "maximum: slope a half at 0": (RELU, "torch.maximum(x, 0 * x)"),
        "relu swallows NaN": (RELU, "torch.where(x > 0, x, torch.zeros_like(x))"),
        "torch's own relu": (RELU, "torch.relu(x)"),
        "torch's own method": (RELU, "x.relu()"),
        "relu in place": ("return torch.where(x <= 0, 0.0, x)", "x[x <= 0] = 0\n    return x"),
        "relu gives float64": (RELU, "torch.where(x <= 0, 0.0, x.double())"),
        "relu mirrored": (RELU, "torch.where(x >= 0, 0.0, x)"),
        "leaky slope on the wrong side": ("x > 0, x, negative_slope * x", "x < 0, x, negative_slope * x"),
        "leaky slope subtracted": ("x > 0, x, negative_slope * x", "x > 0, x, -negative_slope * x"),
        "leaky slope ignored": ("x > 0, x, negative_slope * x", "x > 0, x, 0.01 * x"),
        "elu ignores alpha": ("alpha * torch.expm1", "torch.expm1"),
        "elu's other branch overflows": ("x.clamp(max=0)", "x"),
        "elu cancels next to 0": ("torch.expm1(x.clamp(max=0))", "(torch.exp(x.clamp(max=0)) - 1)"),
        "elu without the minus one": ("torch.expm1(x.clamp(max=0))", "torch.exp(x.clamp(max=0))"),
        "elu is leaky": ("alpha * torch.expm1(x.clamp(max=0))", "0.3 * alpha * x"),
        "gelu by tanh": (
            "1 + torch.erf(x / math.sqrt(2))",
            "1 + 1 - 2 / (1 + torch.exp(2 * 0.7978845608 * (x + 0.044715 * x**3)))",
        ),
        "gelu without the root": ("x / math.sqrt(2)", "x"),
        "gelu without the half": ("x / 2 *", "x *"),
        "gelu is silu": ("x / 2 * (1 + torch.erf(x / math.sqrt(2)))", "x / (1 + torch.exp(-1.702 * x))"),
    },
    "q2-answer": {
        "sigmoid as it stands": (SIGMOID, "1 / (1 + torch.exp(-x))"),
        "sigmoid by exp over exp": (SIGMOID, "torch.exp(x) / (1 + torch.exp(x))"),
        "sigmoid clamped": (SIGMOID, "1 / (1 + torch.exp(-x.clamp(-20, 20)))"),
        "sigmoid mirrored": (SIGMOID, "torch.exp(-softplus(x))"),
        "sigmoid without slope at 0": (
            "return torch.exp(-softplus(-x))",
            "e = torch.exp(-x.abs())\n    return torch.where(x >= 0, 1 / (1 + e), e / (1 + e))",
        ),
        "torch's own sigmoid": (SIGMOID, "torch.sigmoid(x)"),
        "torch.special's sigmoid": (SIGMOID, "torch.special.expit(x)"),
        "sigmoid through numpy": (SIGMOID, "torch.from_numpy(1 / (1 + (-x).numpy()))"),
        "tanh as it stands": (TANH, "(x.exp() - (-x).exp()) / (x.exp() + (-x).exp())"),
        "tanh by sigmoid": (TANH, "2 * sigmoid(2 * x) - 1"),
        "tanh without slope at 0": (
            TANH,
            "-torch.sign(x) * torch.expm1(-2 * x.abs()) / (torch.expm1(-2 * x.abs()) + 2)",
        ),
        "tanh of half": ("-2 * x.clamp", "-x.clamp"),
        "torch's own tanh": (
            "x >= 0, -above / (above + 2), below / (below + 2)",
            "x > 0, x.tanh(), x.tanh()",
        ),
        "softplus as it stands": (SOFTPLUS, "torch.log(1 + torch.exp(x))"),
        "softplus with a threshold": (SOFTPLUS, "torch.where(x > 20, x, torch.log1p(torch.exp(x)))"),
        "softplus loses small values": (SOFTPLUS, "x.clamp(min=0) + torch.log(1 + torch.exp(-x.abs()))"),
        "softplus is relu": (SOFTPLUS, "x.clamp(min=0)"),
        "silu by a naive sigmoid": ("x * sigmoid(x)", "x / (1 + torch.exp(-x))"),
        "silu is not gated": ("x * sigmoid(x)", "sigmoid(x)"),
        "torch's own silu": ("x * sigmoid(x)", "F.silu(x)"),
    },
    "q3-answer": {
        "relu's slope is 1 at 0": ("(x > 0).to", "(x >= 0).to"),
        "relu's slope is a truth value": ("(x > 0).to(x.dtype)", "x > 0"),
        "relu's slope is always float32": ("(x > 0).to(x.dtype)", "(x > 0).float()"),
        "sigmoid itself": (SLOPE_OF_SIGMOID, "torch.sigmoid(x)"),
        "sigmoid's slope as of its output": (SLOPE_OF_SIGMOID, "x * (1 - x)"),
        "sigmoid's slope overflows": (SLOPE_OF_SIGMOID, "torch.exp(-x) / (1 + torch.exp(-x)) ** 2"),
        "tanh's slope not squared": ("1 - torch.tanh(x) ** 2", "1 - torch.tanh(x)"),
        "tanh's slope as of its output": ("1 - torch.tanh(x) ** 2", "1 - x**2"),
        "tanh's slope is sigmoid's": ("1 - torch.tanh(x) ** 2", "torch.tanh(x) * (1 - torch.tanh(x))"),
        "softplus' slope by autograd": ("    return torch.sigmoid(x)\n", "    return slope(F.softplus, x)\n"),
        "softplus' slope overflows": (
            "    return torch.sigmoid(x)\n",
            "    return torch.exp(x) / (1 + torch.exp(x))\n",
        ),
        "gelu's slope without the second term": ("below + x * density", "below"),
        "gelu's slope: density not times x": ("below + x * density", "below + density"),
        "gelu's slope: density not normalised": (" / math.sqrt(2 * math.pi)", ""),
        "gelu's slope: a sign": ("below + x * density", "below - x * density"),
    },
    "q4-answer": {
        "softmax not shifted": ("torch.exp(x - x.amax(dim, keepdim=True).detach())", "torch.exp(x)"),
        "softmax shifted by the largest of all": (
            "torch.exp(x - x.amax(dim, keepdim=True)",
            "torch.exp(x - x.max()",
        ),
        "softmax over the last dimension": (SOFTMAX, "e / e.sum(-1, keepdim=True)"),
        "softmax over the wrong dimension": (SOFTMAX, "e / e.sum(0, keepdim=True)"),
        "softmax over everything": (SOFTMAX, "e / e.sum()"),
        "softmax clamped": (
            "torch.exp(x - x.amax(dim, keepdim=True).detach())",
            "torch.exp(x.clamp(-80, 80))",
        ),
        "softmax with an epsilon": (SOFTMAX, "e / (e.sum(dim, keepdim=True) + 1e-6)"),
        "softmax detached": (SOFTMAX, "e / e.sum(dim, keepdim=True).detach()"),
        "softmax in float32": ("torch.exp(x - ", "torch.exp(x.float() - "),
        "torch's own softmax": (SOFTMAX, "F.softmax(x, dim)"),
        "softmax by torch's logsumexp": (SOFTMAX, "torch.exp(x - torch.logsumexp(x, dim, keepdim=True))"),
        "softmax by attention": (
            "    return e / e.sum(dim, keepdim=True)",
            "    q, k = torch.ones(1, 1, **double), x.movedim(dim, -1).unsqueeze(-1)\n"
            "    v = torch.eye(k.shape[-2], **double).expand(*k.shape[:-1], -1)\n"
            "    y = F.scaled_dot_product_attention(q.expand(*k.shape[:-2], 1, 1), k, v, scale=1.0)\n"
            "    return y.squeeze(-2).movedim(-1, dim)",
        ),
        "logarithm of softmax": (LOG_SOFTMAX, "softmax(x, dim).log()"),
        "logarithm of softmax and an epsilon": (LOG_SOFTMAX, "(softmax(x, dim) + 1e-12).log()"),
        "log-softmax not shifted": ("z = x - x.amax(dim, keepdim=True).detach()", "z = x"),
        "log-softmax over the wrong dimension": ("z - z.exp().sum(dim,", "z - z.exp().sum(-1,"),
        "log-softmax: the shift is lost": ("z - z.exp().sum", "x - z.exp().sum"),
        "log-softmax detached": (".sum(dim, keepdim=True).log()", ".sum(dim, keepdim=True).log().detach()"),
        "torch's own log-softmax": (LOG_SOFTMAX, "x.log_softmax(dim)"),
    },
    "q5-answer": {
        "the first half is the gate": (GLU, "torch.sigmoid(a) * b"),
        "the gate without a sigmoid": (GLU, "a * b"),
        "both halves gated": (GLU, "torch.tanh(a) * torch.sigmoid(b)"),
        "always the last dimension": ("x.split(size // 2, dim)", "x.split(x.shape[-1] // 2, -1)"),
        "always the second dimension": ("x.split(size // 2, dim)", "x.split(x.shape[1] // 2, 1)"),
        "every other number": (
            "a, b = x.split(size // 2, dim)",
            "x = x.movedim(dim, -1)\n    a, b = x[..., ::2].movedim(-1, dim), x[..., 1::2].movedim(-1, dim)",
        ),
        "odd sizes go through": ("if size % 2:", "if False:"),
        "another error for odd sizes": ("raise ValueError(", "raise RuntimeError("),
        "the error does not name the size": ("not {size}", "not an odd one"),
        "torch's own": (GLU, "F.glu(x, dim)"),
    },
    "q6-answer": {
        "forward without beta": ("return x * torch.sigmoid(beta * x)", "return x * torch.sigmoid(x)"),
        "beta outside": ("return x * torch.sigmoid(beta * x)", "return beta * x * torch.sigmoid(x)"),
        "no Function": ("return Swish.apply(x, beta)", "return x * torch.sigmoid(beta * x)"),
        "upstream gradient forgotten": ("by_x = grad_output * (", "by_x = ("),
        "upstream gradient forgotten for beta": ("(grad_output * x**2 * curve)", "(x**2 * curve)"),
        "gradient by beta averaged": ("curve).sum()", "curve).mean()"),
        "no gradient by beta": ("return by_x, by_beta", "return by_x, None"),
        "gradient by x without its second term": ("s + beta * x * curve", "s"),
        "gradient by x without beta": ("s + beta * x * curve", "s + x * curve"),
        "gradients swapped": ("return by_x, by_beta", "return by_beta, by_x"),
        "x not squared": ("x**2", "x"),
        "backward of a sigmoid": (
            "by_x = grad_output * (s + beta * x * curve)",
            "by_x = grad_output * curve",
        ),
    },
}

# Other right answers, which must keep all points.
RIGHT = {
    "q1-answer": {
        "relu by a product": (RELU, "x * (x > 0)"),
        "relu by masked_fill": (RELU, "x.masked_fill(x <= 0, 0)"),
        "leaky by clamps": (
            "torch.where(x > 0, x, negative_slope * x)",
            "x.clamp(min=0) + negative_slope * x.clamp(max=0) * (x <= 0)",
        ),
        "elu by minimum": ("x.clamp(max=0)", "torch.minimum(x, torch.zeros_like(x))"),
        "elu by a safe branch": ("x.clamp(max=0)", "torch.where(x > 0, 0.0, x)"),
        "gelu by ndtr": ("x / 2 * (1 + torch.erf(x / math.sqrt(2)))", "x * torch.special.ndtr(x)"),
        "gelu by erfc": ("(1 + torch.erf(x / math.sqrt(2)))", "torch.erfc(-x * 0.5**0.5)"),
    },
    "q2-answer": {
        "sigmoid by two branches": (
            "return torch.exp(-softplus(-x))",
            "up, down = torch.exp(-x.clamp(min=0)), torch.exp(x.clamp(max=0))\n"
            "    return torch.where(x >= 0, 1 / (1 + up), down / (1 + down))",
        ),
        "softplus in two steps, written apart": (
            SOFTPLUS,
            "torch.where(x > 0, x + torch.log1p(torch.exp(-x.clamp(min=0))), "
            "torch.log1p(torch.exp(x.clamp(max=0))))",
        ),
        "softplus by logaddexp of a broadcast zero": ("torch.zeros_like(x)", "x.new_zeros(())"),
        "tanh by doubling": (
            "return torch.where(x >= 0, -above / (above + 2), below / (below + 2))",
            "t = torch.where(x >= 0, above, below)\n    return torch.where(x >= 0, -t, t) / (t + 2)",
        ),
        "silu with its own sigmoid": ("x * sigmoid(x)", "x * torch.exp(-torch.logaddexp(-x, 0 * x))"),
    },
    "q3-answer": {
        "relu's slope by where": ("(x > 0).to(x.dtype)", "torch.where(x > 0, 1.0, 0.0).to(x.dtype)"),
        "sigmoid's slope by its output": (SLOPE_OF_SIGMOID, "torch.sigmoid(x) * (1 - torch.sigmoid(x))"),
        "tanh's slope by sigmoids": (
            "1 - torch.tanh(x) ** 2",
            "4 * torch.sigmoid(2 * x) * torch.sigmoid(-2 * x)",
        ),
        "gelu's slope by ndtr": ("(1 + torch.erf(x / math.sqrt(2))) / 2", "torch.special.ndtr(x)"),
        "gelu's slope by a distribution": (
            "torch.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)",
            "torch.distributions.Normal(0, 1).log_prob(x).exp()",
        ),
    },
    "q4-answer": {
        "shift not detached": (".detach())\n    return e", ")\n    return e"),
        "by max and indices": ("x.amax(dim, keepdim=True).detach())", "x.max(dim, keepdim=True).values)"),
        "softmax by log-softmax": (SOFTMAX, "log_softmax(x, dim).exp()"),
        "log-softmax in one go": (LOG_SOFTMAX, "z - z.exp().sum(dim, True).log()"),
        "along the last dimension, moved": (
            f"    z = x - x.amax(dim, keepdim=True).detach()\n    return {LOG_SOFTMAX}",
            "    x = x.transpose(dim, -1)\n    z = x - x.amax(-1, True)\n"
            "    return (z - z.exp().sum(-1, True).log()).transpose(dim, -1)",
        ),
    },
    "q5-answer": {
        "chunk": ("x.split(size // 2, dim)", "x.chunk(2, dim)"),
        "narrow": (
            "a, b = x.split(size // 2, dim)",
            "half = size // 2\n    a, b = x.narrow(dim, 0, half), x.narrow(dim, half, half)",
        ),
        "the gate by hand": (GLU, "a * torch.exp(-torch.logaddexp(-b, 0 * b))"),
        "division": (GLU, "a / (1 + torch.exp(-b))"),
    },
    "q6-answer": {
        "summed by autograd": ("curve).sum()", "curve)"),
        "by the output": ("curve = s * torch.sigmoid(-beta * x)", "curve = s * (1 - s)"),
        "what was computed is kept": (
            "ctx.save_for_backward(x, beta)\n    ",
            "ctx.save_for_backward(x, beta)\n        ctx.shape = x.shape\n    ",
        ),
        "a matrix product for beta": (
            "(grad_output * x**2 * curve).sum()",
            "torch.dot(grad_output.flatten(), (x**2 * curve).flatten())",
        ),
        "only where it is needed": (
            "return by_x, by_beta",
            "return by_x if ctx.needs_input_grad[0] else None, by_beta if ctx.needs_input_grad[1] else None",
        ),
    },
}


def cases(answers):
    return [
        pytest.param(cell, *change, id=name)
        for cell, these in answers.items()
        for name, change in these.items()
    ]


@pytest.fixture(scope="module")
def assignment():
    return Assignment("build-them-yourself")


def changed(assignment, cell, old, new):
    source = assignment.solution(cell)
    assert source.count(old) >= 1, "the solution has changed"
    return {cell: source.replace(old, new)}


@pytest.mark.parametrize(("cell", "old", "new"), cases(WRONG))
def test_a_wrong_answer_loses_points_in_its_question(assignment, cell, old, new):
    failures = assignment.failures(changed(assignment, cell, old, new))
    assert any(test.startswith(cell[:2]) for test in failures)


@pytest.mark.parametrize(("cell", "old", "new"), cases(RIGHT))
def test_another_right_answer_keeps_all_points(assignment, cell, old, new):
    assert assignment.failures(changed(assignment, cell, old, new)) == {}


@pytest.mark.parametrize("cell", WRONG)
def test_without_an_answer_its_question_gives_nothing_and_the_others_all(assignment, cell):
    lost = set(assignment.failures({cell: "pass"}))
    assert lost == {test for test in assignment.points if test.startswith(cell[:2])}


def test_points_add_up_to_what_the_notebook_says(assignment):
    assert sum(assignment.points.values()) == 40
    by_question = [sum(p for test, p in assignment.points.items() if test[1] == q) for q in "123456"]
    assert by_question == [6, 8, 6, 10, 4, 6]


def test_the_solution_agrees_with_torch(assignment):
    """The reference that hidden tests compare with, compared with torch itself, in value and slope."""
    mine: dict = {}
    for cell in assignment.cells:
        if cell.id == "setup" or cell.id.endswith("-answer"):
            exec(cell.source, mine)
    x = torch.linspace(-800, 800, 1601, dtype=torch.float64)
    x = torch.cat([x, torch.linspace(-30, 30, 601, dtype=torch.float64)])
    for name in ("relu", "leaky_relu", "elu", "gelu", "sigmoid", "tanh", "silu"):
        theirs = getattr(F, name)
        torch.testing.assert_close(mine[name](x), theirs(x))
        torch.testing.assert_close(mine["slope"](mine[name], x), mine["slope"](theirs, x), msg=name)
    for name in ("relu", "sigmoid", "tanh", "gelu"):
        torch.testing.assert_close(mine[f"{name}_slope"](x), mine["slope"](getattr(F, name), x))
    exact = torch.logaddexp(x, torch.zeros_like(x))  # F.softplus is x itself from 20 on
    torch.testing.assert_close(mine["softplus"](x), exact, rtol=1e-12, atol=0)
    torch.testing.assert_close(mine["softplus_slope"](x), torch.sigmoid(x))
    logits = 300 * torch.randn(4, 5, 6, dtype=torch.float64)
    logits[0, 0] = -math.inf
    logits[0, 0, 3] = 2.0
    for dim in range(3):
        torch.testing.assert_close(mine["softmax"](logits, dim), F.softmax(logits, dim))
        torch.testing.assert_close(mine["log_softmax"](logits, dim), F.log_softmax(logits, dim))
    torch.testing.assert_close(mine["glu"](logits, 2), F.glu(logits, 2), equal_nan=True)
