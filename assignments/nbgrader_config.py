"""nbgrader's settings for the course; the folder that holds this file is nbgrader's course folder."""

import sys
from pathlib import Path

from nbconvert.preprocessors.sanitize import SanitizeHTML
from nbgrader.preprocessors import (
    AssignLatePenalties,
    CheckCellMetadata,
    ClearOutput,
    IgnorePattern,
    LimitOutput,
    OverwriteCells,
    SaveAutoGrades,
)

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT))

from marking import GRADEBOOK, Compare, Restore, SandboxedExecute  # noqa: E402

c = get_config()  # noqa: F821

c.CourseDirectory.course_id = "nonlinearity"
c.CourseDirectory.root = str(ROOT)
c.CourseDirectory.db_url = GRADEBOOK

c.ClearSolutions.code_stub = {"python": "raise NotImplementedError  # your code here"}

c.Autograde.sanitize_preprocessors = [Restore, ClearOutput, OverwriteCells, CheckCellMetadata]
c.Autograde.autograde_preprocessors = [
    SandboxedExecute,
    Compare,
    IgnorePattern,
    SanitizeHTML,
    LimitOutput,
    SaveAutoGrades,
    AssignLatePenalties,
    CheckCellMetadata,
]
# A test fails by an error. What stands on stderr is a warning or a message, and takes no marks.
c.IgnorePattern.enabled = True
c.IgnorePattern.pattern = r"[\s\S]"
# nbgrader's pages show Markdown as it is, whatever HTMLExporter is told; so the graded copy holds no HTML.
c.SanitizeHTML.enabled = True
c.HTMLExporter.sanitize_html = True
