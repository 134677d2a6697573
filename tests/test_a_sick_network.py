"""The tests of assignment 2, tested: right answers keep their points, wrong ones lose some."""

import copy

import nbformat
import pytest
from assignment_marks import SOURCE, Assignment

from suspicion import suspicious

NAME = "a-sick-network"
# Parts of the solution that are replaced below
EVAL = "            model.eval()(x)"
MODES = "            part.training = modes[name]"
REMOVE = "            handle.remove()"
SLOPE = "return torch.autograd.grad(outputs.sum(), z)[0]"
DEAD = "zero.movedim(1, 0).flatten(1).all(dim=1)"
FLAT = "(slopes(activation, z).abs() < 0.01).double().mean().item()"
GRADIENTS = "gradients = torch.autograd.grad(loss, list(weights.values()))"
NORM = "g.norm().item()"
EVIDENCE_A = "return dead_units(network[1], z).double().mean().item()"
EVIDENCE_B = 'return norms["0"] / max(norms.values())'
EVIDENCE_C = "return (outputs == 0).all(dim=0).double().mean().item()"
CURE_A, CURE_B, CURE_C = 'inputs="centred"', 'activation="tanh"', 'on_logits="none"'

# Answers a student may well give, each by what it changes in the solution, in the cell of that question.
WRONG = {
    "q1-answer": {
        "hooks stay on": (REMOVE, "            pass"),
        "hooks stay on after an error": (
            "    finally:\n        for handle in handles:\n            handle.remove()\n",
            "        for handle in handles:\n            handle.remove()\n    finally:\n",
        ),
        "all hooks come off": (
            REMOVE,
            "            handle.remove()\n        for part in parts.values():\n"
            "            part._forward_hooks.clear(), part._forward_pre_hooks.clear()",
        ),
        "the error is swallowed": (
            "    finally:\n",
            "    except RuntimeError:\n        pass\n    finally:\n",
        ),
        "only the top level": ("dict(model.named_modules())", "dict(model.named_children())"),
        "hooks on all modules": ("if isinstance(part, ACTIVATIONS):", "if name:"),
        "hooks on the layers": ("isinstance(part, ACTIVATIONS)", "isinstance(part, nn.Linear | nn.Conv2d)"),
        "only ReLU": ("isinstance(part, ACTIVATIONS)", "isinstance(part, nn.ReLU)"),
        "names by kind": (
            "listen(name, part)\n        with",
            "listen(type(part).__name__, part)\n        with",
        ),
        "inputs are not copied": ("inputs[0].detach().clone()", "inputs[0].detach()"),
        "outputs are not copied": ("output.detach().clone()", "output.detach()"),
        "the input after the fact": (
            "found[name] = found[name], output",
            "found[name] = inputs[0].detach().clone(), output",
        ),
        "outputs alone": ("found[name] = found[name], output.detach()", "found[name] = output.detach()"),
        "input and output swapped": (
            "found[name] = found[name], output.detach().clone()",
            "found[name] = output.detach().clone(), found[name]",
        ),
        "only the first batch": (EVAL, "            model.eval()(x[:5])"),
        "only the last batch": (
            EVAL,
            "            for some in x.split(4):\n                model.eval()(some)",
        ),
        "averages": ("output.detach().clone()", "output.detach().mean(0)"),
        "in training mode": (EVAL, "            model.train()(x)"),
        "in whatever mode": (EVAL, "            model(x)"),
        "left in evaluation mode": (MODES, "            pass"),
        "left in training mode": (MODES, "            part.training = True"),
        "all in the mode of the whole": (MODES, '            part.training = modes[""]'),
        "random numbers are seeded": ("    found, handles", "    torch.manual_seed(0)\n    found, handles"),
        "gradients are cleared": ("    return found", "    model.zero_grad()\n    return found"),
        "frozen afterwards": ("    return found", "    model.requires_grad_(False)\n    return found"),
    },
    "q2-answer": {
        "in place on z": ("activation(z.clone())", "activation(z)"),
        "not inside no_grad": ("torch.enable_grad()", "torch.set_grad_enabled(torch.is_grad_enabled())"),
        "the slope is 1 where it is not 0": (SLOPE, "return (outputs != 0).to(z.dtype)"),
        "a secant": (SLOPE, "return (activation(z + 1e-3) - activation(z)).detach() / 1e-3"),
        "value over input": (SLOPE, "return (outputs / z).detach()"),
        "the outputs' mean": ("outputs.sum()", "outputs.mean()"),
        "with a gradient": (
            SLOPE,
            "return torch.autograd.grad(outputs.sum(), z, create_graph=True)[0] + 0 * z",
        ),
        "the slope's sign": (SLOPE, "return torch.autograd.grad(outputs.sum(), z)[0].abs()"),
        "nearly zero is zero": ("(a == 0)", "(a.abs() < 1e-6)"),
        "negative is zero": ("(a == 0)", "(a <= 1e-3)"),
        "zero units": ("(a == 0).double()", "(a == 0).flatten(1).all(1).double()"),
        "a count": ("(a == 0).double().mean()", "(a == 0).sum()"),
        "flat by value: near 0": (FLAT, "(activation(z.clone()).abs() < 0.01).double().mean().item()"),
        "flat by value: near 0 or 1": (
            FLAT,
            "((activation(z.clone()) < 0.01) | (activation(z.clone()) > 0.99)).double().mean().item()",
        ),
        "flat: negative slopes too": (".abs() < 0.01", " < 0.01"),
        "flat: only slope 0": (".abs() < 0.01", " == 0"),
        "flat: a tenth": (".abs() < 0.01", ".abs() < 0.1"),
        "flat is not flat": (".abs() < 0.01", ".abs() >= 0.01"),
        "dead by a zero output": ("slopes(activation, z) == 0", "activation(z.clone()) == 0"),
        "dead: some example": ("all(dim=1)", "any(dim=1)"),
        "dead: most examples": ("all(dim=1)", "double().mean(1) > 0.9"),
        "dead: over the units": (DEAD, "zero.flatten(1).all(dim=1)"),
        "dead: by position": (DEAD, "zero.all(dim=0)"),
        "dead: units last": (DEAD, "zero.flatten(0, -2).all(dim=0)"),
        "dead: the mean input": ("slopes(activation, z) == 0", "slopes(activation, z.mean(0, True)) == 0"),
        "dead: the mean slope": (DEAD, "slopes(activation, z).movedim(1, 0).flatten(1).mean(1) < 0.05"),
        "dead: the last batch": ("slopes(activation, z) == 0", "slopes(activation, z[-4:]) == 0"),
        "dead: the first batch": ("slopes(activation, z) == 0", "slopes(activation, z[:4]) == 0"),
        "dead: by flatness": ("slopes(activation, z) == 0", "slopes(activation, z).abs() < 0.01"),
        "dead: a share": (".all(dim=1)", ".all(dim=1).double().mean()"),
        "dead: alive": ("return zero.movedim", "return ~zero.movedim"),
    },
    "q3-answer": {
        "backward, which adds": (
            GRADIENTS,
            "loss.backward()\n    gradients = [weight.grad for weight in weights.values()]",
        ),
        "backward after zero_grad": (
            GRADIENTS,
            "model.zero_grad()\n    loss.backward()\n    gradients = [w.grad for w in weights.values()]",
        ),
        "backward, and cleared afterwards": (
            GRADIENTS,
            "model.zero_grad()\n    loss.backward()\n    gradients = [w.grad.clone() for w in "
            "weights.values()]\n    model.zero_grad()",
        ),
        "the weights' norm": (GRADIENTS, "gradients = list(weights.values())"),
        "squared": (NORM, "g.square().sum().item()"),
        "the largest": (NORM, "g.abs().max().item()"),
        "the mean": (NORM, "g.abs().mean().item()"),
        "the sum": (NORM, "g.sum().item()"),
        "summed loss": ("(model.eval()(x), y)", '(model.eval()(x), y, reduction="sum")'),
        "probabilities": (
            "F.cross_entropy(model.eval()(x), y)",
            "F.cross_entropy(model.eval()(x).softmax(1), y)",
        ),
        "another loss": (
            "F.cross_entropy(model.eval()(x), y)",
            "F.mse_loss(model.eval()(x), F.one_hot(y, 3).to(x.dtype))",
        ),
        "in training mode": ("model.eval()(x)", "model.train()(x)"),
        "in whatever mode": ("model.eval()(x)", "model(x)"),
        "left in evaluation mode": ("module.training = mode", "pass"),
        "all in the mode of the whole": ("module.training = mode", "module.training = modes[0][1]"),
        "linear layers alone": ("nn.Linear | nn.Conv2d", "nn.Linear"),
        "normalisation, too": ("nn.Linear | nn.Conv2d", "nn.Linear | nn.Conv2d | nn.BatchNorm2d"),
        "the activations": (
            "isinstance(module, nn.Linear | nn.Conv2d)",
            "isinstance(module, ACTIVATIONS)",
        ),
        "biases": ("name: module.weight", "name: module.bias"),
        "names of parameters": ("name: module.weight", 'f"{name}.weight": module.weight'),
        "only the top level": (
            "module in model.named_modules()\n        if",
            "module in model.named_children()\n        if",
        ),
        "the first batch": ("(model.eval()(x), y)", "(model.eval()(x[:4]), y[:4])"),
    },
    "q4-a-answer": {
        "flat": ('"dead"', '"flat"'),
        "vanishing": ('"dead"', '"vanishing"'),
        "exploding": ('"dead"', '"exploding"'),
        "the cause of C": ('"dead"', '"on the logits"'),
        "the other layer": ('where_a = "1"', 'where_a = "3"'),
        "the layer before": ('where_a = "1"', 'where_a = "0"'),
        "no cause at all": ('"dead"', '"too deep"'),
        "evidence of the other layer": ("network[1], z", 'network[3], record(network, x)["3"][0]'),
        "evidence: zeros": (EVIDENCE_A, "return zero_share(network[1](z))"),
        "evidence: a count": ("double().mean()", "double().sum()"),
        "evidence: the living": (EVIDENCE_A, f"return 1 - {EVIDENCE_A.removeprefix('return ')}"),
        "evidence: one batch": ("record(network, x)", "record(network, x[:8])"),
        "evidence typed in": (EVIDENCE_A, "return 0.906"),
        "evidence of network_a only": ("record(network, x)", "record(network_a, x)"),
    },
    "q4-b-answer": {
        "flat": ('"vanishing"', '"flat"'),
        "dead": ('"vanishing"', '"dead"'),
        "exploding": ('"vanishing"', '"exploding"'),
        "the cause of C": ('"vanishing"', '"on the logits"'),
        "the last layer": ('where_b = "0"', 'where_b = "12"'),
        "the second layer": ('where_b = "0"', 'where_b = "2"'),
        "the activation behind it": ('where_b = "0"', 'where_b = "1"'),
        "evidence upside down": (EVIDENCE_B, 'return max(norms.values()) / norms["0"]'),
        "evidence: the norm": (EVIDENCE_B, 'return norms["0"]'),
        "evidence: the second layer": ('norms["0"] /', 'norms["2"] /'),
        "evidence: by the next layer": ("max(norms.values())", 'norms["2"]'),
        "evidence: by the sum": ("max(norms.values())", "sum(norms.values())"),
        "evidence typed in": (EVIDENCE_B, "return 0.00386"),
    },
    "q4-c-answer": {
        "vanishing": ('"on the logits"', '"vanishing"'),
        "flat": ('"on the logits"', '"flat"'),
        "dead": ('"on the logits"', '"dead"'),
        "exploding": ('"on the logits"', '"exploding"'),
        "the hidden activation": ('where_c = "3"', 'where_c = "1"'),
        "the last layer": ('where_c = "3"', 'where_c = "2"'),
        "evidence: zeros": (EVIDENCE_C, "return zero_share(outputs)"),
        "evidence: a count": ("double().mean()", "double().sum()"),
        "evidence: over the images": ("all(dim=0)", "all(dim=1)"),
        "evidence: wrong answers": (EVIDENCE_C, "return (outputs.argmax(1) != y).double().mean().item()"),
        "evidence: the hidden layer": ('record(network, x)["3"]', 'record(network, x)["1"]'),
        "evidence typed in": (EVIDENCE_C, "return 0.55"),
    },
    "q5-a-answer": {
        "nothing changed": (f"replace(patient_a, {CURE_A})", "patient_a"),
        "other weights": (CURE_A, 'start="he"'),
        "a slope below 0, from some seeds": (CURE_A, 'activation="leaky_relu"'),
        "a larger rate": (CURE_A, "learning_rate=1.0"),
        "two changes": (CURE_A, 'inputs="centred", learning_rate=0.05'),
        "everything": (
            CURE_A,
            'inputs="standardised", activation="tanh", normalisation="batch", start="xavier"',
        ),
        "more steps": (CURE_A, "steps=400"),
        "a wider network": (CURE_A, 'inputs="centred", hidden=(256, 64)'),
        "another optimiser": (CURE_A, 'optimiser="adam", learning_rate=0.003'),
        "the cure of C": (CURE_A, 'on_logits="relu"'),
    },
    "q5-b-answer": {
        "nothing changed": (f"replace(patient_b, {CURE_B})", "patient_b"),
        "a larger rate": (CURE_B, "learning_rate=1.0"),
        "a smaller rate": (CURE_B, "learning_rate=0.01"),
        "other weights": (CURE_B, 'start="xavier"'),
        "layer normalisation": (CURE_B, 'normalisation="layer"'),
        "other inputs": (CURE_B, 'inputs="standardised"'),
        "a shallow network": (CURE_B, "hidden=(64,)"),
        "two changes": (CURE_B, 'activation="tanh", start="xavier"'),
        "of another patient": ("replace(patient_b", "replace(patient_c"),
    },
    "q5-c-answer": {
        "nothing changed": (f"replace(patient_c, {CURE_C})", "patient_c"),
        "another hidden activation": (CURE_C, 'activation="relu"'),
        "from some seeds": (CURE_C, 'activation="tanh"'),
        "normalisation": (CURE_C, 'normalisation="batch"'),
        "a smaller rate": (CURE_C, "learning_rate=0.001"),
        "inputs": (CURE_C, 'inputs="standardised"'),
        "two changes": (CURE_C, 'on_logits="none", activation="tanh"'),
        "a dict": (f"replace(patient_c, {CURE_C})", '{"on_logits": "none"}'),
    },
}

ON_A_COPY = """import copy


def record(model, x):
    twin = copy.deepcopy(model).eval()
    found = {}

    def keep(name):
        def hook(module, inputs, output):
            found[name] = (inputs[0].clone(), output.clone())

        return hook

    for name, module in twin.named_modules():
        if isinstance(module, ACTIVATIONS):
            module.inplace = False
            module.register_forward_hook(keep(name))
    with torch.no_grad():
        twin(x)
    return found
"""
IN_A_STACK = """from contextlib import ExitStack, contextmanager
from functools import partial


@contextmanager
def at_rest(model):
    before = [(module, module.training) for _, module in model.named_modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def keep_input(found, name, module, inputs):
    found[name] = [inputs[0].detach().clone()]


def keep_output(found, name, module, inputs, output):
    found[name].append(output.detach().clone())


def record(model, x):
    found = {}
    with ExitStack() as stack, at_rest(model), torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, ACTIVATIONS):
                handle = module.register_forward_pre_hook(partial(keep_input, found, name))
                stack.callback(handle.remove)
                handle = module.register_forward_hook(partial(keep_output, found, name))
                stack.callback(handle.remove)
        model(x)
    return found
"""
BY_LAMBDAS = """def record(model, x):
    z, a, handles = {}, {}, []
    acts = {n: m for n, m in model.named_modules() if isinstance(m, ACTIVATIONS)}
    was = {m: m.training for n, m in model.named_modules()}
    try:
        model.eval()
        for n, m in acts.items():
            handles += [
                m.register_forward_pre_hook(lambda m, i, n=n: z.update({n: i[0].data.clone()})),
                m.register_forward_hook(lambda m, i, o, n=n: a.update({n: o.data.clone()})),
            ]
        with torch.no_grad():
            model(x)
    finally:
        [h.remove() for h in handles]
        for m in was:
            m.training = was[m]
    return {n: (z[n], a[n]) for n in acts}
"""
IN_BATCHES = '''class Recorder:
    def __init__(self, model):
        self.model = model
        self.z, self.a, self.handles = {}, {}, []

    def listen(self):
        for name, module in self.model.named_modules():
            if isinstance(module, ACTIVATIONS):
                self.z[name], self.a[name] = [], []
                self.handles.append(module.register_forward_pre_hook(self.before(name)))
                self.handles.append(module.register_forward_hook(self.after(name)))

    def before(self, name):
        return lambda module, inputs: self.z[name].append(inputs[0].clone())

    def after(self, name):
        return lambda module, inputs, output: self.a[name].append(output.clone())


@torch.no_grad()
def record(model, x):
    """In batches of four examples."""
    recorder = Recorder(model)
    modes = [module.training for _, module in model.named_modules()]
    model.eval()
    try:
        recorder.listen()
        for some in x.split(4):
            model(some)
    finally:
        for handle in recorder.handles:
            handle.remove()
        for mode, (_, module) in zip(modes, model.named_modules()):
            module.train(mode) if not list(module.children()) else None
            module.training = mode
    z, a = recorder.z, recorder.a
    return {name: (torch.cat(z[name]), torch.cat(a[name])) for name in z}
'''
BY_MODULES = """def record(model, x):
    found, handles, modes = {}, [], {m: m.training for m in model.modules()}
    names = {module: name for name, module in model.named_modules()}

    def before(module, inputs):
        found[names[module]] = inputs[0].detach().clone()

    def after(module, inputs, output):
        found[names[module]] = (found[names[module]], output.detach().clone())

    for module in model.modules():
        if isinstance(module, ACTIVATIONS):
            handles.append(module.register_forward_pre_hook(before))
            handles.append(module.register_forward_hook(after))
    model.eval()
    try:
        with torch.no_grad():
            model(x)
        return found
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
"""
NORMS_ON_A_COPY = """def gradient_norms(model, x, y):
    from copy import deepcopy

    twin = deepcopy(model)
    twin.zero_grad(set_to_none=True)
    twin.eval()
    nn.CrossEntropyLoss()(twin(x), y).backward()
    norms = {}
    for name, module in twin.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            norms[name] = module.weight.grad.pow(2).sum().sqrt()
    return norms
"""
NORMS_PUT_BACK = """def gradient_norms(model, x, y):
    kept = [(p, p.grad) for p in model.parameters()]
    modes = [(m, m.training) for n, m in model.named_modules()]
    for p, _ in kept:
        p.grad = None
    model.eval()
    logits = model(x)
    (-F.log_softmax(logits, 1)[torch.arange(len(y)), y]).mean().backward()
    norms = {
        name: float(torch.linalg.vector_norm(module.weight.grad))
        for name, module in model.named_modules()
        if type(module) in (nn.Linear, nn.Conv2d)
    }
    for p, grad in kept:
        p.grad = grad
    for m, mode in modes:
        m.training = mode
    return norms
"""
NORMS_BY_PARAMETERS = """def gradient_norms(model, x, y):
    modes = {m: m.training for _, m in model.named_modules()}
    model.eval()
    named = {n: p for n, p in model.named_parameters() if p.ndim > 1}
    loss = F.cross_entropy(model(x), y)
    for m in modes:
        m.training = modes[m]
    return {
        name.rsplit(".", 1)[0]: torch.norm(torch.autograd.grad(loss, p, retain_graph=True)[0])
        for name, p in named.items()
    }
"""
NORMS_BY_FUNC = """def gradient_norms(model, x, y):
    was = [(m, m.training) for _, m in model.named_modules()]
    model.eval()
    weights = {n: p.detach() for n, p in model.named_parameters()}

    def loss(weights):
        return F.cross_entropy(torch.func.functional_call(model, weights, (x,)), y)

    gradients = torch.func.grad(loss)(weights)
    for module, mode in was:
        module.training = mode
    layers = (nn.Linear, nn.Conv2d)
    names = [n for n, m in model.named_modules() if isinstance(m, layers)]
    return {n: gradients[f"{n}.weight"].norm().double() for n in names}
"""

# Other right answers, which must keep all points: a change to the solution, or another cell.
RIGHT = {
    "q1-answer": {
        "on a copy": ON_A_COPY,
        "in a stack": IN_A_STACK,
        "by lambdas": BY_LAMBDAS,
        "in batches": IN_BATCHES,
        "the output computed anew": (
            "found[name] = found[name], output.detach().clone()",
            "found[name] = found[name], part.forward(found[name].clone())",
        ),
        "helpers below": "def record(model, x):\n    return recorded(model, x)\n\n\n"
        + BY_LAMBDAS.replace("def record(", "def recorded("),
    },
    "q2-answer": {
        "by backward": (SLOPE, "outputs.backward(torch.ones_like(outputs))\n        return z.grad"),
        "by upstream ones": (SLOPE, "return torch.autograd.grad(outputs, z, torch.ones_like(z))[0]"),
        "by torch.func": (
            SLOPE,
            "return torch.func.grad(lambda t: activation(t.clone()).sum())(z.detach())",
        ),
        "by number": (
            SLOPE,
            "f = torch.func.vmap(torch.func.grad(lambda t: activation(t * 1)))\n"
            "        return f(z.detach().flatten()).view(z.shape)",
        ),
        "on a module that is not in place": (
            "outputs = activation(z.clone())",
            "outputs = activation(1 * z)",
        ),
        "float32 shares": (".double().mean().item()", ".float().mean()"),
        "counts": ("(a == 0).double().mean().item()", "int((a == 0).sum()) / a.numel()"),
        "through numpy": ("(a == 0).double().mean().item()", "(a.detach().numpy() == 0).mean()"),
        "zeros that are not nonzero": (
            "(a == 0).double().mean().item()",
            "1 - torch.count_nonzero(a).item() / a.numel()",
        ),
        "flat by both sides": (
            FLAT,
            "((slopes(activation, z) < 0.01) & (slopes(activation, z) > -0.01)).double().mean()",
        ),
        "dead by loops": (DEAD, "torch.tensor([bool(zero[:, u].all()) for u in range(z.shape[1])])"),
        "dead by the largest slope": (
            DEAD,
            "slopes(activation, z).abs().transpose(0, 1).reshape(z.shape[1], -1).amax(1) == 0",
        ),
        "dead: not any alive": (DEAD, "~(~zero).transpose(0, 1).flatten(1).any(1)"),
        "dead in two steps": (DEAD, "zero.all(0).reshape(z.shape[1], -1).all(1)"),
    },
    "q3-answer": {
        "on a copy": NORMS_ON_A_COPY,
        "put back": NORMS_PUT_BACK,
        "by parameters": NORMS_BY_PARAMETERS,
        "by torch.func": NORMS_BY_FUNC,
        "a tensor": (NORM, "(g * g).sum() ** 0.5"),
        "flat": (NORM, "torch.linalg.norm(g.flatten()).item()"),
    },
    "q4-a-answer": {
        "by name": ("network[1]", 'dict(network.named_modules())["1"]'),
        "the worst of both": (
            EVIDENCE_A,
            "found = record(network, x)\n    return max(float(dead_units(network[n], found[str(n)][0])"
            ".float().mean()) for n in (1, 3))",
        ),
        "by hand": (EVIDENCE_A, "return (network[:2](x) <= 0).all(0).sum() / 64"),
        "in float32": ("double()", "float()"),
        "a constant": ('where_a = "1"', 'HERE = "1"\nwhere_a = HERE'),
    },
    "q4-b-answer": {
        "the smallest": (EVIDENCE_B, "return min(norms.values()) / max(norms.values())"),
        "by the last": (EVIDENCE_B, 'return norms["0"] / norms["12"]'),
        "by hand": (
            EVIDENCE_B,
            "loss = F.cross_entropy(network(x), y)\n"
            "    first, last = torch.autograd.grad(loss, [network[0].weight, network[12].weight])\n"
            "    return first.norm() / last.norm()",
        ),
    },
    "q4-c-answer": {
        "by the sum": (EVIDENCE_C, "return (outputs.sum(0) == 0).float().mean()"),
        "by the network": (EVIDENCE_C, "return sum(float(c.max()) <= 0 for c in network(x).detach().T) / 10"),
        "by dead units": (
            EVIDENCE_C,
            'return dead_units(network[3], record(network, x)["3"][0]).float().mean()',
        ),
    },
    "q5-a-answer": {
        "unit inputs": (CURE_A, 'inputs="unit"'),
        "standardised inputs": (CURE_A, 'inputs="standardised"'),
        "a smaller rate": (CURE_A, "learning_rate=0.03"),
        "a far smaller rate": (CURE_A, "learning_rate=0.01"),
        "batch normalisation": (CURE_A, 'normalisation="batch"'),
        "layer normalisation": (CURE_A, 'normalisation="layer"'),
        "tanh": (CURE_A, 'activation="tanh"'),
    },
    "q5-b-answer": {
        "ReLU": (CURE_B, 'activation="relu"'),
        "LeakyReLU": (CURE_B, 'activation="leaky_relu"'),
        "batch normalisation": (CURE_B, 'normalisation="batch"'),
        "a new recipe": (
            f"replace(patient_b, {CURE_B})",
            'Recipe((64,) * 6, "sgd", 200, 64, "centred", "tanh", "he", "none", "none", 0.1)',
        ),
    },
}


def cases(answers):
    return [
        pytest.param(cell, change, id=f"{cell}: {name}")
        for cell, these in answers.items()
        for name, change in these.items()
    ]


def remembered(function):
    """Train each network once in all runs of the notebook."""

    def inner(recipe, seed):
        key = (function.__name__, repr(recipe), seed)
        if key not in MEMORY:
            MEMORY[key] = function(recipe, seed)
        return copy.deepcopy(MEMORY[key])

    return inner


MEMORY: dict = {}


class Remembering(Assignment):
    """The assignment, with a memory for what was trained."""

    def failures(self, answers, tests=None):
        """As Assignment's; of the tests only those that are named, and of the rest what these need."""
        every = self.cells
        if tests is not None:
            instruments = all(test[:2] in {"q1", "q2", "q3"} for test in tests)
            patients = {"recipe", "network", "training", "patients"} if instruments else set()
            left_out = patients | {test for test in self.points if test not in tests}
            self.cells = [cell for cell in every if cell.id not in left_out]
        try:
            return super().failures(answers)
        finally:
            self.cells = every

    def _run(self, answers):
        if not any(cell.id == "training" for cell in self.cells):
            return super()._run(answers)
        training = self.solution("training").replace("def trained(", "@remembered\ndef trained(")
        training = training.replace("@functools.cache\n", "@remembered\n")
        training = training.replace("= images()", "= remembered(lambda recipe, seed: images())(None, None)")
        training = f"from {__name__} import remembered\n\n{training}"
        return super()._run({"training": training} | answers)


@pytest.fixture(scope="module")
def assignment():
    return Remembering(NAME)


def changed(assignment, cell, change):
    if isinstance(change, str):
        return {cell: change}
    old, new = change
    source = assignment.solution(cell)
    assert source.count(old) >= 1, "the solution has changed"
    return {cell: source.replace(old, new)}


# What is measured with an instrument goes down with it.
BUILT_ON = {
    "q1-answer": {"q4-a-evidence", "q4-c-evidence"},
    "q2-answer": {"q4-a-evidence"},
    "q3-answer": {"q4-b-evidence"},
}


def own_tests(assignment, cell):
    return {test for test in assignment.points if test.startswith(cell.removesuffix("-answer"))}


@pytest.mark.parametrize(("cell", "change"), cases(WRONG))
def test_a_wrong_answer_loses_points_in_its_question(assignment, cell, change):
    assert assignment.failures(changed(assignment, cell, change), own_tests(assignment, cell))


@pytest.mark.parametrize(("cell", "change"), cases(RIGHT))
def test_another_right_answer_keeps_all_points(assignment, cell, change):
    tests = own_tests(assignment, cell) | BUILT_ON.get(cell, set())
    assert assignment.failures(changed(assignment, cell, change), tests) == {}


def test_modes_kept_by_modules_lose_no_points(assignment):
    """Not in RIGHT: suspicion.py takes ``model.modules()`` for a part of ``sys``, and has it read."""
    assert assignment.failures({"q1-answer": BY_MODULES}) == {}


@pytest.mark.parametrize(("cell", "change"), cases(RIGHT))
def test_a_right_answer_is_not_suspicious(assignment, cell, change):
    (path,) = (SOURCE / NAME).glob("*.ipynb")
    notebook = nbformat.read(path, as_version=4)
    for code in notebook.cells:
        if code.id == cell:
            code.source = changed(assignment, cell, change)[cell]
    assert suspicious(notebook.cells) == []


@pytest.mark.parametrize("cell", WRONG)
def test_without_an_answer_its_question_gives_nothing_and_the_others_all(assignment, cell):
    lost = set(assignment.failures({cell: "pass"}))
    assert lost == own_tests(assignment, cell) | BUILT_ON.get(cell, set())


def test_points_add_up_to_what_the_notebook_says(assignment):
    assert sum(assignment.points.values()) == 40
    by_question = [sum(p for test, p in assignment.points.items() if test[1] == q) for q in "12345"]
    assert by_question == [6, 6, 4, 9, 15]
