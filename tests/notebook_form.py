"""The form of a stored notebook: what it must be, and the command that executes one and gives it that form.

``python tests/notebook_form.py NOTEBOOK...`` executes each in place, strips what differs between runs and
machines, then names what is still wrong.
"""

import ast
import base64
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from PIL import Image

KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
LANGUAGE_INFO = {"name": "python", "pygments_lexer": "ipython3"}  # without patch version and editor modes
FIRST_CELL = "from nonlinearity import setup\n\nsetup()"
MAX_BYTES = 300_000
MAX_LINES = 36
MIN_ALT = 20

# What Jupyter, editors and extensions write of their own accord.
_VOLATILE_IN_CELL = ("ExecuteTime", "collapsed", "execution", "scrolled", "trusted", "vscode")
_VOLATILE_IN_NOTEBOOK = ("celltoolbar", "signature", "toc", "vscode", "widgets")

_BAR = re.compile(r"\d+%\||\d(?:it|batch|epoch)/s|\ds/it")
_WIDGET = "application/vnd.jupyter.widget-view+json"
_LIBRARY_FRAME = re.compile(r"(\x1b\[[\d;]*m)*File ")
_PATH = re.compile(r"/(?:site-packages|home|root|Users)/|\b[A-Z]:\\\\")
_ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}")
_PICTURE = re.compile(r"(^|/)image/(png|jpeg|svg\+xml)$")
_NBVAL_COMMENT = re.compile(r"^\s*#+\s*(NBVAL_\w+|PYTEST_VALIDATE_IGNORE_OUTPUT)\s*$", re.MULTILINE)

_MEASURED = re.compile(r"\b\d+\.\d+\s?%|\b\d{2}\s?%|\b0\.\d{3,}")
_NOT_PROSE = re.compile(
    r"""
      <!--.*?-->
    | \$\$.*?\$\$
    | \$[^$]+\$
    | (?:\{[\w:.-]+\})?(?P<tick>`+)(?!`).+?(?<!`)(?P=tick)(?!`)    # inline code and roles: {glue:text}`…`
    | \]\([^)]*\)
    | <?https?://\S+
    | \b95\s?%\s+(?:confidence|interval)
    """,
    re.VERBOSE | re.DOTALL,
)
_FENCE = re.compile(r"\s*(`{3,}|~{3,})(.*)")
_DIRECTIVE_OF_PROSE = re.compile(r"\{(?!math|code)")


def clean(notebook: NotebookNode) -> NotebookNode:
    """A copy without what differs between two runs or two machines."""
    copy = nbformat.from_dict(notebook)
    for key in _VOLATILE_IN_NOTEBOOK:
        copy.metadata.pop(key, None)
    copy.metadata["language_info"] = nbformat.from_dict(LANGUAGE_INFO)
    kernel = copy.metadata.get("kernelspec", {})
    if kernel.get("name") == KERNELSPEC["name"]:  # any other is left for a person to see
        copy.metadata["kernelspec"] = nbformat.from_dict(KERNELSPEC)
    for cell in copy.cells:
        for key in _VOLATILE_IN_CELL:
            cell.metadata.pop(key, None)
        if "hide-cell" not in cell.metadata.get("tags", []):  # a solution is folded in JupyterLab too
            cell.metadata.pop("jupyter", None)
        if "outputs" in cell:
            cell.outputs = _joined(cell.outputs)
        for output in cell.get("outputs", []):
            if (
                output.output_type == "error"
            ):  # what is left says what happened; a path would say on whose disk
                output.traceback = [frame for frame in output.traceback if not _LIBRARY_FRAME.match(frame)]
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = _with_palette(output.data["image/png"])
    return copy


def _joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Outputs with what a cell printed in one piece: where a stream is cut is a matter of timing."""
    joined: list[NotebookNode] = []
    for output in outputs:
        if (
            joined
            and output.output_type == joined[-1].output_type == "stream"
            and output.name == joined[-1].name
        ):
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def _with_palette(png: str) -> str:
    """A picture, in base64, with 256 colours at most: a third of the bytes for readers to fetch."""
    picture = Image.open(io.BytesIO(base64.b64decode(png)))
    if picture.mode == "P":
        return png
    small = io.BytesIO()
    picture.convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
        small, "PNG", optimize=True
    )
    return base64.b64encode(small.getvalue()).decode()


def faults(path: Path, notebook: NotebookNode) -> list[str]:
    """What is wrong with the form of a notebook, one line a fault, none for a good one."""
    if (notebook.nbformat, notebook.nbformat_minor) < (4, 5):
        return [f"{path.name}: older than nbformat 4.5, which gives each cell a stable id"]
    identities = [cell.get("id") for cell in notebook.cells]
    if None in identities or len({*identities}) < len(identities):
        return [f"{path.name}: each cell needs an id of its own"]
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        return [f"{path.name}: not a valid notebook: {str(error).splitlines()[0]}"]
    found = [*_faults_of_the_whole(notebook)]
    for number, cell in enumerate(notebook.cells):
        of_cell = _faults_of_code if cell.cell_type == "code" else _faults_of_prose
        found += (f"cell {number}: {fault}" for fault in of_cell(notebook, number))
    return [f"{path.name}: {fault}" for fault in found]


def _faults_of_the_whole(notebook: NotebookNode) -> Iterator[str]:
    size = len(nbformat.writes(notebook).encode())
    if size > MAX_BYTES:
        yield f"{size / 1000:.0f} KB; at most {MAX_BYTES / 1000:.0f}"
    if notebook.metadata.get("kernelspec") != KERNELSPEC:
        yield f"foreign kernelspec {dict(notebook.metadata.get('kernelspec', {}))}; it must be {KERNELSPEC}"
    if clean(notebook) != notebook:
        yield "volatile metadata; run 'make notebooks'"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if not code or code[0].source != FIRST_CELL:
        yield f"the first code cell must be exactly {FIRST_CELL!r}"
    counts = [cell.execution_count for cell in code]
    if counts != [*range(1, len(code) + 1)]:
        yield f"execution counts {counts} instead of 1 to {len(code)}; run 'make notebooks'"
    if not any(cell.outputs for cell in code):
        yield "no stored output; run 'make notebooks'"


def _faults_of_code(notebook: NotebookNode, number: int) -> Iterator[str]:
    cell = notebook.cells[number]
    tags = cell.metadata.get("tags", [])
    lines = cell.source.count("\n") + 1
    if not cell.source.strip():
        yield "empty"
    if lines > MAX_LINES:
        yield f"{lines} lines do not fit on a screen; at most {MAX_LINES}"
    if "nbval-skip" in tags or _NBVAL_COMMENT.search(cell.source):
        yield "hidden from nbval; only the tags nbval-ignore-output and raises-exception are used"
    if "nbval-ignore-output" in tags and not _asserted(notebook, number):
        yield "output ignored without an assert in this code cell or the next"
    raised = any(output.output_type == "error" for output in cell.outputs)
    if "raises-exception" in tags and not raised:
        yield "tagged raises-exception without a stored error, so nbval would not see it stop raising"
    if raised and "raises-exception" not in tags:
        yield "stored error in a cell not tagged raises-exception"
    for output in cell.outputs:
        yield from _faults_of_output(cell, output)


def _faults_of_output(cell: NotebookNode, output: NotebookNode) -> Iterator[str]:
    if output.output_type == "stream" and output.name == "stderr":
        yield f"stderr stored: {output.text.strip()[:80]!r}"
    data = output.get("data", {})
    texts = [output.get("text", ""), *(str(data[kind]) for kind in data if not _PICTURE.search(kind))]
    if _WIDGET in data or any(_BAR.search(text) or "\r" in text for text in texts):
        yield "progress bar stored"
    if any(_PATH.search(text) for text in [*texts, *output.get("traceback", [])]):
        yield "a path of the machine that ran it is stored"
    if any(_ADDRESS.search(text) for text in texts):
        yield "a memory address is printed, which differs each run"
    if any(_PICTURE.search(kind) for kind in data):
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        if len(alt.strip()) < MIN_ALT:
            yield f"figure without alt text that says what it shows (metadata mystnb.image.alt): {alt!r}"


def _asserted(notebook: NotebookNode, number: int) -> bool:
    """Whether a code cell or the one after it holds an ``assert`` statement."""
    code = [cell for cell in notebook.cells[number:] if cell.cell_type == "code"]
    return any(isinstance(node, ast.Assert) for cell in code[:2] for node in _nodes(cell.source))


def _nodes(source: str) -> Iterator[ast.AST]:
    plain = "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines())
    try:
        return ast.walk(ast.parse(plain))
    except SyntaxError:  # a cell that shows one
        return iter(())


def _faults_of_prose(notebook: NotebookNode, number: int) -> Iterator[str]:
    prose = _NOT_PROSE.sub(" ", _without_fences(notebook.cells[number].source))
    for match in _MEASURED.finditer(prose):
        yield f"a number that looks measured is typed in prose: {match[0]!r}; glue it from a cell"


def _without_fences(source: str) -> str:
    """Markdown without fenced code and formulas; what an {exercise}, a {tip} or the like says stays."""
    kept = []
    open_fences: list[tuple[str, bool]] = []  # the ticks, and whether what they hold is code
    for line in source.splitlines():
        fence = _FENCE.match(line)
        in_code = bool(open_fences) and open_fences[-1][1]
        if fence and open_fences and fence[1].startswith(open_fences[-1][0]) and not fence[2].strip():
            open_fences.pop()
        elif fence and not in_code:
            open_fences.append((fence[1], not _DIRECTIVE_OF_PROSE.match(fence[2])))
            kept.append("" if open_fences[-1][1] else fence[2])
        elif not in_code:
            kept.append(line)
    return "\n".join(kept)


def execute(path: Path, notebook: NotebookNode) -> NotebookNode:
    """A copy with the outputs of a new run.

    A cell tagged ``timing`` keeps the outputs it has, if it has any: two runs never measure the same
    seconds, and whoever changes such a cell clears it first.

    Raises:
        CellExecutionError: if a cell raises that is not tagged raises-exception.
    """
    executed = nbformat.from_dict(notebook)
    client = NotebookClient(executed, timeout=400, resources={"metadata": {"path": str(path.parent)}})
    client.execute(stderr=subprocess.DEVNULL)  # a kernel's own log; what a cell writes arrives as its output
    for old, new in zip(notebook.cells, executed.cells):
        if "timing" in new.metadata.get("tags", []) and old.outputs:
            new.outputs = old.outputs
    return executed


def renew(path: Path) -> list[str]:
    """Execute and clean one notebook in place and return its faults."""
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    try:
        notebook = clean(execute(path, notebook))
    except CellExecutionError as error:
        return [f"{path.name}: left as it was, since a cell fails: {error}"]
    nbformat.write(notebook, path)
    return faults(path, notebook)


def main(paths: list[str]) -> int:
    """Renew notebooks, two at a time, and print their faults; 1 if there were any."""
    with ProcessPoolExecutor(max_workers=2) as pool:
        found = [fault for faults_of_one in pool.map(renew, map(Path, paths)) for fault in faults_of_one]
    print(*found, sep="\n", end="\n" if found else "")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
