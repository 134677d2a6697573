"""The notebooks have the form that readers and nbval rely on; each fault is proved on one made bad."""

import base64
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import notebook_form
import numpy as np
import pytest
import yaml
from nbformat import NotebookNode, v4
from PIL import Image

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(p for p in ROOT.glob("chapters/**/*.ipynb") if ".ipynb_checkpoints" not in p.parts)
# one pixel, with a palette
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABAQMAAAAl21bKAAAAA1BMVEUAAACnej3aAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5E"
    "rkJggg=="
)
ALT = "A line that rises from the left to the right."


def code(source: str, *outputs: NotebookNode, tags: tuple[str, ...] = (), **metadata: object) -> NotebookNode:
    return v4.new_code_cell(source, outputs=[*outputs], metadata={"tags": [*tags], **metadata})


def printed(text: str, name: str = "stdout") -> NotebookNode:
    return v4.new_output("stream", name=name, text=text)


def shown(**data: str) -> NotebookNode:
    return v4.new_output("display_data", {kind.replace("_", "/"): value for kind, value in data.items()})


def good() -> NotebookNode:
    """A small notebook without a fault."""
    notebook = v4.new_notebook(
        cells=[
            v4.new_markdown_cell("# A page\n\nThe mean is {glue:text}`mean:.3f`."),
            code(notebook_form.FIRST_CELL),
            code("print(1)", printed("1\n")),
            code(
                "plot()",
                shown(image_png=PNG, text_plain="<Figure>"),
                mystnb={"image": {"alt": ALT}},
            ),
        ],
        metadata={"kernelspec": notebook_form.KERNELSPEC, "language_info": notebook_form.LANGUAGE_INFO},
    )
    return number(notebook)


def number(notebook: NotebookNode) -> NotebookNode:
    """Give the code cells the counts 1 to n and every cell a stable identity."""
    for index, cell in enumerate(notebook.cells):
        cell.id = f"cell-{index}"
    for count, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), 1):
        cell.execution_count = count
    return notebook


def faults(notebook: NotebookNode) -> list[str]:
    return notebook_form.faults(Path("page.ipynb"), notebook)


# --- the real notebooks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: str(p.relative_to(ROOT)))
def test_notebook_of_the_book_has_no_fault(path):
    assert notebook_form.faults(path, nbformat.read(path, as_version=nbformat.NO_CONVERT)) == []


def pages_in_toc() -> set[str]:
    def files(node: object) -> list[str]:
        if isinstance(node, dict):
            own = [node[key] for key in ("file", "root") if key in node]
            return own + [file for value in node.values() for file in files(value)]
        return [file for item in node for file in files(item)] if isinstance(node, list) else []

    return set(files(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))))


def test_table_of_contents_names_every_page_and_no_other():
    pages = {
        str(path.relative_to(ROOT).with_suffix("")) for path in [*NOTEBOOKS, *ROOT.glob("chapters/**/*.md")]
    }
    assert pages_in_toc() == pages | {"index"}


def test_nbval_collects_every_notebook():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval", "--collect-only", "--quiet", "chapters"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    collected = {line.split("::")[0] for line in done.stdout.splitlines() if "::Cell" in line}
    assert collected == {str(path.relative_to(ROOT)) for path in NOTEBOOKS}, done.stdout + done.stderr
    assert collected  # a book without notebooks would prove nothing


# --- each fault, on a notebook made for it --------------------------------------------------------------


def test_good_notebook_has_no_fault():
    assert faults(good()) == []


def change(edit: Callable[[NotebookNode], object]) -> NotebookNode:
    notebook = good()
    edit(notebook)
    return notebook


def with_cells(*cells: NotebookNode) -> NotebookNode:
    return number(change(lambda notebook: notebook.cells.extend(cells)))


def strip(notebook: NotebookNode) -> None:
    for cell in notebook.cells[1:]:
        cell.outputs, cell.execution_count = [], None


def empty_outputs(notebook: NotebookNode) -> None:
    for cell in notebook.cells[1:]:
        cell.outputs = []


ERROR = v4.new_output("error", ename="ValueError", evalue="bad", traceback=[])
BAD = {
    "stripped outputs": (change(strip), "execution counts [None, None, None]"),
    "no output at all": (change(empty_outputs), "no stored output"),
    "counts out of order": (
        change(lambda nb: nb.cells[2].update(execution_count=7)),
        "execution counts [1, 7, 3] instead of 1 to 3",
    ),
    "stderr": (with_cells(code("f()", printed("Warning!", name="stderr"))), "stderr stored: 'Warning!'"),
    "foreign kernel": (
        change(lambda nb: nb.metadata.kernelspec.update(name="conda-env", display_name="My env")),
        "foreign kernelspec",
    ),
    "no kernel": (change(lambda nb: nb.metadata.pop("kernelspec")), "foreign kernelspec {}"),
    "figure without alt text": (
        change(lambda nb: nb.cells[3].metadata.pop("mystnb")),
        "figure without alt text",
    ),
    "figure with a trivial alt text": (
        change(lambda nb: nb.cells[3].metadata.mystnb.image.update(alt="A plot." + " " * 20)),
        "figure without alt text",
    ),
    "glued figure without alt text": (
        with_cells(code("glue('f', f)", shown(**{"application/papermill.record/image_png": PNG}))),
        "figure without alt text",
    ),
    "too large": (with_cells(code("print(x)", printed("x" * 300_001))), "KB; at most 300"),
    "output ignored, nothing asserted": (
        with_cells(
            code("train()", printed("0.1"), tags=("nbval-ignore-output",)),
            code("print(2)  # an assert in a comment is none"),
            code("assert True"),
        ),
        "output ignored without an assert",
    ),
    "error not stored": (
        with_cells(code("raise ValueError", tags=("raises-exception",))),
        "tagged raises-exception without a stored error",
    ),
    "error not tagged": (with_cells(code("raise ValueError", ERROR)), "stored error in a cell not tagged"),
    "other first cell": (
        change(lambda nb: nb.cells[1].update(source="import torch")),
        "the first code cell must be exactly",
    ),
    "no code": (change(lambda nb: nb.update(cells=nb.cells[:1])), "the first code cell must be exactly"),
    "long cell": (with_cells(code("\n".join(["x = 1"] * 37))), "37 lines do not fit on a screen"),
    "empty cell": (with_cells(code("  ")), "cell 4: empty"),
    "text progress bar": (
        with_cells(code("fit()", printed("\r 40%|####      | 4/10 [00:01<00:02, 2.9it/s]"))),
        "progress bar stored",
    ),
    "widget progress bar": (
        with_cells(code("fit()", shown(**{notebook_form._WIDGET: "model 1"}))),
        "progress bar stored",
    ),
    "memory address": (
        with_cells(code("fit", printed("<function fit at 0x7f00dead>"))),
        "a memory address is printed",
    ),
    "tag that skips": (with_cells(code("f()", tags=("nbval-skip",))), "hidden from nbval"),
    "comment that skips": (with_cells(code("# NBVAL_IGNORE_OUTPUT\nf()")), "hidden from nbval"),
    "invalid notebook": (change(lambda nb: nb.cells[2].pop("source")), "not a valid notebook"),
    "same id twice": (change(lambda nb: nb.cells[2].update(id="cell-1")), "an id of its own"),
    "no id": (change(lambda nb: nb.cells[2].pop("id")), "an id of its own"),
    "old format": (change(lambda nb: nb.update(nbformat_minor=4)), "older than nbformat 4.5"),
    "timing of a cell": (
        change(lambda nb: nb.cells[2].metadata.update(execution={"iopub.execute_input": "2026"})),
        "volatile metadata",
    ),
    "version of Python": (
        change(lambda nb: nb.metadata.language_info.update(version="3.11.7")),
        "volatile metadata",
    ),
    "state of widgets": (change(lambda nb: nb.metadata.update(widgets={})), "volatile metadata"),
}


@pytest.mark.parametrize(("notebook", "fault"), BAD.values(), ids=BAD)
def test_bad_notebook_is_refused(notebook, fault):
    found = faults(notebook)
    assert any(fault in line for line in found), found
    assert all(line.startswith("page.ipynb: ") for line in found)


@pytest.mark.parametrize(
    "cell",
    [
        code("raise ValueError", ERROR, tags=("raises-exception",)),
        code("loss = train()\nassert loss < 1", printed("0.31"), tags=("nbval-ignore-output",)),
        code("\n".join(["x = 1"] * 30)),
    ],
    ids=["raises and stores it", "ignores and asserts", "thirty lines"],
)
def test_what_the_form_allows(cell):
    assert faults(with_cells(cell)) == []


def test_assert_may_stand_in_the_next_code_cell():
    ignored = code("loss = train()", printed("0.31"), tags=("nbval-ignore-output",))
    assert faults(with_cells(ignored, v4.new_markdown_cell("It falls."), code("assert loss < 1"))) == []


@pytest.mark.parametrize(
    "prose",
    [
        "It reaches 97 % here.",
        "It reaches 97% here.",
        "A share of 3.5 % is dead.",
        "The loss is 0.9532.",
        "In 95 % of the runs.",  # 95 % is let through as a confidence level only
        "```{exercise}\nShow that it is 0.9532.\n```",
        "````{tip} Why\n```python\nx = 1\n```\nIt is 0.9532.\n````",
        "```{tip}\nIt is so.\n```\n\nIt is 0.9532.\n\n```{note}\nIt is so.\n```",
    ],
)
def test_measured_number_in_prose_is_refused(prose):
    assert any("typed in prose" in line for line in faults(with_cells(v4.new_markdown_cell(prose))))


@pytest.mark.parametrize(
    "prose",
    [
        "The mean with its 95 % confidence interval, or 95 %\ninterval for short.",
        "With slope 0.01 or 0.25, for 5 seeds, in 2017, on version 2.13.0, half (50 of 100).",
        "Inline `0.9532` and ``97 % ` 12 %``, then {glue:text}`share:.4f`.",
        "Inline $c = 0.044715$ and\n\n$$\n0.044715 x^3\n$$",
        "```python\nx = 0.044715\n```\n\n````{math}\n0.044715\n````",
        "````{exercise}\nRun it.\n```python\nx = 0.044715\n```\n````",
        "[a paper](https://example.org/0.12345) and <https://example.org/97%20>.",
        "<!-- 97 % -->",
    ],
)
def test_other_numbers_in_prose_are_allowed(prose):
    assert faults(with_cells(v4.new_markdown_cell(prose))) == []


# --- the command ----------------------------------------------------------------------------------------


def test_command_executes_and_tidies_and_a_second_time_changes_nothing(tmp_path, capsys):
    notebook = with_cells(
        code("print('new')", printed("old\n")),
        code("import time\nprint(time.time())\nassert True", printed("1.0\n"), tags=("timing",)),
    )
    notebook.cells[3].source = "print('no figure')"
    notebook.metadata.language_info.version = "3.13.1"
    notebook.metadata.kernelspec.display_name = "Python 3 (ipykernel)"
    path = tmp_path / "page.ipynb"
    path.write_text(nbformat.writes(notebook, indent=4), encoding="utf-8")

    assert notebook_form.main([str(path)]) == 0
    once = path.read_bytes()
    cells = nbformat.reads(once.decode(), as_version=4).cells
    assert cells[-2].outputs == [printed("new\n")]
    assert cells[-1].outputs == [printed("1.0\n")]  # what was measured once is kept
    assert once.endswith(b"}\n")
    assert once.startswith(b'{\n "cells"')

    assert notebook_form.main([str(path)]) == 0
    assert path.read_bytes() == once
    assert capsys.readouterr().out == ""


def test_command_names_what_it_cannot_tidy(tmp_path, capsys):
    notebook = with_cells(code("import sys\n_ = sys.stderr.write('careful')"))
    notebook.cells[3].source = "print('no figure')"
    nbformat.write(notebook, tmp_path / "page.ipynb")
    assert notebook_form.main([str(tmp_path / "page.ipynb")]) == 1
    assert "page.ipynb: cell 4: stderr stored: 'careful'" in capsys.readouterr().out


def test_command_leaves_a_notebook_alone_that_fails_and_says_why(tmp_path, capsys):
    path = tmp_path / "page.ipynb"
    nbformat.write(with_cells(code("raise RuntimeError('no')")), path)
    before = path.read_bytes()
    assert notebook_form.main([str(path)]) == 1
    assert path.read_bytes() == before
    assert "name 'plot' is not defined" in capsys.readouterr().out  # the first cell that fails


def test_pictures_keep_their_look_with_a_palette_and_a_third_of_the_bytes():
    figure, axes = plt.subplots()
    axes.plot([0, 3, 1, 2], linewidth=3)
    stored = io.BytesIO()
    figure.savefig(stored, format="png")
    before = base64.b64encode(stored.getvalue()).decode()
    cleaned = notebook_form.clean(with_cells(code("plot()", shown(image_png=before))))
    after = base64.b64decode(cleaned.cells[-1].outputs[0].data["image/png"])
    assert len(after) < 0.6 * len(stored.getvalue())
    pixels = [
        np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), float) for png in (stored.getvalue(), after)
    ]
    assert abs(pixels[0] - pixels[1]).max() < 40
    assert abs(pixels[0] - pixels[1]).mean() < 1
    assert notebook_form.clean(cleaned) == cleaned


def test_a_solution_stays_folded_in_jupyterlab():
    folded = {"source_hidden": True, "outputs_hidden": True}
    solution = code("print(1)", jupyter=folded, tags=["hide-cell"])
    assert notebook_form.clean(with_cells(solution)).cells[-1].metadata["jupyter"] == folded


def test_what_a_cell_prints_is_stored_in_one_piece():
    cell = code("print(1)", printed("1\n"), printed("2\n"), shown(text_plain="x"), printed("3\n"))
    outputs = notebook_form.clean(with_cells(cell)).cells[-1].outputs
    assert [output.get("text", "x") for output in outputs] == ["1\n2\n", "x", "3\n"]


def test_a_traceback_keeps_the_cell_and_the_message_and_no_path():
    error = v4.new_output(
        "error",
        ename="RuntimeError",
        evalue="no",
        traceback=[
            "\x1b[31m---",
            "Cell In[1], line 1",
            "\x1b[36mFile /a/site-packages/t.py:1",
            "RuntimeError: no",
        ],
    )
    stored = with_cells(code("f()", error, tags=("raises-exception",)))
    assert "path of the machine" in " ".join(faults(stored))
    assert notebook_form.clean(stored).cells[-1].outputs[0].traceback == [
        "\x1b[31m---",
        "Cell In[1], line 1",
        "RuntimeError: no",
    ]
    assert not faults(notebook_form.clean(stored))
