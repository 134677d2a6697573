"""How a submission becomes marks: the preprocessors that nbgrader_config.py puts among nbgrader's own.

Everything that a notebook holds, and everything that its kernel sends, was written by a student. So tests are
put back as they were, cells run in the sandbox, and what hidden tests report is compared out here with what
they report about the solution on the same fresh inputs.
"""

import base64
import binascii
import json
import os
import re
import tempfile
from collections import Counter
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbconvert.exporters.exporter import ResourcesDict
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_output
from nbgrader.preprocessors import Execute, NbGraderPreprocessor
from nbgrader.utils import is_grade, is_locked, is_solution
from traitlets import Integer

import reports
from suspicion import suspicious

ROOT = Path(__file__).parent
# Several gradings write at once; SQLite lets one in at a time, and the others wait so many seconds.
GRADEBOOK = os.environ.get("GRADEBOOK", f"sqlite:///{ROOT / 'gradebook.db'}?timeout=120")
MESSAGES = {"stream", "display_data", "execute_result", "error"}
PICTURES = ("image/png", "image/jpeg")
ATTACHED = re.compile(r"attachment:([^\s()<>\"']*)")
MAX_OUTPUT = 1_000_000  # characters that a cell may print, and as many that it may report
CANARIES = (
    "assert False",
    "raise AssertionError('not equal')",
    "import torch\n\ntorch.testing.assert_close(torch.zeros(2), torch.ones(2))",
)


def is_test(cell: NotebookNode) -> bool:
    """Whether a cell is an autograded test, as nbgrader marks it."""
    return cell.cell_type == "code" and is_grade(cell) and not is_solution(cell)


def restored(nb: NotebookNode, release: NotebookNode) -> NotebookNode:
    """A submission put back on its release: every test there once, every mark about a cell as it was.

    A student may add, move, copy and delete cells, or lose the marks in an editor that drops them. What is
    known by its id keeps its place, and what is missing is added.
    """
    originals = {
        cell.metadata.nbgrader.grade_id: cell for cell in release.cells if "nbgrader" in cell.metadata
    }
    cells = []
    for cell in reversed(nb.cells):  # of several copies the last one counts
        original = originals.pop(_grade_id(cell), None)
        cells.append(_rebuilt(cell, original))
    cells.reverse()
    missing = [cell for cell in originals.values() if is_locked(cell) or is_grade(cell)]
    setup = [cell for cell in missing if not is_grade(cell)]
    tests = [cell for cell in missing if is_grade(cell)]
    nb.cells = [*setup, *cells, *tests]
    return nb


def _grade_id(cell: NotebookNode) -> str | None:
    about = cell.metadata.get("nbgrader")
    grade_id = about.get("grade_id") if isinstance(about, dict) else None
    return grade_id if isinstance(grade_id, str) else None


def _rebuilt(cell: NotebookNode, original: NotebookNode | None) -> NotebookNode:
    """A cell with the student's text, if that was the student's to write, and with nothing else of theirs."""
    attachments = cell.pop("attachments", {})
    if original is None:
        cell.metadata = NotebookNode()  # a tag could have the cell skipped
    elif is_locked(original):
        return original
    else:
        cell, original.source = original, cell.source
    if cell.cell_type == "markdown":
        pictures = {name: _pictures(data) for name, data in dict(attachments).items()}
        cell.attachments = NotebookNode({name: data for name, data in pictures.items() if data})
        # A page cannot be made of a text that shows a picture which is not there.
        cell.source = ATTACHED.sub(lambda m: m[0] if m[1] in cell.attachments else f"no {m[0]}", cell.source)
    return cell


def _pictures(data: dict) -> dict:
    """What of a display is truly a picture: a page takes its text as it is, and it could be a script."""
    return {kind: data[kind] for kind in PICTURES if _is_base64(data.get(kind))}


def _is_base64(text: object) -> bool:
    try:
        return isinstance(text, str) and bool(base64.b64decode("".join(text.split()), validate=True))
    except (binascii.Error, ValueError):
        return False


class Restore(NbGraderPreprocessor):
    """Put a submission back on its release."""

    def preprocess(self, nb: NotebookNode, resources: ResourcesDict) -> tuple[NotebookNode, ResourcesDict]:
        about = resources["nbgrader"]
        release = ROOT / "release" / about["assignment"] / f"{about['notebook']}.ipynb"
        return restored(nb, nbformat.read(release, as_version=4)), resources


class SandboxedExecute(Execute):
    """Run a notebook in the sandbox, fairly and without trust.

    Fairly: what failed is run once more at the end, when everything is defined that the notebook defines.
    Without trust: after each test comes a canary, which must fail; and of what the kernel sends only plain
    output is taken, and not too much of it.
    """

    timeout = Integer(int(os.environ.get("GRADING_CELL_SECONDS", 120)), allow_none=True).tag(config=True)
    shutdown_kernel = "immediate"  # a kernel that is asked takes a second or two to go
    iopub_timeout = Integer(30).tag(config=True)

    def create_kernel_manager(self) -> AsyncKernelManager:
        """The sandbox, whatever kernel a notebook or a configuration asks for."""
        self._sockets = tempfile.TemporaryDirectory(prefix="sandbox-")
        self.km = AsyncKernelManager(
            kernel_name="sandbox",
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(ROOT)], ensure_native_kernel=False),
            connection_file=f"{self._sockets.name}/kernel.json",
            transport="ipc",
        )
        return self.km

    def preprocess(
        self, nb: NotebookNode, resources: ResourcesDict, km: None = None
    ) -> tuple[NotebookNode, ResourcesDict]:
        NotebookClient.__init__(self, nb, km)
        self.reset_execution_trackers()
        self.resources = resources
        self._received: Counter[tuple[int, bool]] = Counter()
        nb.metadata["language_info"] = {"name": "python"}
        cells = nb.cells
        canaries = [new_code_cell(CANARIES[n % len(CANARIES)]) for n, _ in enumerate(filter(is_test, cells))]
        nb.cells = [*cells, *canaries]
        try:
            with self.setup_kernel():
                self._run(cells, canaries)
        finally:
            nb.cells = cells
            self._sockets.cleanup()
        resources["reasons"] = self._reasons(cells, canaries)
        return nb, resources

    def _run(self, cells: list[NotebookNode], canaries: list[NotebookNode]) -> None:
        code = [(index, cell) for index, cell in enumerate(cells) if cell.cell_type == "code"]
        waiting = iter(enumerate(canaries, start=len(cells)))
        for index, cell in code:
            self.execute_cell(cell, index)
            if is_test(cell):
                at, canary = next(waiting)
                self.execute_cell(canary, at)
        failed = [(index, cell) for index, cell in code if _errors(cell) and not _timed_out(cell)]
        for index, cell in sorted(failed, key=lambda item: is_test(item[1])):
            self._received.clear()
            self.execute_cell(cell, index)

    def process_message(self, msg: dict, cell: NotebookNode, cell_index: int) -> NotebookNode | None:
        """Take a message from the kernel, if it is one of those that can do no harm."""
        if msg["msg_type"] == "status":
            return super().process_message(msg, cell, cell_index)
        content = msg["content"]
        data = content.get("data", {})
        self._received[cell_index, reports.KIND in data] += len(json.dumps(content))
        if msg["msg_type"] not in MESSAGES or self._received[cell_index, reports.KIND in data] > MAX_OUTPUT:
            return None
        content.pop("transient", None)  # with which a cell could change the output of another
        if data:
            plain = {kind: data[kind] for kind in ("text/plain", reports.KIND) if kind in data}
            content |= {"data": plain | _pictures(data), "metadata": {}}
        return super().process_message(msg, cell, cell_index)

    def _reasons(self, cells: list[NotebookNode], canaries: list[NotebookNode]) -> list[str]:
        reasons = suspicious(cells)
        if not all(map(_errors, canaries)):
            reasons.append("what must fail passed: it changes how tests run")
        shown = [output for cell in filter(is_test, cells) for output in cell.outputs]
        if any(output.output_type == "execute_result" for output in shown):
            reasons.append("a test shows a value, as none of ours does")
        late = [cell for cell in cells if cell.cell_type == "code" and _timed_out(cell)]
        if late:
            reasons.append(f"{len(late)} of its cells took over {self.timeout} s and were stopped")
        return reasons


def _errors(cell: NotebookNode) -> list[NotebookNode]:
    return [output for output in cell.outputs if output.output_type == "error"]


def _timed_out(cell: NotebookNode) -> bool:
    return any(error.ename == "CellTimeoutError" for error in _errors(cell))


class Compare(NbGraderPreprocessor):
    """Fail each test whose reports are not the solution's, and write down what a person should look at."""

    def preprocess(self, nb: NotebookNode, resources: ResourcesDict) -> tuple[NotebookNode, ResourcesDict]:
        expected = json.loads(Path(os.environ["GRADING_REFERENCE"]).read_text())
        for cell in filter(is_test, nb.cells):
            fault = reports.difference(expected[cell.metadata.nbgrader.grade_id], reports.take(cell))
            if fault and not _errors(cell):
                text = f"Hidden test: {fault}"
                cell.outputs.append(new_output("error", ename="HiddenTest", evalue=fault, traceback=[text]))
        Path(os.environ["GRADING_REASONS"]).write_text(json.dumps(resources["reasons"]))
        return nb, resources


def reference(notebook: Path) -> dict[str, list[dict]]:
    """Run a source notebook in the sandbox: what its solution reports in each test, by the test's id.

    Raises:
        ValueError: if the solution fails a test, or a test reports nothing and so could be faked.
    """
    nb, _ = SandboxedExecute().preprocess(nbformat.read(notebook, as_version=4), {"metadata": {}})
    expected = {}
    for cell in filter(is_test, nb.cells):
        name = cell.metadata.nbgrader.grade_id
        expected[name] = reports.take(cell)
        if _errors(cell):
            raise ValueError(f"{notebook.name}: the solution fails {name}: {_errors(cell)[0].evalue}")
        if not expected[name]:
            raise ValueError(f"{notebook.name}: {name} reports nothing, so it could be faked")
    return expected
