"""The tests of assignment 3, tested: right answers keep their points, wrong ones lose some."""

import copy
import itertools
import math
import re
import warnings
from collections.abc import Callable

import nbformat
import pandas as pd
import pytest
import torch
from assignment_marks import SOURCE, Assignment
from scipy import stats

from nonlinearity.statistics import holm
from suspicion import suspicious

NAME = "choose-and-defend"
# Parts of the solution that are replaced below
OUTPUTS = '{"digit": 10, "tags": 6, "calls": 1, "price": 2}'
DIGIT = "F.cross_entropy(outputs, targets)"
READ_DIGIT = "outputs.softmax(dim=-1)"
TAGS = "F.binary_cross_entropy_with_logits(outputs, targets)"
READ_TAGS = "outputs.sigmoid()"
CALLS = "F.poisson_nll_loss(outputs, targets)"
READ_CALLS = "outputs.exp()"
PRICE = "F.gaussian_nll_loss(mean, targets, variance)"
READ_PRICE = "outputs[:, 0], F.softplus(outputs[:, 1]) + 1e-4"
ORDER = "torch.randperm(n, generator=generator)"
PARTS = "order.split([n - n_validation - n_test, n_validation, n_test])"
NETWORK = """\
    first, second = nn.Linear(64, 32), nn.Linear(32, 32)
    last = nn.Linear(32, 10)
    return nn.Sequential(first, activation(), second, activation(), last)
"""
IN_ONE = """\
    return nn.Sequential(
        nn.Linear(64, 32), activation(), nn.Linear(32, 32), activation(), nn.Linear(32, 10)
    )
"""
OPTIMIZER = "torch.optim.SGD(weights, lr=rate, momentum=0.9)"
EPOCH = "        order = torch.randperm(len(x), generator=generator)\n"
TRAINING = "F.cross_entropy(network(x[rows]), y[rows])"
CHOICE = """\
    chosen = {}
    for name, runs in results.groupby("activation"):
        by_rate = runs.groupby("rate")["validation"]
        means = by_rate.mean()[~by_rate.agg(lambda v: v.isna().any())]
        chosen[name] = means.sort_index().idxmax()
    return chosen
"""
SOUND = "[~by_rate.agg(lambda v: v.isna().any())]"
DIFFERENCE = "(a - b).to_numpy()"
PAIRED = """\
    d = (a - b).to_numpy()
    n = len(d)
    error = d.std(ddof=1) / n**0.5
    half = stats.t.ppf(0.975, n - 1) * error
    p = 2 * stats.t.sf(abs(d.mean()) / error, n - 1)
    return d.mean(), d.mean() - half, d.mean() + half, p
"""
QUANTILE = "stats.t.ppf(0.975, n - 1)"
TAIL = "stats.t.sf(abs(d.mean()) / error, n - 1)"
RAISED = "np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))"
HOLM = """\
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    raised = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = raised.clip(max=1)
    return corrected.tolist()
"""
VERDICT = """\
    if low <= 0 <= high:
        return "no difference seen"
    if corrected >= 0.05:
        return "lost in the correction"
    return "better" if low > 0 else "worse"
"""
FINAL = """\
        network = networks[name, chosen[name], seed]
        score = accuracy(network, IMAGES[TEST], LABELS[TEST])
"""
SUMMARY = """\
found = [paired(scores[name], scores["relu"]) for name in others]
columns = ["difference", "low", "high", "p_holm"]
summary = pd.DataFrame(found, index=others, columns=columns)
summary["p_holm"] = holm(summary["p_holm"])
summary["verdict"] = [
    verdict(*row) for row in summary[["low", "high", "p_holm"]].to_numpy()
]
summary = summary.rename_axis("activation").reset_index()
"""

# Answers a student may well give, each by what it changes in the solution, in the cell of that question.
WRONG = {
    "q1-classes-answer": {
        "one output for ten figures": (OUTPUTS, '{"digit": 1, "tags": 6, "calls": 1, "price": 2}'),
        "one output for mean and variance": (OUTPUTS, '{"digit": 10, "tags": 6, "calls": 1, "price": 1}'),
        "seven outputs for six words and none": (
            OUTPUTS,
            '{"digit": 10, "tags": 7, "calls": 1, "price": 2}',
        ),
        "two outputs a word": (OUTPUTS, '{"digit": 10, "tags": 12, "calls": 1, "price": 2}'),
        "softmax before the loss": (DIGIT, "F.cross_entropy(outputs.softmax(-1), targets)"),
        "sigmoid before the loss": (DIGIT, "F.cross_entropy(outputs.sigmoid(), targets)"),
        "logarithm of softmax": (DIGIT, "F.nll_loss(outputs.softmax(-1).log(), targets)"),
        "logarithm of softmax and an epsilon": (
            DIGIT,
            "F.nll_loss((outputs.softmax(-1) + 1e-9).log(), targets)",
        ),
        "negative likelihood without logarithm": (DIGIT, "F.nll_loss(outputs.softmax(-1), targets)"),
        "log-softmax over the batch": (DIGIT, "F.nll_loss(outputs.log_softmax(0), targets)"),
        "a sum": (DIGIT, "F.cross_entropy(outputs, targets, reduction='sum')"),
        "none reduced": (DIGIT, "F.cross_entropy(outputs, targets, reduction='none')"),
        "labels smoothed": (DIGIT, "F.cross_entropy(outputs, targets, label_smoothing=0.1)"),
        "one against the rest": (
            DIGIT,
            "F.binary_cross_entropy_with_logits(outputs, F.one_hot(targets, 10).to(outputs))",
        ),
        "squared error of a class": (DIGIT, "F.mse_loss(outputs.softmax(-1), F.one_hot(targets, 10) * 1.0)"),
        "not shifted": (
            DIGIT,
            "(outputs.exp().sum(-1).log() - outputs[range(len(targets)), targets]).mean()",
        ),
        "read over the batch": (READ_DIGIT, "outputs.softmax(dim=0)"),
        "read over the second dimension": (READ_DIGIT, "outputs.softmax(dim=min(1, outputs.dim() - 1))"),
        "read without a dimension": (READ_DIGIT, "F.softmax(outputs)"),
        "read one by one": (READ_DIGIT, "outputs.sigmoid()"),
        "read as logarithms": (READ_DIGIT, "outputs.log_softmax(dim=-1)"),
        "read as an answer": (READ_DIGIT, "outputs.argmax(dim=-1)"),
        "read as outputs": (READ_DIGIT, "outputs"),
        "read by a softmax that overflows": (
            READ_DIGIT,
            "outputs.exp() / outputs.exp().sum(-1, keepdim=True)",
        ),
        "sigmoid twice": (TAGS, "F.binary_cross_entropy_with_logits(outputs.sigmoid(), targets)"),
        "sigmoid, then BCELoss": (TAGS, "F.binary_cross_entropy(outputs.sigmoid(), targets)"),
        "softmax for several labels": (TAGS, "F.cross_entropy(outputs, targets)"),
        "softmax, then BCELoss": (TAGS, "F.binary_cross_entropy(outputs.softmax(-1), targets)"),
        "averaged over pictures only": (TAGS, f"6 * {TAGS}"),
        "tags summed": (TAGS, "F.binary_cross_entropy_with_logits(outputs, targets, reduction='sum')"),
        "only the words that fit": (TAGS, "(F.softplus(-outputs) * targets).mean()"),
        "squared error of tags": (TAGS, "F.mse_loss(outputs.sigmoid(), targets)"),
        "hinge": (TAGS, "F.multilabel_soft_margin_loss(outputs, 1 - targets)"),
        "by the book with an epsilon": (
            TAGS,
            "-(targets * (outputs.sigmoid() + 1e-7).log()"
            " + (1 - targets) * (1 - outputs.sigmoid() + 1e-7).log()).mean()",
        ),
        "tags share one": (READ_TAGS, "outputs.softmax(-1)"),
        "tags as answers": (READ_TAGS, "(outputs > 0).to(outputs)"),
        "tags by tanh": (READ_TAGS, "outputs.tanh()"),
        "tags as outputs": (READ_TAGS, "outputs"),
    },
    "q1-numbers-answer": {
        "squared error of a count": (CALLS, "F.mse_loss(outputs, targets)"),
        "squared error of a rate": (CALLS, "F.mse_loss(outputs.exp(), targets)"),
        "squared error of logarithms": (CALLS, "F.mse_loss(outputs, torch.log1p(targets))"),
        "the output as a rate": (CALLS, "F.poisson_nll_loss(outputs, targets, log_input=False)"),
        "the rate, and its logarithm again": (
            CALLS,
            "F.poisson_nll_loss(outputs.exp(), targets, log_input=False)",
        ),
        "exp twice": (CALLS, "F.poisson_nll_loss(outputs.exp(), targets)"),
        "a distribution of the rate": (
            CALLS,
            "-torch.distributions.Poisson(outputs.exp()).log_prob(targets).mean()",
        ),
        "softplus as a rate": (CALLS, "F.poisson_nll_loss(F.softplus(outputs).log(), targets)"),
        "calls summed": (CALLS, "F.poisson_nll_loss(outputs, targets, reduction='sum')"),
        "the outputs as logits of counts": (CALLS, f"F.l1_loss({READ_CALLS}, targets)"),
        "exp forgotten": (READ_CALLS, "outputs"),
        "read by softplus": (READ_CALLS, "F.softplus(outputs)"),
        "read by relu": (READ_CALLS, "F.relu(outputs)"),
        "read as whole numbers": (READ_CALLS, "outputs.exp().round()"),
        "read in powers of two": (READ_CALLS, "2**outputs"),
        "squared error of a price": (PRICE, "F.mse_loss(mean, targets)"),
        "variance taken for a deviation": (PRICE, "F.gaussian_nll_loss(mean, targets, variance**2)"),
        "deviation taken for a variance": (
            PRICE,
            "-torch.distributions.Normal(mean, variance).log_prob(targets).mean()",
        ),
        "every target against every mean": (
            PRICE,
            "((mean[:, None] - targets) ** 2 / variance + variance.log()).mean() / 2",
        ),
        "variance detached": (PRICE, "F.gaussian_nll_loss(mean, targets, variance.detach())"),
        "no price for being unsure": (PRICE, "((mean - targets) ** 2 / variance).mean() / 2"),
        "twice the logarithm": (PRICE, "((mean - targets) ** 2 / variance + variance.log()).mean()"),
        "price summed": (PRICE, "F.gaussian_nll_loss(mean, targets, variance, reduction='sum')"),
        "variance by exp": (READ_PRICE, "outputs[:, 0], outputs[:, 1].exp() + 1e-4"),
        "variance by a softplus that overflows": (
            READ_PRICE,
            "outputs[:, 0], torch.log(1 + outputs[:, 1].exp()) + 1e-4",
        ),
        "variance without its least": (READ_PRICE, "outputs[:, 0], F.softplus(outputs[:, 1])"),
        "a deviation": (READ_PRICE, "outputs[:, 0], (F.softplus(outputs[:, 1]) + 1e-4).sqrt()"),
        "mean and variance swapped": (READ_PRICE, "outputs[:, 1], F.softplus(outputs[:, 0]) + 1e-4"),
        "mean made positive": (READ_PRICE, "F.softplus(outputs[:, 0]), F.softplus(outputs[:, 1]) + 1e-4"),
        "a dimension too many": (READ_PRICE, "outputs[:, :1], F.softplus(outputs[:, 1:]) + 1e-4"),
    },
    "q2-answer": {
        "training on everything": (
            PARTS,
            "order, order[:n_validation], order[n_validation : n_validation + n_test]",
        ),
        "validation is test": (
            PARTS,
            "order[n_validation:], order[:n_validation], order[:n_test]",
        ),
        "training overlaps with test": (
            PARTS,
            "order[n_validation:], order[:n_validation], order[n_validation : n_validation + n_test]",
        ),
        "rows are lost": (
            PARTS,
            "order[n_validation + n_test + 1 :], order[:n_validation], order[n_validation:][:n_test]",
        ),
        "parts in another order": (PARTS, "order.split([n_test, n_validation, n - n_validation - n_test])"),
        "not shuffled": (ORDER, "torch.arange(n)"),
        "with replacement": (ORDER, "torch.randint(n, (n,), generator=generator)"),
        "from 1": (ORDER, "1 + torch.randperm(n, generator=generator)"),
        "no seed": (ORDER, "torch.randperm(n)"),
        "always the same seed": ("manual_seed(seed)", "manual_seed(0)"),
        "only the training rows shuffled": (
            ORDER,
            "torch.cat([torch.randperm(n - n_test, generator=generator), torch.arange(n - n_test, n)])",
        ),
    },
    "q3-answer": {
        "no seed for the weights": ("    torch.manual_seed(seed)\n", ""),
        "always the same weights": ("    torch.manual_seed(seed)\n", "    torch.manual_seed(0)\n"),
        "an activation that draws shifts the weights": (NETWORK, IN_ONE),
        "one activation for both": (
            "first, activation(), second, activation(), last",
            "*((act := activation()) and (first, act, second, act, last))",
        ),
        "no activation": ("first, activation(), second, activation(), last", "first, second, last"),
        "an activation after the last": ("activation(), last)", "activation(), last, activation())"),
        "weights all zero": (
            "    last = nn.Linear(32, 10)\n",
            "    last = nn.Linear(32, 10)\n"
            "    for layer in (first, second, last):\n        nn.init.zeros_(layer.weight)\n",
        ),
        "one hidden layer": ("first, activation(), second, activation(), last", "first, activation(), last"),
        "a softmax at the end": ("activation(), last)", "activation(), last, activation(), nn.Softmax(-1))"),
        "momentum forgotten": (OPTIMIZER, "torch.optim.SGD(weights, lr=rate)"),
        "rate ignored": (OPTIMIZER, "torch.optim.SGD(weights, lr=0.1, momentum=0.9)"),
        "another optimizer": (OPTIMIZER, "torch.optim.Adam(weights, lr=rate)"),
        "Nesterov": (OPTIMIZER, "torch.optim.SGD(weights, lr=rate, momentum=0.9, nesterov=True)"),
        "gradients pile up": ("            optimizer.zero_grad()\n", ""),
        "softmax before the loss": (TRAINING, "F.cross_entropy(network(x[rows]).softmax(-1), y[rows])"),
        "the loss summed": (TRAINING, "F.cross_entropy(network(x[rows]), y[rows], reduction='sum')"),
        "not shuffled": (EPOCH, "        order = torch.arange(len(x))\n"),
        "the same order in each epoch": (EPOCH, "        generator.manual_seed(seed)\n" + EPOCH),
        "no seed for the order": (EPOCH, "        order = torch.randperm(len(x))\n"),
        "orders from what the network draws from": (
            "    weights = network.parameters()\n",
            "    weights = network.parameters()\n    torch.manual_seed(seed)\n    generator = None\n",
        ),
        "with replacement": (
            EPOCH,
            "        order = torch.randint(len(x), (len(x),), generator=generator)\n",
        ),
        "the rest dropped": ("order.split(size)", "order[: len(x) // size * size].split(size)"),
        "one epoch": ("range(epochs)", "range(1)"),
        "size ignored": ("order.split(size)", "order.split(40)"),
        "everything at once": ("order.split(size)", "[order]"),
        "targets in another order": (", y[rows])", ", y[: len(rows)])"),
        "always the same order": (
            "    generator = torch.Generator().manual_seed(seed)\n",
            "    generator = torch.Generator().manual_seed(0)\n",
        ),
    },
    "q4-answer": {
        "by the test data": ('["validation"]', '["test"]'),
        "by both": (
            'runs.groupby("rate")["validation"]',
            'runs.assign(v=runs["validation"] + runs.get("test", 0)).groupby("rate")["v"]',
        ),
        "by the best seed": ("by_rate.mean()", "by_rate.max()"),
        "by the worst seed": ("by_rate.mean()", "by_rate.min()"),
        "by the median": ("by_rate.mean()", "by_rate.median()"),
        "by the first seed": ("by_rate.mean()", "by_rate.first()"),
        "NaN left out": (SOUND, ""),
        "NaN as zero": (CHOICE, "    results = results.fillna(0)\n" + CHOICE),
        "diverged only if all did": ("v.isna().any()", "v.isna().all()"),
        "of equal means the larger": ("sort_index()", "sort_index(ascending=False)"),
        "of equal means the first in the table": (
            CHOICE,
            CHOICE.replace('groupby("rate")', 'groupby("rate", sort=False)').replace(".sort_index()", ""),
        ),
        "one rate for all": (
            "    return chosen\n",
            '    means = results.groupby("rate")["validation"].mean()\n'
            "    return dict.fromkeys(chosen, means.idxmax())\n",
        ),
        "the smallest rate": ("means.sort_index().idxmax()", "means.index.min()"),
        "the best mean, not its rate": ("means.sort_index().idxmax()", "means.max()"),
        "the worst": (".idxmax()", ".idxmin()"),
    },
    "q5-answer": {
        "pairs by place": (DIFFERENCE, "a.to_numpy() - b.to_numpy()"),
        "the index thrown away": (DIFFERENCE, "(a.reset_index(drop=True) - b.reset_index(drop=True)).values"),
        "b − a": (DIFFERENCE, "(b - a).to_numpy()"),
        "not paired": (
            "error = d.std(ddof=1) / n**0.5",
            "error = ((a.var() + b.var()) / n) ** 0.5",
        ),
        "not paired, by scipy": (
            "    return d.mean(),",
            "    p = stats.ttest_ind(a, b).pvalue\n    return d.mean(),",
        ),
        "normal": (QUANTILE, "1.96"),
        "normal, by scipy": (QUANTILE, "stats.norm.ppf(0.975)"),
        "five seeds learnt by heart": (QUANTILE, "2.776"),
        "n degrees of freedom": (QUANTILE, "stats.t.ppf(0.975, n)"),
        "90 %": ("0.975", "0.95"),
        "ddof 0": ("ddof=1", "ddof=0"),
        "the spread, not the error": ("d.std(ddof=1) / n**0.5", "d.std(ddof=1)"),
        "divided by n": ("n**0.5", "n"),
        "one-sided": ("2 * stats.t.sf(", "stats.t.sf("),
        "one-sided, above 1": ("stats.t.sf(abs(d.mean())", "stats.t.sf(d.mean()"),
        "p by the normal distribution": (TAIL, "stats.norm.sf(abs(d.mean()) / error)"),
        "the other tail": ("stats.t.sf(", "stats.t.cdf("),
        "half the width": ("d.mean() - half, d.mean() + half", "d.mean() - half / 2, d.mean() + half / 2"),
    },
    "q6-answer": {
        "Bonferroni": (HOLM, "    return [min(1, p * len(p_values)) for p in p_values]\n"),
        "none": (HOLM, "    return list(p_values)\n"),
        "Benjamini and Hochberg": (HOLM, "    return stats.false_discovery_control(p_values).tolist()\n"),
        "not kept in order": (RAISED, "p[order] * np.arange(len(p), 0, -1)"),
        "factors the other way round": ("np.arange(len(p), 0, -1)", "np.arange(1, len(p) + 1)"),
        "one factor off": ("np.arange(len(p), 0, -1)", "np.arange(len(p) - 1, -1, -1)"),
        "sorted": ("corrected[order] = raised.clip(max=1)", "corrected[:] = raised.clip(max=1)"),
        "back by the wrong order": ("corrected[order] = raised", "corrected[:] = raised[order]"),
        "above 1": (".clip(max=1)", ""),
        "kept in order from above": (
            RAISED,
            "np.minimum.accumulate((p[order] * np.arange(len(p), 0, -1))[::-1])[::-1]",
        ),
        "the largest decides": ("np.argsort(p)", "np.argsort(-p)"),
        "by the mean alone": (VERDICT, '    return "better" if low + high > 0 else "worse"\n'),
        "the correction ignored": ("corrected >= 0.05", "False"),
        "the interval ignored": ("low <= 0 <= high", "False"),
        "a correction that loses the difference": ('"lost in the correction"', '"no difference seen"'),
        "better and worse": ('"better" if low > 0 else "worse"', '"worse" if low > 0 else "better"'),
        "always better": ('"better" if low > 0 else "worse"', '"better"'),
        "0 at the end": ("low <= 0 <= high", "low < 0 < high"),
        "a level of 0.1": ("corrected >= 0.05", "corrected >= 0.1"),
    },
    "q7-answer": {
        "a single seed": ("for seed in SEEDS:", "for seed in SEEDS[:1]:"),
        "one rate for all": (", chosen[name], seed]", ", 0.1, seed]"),
        "every run meets the test pictures": (
            'final = pd.DataFrame(rows, columns=["activation", "seed", "test"])\n',
            'final = results.rename(columns={"validation": "test"})\n',
        ),
        "tuned on the test pictures": (
            "accuracy(network, IMAGES[VALIDATION], LABELS[VALIDATION])",
            "accuracy(network, IMAGES[TEST], LABELS[TEST])",
        ),
        "tested on the training pictures": (
            "accuracy(network, IMAGES[TEST], LABELS[TEST])",
            "accuracy(network, IMAGES[TRAINING], LABELS[TRAINING])",
        ),
        "ReLU − the others": ('paired(scores[name], scores["relu"])', 'paired(scores["relu"], scores[name])'),
        "not corrected": ('holm(summary["p_holm"])', 'list(summary["p_holm"])'),
        "from each other": ('paired(scores[name], scores["relu"])', 'paired(scores[name], scores["gelu"])'),
        "made up": (
            "        for seed in SEEDS:\n            network",
            "        for seed in SEEDS:\n            network = None\n            "
            "rows.append((name, rate, seed, 0.9 - seed / 99))\n            network",
        ),
        "the verdict by hand": ("    verdict(*row) for row in", '    "better" for row in'),
        "in percentage points": ("found = [paired(", "scores = 100 * scores\nfound = [paired("),
    },
}

# Other right answers, which must keep all points.
RIGHT = {
    "q1-classes-answer": {
        "modules": (DIGIT, "nn.CrossEntropyLoss()(outputs, targets)"),
        "in two steps": (DIGIT, "nn.NLLLoss()(nn.LogSoftmax(dim=-1)(outputs), targets)"),
        "by logsumexp": (
            DIGIT,
            "(outputs.logsumexp(1) - outputs.gather(1, targets[:, None]).squeeze(1)).mean()",
        ),
        "by one-hot targets": (DIGIT, "F.cross_entropy(outputs, F.one_hot(targets, 10).to(outputs.dtype))"),
        "by a distribution": (
            DIGIT,
            "-torch.distributions.Categorical(logits=outputs).log_prob(targets).mean()",
        ),
        "read by a module": (READ_DIGIT, "nn.Softmax(dim=-1)(outputs)"),
        "read by log-softmax": (READ_DIGIT, "outputs.log_softmax(-1).exp()"),
        "read by hand": (
            READ_DIGIT,
            "torch.exp(outputs - outputs.logsumexp(dim=-1, keepdim=True))",
        ),
        "a module for tags": (TAGS, "nn.BCEWithLogitsLoss()(outputs, targets)"),
        "by softplus": (TAGS, "(F.softplus(outputs) - targets * outputs).mean()"),
        "by log-sigmoid": (
            TAGS,
            "-(targets * F.logsigmoid(outputs) + (1 - targets) * F.logsigmoid(-outputs)).mean()",
        ),
        "by logaddexp": (
            TAGS,
            "torch.logaddexp(outputs * (1 - 2 * targets), torch.zeros_like(outputs)).mean()",
        ),
        "by yes or no": (
            TAGS,
            "-torch.distributions.Bernoulli(logits=outputs).log_prob(targets).mean()",
        ),
        "soft margin": (TAGS, "F.multilabel_soft_margin_loss(outputs, targets)"),
        "tags by hand": (READ_TAGS, "1 / (1 + torch.exp(-outputs))"),
        "tags by a module": (READ_TAGS, "nn.Sigmoid()(outputs)"),
        "a chain of ifs": (
            f"    return {OUTPUTS}[task]",
            '    if task == "digit":\n        return 10\n    if task == "price":\n        return 2\n'
            '    return 6 if task == "tags" else 1',
        ),
    },
    "q1-numbers-answer": {
        "a module for calls": (CALLS, "nn.PoissonNLLLoss()(outputs, targets)"),
        "calls by hand": (CALLS, "(torch.exp(outputs) - targets * outputs).mean()"),
        "calls with the constant": (
            CALLS,
            "(outputs.exp() - targets * outputs + torch.lgamma(targets + 1)).mean()",
        ),
        "Stirling's constant": (CALLS, "F.poisson_nll_loss(outputs, targets, full=True)"),
        "read by torch": (READ_CALLS, "torch.exp(outputs)"),
        "a module for the price": (PRICE, "nn.GaussianNLLLoss(full=True)(mean, targets, variance)"),
        "price by hand": (PRICE, "(torch.log(variance) + (targets - mean) ** 2 / variance).mean() / 2"),
        "price by a distribution": (
            PRICE,
            "-torch.distributions.Normal(mean, variance.sqrt()).log_prob(targets).mean()",
        ),
        "columns unbound": (
            f"    return {READ_PRICE}",
            "    m, z = outputs.unbind(dim=1)\n"
            "    return [m, torch.logaddexp(z, torch.zeros_like(z)) + 1e-4]",
        ),
        "columns split": (
            f"    return {READ_PRICE}",
            "    m, z = outputs.split(1, dim=-1)\n"
            "    return m.squeeze(-1), nn.Softplus()(z).squeeze(-1) + 0.0001",
        ),
    },
    "q2-answer": {
        "NumPy": (
            f"    order = {ORDER}\n    return {PARTS}",
            "    order = np.random.default_rng(seed).permutation(n)\n"
            "    return np.split(order, [n - n_validation - n_test, n - n_test])",
        ),
        "slices": (
            f"    return {PARTS}",
            "    held_out = n_validation + n_test\n"
            "    return order[held_out:], order[:n_validation], order[n_validation:held_out]",
        ),
        "the global generator, seeded": (
            f"    order = {ORDER}",
            "    torch.manual_seed(seed)\n    order = torch.randperm(n)",
        ),
        "Python's own": (
            f"    order = {ORDER}\n    return {PARTS}",
            "    import random\n\n    order = random.Random(seed).sample(range(n), n)\n"
            "    n_train = n - n_validation - n_test\n"
            "    return order[:n_train], order[n_train : n - n_test], order[n - n_test :]",
        ),
        "sorted within each part": (
            f"    return {PARTS}",
            f"    return [part.sort().values for part in {PARTS}]",
        ),
        "random_split": (
            f"    order = {ORDER}\n    return {PARTS}",
            "    sizes = [n - n_validation - n_test, n_validation, n_test]\n"
            "    parts = torch.utils.data.random_split(range(n), sizes, generator=generator)\n"
            "    return [torch.tensor(list(part)) for part in parts]",
        ),
    },
    "q3-answer": {
        "a class": (
            "def make_network(activation, seed):\n",
            "class Network(nn.Module):\n"
            "    def __init__(self, activation, seed):\n"
            "        super().__init__()\n"
            "        self.act1, self.act2 = activation(), activation()\n"
            "        torch.manual_seed(seed)\n"
            "        self.fc1, self.fc2 = nn.Linear(64, 32), nn.Linear(32, 32)\n"
            "        self.out = nn.Linear(32, 10)\n\n"
            "    def forward(self, x):\n"
            "        return self.out(self.act2(self.fc2(self.act1(self.fc1(x)))))\n\n\n"
            "def make_network(activation, seed):\n    return Network(activation, seed)\n\n\n"
            "def _unused(activation, seed):\n",
        ),
        "seeded for each layer": (
            NETWORK,
            "    layers = []\n    for k, (i, o) in enumerate([(64, 32), (32, 32), (32, 10)]):\n"
            "        torch.manual_seed(3 * seed + k)\n        layers.append(nn.Linear(i, o))\n"
            "        if k < 2:\n            layers.append(activation())\n"
            "    return nn.Sequential(*layers)\n",
        ),
        "reset afterwards": (
            NETWORK,
            IN_ONE.replace("return", "network =")
            + "    torch.manual_seed(seed)\n    for layer in network[::2]:\n"
            "        layer.reset_parameters()\n    return network\n",
        ),
        "the generator put back": (
            "    torch.manual_seed(seed)\n    first, second = nn.Linear(64, 32), nn.Linear(32, 32)\n"
            "    last = nn.Linear(32, 10)\n",
            "    with torch.random.fork_rng():\n        torch.manual_seed(seed)\n"
            "        first, second, last = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 10)\n",
        ),
        "the loss of question 1": (TRAINING, "loss_digit(network(x[rows]), y[rows])"),
        "NumPy's orders": (
            EPOCH,
            "        if _ == 0:\n            rng = np.random.default_rng(seed)\n"
            "        order = torch.from_numpy(rng.permutation(len(x)))\n",
        ),
        "a DataLoader": (
            "        order = torch.randperm(len(x), generator=generator)\n"
            "        for rows in order.split(size):\n",
            "        rows_of_x = range(len(x))\n"
            "        for rows in torch.utils.data.DataLoader(\n"
            "            rows_of_x, size, shuffle=True, generator=generator\n        ):\n",
        ),
        "all orders in advance": (
            f"    for _ in range(epochs):\n{EPOCH}",
            "    torch.manual_seed(seed)\n    orders = [torch.randperm(len(x)) for _ in range(epochs)]\n"
            "    for order in orders:\n",
        ),
        "a seed for each epoch": (
            EPOCH,
            "        generator.manual_seed(1000 * seed + _)\n" + EPOCH,
        ),
        "slices of an order": (
            "        for rows in order.split(size):\n",
            "        for i in range(0, len(x), size):\n            rows = order[i : i + size]\n",
        ),
        "looks at the loss meanwhile": (
            "    for _ in range(epochs):\n",
            "    network.train()\n    history = []\n    for _ in range(epochs):\n"
            "        with torch.no_grad():\n"
            "            history.append(F.cross_entropy(network(x), y).item())\n",
        ),
        "returns the network": (
            "            optimizer.step()\n",
            "            optimizer.step()\n    return network\n",
        ),
        "momentum by hand": (
            "            optimizer.zero_grad()\n"
            "            F.cross_entropy(network(x[rows]), y[rows]).backward()\n"
            "            optimizer.step()\n",
            "            weights = list(network.parameters())\n"
            "            loss = F.cross_entropy(network(x[rows]), y[rows])\n"
            "            gradients = torch.autograd.grad(loss, weights)\n"
            "            if not hasattr(network, 'speed'):\n"
            "                network.speed = [torch.zeros_like(w) for w in weights]\n"
            "            with torch.no_grad():\n"
            "                for w, v, g in zip(weights, network.speed, gradients):\n"
            "                    v.mul_(0.9).add_(g)\n"
            "                    w.sub_(rate * v)\n",
        ),
    },
    "q4-answer": {
        "loops": (
            CHOICE,
            "    chosen = {}\n"
            '    for name in results["activation"].unique():\n'
            "        best = -1.0\n"
            '        for rate in sorted(results["rate"].unique()):\n'
            '            mine = (results["activation"] == name) & (results["rate"] == rate)\n'
            '            scores = results.loc[mine, "validation"].to_numpy()\n'
            "            if not np.isnan(scores).any() and scores.mean() > best:\n"
            "                best, chosen[name] = scores.mean(), rate\n"
            "    return chosen\n",
        ),
        "a pivot table": (
            CHOICE,
            "    by_rate = results.groupby(['activation', 'rate'])['validation']\n"
            "    means = by_rate.mean().mask(by_rate.apply(lambda v: v.isna().any()))\n"
            "    return means.unstack().sort_index(axis=1).idxmax(axis=1).to_dict()\n",
        ),
        "a pivot table by seed": (
            CHOICE,
            "    wide = results.pivot(\n"
            "        index=['activation', 'rate'], columns='seed', values='validation'\n    )\n"
            "    means = wide.mean(axis=1, skipna=False).dropna().reset_index(name='mean')\n"
            "    means = means.sort_values(['mean', 'rate'], ascending=[False, True])\n"
            "    return means.groupby('activation')['rate'].first().to_dict()\n",
        ),
        "NaN stays in NumPy's mean": (
            f"by_rate.mean(){SOUND}",
            "by_rate.agg(lambda v: np.mean(v.to_numpy())).dropna()",
        ),
        "minus infinity": (
            CHOICE,
            "    table = results.assign(validation=results['validation'].fillna(-np.inf))\n"
            "    means = table.groupby(['activation', 'rate'], as_index=False)['validation'].mean()\n"
            "    best = means.loc[means.groupby('activation')['validation'].idxmax()]\n"
            "    return dict(zip(best['activation'], best['rate']))\n",
        ),
        "a Series": ("    return chosen\n", "    return pd.Series(chosen)\n"),
    },
    "q5-answer": {
        "by scipy": (
            PAIRED,
            "    test = stats.ttest_rel(a.sort_index(), b.sort_index())\n"
            "    low, high = test.confidence_interval(0.95)\n"
            "    return (a - b).mean(), low, high, test.pvalue\n",
        ),
        "by scipy, of one sample": (
            PAIRED,
            "    d = a - b\n    test = stats.ttest_1samp(d, 0)\n    between = test.confidence_interval()\n"
            "    return [d.mean(), between.low, between.high, test.pvalue]\n",
        ),
        "by torch": (
            "    d = (a - b).to_numpy()\n    n = len(d)\n    error = d.std(ddof=1) / n**0.5\n",
            "    d = torch.tensor((a - b.reindex(a.index)).to_numpy())\n    n = len(d)\n"
            "    error = d.std() / math.sqrt(n)\n    d = d.numpy()\n    error = error.item()\n",
        ),
        "torch tensors come back": (
            "    return d.mean(), d.mean() - half, d.mean() + half, p\n",
            "    return torch.tensor([d.mean(), d.mean() - half, d.mean() + half, p])\n",
        ),
        "by pandas": ("d.std(ddof=1) / n**0.5", "(a - b).sem()"),
        "the interval by scipy": (
            "    return d.mean(),",
            "    low, high = stats.t.interval(0.95, n - 1, loc=d.mean(), scale=error)\n"
            "    half = (high - low) / 2\n    return d.mean(),",
        ),
        "one minus": (TAIL, "(1 - stats.t.cdf(abs(d.mean()) / error, n - 1))"),
        "by scipy's sem": ("d.std(ddof=1) / n**0.5", "stats.sem(d)"),
        "the quantile from below": (QUANTILE, "-stats.t.ppf(0.025, df=n - 1)"),
    },
    "q6-answer": {
        "a loop": (
            HOLM,
            "    m, least, corrected = len(p_values), 0, [0] * len(p_values)\n"
            "    for k, i in enumerate(sorted(range(m), key=lambda i: p_values[i])):\n"
            "        least = max(least, min(1, (m - k) * p_values[i]))\n"
            "        corrected[i] = least\n"
            "    return corrected\n",
        ),
        "by pandas": (
            HOLM,
            "    p = pd.Series(p_values).sort_values()\n"
            "    return (p * range(len(p), 0, -1)).cummax().clip(upper=1).sort_index()\n",
        ),
        "by torch": (
            HOLM,
            "    p, order = torch.tensor(list(p_values), dtype=torch.float64).sort()\n"
            "    raised = (p * torch.arange(len(p), 0, -1)).cummax(0).values.clamp(max=1)\n"
            "    return raised[order.argsort()]\n",
        ),
        "signs": (
            VERDICT,
            '    if low * high <= 0:\n        return "no difference seen"\n'
            "    if corrected < 0.05:\n"
            '        return "worse" if high < 0 else "better"\n'
            '    return "lost in the correction"\n',
        ),
        "one after the other": (
            VERDICT,
            "    sure = corrected < 0.05\n"
            '    if low > 0:\n        return "better" if sure else "lost in the correction"\n'
            '    if high < 0:\n        return "worse" if sure else "lost in the correction"\n'
            '    return "no difference seen"\n',
        ),
    },
    "q7-answer": {
        "trained again for the test": (
            "        network = networks[name, chosen[name], seed]\n",
            "        network = make_network(ACTIVATIONS[name], seed)\n"
            "        train(network, IMAGES[TRAINING], LABELS[TRAINING], chosen[name], seed)\n",
        ),
        "activations as an index": (
            'summary = summary.rename_axis("activation").reset_index()\n',
            'summary.index.name = "activation"\n',
        ),
        "rows in another order": (
            'final = pd.DataFrame(rows, columns=["activation", "seed", "test"])\n',
            'final = pd.DataFrame(rows, columns=["activation", "seed", "test"]).sort_values("test")\n'
            'results = results.sort_values("validation", ignore_index=True)\n',
        ),
        "more columns": (
            "chosen = choose_rate(results)\n",
            'results["epochs"] = 4\nchosen = choose_rate(results)\n',
        ),
        "row by row": (
            SUMMARY,
            'relu, lines = scores["relu"], []\n'
            "for name in others:\n"
            "    mean, low, high, p = paired(scores[name], relu)\n"
            '    lines.append({"activation": name, "difference": mean, "low": low, "high": high, "p": p})\n'
            'corrected = holm([line["p"] for line in lines])\n'
            "for line, p in zip(lines, corrected):\n"
            '    line.update(p_holm=p, verdict=verdict(line["low"], line["high"], p))\n'
            "summary = pd.DataFrame(lines)\n",
        ),
        "rounded for the reader": (
            'summary = summary.rename_axis("activation").reset_index()\n',
            'summary = summary.rename_axis("activation").reset_index().round(4)\n',
        ),
    },
}
TRAINED: dict[str, dict] = {}


def remembered(train: Callable) -> Callable:
    """Trains no network of question 7 twice: what a training makes of the same network is remembered."""

    def inner(network, x, y, rate, seed, *more, **how):
        if len(x) != 800:
            return train(network, x, y, rate, seed, *more, **how)
        start = torch.cat([weight.flatten() for weight in network.parameters()])
        key = f"{network} {float(rate)} {int(seed)} {float(x.sum())} {float(start.detach().sum())}"
        if key not in TRAINED:
            train(network, x, y, rate, seed, *more, **how)
            TRAINED[key] = {name: value.clone() for name, value in network.state_dict().items()}
        network.load_state_dict(TRAINED[key])
        return None

    return inner


def cases(answers):
    return [
        pytest.param(cell, *change, id=f"{cell[:5]}-{name}")
        for cell, these in answers.items()
        for name, change in these.items()
    ]


class Remembering(Assignment):
    """An assignment that trains the networks of question 7 once."""

    def _run(self, answers: dict[str, str]) -> tuple[dict[str, list[dict]], dict[str, str]]:
        own = {cell.id: answers.get(cell.id, cell.source) for cell in self.cells}
        if "def train" in own.get("q3-answer", ""):
            own["q3-answer"] += f"\n\n\nfrom {__name__} import remembered\n\ntrain = remembered(train)"
        with warnings.catch_warnings():  # which take no marks
            warnings.simplefilter("ignore")
            return super()._run(own)


@pytest.fixture(scope="module")
def whole():
    """All questions."""
    return Remembering(NAME)


def of_question(whole, question):
    """One question. Only the seventh needs the others."""
    part = copy.copy(whole)
    needed = ("setup", question, *(["q1-classes-answer"] if question == "q3" else []))
    part.cells = [cell for cell in whole.cells if cell.id.startswith(needed)]
    return whole if question == "q7" else part


@pytest.fixture(scope="module")
def release():
    path = SOURCE.parent / "release" / NAME / f"{NAME}.ipynb"
    return nbformat.read(path, as_version=4).cells


def following_tests(assignment, answer):
    """The tests between an answer and the next one."""
    ids = [cell.id for cell in assignment.cells]
    following = itertools.takewhile(lambda name: not name.endswith("-answer"), ids[ids.index(answer) + 1 :])
    return {name for name in following if name in assignment.points}


def changed(assignment, cell, old, new):
    source = assignment.solution(cell)
    assert source.count(old) >= 1, "the solution has changed"
    return {cell: source.replace(old, new)}


@pytest.fixture
def marked(whole, cell):
    return of_question(whole, cell[:2])


@pytest.mark.parametrize(("cell", "old", "new"), cases(WRONG))
def test_a_wrong_answer_loses_points_in_its_question(marked, cell, old, new):
    lost = set(marked.failures(changed(marked, cell, old, new)))
    assert lost & following_tests(marked, cell)


@pytest.mark.parametrize(("cell", "old", "new"), cases(RIGHT))
def test_another_right_answer_keeps_all_points(marked, cell, old, new):
    assert marked.failures(changed(marked, cell, old, new)) == {}


@pytest.mark.parametrize(("cell", "old", "new"), cases(RIGHT))
def test_nothing_about_a_right_answer_is_suspicious(marked, cell, old, new):
    answers = changed(marked, cell, old, new)
    cells = copy.deepcopy(marked.cells)
    for each in cells:
        each.source = answers.get(each.id, each.source)
    assert suspicious(cells) == []


@pytest.mark.parametrize("cell", WRONG)
def test_without_an_answer_its_tests_give_nothing_and_the_others_all(marked, cell):
    assert set(marked.failures({cell: "pass"})) == following_tests(marked, cell)


def test_points_add_up_to_what_the_notebook_says(whole, release):
    by_hand = {cell.id: cell.metadata.nbgrader.points for cell in release if cell.id == "q8-answer"}
    points = whole.points | by_hand
    assert sum(points.values()) == 40
    by_question = [sum(p for test, p in points.items() if test[1] == q) for q in "12345678"]
    assert by_question == [12, 2, 4, 4, 3, 3, 2, 10]
    text = next(cell.source for cell in release if cell.id == "title")
    assert [int(p) for p in re.findall(r"\| (\d+) \|$", text, re.MULTILINE)] == by_question
    rubric = next(cell.source for cell in release if cell.id == "q8")
    assert sum(int(p) for p in re.findall(r"^\| (\d+) \|", rubric, re.MULTILINE)) == 10


def test_an_untouched_release_gives_nothing(whole, release):
    stubs = {cell.id: cell.source for cell in release if cell.id.endswith("-answer")}
    assert set(whole.failures(stubs)) == set(whole.points)


def test_half_an_assignment_gives_what_it_should(whole, release):
    stubs = {cell.id: cell.source for cell in release if cell.id.endswith("-answer")}
    for done in ("q1-classes-answer", "q2-answer", "q3-answer", "q5-answer"):
        stubs.pop(done)
    lost = whole.failures(stubs)
    assert sum(whole.points.values()) - sum(whole.points[name] for name in lost) == 6 + 2 + 4 + 3


def test_the_conclusion_is_marked_by_hand_and_the_scheme_stays_here(release):
    source = nbformat.read(SOURCE / NAME / f"{NAME}.ipynb", as_version=4).cells
    ours, theirs = (next(cell for cell in cells if cell.id == "q8-answer") for cells in (source, release))
    about = theirs.metadata.nbgrader
    assert theirs.cell_type == "markdown"
    assert (about.grade, about.solution, about.locked, about.task) == (True, True, False, False)
    assert theirs.source == "YOUR ANSWER HERE"
    answer = ours.source.partition("**A model answer**")[2].partition("\n\n")[2].partition("\n###")[0]
    assert 150 <= len(answer.split()) <= 250


def test_the_solution_agrees_with_torch_and_scipy(whole):
    """The reference that hidden tests compare with, compared with what others have written."""
    mine: dict = {}
    for cell in whole.cells:
        if cell.id == "setup" or (cell.id.endswith("-answer") and not cell.id.startswith("q7")):
            exec(cell.source, mine)
    double = {"dtype": torch.float64}
    z, y = 30 * torch.randn(50, 10, **double), torch.randint(10, (50,))
    exact = torch.distributions.Categorical(logits=z)
    torch.testing.assert_close(mine["loss_digit"](z, y), -exact.log_prob(y).mean())
    torch.testing.assert_close(mine["read_digit"](z), exact.probs)
    z, y = 5 * torch.randn(50, 6, **double), torch.randint(2, (50, 6)).double()
    exact = torch.distributions.Bernoulli(logits=z)
    torch.testing.assert_close(mine["loss_tags"](z, y), -exact.log_prob(y).mean())
    torch.testing.assert_close(mine["read_tags"](z), exact.probs)
    z, y = torch.randn(50, 1, **double), torch.randint(9, (50, 1)).double()
    exact = torch.distributions.Poisson(z.exp())
    constant = torch.lgamma(y + 1).mean()
    torch.testing.assert_close(mine["loss_calls"](z, y), -exact.log_prob(y).mean() - constant)
    z, y = 3 * torch.randn(50, 2, **double), torch.randn(50, **double)
    mean, variance = mine["read_price"](z)
    exact = torch.distributions.Normal(z[:, 0], (torch.log1p(z[:, 1].exp()) + 1e-4).sqrt())
    constant = math.log(2 * math.pi) / 2
    torch.testing.assert_close(mine["loss_price"](z, y), -exact.log_prob(y).mean() - constant)
    torch.testing.assert_close((mean, variance), (exact.mean, exact.variance))
    a, b = (pd.Series(torch.randn(8, **double).numpy()) for _ in range(2))
    exact = stats.ttest_rel(a, b)
    found = mine["paired"](a, b)
    assert found == pytest.approx([(a - b).mean(), *exact.confidence_interval(), exact.pvalue])
    for _ in range(20):
        p = torch.rand(7).tolist()
        assert mine["holm"](p) == pytest.approx(holm(p))
