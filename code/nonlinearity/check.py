"""Check an assignment before handing it in: ``python -m nonlinearity.check NOTEBOOK``, or ``make check``.

Runs the whole notebook from top to bottom in a fresh kernel, and says which of its visible tests fail. The
notebook itself is not changed.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode

CELL_SECONDS = 120
_COLOURS = re.compile(r"\x1b\[[\d;]*m")


def check(path: Path) -> list[str]:
    """Run a notebook and describe what goes wrong, a text for each cell that fails.

    Args:
        path: the notebook.

    Raises:
        ValueError: if the file is no notebook, or has no tests.
        DeadKernelError: if the notebook ends its own kernel, or needs more memory than there is.
    """
    try:
        notebook = nbformat.read(path, as_version=4)
    except (OSError, ValueError, AttributeError) as error:  # the last for JSON that is something else
        raise ValueError(f"{path} cannot be read as a notebook: {error}") from error
    if not any(map(_points, notebook.cells)):
        raise ValueError(f"{path} has no tests in it: is it the assignment's own notebook?")
    late = {"ename": "TimeoutError", "evalue": f"it took over {CELL_SECONDS} s", "traceback": []}
    client = NotebookClient(
        notebook,
        allow_errors=True,
        timeout=CELL_SECONDS,
        interrupt_on_timeout=True,
        error_on_timeout=late,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute(stderr=subprocess.DEVNULL)  # the kernel's own log; what a cell writes arrives as output
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [_described(number, cell) for number, cell in enumerate(code, start=1) if _error(cell)]


def _points(cell: NotebookNode) -> float:
    """What a test cell is worth; 0 for any other cell."""
    about = cell.metadata.get("nbgrader", {})
    return about.get("points", 0) if about.get("grade") and not about.get("solution") else 0


def _error(cell: NotebookNode) -> NotebookNode | None:
    return next((output for output in cell.outputs if output.output_type == "error"), None)


def _described(number: int, cell: NotebookNode) -> str:
    error = _error(cell)
    points = _points(cell)
    where = f"Test {cell.metadata.nbgrader.grade_id} ({points:g} points)" if points else f"Code cell {number}"
    if error.ename == "NotImplementedError":
        return f"{where}: something above it is not written yet"
    return f"{where}: {error.ename}: {_COLOURS.sub('', error.evalue)}".strip()


def main(arguments: list[str] | None = None) -> int:
    """Check one notebook and print what was found; 1 if anything fails."""
    parser = argparse.ArgumentParser(prog="python -m nonlinearity.check", description=__doc__)
    parser.add_argument("notebook", type=Path)
    path = parser.parse_args(arguments).notebook
    try:
        faults = check(path)
    except (ValueError, DeadKernelError) as error:
        print(error)
        return 1
    print(*faults, sep="\n")
    if faults:
        print(f"\n{len(faults)} cells fail. You may hand it in, but they will not give their points.")
        return 1
    print("Every cell runs and every visible test passes. Hidden tests try the same with other numbers.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
