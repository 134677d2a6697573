"""The interactive charts in Chromium: on a small site of their own, opened as files, without a server."""

import gzip
import math
import re
import subprocess
import sys
from pathlib import Path

import axe_core_python
import nbformat
import pytest
import torch
from playwright.sync_api import Page

from nonlinearity import catalog, interactive
from nonlinearity.properties import value_and_slope

ROOT = Path(__file__).parents[1]
NAMES = (
    "explorer",
    "leaky_slope",
    "depth_chain",
    "depth_and_gain",
    "hinges",
    "decision_boundary",
    "softmax_temperature",
    "gates",
    "dying_units",
)
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
CONF = """
import sys
sys.path.insert(0, {website!r})
extensions = ["myst_nb", "vegalite"]
html_theme = "sphinx_book_theme"
html_static_path = [{static!r}]
nb_execution_mode = "off"
html_context = {{"default_mode": "light"}}
project = "Charts"
language = "en"
"""
# Shifts of the layout, from the first paint on.
WATCH_SHIFTS = """
window.shifts = [];
new PerformanceObserver((list) => { for (const entry of list.getEntries()) shifts.push(entry.value); })
  .observe({ type: "layout-shift", buffered: true });
"""


@pytest.fixture(scope="session")
def charts():
    return {name: getattr(interactive, name)() for name in NAMES}


@pytest.fixture(scope="session")
def site(charts, tmp_path_factory):
    """A site of two pages: one with all charts, one without any."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    cells = [nbformat.v4.new_markdown_cell("# All charts")]
    for name, chart in charts.items():
        output = nbformat.v4.new_output("display_data", data=chart._repr_mimebundle_())
        metadata = {"mystnb": {"image": {"alt": f"What the chart {name} shows."}}, "tags": ["remove-input"]}
        cells.append(
            nbformat.v4.new_markdown_cell(f"## {name.replace('_', ' ')}\n\nSome text before the chart.")
        )
        cells.append(nbformat.v4.new_code_cell(name, outputs=[output], execution_count=1, metadata=metadata))
    cells.append(nbformat.v4.new_markdown_cell("```{toctree}\nplain\n```"))
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, source / "index.ipynb")
    (source / "plain.md").write_text("# A page without a chart\n\nText.\n")
    conf = CONF.format(website=str(ROOT / "website"), static=str(ROOT / "website" / "static"))
    (source / "conf.py").write_text(conf)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", source, built]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return built


@pytest.fixture
def open_page(browser, site):
    """A function that opens a page of the site; fails the test on an error or a request to anywhere else."""
    contexts, complaints = [], []

    def open_(viewport=WIDE, theme="light", page="index", **options) -> Page:
        context = browser.new_context(viewport=viewport, color_scheme=theme, **options)
        contexts.append(context)
        opened = context.new_page()
        opened.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        opened.on("console", lambda said: said.type == "error" and complaints.append(said.text))
        opened.on(
            "request",
            lambda request: (
                request.url.startswith(("file:", "data:", "blob:")) or complaints.append(request.url)
            ),
        )
        if options.get("java_script_enabled", True):
            opened.add_init_script(WATCH_SHIFTS)
        opened.goto((site / f"{page}.html").as_uri())
        if options.get("java_script_enabled", True) and page == "index":
            opened.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
            drawn = f"document.querySelectorAll('.chart.drawn').length === {len(NAMES)}"
            opened.wait_for_function(drawn, timeout=30_000)
        return opened

    yield open_
    for context in contexts:
        context.close()
    # The theme's own script complains of this one everywhere; the course's site leaves thebe out.
    assert [text for text in complaints if "THEBE" not in text] == []


@pytest.fixture
def page(open_page):
    return open_page()


def chart_of(page, name):
    return page.locator(".chart").nth(NAMES.index(name))


def press(page, chart, label, *keys):
    """Reach a control by its label, and use it by keyboard alone."""
    control = chart.get_by_label(label, exact=True)
    control.focus()
    for key in keys:
        page.keyboard.press(key)
    settle(page)
    return control


def settle(page):
    """Wait until every chart shows what its controls say."""
    page.wait_for_function("!document.querySelector('.chart[aria-busy]')")


def reading(chart):
    return chart.locator("[role=status]").text_content().replace("−", "-")


def values(chart):
    """The numbers of a reading, by what stands before them: ``{("ReLU", "f(1)"): 1.0}``."""
    pattern = re.compile(r"(\w+):\s+(\S+\(\S+\)) = (-?[\d.]+?)(?=\. |$)")
    return {(name, of): float(number) for name, of, number in pattern.findall(reading(chart))}


def expected(label, x, **parameters):
    """What torch gives, keyed as ``values`` keys it."""
    activation = catalog.get(label)
    at = torch.tensor(x, dtype=torch.float64)
    value, slope = value_and_slope(lambda x: activation(x, **parameters), at)
    return {(label, f"f({x:g})"): value.item(), (label, f"f′({x:g})"): slope.item()}


def close(found, wanted):
    return found.keys() == wanted.keys() and all(
        math.isclose(found[key], wanted[key], abs_tol=0.51e-4) for key in wanted
    )


# --- by keyboard, against torch ---


def test_the_explorer_by_keyboard(page):
    chart = chart_of(page, "explorer")
    at_1 = expected("ReLU", 1.0) | expected("GELU", 1.0) | expected("Tanh", 1.0)
    assert close(values(chart), at_1)
    slider = press(page, chart, "x", *["ArrowLeft"] * 23)
    assert slider.input_value() == "-1.3"
    assert close(values(chart), expected("ReLU", -1.3) | expected("GELU", -1.3) | expected("Tanh", -1.3))
    press(page, chart, "First", "ArrowDown")
    press(page, chart, "Third", "Home")
    assert close(values(chart), expected("LeakyReLU", -1.3) | expected("GELU", -1.3))


def test_the_explorer_shows_the_parameters_of_what_is_chosen(page):
    chart = chart_of(page, "explorer")
    assert chart.get_by_label("GELU approximate").is_visible()
    assert not chart.get_by_label("ELU alpha", exact=True).is_visible()
    press(page, chart, "x", *["ArrowLeft"] * 20)
    press(page, chart, "Second", "E", "L", "U")
    press(page, chart, "Third", "Home")
    assert not chart.get_by_label("GELU approximate").is_visible()
    press(page, chart, "ELU alpha", "End", "ArrowLeft")
    assert close(values(chart), expected("ReLU", -1.0) | expected("ELU", -1.0, alpha=1.75))
    press(page, chart, "Second", "G")
    press(page, chart, "GELU approximate", "ArrowDown")
    assert close(values(chart), expected("ReLU", -1.0) | expected("GELU", -1.0, approximate="tanh"))


def test_every_activation_of_the_explorer_at_a_kink(page):
    chart = chart_of(page, "explorer")
    press(page, chart, "Third", "Home")
    press(page, chart, "Second", "Home")
    press(page, chart, "x", *["ArrowLeft"] * 10)
    menu = chart.get_by_label("First")
    for activation in catalog.elementwise():
        menu.select_option(activation.label)
        settle(page)
        assert close(values(chart), expected(activation.label, 0.0)), activation.label


def test_leaky_slope_by_keyboard(page):
    chart = chart_of(page, "leaky_slope")
    press(page, chart, "LeakyReLU negative_slope", *["ArrowRight"] * 15)
    found = values(chart)
    assert close(found, expected("ReLU", -2.0) | expected("LeakyReLU", -2.0, negative_slope=0.25))
    press(page, chart, "x", "Home")
    press(page, chart, "LeakyReLU negative_slope", "End")
    assert close(values(chart), expected("ReLU", -4.0) | expected("LeakyReLU", -4.0, negative_slope=1.0))


def test_depth_chain_by_keyboard(page, charts):
    chart, measured = chart_of(page, "depth_chain"), charts["depth_chain"].measured
    press(page, chart, "Layers", "End")
    press(page, chart, "Variance of the weights × width", "ArrowRight", "ArrowRight")
    found = dict(re.findall(r"(\w+): +(\S+) \(", reading(chart)))
    assert list(found) == ["Sigmoid", "Tanh", "ReLU", "GELU"]
    for label, text in found.items():
        wanted = measured[label][measured["variances"].index(2.0), 31].item()
        assert float(text) == pytest.approx(wanted, rel=0.006)


def test_depth_and_gain_by_keyboard(page, charts):
    chart, measured = chart_of(page, "depth_and_gain"), charts["depth_and_gain"].measured
    press(page, chart, "Number of layers", "ArrowLeft")
    press(page, chart, "Gain of the weights", "ArrowRight", "ArrowRight")
    found = re.findall(r"(\w+), layer (\d+): +([\d.]+e[+-]\d+)", reading(chart))
    assert [(label, int(layer)) for label, layer, _ in found] == [
        (label, layer) for layer in (8, 1) for label in ("Sigmoid", "Tanh", "ReLU", "GELU")
    ]
    gain, chain = measured["gains"].index(1.4), measured["depths"].index(8)
    for label, layer, text in found:
        each = measured[label]
        power = each["spread"][gain, 7] if layer == "8" else each["gradient"][gain, chain, 0]
        assert float(text) == pytest.approx(10 ** power.item(), rel=0.07)
    press(page, chart, "Number of layers", "End")
    press(page, chart, "Gain of the weights", "Home")
    assert "Sigmoid, layer 32:  below 1e-10" in reading(chart)


def test_softmax_temperature_by_keyboard(page):
    chart = chart_of(page, "softmax_temperature")
    press(page, chart, "First logit", "Home")
    press(page, chart, "Temperature", "ArrowRight", "ArrowRight")
    found = [float(p) for p in re.findall(r"p = ([\d.]+\d)", reading(chart))]
    expected = torch.tensor([-3.0, 1.0, 0.0]).div(1.5).softmax(0)
    assert found == pytest.approx(expected.tolist(), abs=0.51e-3)


def test_gates_by_keyboard(page):
    chart = chart_of(page, "gates")
    press(page, chart, "Value a", "End")
    press(page, chart, "Gate input b", *["ArrowLeft"] * 15)
    found = re.findall(r"(\w+GLU|GEGLU|GLU): +(-?[\d.]*\d)", reading(chart))
    assert len(found) == 8  # values, then slopes
    for i, (label, text) in enumerate(found):
        pair = torch.tensor([2.0, -0.5], dtype=torch.float64, requires_grad=True)
        value = catalog.get(label)(pair)
        (slope,) = torch.autograd.grad(value.sum(), pair)
        wanted = value.item() if i < 4 else slope[1].item()
        assert float(text) == pytest.approx(wanted, abs=0.51e-4), label


def test_hinges_by_keyboard(page, charts):
    chart, error = chart_of(page, "hinges"), charts["hinges"].measured["error"]
    press(page, chart, "ReLUs", "ArrowRight", "ArrowRight", "ArrowRight")
    assert reading(chart).startswith("sin x in grey, 7 ReLUs. ")
    assert float(reading(chart).split()[-1]) == pytest.approx(error[6], rel=0.006)
    press(page, chart, "ReLUs", "Home")
    assert reading(chart).startswith("sin x in grey, 1 ReLU. ")


def test_decision_boundary_by_keyboard(page, charts):
    chart, measured = chart_of(page, "decision_boundary"), charts["decision_boundary"].measured
    for keys, frame in ((["Home"], 0), (["ArrowRight"] * 4, 4), (["End"], 20)):
        press(page, chart, "Training step", *keys)
        shown = [float(number) for number in re.findall(r"accuracy ([\d.]+\d)", reading(chart))]
        assert shown == pytest.approx([measured["Tanh"][frame], measured["linear"][frame]], abs=0.0006)


def test_dying_units_by_keyboard(page, charts):
    chart, measured = chart_of(page, "dying_units"), charts["dying_units"].measured
    for keys, at in (([], (2, 0)), (["ArrowRight"], (2, 1)), (["End"], (2, 4))):
        press(page, chart, "Share of the mean subtracted", *keys)
        shown = [float(number) for number in re.findall(r"at the end: +([\d.]+\d)", reading(chart))]
        wanted = [measured[key][at].mean(0)[-1].item() for key in ("dead", "accuracy")]
        assert shown == pytest.approx(wanted, abs=0.006)
    press(page, chart, "Learning rate", "End")
    wanted = measured["dead"][7, 4].mean(0)[-1].item()
    assert f"dead units at the end: {wanted:.2f}" in re.sub(" +", " ", reading(chart))


def test_tab_reaches_every_control_in_order(page):
    page.locator(".chart [name]").first.focus()
    for name in ("second", "third", "x", "gelu_approximate", "leaky_relu_negative_slope", "x", "layers"):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.name") == name


# --- for everyone ---


def test_controls_and_pictures_have_names(page):
    for control in page.locator(".chart [name]").all():
        assert control.evaluate("each => each.labels.length") == 1
        assert control.evaluate("each => each.labels[0].textContent.trim().length") > 0
    for slider in page.locator(".chart input").all():
        output = slider.locator("xpath=following-sibling::output")
        assert output.get_attribute("for") == slider.get_attribute("id")
        assert output.text_content().replace("−", "-") == slider.input_value()
    for name in NAMES:
        assert chart_of(page, name).get_by_role("img", name=f"What the chart {name} shows.").count() == 1
    identifiers = page.locator(".chart [id]").evaluate_all("all => all.map((each) => each.id)")
    assert len(set(identifiers)) == len(identifiers)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_axe_finds_nothing(open_page, viewport, theme):
    page = open_page(viewport, theme)
    page.add_script_tag(path=Path(axe_core_python.__file__).with_name("axe.min.js"))
    violations = page.evaluate("axe.run('.chart').then((result) => result.violations)")
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in violations] == []


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_charts_fit_and_nothing_moves(open_page, viewport):
    page = open_page(viewport)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    for name in NAMES:
        svg = chart_of(page, name).locator("svg").bounding_box()
        picture = chart_of(page, name).locator(".chart-picture")
        assert 0 <= picture.bounding_box()["width"] - svg["width"] < 40, name
        natural = float(chart_of(page, name).locator("svg").get_attribute("width"))
        assert svg["width"] == pytest.approx(natural, abs=0.5), f"{name} is scaled down to fit"
        reserved = float(picture.evaluate("each => getComputedStyle(each).minHeight").removesuffix("px"))
        assert abs(svg["height"] - reserved) <= 2, name
        texts = chart_of(page, name).locator("svg text")
        edges = texts.evaluate_all("all => all.map((each) => each.getBoundingClientRect())")
        assert all(edge["left"] >= svg["x"] - 1 for edge in edges), name
        assert all(edge["right"] <= svg["x"] + svg["width"] + 1 for edge in edges), name
    assert page.evaluate("shifts.reduce((sum, each) => sum + each, 0)") <= 0.02


def test_a_chart_keeps_its_values_when_the_window_narrows(page):
    chart = chart_of(page, "leaky_slope")
    press(page, chart, "LeakyReLU negative_slope", "End")
    before = reading(chart)
    page.set_viewport_size(PHONE)
    page.wait_for_function("document.querySelector('.chart svg').getBoundingClientRect().width < 390")
    page.wait_for_timeout(500)
    assert reading(chart) == before
    panels = chart.locator("[class*=concat_][class*=_group]").evaluate_all(
        "all => all.map((each) => each.getBoundingClientRect().left)"
    )
    assert max(panels) - min(panels) < 50  # one above the other


def test_the_chart_follows_the_theme(page):
    chart = chart_of(page, "explorer").locator("svg")
    filtered = "each => getComputedStyle(each).filter"
    assert chart.evaluate(filtered) == "none"
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    assert chart.evaluate(filtered).startswith("invert(1)")
    # No pale plate behind it: the page's own dark background shines through.
    background = chart.locator("rect.background, path.background").first
    assert background.evaluate("each => getComputedStyle(each).fill") in ("none", "rgba(0, 0, 0, 0)")


# --- without the script ---


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_without_javascript_the_picture_stands_alone(open_page, viewport):
    page = open_page(viewport, java_script_enabled=False)
    for name in NAMES:
        chart = chart_of(page, name)
        assert chart.get_by_role("img", name=f"What the chart {name} shows.").count() == 1
        assert chart.locator("img").is_visible()
        assert not chart.locator(".chart-controls").is_visible()
        assert not chart.locator(".chart-live").is_visible()


def test_print_shows_the_picture(page):
    page.emulate_media(media="print")
    for image in page.locator(".chart img").all():
        assert image.is_visible()
        image.evaluate("each => each.complete || new Promise((done) => { each.onload = done; })")
        assert image.evaluate("each => each.naturalWidth") > 600
    assert page.locator(".chart-controls:visible, .chart svg:visible").count() == 0


def test_only_pages_with_charts_load_the_script(site):
    scripts = ("vega-lite", "charts.js", "charts.css")
    assert all(script in (site / "index.html").read_text() for script in scripts)
    assert not any(script in (site / "plain.html").read_text() for script in scripts)


def test_weight(site):
    """Script, style and data of all charts together, packed as a server packs them."""
    paths = [
        site / "index.html",
        *(site / "_static").glob("vega-lite*"),
        *(site / "_static").glob("charts.*"),
    ]
    assert len(paths) == 4
    assert sum(len(gzip.compress(path.read_bytes())) for path in paths) < 420_000
