"""The probes read what plain torch code reads, and leave model, gradients and random numbers as they were."""

import copy
from functools import partial

import lightning as L
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nonlinearity import catalog
from nonlinearity.models import FunctionalMLP, mlp
from nonlinearity.probes import CheckUp, check_up, inspect_units, record_inputs, watch
from nonlinearity.training import fit

few = settings(max_examples=25, deadline=None, database=None, derandomize=True)
cross_entropy = nn.CrossEntropyLoss()
NAMES = [activation.name for activation in catalog.elementwise() if activation.module is not None]


def batch(n=40, inputs=6, classes=3):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, inputs, generator=generator), torch.randint(classes, (n,), generator=generator)


def model(name="relu", sizes=(6, 8, 5, 3)):
    torch.manual_seed(0)
    return mlp(sizes, name)


def hooks(network):
    return [
        len(held)
        for module in network.modules()
        for held in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
    ]


def row(table, name):
    (found,) = table[table["name"] == name].to_dict("records")
    return found


# --- record_inputs and inspect_units ------------------------------------------------------------------


def test_recorded_inputs_are_what_the_layers_before_give():
    network, (x, _) = model("tanh"), batch()
    with record_inputs(network) as inputs:
        network(x)
    assert list(inputs) == ["1", "3"]
    assert torch.equal(inputs["1"], network[0](x))
    assert torch.equal(inputs["3"], network[2](torch.tanh(network[0](x))))


def test_recorded_inputs_are_those_before_an_in_place_activation():
    network, (x, _) = nn.Sequential(nn.Linear(6, 4), nn.ReLU(inplace=True)), batch()
    with record_inputs(network) as inputs:
        network(x)
    assert torch.equal(inputs["1"], network[0](x))
    assert (inputs["1"] < 0).any()


class Shared(nn.Module):
    """One activation module, used twice, as many people write it."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.act = nn.Linear(6, 4), nn.Linear(4, 4), nn.ReLU()

    def forward(self, x):
        return self.act(self.second(self.act(self.first(x))))


def test_a_module_that_is_used_twice_is_recorded_twice_in_each_pass():
    network, (x, _) = Shared(), batch()
    with record_inputs(network) as inputs:
        network(x)
        network(2 * x)
    assert list(inputs) == ["act", "act (call 2)"]
    assert torch.equal(inputs["act"], network.first(2 * x))
    assert torch.equal(inputs["act (call 2)"], network.second(F.relu(network.first(2 * x))))


@pytest.mark.parametrize("use", [record_inputs, watch])
def test_hooks_come_off_at_the_end_and_on_an_error(use):
    network, (x, _) = model(), batch()
    with use(network):
        assert sum(hooks(network)) > 0
    assert sum(hooks(network)) == 0
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), use(network):
        network(x[:, 1:])
    assert sum(hooks(network)) == 0


@given(st.sampled_from(NAMES), st.integers(0, 5))
@few
def test_units_are_inspected_as_autograd_by_hand_says(name, seed):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(6, 9), catalog.get(name).make())
    with torch.no_grad():
        network[0].bias[:3] -= 30  # units that sleep, where the activation lets them
    network.eval()  # RReLU without its noise
    x, _ = batch()
    z = network[0](x).detach().requires_grad_()
    a = network[1](z.clone())
    (slope,) = torch.autograd.grad(a.sum(), z)
    report = inspect_units(network, x)["1"]
    assert report.dead.tolist() == [bool((slope[:, unit] == 0).all()) for unit in range(9)]
    assert report.dead_rate == pytest.approx(report.dead.double().mean().item())
    assert report.zero_rate == pytest.approx(float((a == 0).sum()) / a.numel())
    assert report.saturated_rate == pytest.approx(float((slope.abs() < 0.01).sum()) / a.numel())
    assert report.mean == pytest.approx(a.double().mean().item(), abs=1e-6)
    assert report.std == pytest.approx(np.std(a.detach().double().numpy()), abs=1e-6)


def test_zero_dead_and_saturated_are_three_things():
    network = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU())
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0], [0.0]]))
    report = inspect_units(network, torch.tensor([[-1.0], [1.0]]))["1"]
    assert (report.zero_rate, report.dead.tolist()) == (0.75, [False, True])
    sigmoid = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Sigmoid())
    with torch.no_grad():
        sigmoid[0].weight.fill_(8.0)
    report = inspect_units(sigmoid, torch.tensor([[-1.0], [1.0]]))["1"]
    assert (report.zero_rate, report.saturated_rate, report.dead_rate) == (0, 1, 0)


def test_units_are_channels_after_a_convolution_and_the_last_dimension_after_a_linear_layer():
    torch.manual_seed(0)
    images = nn.Sequential(nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5), nn.ReLU(inplace=True))
    assert inspect_units(images, torch.randn(4, 1, 8, 8))["2"].dead.shape == (5,)
    tokens = nn.Sequential(nn.Linear(6, 7), nn.LayerNorm(7), nn.GELU())
    assert inspect_units(tokens, torch.randn(4, 3, 6))["2"].dead.shape == (7,)
    with torch.no_grad():
        images[1].weight[2], images[1].bias[2] = 0, -1  # one dead channel
        tokens[1].bias[4] = -100
    assert inspect_units(images, torch.randn(4, 1, 8, 8))["2"].dead.nonzero().tolist() == [[2]]
    assert inspect_units(tokens, torch.randn(4, 3, 6))["2"].dead.nonzero().tolist() == [[4]]


@pytest.mark.parametrize(
    "use", [lambda m: inspect_units(m, batch()[0]), lambda m: record_inputs(m).__enter__()]
)
def test_a_model_without_activation_modules_is_refused(use):
    with pytest.raises(ValueError, match="FunctionalMLP has no element-wise activation module"):
        use(FunctionalMLP((6, 4, 3)))


# --- check_up -----------------------------------------------------------------------------------------


def by_hand(network, x, y):
    """Outputs of each layer of a Sequential, loss and gradients, without a hook."""
    network = copy.deepcopy(network)
    outputs, a = [], x
    for layer in network:
        a = layer(a)
        outputs.append(a.detach().clone())
    loss = cross_entropy(a, y)
    loss.backward()
    return outputs, loss.item(), {name: p.grad for name, p in network.named_parameters()}


@given(st.sampled_from(NAMES))
@few
def test_check_up_measures_signals_and_gradients(name):
    network, (x, y) = model(name).eval(), batch()
    outputs, loss, gradients = by_hand(network, x, y)
    report = check_up(network, x, y, cross_entropy)
    assert report.loss == pytest.approx(loss)
    assert report.table["name"].tolist() == ["0", "1", "2", "3", "4"]
    for position, output in enumerate(outputs):
        read = row(report.table, str(position))
        values = output.double().numpy()
        assert read["mean"] == pytest.approx(values.mean(), abs=1e-6)
        assert read["std"] == pytest.approx(values.std(), abs=1e-6)
        assert read["spread"] == pytest.approx(np.sqrt(values.var(axis=0).mean()), abs=1e-6)
    for position in (0, 2, 4):
        expected = gradients[f"{position}.weight"].double().norm().item()
        assert row(report.table, str(position))["gradient"] == pytest.approx(expected, rel=1e-6)
        assert np.isnan(row(report.table, str(position))["dead_rate"])
    assert {row(report.table, p)["kind"] for p in "13"} == {catalog.get(name).label}


@pytest.mark.parametrize("training", [True, False])
def test_check_up_leaves_everything_as_it_was(training):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.RReLU(), nn.Dropout(), nn.Linear(8, 3))
    network.train(training)
    x, y = batch()
    cross_entropy(network(x), y).backward()
    before = copy.deepcopy(network.state_dict())
    gradients = [p.grad.clone() for p in network.parameters()]
    state = torch.get_rng_state()
    check_up(network, x, y, cross_entropy)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(network.parameters(), gradients))
    assert network.training is training
    assert sum(hooks(network)) == 0


def test_check_up_resolves_gradients_that_float32_could_not_square():
    network, (x, y) = model("sigmoid", (6, *[8] * 30, 3)), batch()
    read = row(check_up(network, x, y, cross_entropy).table, "0")["gradient"]
    exact = by_hand(network.double(), x.double(), y)[2]["0.weight"].norm().item()
    assert exact < 1e-23  # its square is below what float32 holds
    assert read == pytest.approx(exact, rel=0.01)


def test_functional_activations_are_said_to_be_unseen():
    x, y = batch()
    report = check_up(FunctionalMLP((6, 8, 5, 3), "relu"), x, y, cross_entropy)
    assert report.unseen == {"relu": 2}
    assert "Unseen: relu was called 2 times as a function" in str(report)
    assert report.table["kind"].tolist() == ["Linear"] * 3
    assert check_up(model("relu"), x, y, cross_entropy).unseen == {}


@pytest.mark.parametrize(
    "function",
    [F.relu, torch.relu, torch.Tensor.relu, torch.Tensor.relu_, F.gelu, torch.sigmoid, torch.special.expit,
     F.sigmoid, torch.tanh, F.silu, F.leaky_relu, F.softplus],
)  # fmt: skip
def test_every_spelling_of_a_function_is_noticed(function):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 3)

        def forward(self, x):
            return function(self.layer(x))

    x, y = batch()
    names = ("relu", "gelu", "sigmoid", "tanh", "silu", "leaky_relu", "softplus")
    ((name, count),) = check_up(Net(), x, y, cross_entropy).unseen.items()
    assert (name in names, count) == (True, 1)
    torch.testing.assert_close(catalog.get(name)(x), function(x.clone()))


def test_findings_name_the_sick_layer():
    x, y = batch(200)
    dead = model("relu", (6, 50, 50, 3))
    with torch.no_grad():
        dead[2].bias[:20] = -100
    (finding,) = check_up(dead, x, y, cross_entropy).findings
    assert finding.startswith("Dead units: 44% of 3 (ReLU)")  # two more were born dead

    saturated = model("tanh", (6, 50, 50, 3))
    with torch.no_grad():
        saturated[0].weight *= 100
    assert check_up(saturated, x, y, cross_entropy).findings[0].startswith("Saturated: ")
    assert "% of 1 (Tanh) have a slope below 0.01." in check_up(saturated, x, y, cross_entropy).findings[0]

    deep = model("sigmoid", (6, *[20] * 15, 3))
    lost, vanishing = check_up(deep, x, y, cross_entropy).findings
    assert lost.startswith("Lost signal: from ")
    assert vanishing.startswith("Vanishing gradient: that of 0 (Linear)")

    exploding = model("relu", (6, *[20] * 15, 3))
    with torch.no_grad():
        for layer in exploding[:-1:2]:
            layer.weight *= 6
    # The gradients of a ReLU network grow in all its layers alike: the signal tells.
    dead_too, finding = check_up(exploding, x, y, cross_entropy).findings
    assert dead_too.startswith(
        "Dead units: 30% of 17 (ReLU), 25% of 25 (ReLU), 20% of 19 (ReLU), 2 layers more;"
    )
    assert finding.startswith("Exploding signal: 30 (Linear) gives ")

    bounded = model("tanh", (6, *[20] * 30, 3))
    with torch.no_grad():
        for layer in bounded[:-1:2]:
            layer.weight.normal_(std=4 / layer.in_features**0.5)
    assert (
        check_up(bounded, x, y, cross_entropy)
        .findings[-1]
        .startswith("Exploding gradient: that of 0 (Linear)")
    )

    assert check_up(model("tanh", (6, 50, 3)), x, y, cross_entropy).findings == ["Nothing stands out."]


def test_findings_tell_where_nan_comes_from():
    x, y = batch()
    network = model()
    with torch.no_grad():
        network[2].weight[0, 0] = torch.nan
    assert check_up(network, x, y, cross_entropy).findings[0] == (
        "Not finite: the first outputs with NaN or infinity are those of 2 (Linear)."
    )
    finding = check_up(model("tanh"), x, y, lambda outputs, _: outputs.square().sum() / 0).findings[0]
    assert finding == "Not finite: every output is finite, the loss is inf."
    finding = check_up(model("tanh"), x, y, lambda outputs, _: (0 * outputs).sum().sqrt()).findings[0]
    assert finding == "Not finite: outputs and loss are finite, the gradient of 4 (Linear) is not."


def test_layers_without_a_gradient_are_named():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(6, 3), nn.Linear(6, 3)

        def forward(self, x):
            return self.used(x)

    x, y = batch()
    report = check_up(Net(), x, y, cross_entropy)
    assert report.findings == ["No gradient arrives at the weights of unused (Linear)."]
    assert np.isnan(row(report.table, "unused")["mean"])


def test_check_up_works_on_a_transformer_and_a_recurrent_network():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation=nn.GELU())
    transformer = nn.Sequential(layer, nn.Flatten(), nn.Linear(32, 3))
    y = batch()[1]
    report = check_up(transformer, torch.randn(40, 4, 8), y, cross_entropy)
    assert "0.activation" in report.inputs
    assert report.unseen == {}

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = nn.LSTM(8, 6, batch_first=True), nn.Linear(6, 3)

        def forward(self, x):
            return self.head(self.lstm(x)[0][:, -1])

    table = check_up(Recurrent(), torch.randn(40, 4, 8), y, cross_entropy).table
    assert table["name"].tolist() == ["lstm", "head"]
    assert (table["gradient"] > 0).all()


def test_bad_input_is_refused():
    x, y = batch()
    with pytest.raises(ValueError, match=r"one number, the mean over the batch; got shape \(40,\)"):
        check_up(model(), x, y, nn.CrossEntropyLoss(reduction="none"))
    with pytest.raises(ValueError, match="Flatten has neither layers with weights nor activation"):
        check_up(nn.Flatten(), x, y, cross_entropy)
    with pytest.raises(ValueError, match="Flatten has neither"), watch(nn.Flatten()):
        pass
    with pytest.raises(ValueError, match="every must be at least 1, got 0"), watch(model(), every=0):
        pass


def test_report_and_figure_hold_every_layer():
    network, (x, y) = model(), batch()
    report = check_up(network, x, y, cross_entropy)
    lines = str(report).splitlines()
    assert [line.split()[:2] for line in lines[1:6]] == [
        ["0", "Linear"], ["1", "ReLU"], ["2", "Linear"], ["3", "ReLU"], ["4", "Linear"],
    ]  # fmt: skip
    assert max(map(len, lines)) <= 78
    assert lines[0].split() == ["mean", "std", "spread", "zeros", "flat", "dead", "gradient"]
    long = CheckUp(1.0, report.table, {}, ["word " * 30], {})
    assert max(map(len, str(long).splitlines())) <= 78
    inflow, _, gradients = report.draw().axes
    assert [tick.get_text() for tick in inflow.get_yticklabels()] == ["1 ReLU", "3 ReLU"]
    drawn = gradients.lines[0].get_xdata()
    np.testing.assert_allclose(drawn, report.table["gradient"].dropna())


# --- watch --------------------------------------------------------------------------------------------

SETTINGS = dict(loss=cross_entropy, epochs=2, batch_size=16)


def train_by_hand(network, x, y, optimizer):
    """A plain loop that writes down each step's loss gradient and change of the first layer."""
    stepper, generator, seen = optimizer(network.parameters()), torch.Generator().manual_seed(0), []
    for _ in range(2):
        for rows in torch.randperm(len(x), generator=generator).split(16):
            stepper.zero_grad()
            cross_entropy(network(x[rows]), y[rows]).backward()
            weight = network[0].weight
            old, gradient = weight.detach().clone(), weight.grad.double().norm().item()
            with torch.no_grad():
                z = network[0](x[rows])
            stepper.step()
            change = (weight.detach() - old).norm() / old.norm()
            seen.append((gradient, change.item(), (z <= 0).double().mean().item()))
    return np.array(seen)


@pytest.mark.parametrize("optimizer", [partial(torch.optim.SGD, lr=0.3), partial(torch.optim.Adam, lr=0.01)])
def test_watch_records_each_step_and_changes_nothing(optimizer):
    x, y = batch()
    expected = train_by_hand(plain := model(), x, y, optimizer)
    with watch(watched := model()) as monitor:
        fit(watched, x, y, optimizer=optimizer, **SETTINGS)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), watched.parameters()))
    first, relu = monitor.table[monitor.table["name"] == "0"], monitor.table[monitor.table["name"] == "1"]
    assert first["step"].tolist() == list(range(6))
    np.testing.assert_allclose(first["gradient"], expected[:, 0], rtol=1e-5)
    np.testing.assert_allclose(first["update"], expected[:, 1], rtol=1e-4)
    np.testing.assert_allclose(relu["zero_rate"], expected[:, 2], rtol=1e-6)
    assert monitor.table["name"].tolist()[:5] == ["0", "1", "2", "3", "4"]


def test_watch_every_so_many_steps_gives_the_same_rows():
    x, y = batch()
    with watch(full := model()) as monitor:
        fit(full, x, y, optimizer=partial(torch.optim.SGD, lr=0.3), **SETTINGS)
    with watch(thinned := model(), every=3) as thin:
        fit(thinned, x, y, optimizer=partial(torch.optim.SGD, lr=0.3), **SETTINGS)
    kept = monitor.table[monitor.table["step"] % 3 == 0].reset_index(drop=True)
    assert kept.equals(thin.table)


def test_watch_does_not_record_validation_nor_other_models():
    x, y = batch()
    with watch(network := model()) as monitor:
        fit(model(), x, y, optimizer=partial(torch.optim.SGD, lr=0.3), **SETTINGS)  # somebody else's
        assert monitor.table.empty
        fit(network, x, y, optimizer=partial(torch.optim.SGD, lr=0.3), validation=(x, y), **SETTINGS)
        network.eval()(x)  # with gradients, as people forget
        cross_entropy(network.train()(x), y).backward()
        torch.optim.SGD(network.parameters(), lr=0.3).step()
    assert len(monitor.table) == 7 * 5
    assert not monitor.table["name"].str.contains("call").any()


def test_watch_leaves_the_random_numbers_of_the_training_alone():
    def noisy():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 8), nn.RReLU(), nn.Dropout(), nn.Linear(8, 3))

    x, y = batch()
    plain, watched = noisy(), noisy()
    torch.manual_seed(5)
    fit(plain, x, y, optimizer=partial(torch.optim.SGD, lr=0.3), **SETTINGS)
    torch.manual_seed(5)
    with watch(watched):
        fit(watched, x, y, optimizer=partial(torch.optim.SGD, lr=0.3), **SETTINGS)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), watched.parameters()))


def test_optimizer_hooks_come_off_too():
    x, y = batch()
    with watch(network := model()) as monitor:
        pass
    fit(network, x, y, optimizer=partial(torch.optim.SGD, lr=0.3), **SETTINGS)
    assert monitor.table.empty


def test_watch_draws_what_it_recorded():
    x, y = batch()
    with watch(network := model()) as monitor:
        fit(network, x, y, optimizer=partial(torch.optim.SGD, lr=0.3), **SETTINGS)
    gradient, update, saturated, dead = monitor.draw().axes
    assert len(gradient.lines) == 3
    assert len(dead.lines) == len(saturated.lines) == 2
    np.testing.assert_allclose(
        update.lines[1].get_ydata(), monitor.table[monitor.table["name"] == "2"]["update"]
    )


# --- in Ignite and Lightning --------------------------------------------------------------------------


def loader(x, y):
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=8)


def plain_table(x, y):
    network = model()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.3)
    with watch(network) as monitor:
        for _ in range(2):
            for inputs, targets in loader(x, y):
                optimizer.zero_grad()
                cross_entropy(network(inputs), targets).backward()
                optimizer.step()
    return monitor.table


class Module(L.LightningModule):
    def __init__(self, fails=False):
        super().__init__()
        self.network, self.fails = model(), fails

    def training_step(self, rows):
        if self.fails:
            raise RuntimeError("stop")
        inputs, targets = rows
        return cross_entropy(self.network(inputs), targets)

    def validation_step(self, rows):
        self.network(rows[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.3)


def trainer(folder, *callbacks):
    return L.Trainer(
        max_epochs=2, callbacks=list(callbacks), default_root_dir=folder, accelerator="cpu", logger=False,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*does not have many workers")  # the loader of a test needs none
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated")  # Lightning's, of torch's
def test_lightning_callback_records_the_same_numbers(tmp_path):
    from nonlinearity.lightning_probes import Watch

    x, y = batch()
    callback = Watch()
    trainer(tmp_path, callback).fit(module := Module(), loader(x, y), loader(x, y))
    table = callback.monitor.table
    table["name"] = table["name"].str.removeprefix("network.")
    assert table.equals(plain_table(x, y))
    assert sum(hooks(module)) == 0
    with pytest.raises(RuntimeError, match="stop"):
        trainer(tmp_path, callback).fit(failing := Module(fails=True), loader(x, y), loader(x, y))
    assert sum(hooks(failing)) == 0


# Ignite asks torch for a class whose module still uses torch.jit.
@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated:DeprecationWarning")
def test_ignite_handler_records_the_same_numbers():
    from ignite.engine import create_supervised_trainer

    from nonlinearity.ignite_probes import Watch

    x, y = batch()
    network = model()
    engine = create_supervised_trainer(network, torch.optim.SGD(network.parameters(), lr=0.3), cross_entropy)
    handler = Watch(network)
    handler.attach(engine)
    engine.run(loader(x, y), max_epochs=2)
    assert handler.monitor.table.equals(plain_table(x, y))
    assert sum(hooks(network)) == 0
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        engine.run(loader(x[:, 1:], y), max_epochs=3)
    assert sum(hooks(network)) == 0
