"""Mark answers to an assignment in this process: the same cells and comparison, no kernel and no nbgrader.

That makes it cheap to try a hundred wrong answers. What nbgrader and the sandbox add is tested by
the attack suite.
"""

import os
from pathlib import Path

import examiner
import nbformat

import reports
from marking import is_test

SOURCE = Path(__file__).parents[1] / "assignments" / "source"


class Assignment:
    """A source notebook, its tests, and what they report about its solution."""

    def __init__(self, name: str) -> None:
        (path,) = (SOURCE / name).glob("*.ipynb")
        notebook = nbformat.read(path, as_version=4)
        self.cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        self.points = {cell.id: cell.metadata.nbgrader.points for cell in self.cells if is_test(cell)}
        self._expected: dict[str, list[dict]] = {}
        self._expected, failures = self._run({})
        assert not failures, failures

    def solution(self, cell_id: str) -> str:
        """The solution in one cell."""
        return next(cell.source for cell in self.cells if cell.id == cell_id)

    def failures(self, answers: dict[str, str]) -> dict[str, str]:
        """Each test that loses its points, and why.

        Args:
            answers: what stands in a cell instead of the solution, by the cell's id.
        """
        return self._run(answers)[1]

    def _run(self, answers: dict[str, str]) -> tuple[dict[str, list[dict]], dict[str, str]]:
        names: dict[str, object] = {"__name__": "__main__"}
        reported, failures = {}, {}
        for cell in self.cells:
            given: list[dict] = []
            examiner.display = lambda data, raw, given=given: given.append(data[reports.KIND])
            try:
                exec(compile(answers.get(cell.id, cell.source), cell.id, "exec"), names)
            except Exception as error:
                failures[cell.id] = repr(error)
            reported[cell.id] = given
            fault = reports.difference(self._expected.get(cell.id, given), given)
            if fault:
                failures.setdefault(cell.id, fault)
        return reported, {name: why for name, why in failures.items() if name in self.points}


os.environ.setdefault("GRADING_SEED", "7")
