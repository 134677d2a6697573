"""From the files that a learning platform gives out to one notebook a student in ``submitted/``.

Archives are read, never unpacked: what is in them was written by students.
"""

import csv
import re
import shutil
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path

MAX_BYTES = 20_000_000  # of one notebook, or of one archive in an archive
# How platforms name what a student handed in; the first pattern that fits is taken.
PATTERNS = (
    # Moodle: "Ada Lovelace_1234_assignsubmission_file_/work.ipynb", or the same without a folder
    r"(?P<student>[^/]+_\d+)_assignsubmission_file_/?.*",
    # Canvas: "lovelaceada_LATE_1234_5678_work-1.ipynb"
    r"(?P<student>[^/_]+)_(?P<late>LATE_)?(?P<number>\d+)_\d+_.*",
    # Blackboard: "Build them yourself_ada_attempt_2026-01-30-15-00-00_work.ipynb"
    r".*_(?P<student>[^/_]+)_attempt_(?P<time>\d{4}(?:-\d\d){5})(?:_.*|\.ipynb)",
    # A folder a student, as one would sort them by hand
    r"(?P<student>[^/]+)/.*",
)


@dataclass(frozen=True)
class Version:
    """One notebook that a student handed in."""

    student: str
    time: datetime
    late: bool
    file: str
    content: bytes


def collect(
    root: Path, assignment: str, files: list[Path], deadline: datetime | None, pattern: str | None = None
) -> list[str]:
    """Choose a version for each student and put it into ``submitted/``.

    The newest one before the deadline counts; where all are late the newest of these, marked as late. What
    was collected before is chosen from as well. What was chosen stands in ``collected/ASSIGNMENT.csv``.

    Args:
        root: the course folder.
        assignment: the assignment's name.
        files: archives (.zip) or folders, as they come out of the platform.
        deadline: in this machine's time; without one nothing is late by the clock.
        pattern: a regular expression to try before those of the platforms, with a group ``student`` and, if
            the names have them, ``time`` (2026-01-30-15-00-00) and ``late``.

    Returns:
        What a person should know: a line for each file left aside and each late student.
    """
    patterns = [re.compile(p) for p in (pattern, *PATTERNS) if p]
    record = root / "collected" / f"{assignment}.csv"
    versions: dict[str, list[Version]] = defaultdict(list)
    for version in _collected_before(root, assignment, record):
        versions[version.student].append(version)
    notes = []
    for name, time, content in (entry for path in files for entry in _entries(path)):
        found = _version(name, time, content, patterns, deadline)
        if isinstance(found, str):
            notes.append(f"left aside: {name!r}: {found}")
        else:
            versions[found.student].append(found)
    chosen = {student: max(these, key=_preference) for student, these in sorted(versions.items())}
    for student, version in chosen.items():
        _write(_place(root, assignment, student), version)
        others = (other for other in versions[student] if other is not version)
        notes += (f"left aside: {other.file!r}: {version.file!r} counts" for other in others)
        if version.late:
            notes.append(f"late: {student}, {version.time:%Y-%m-%d %H:%M}")
    _record(record, chosen)
    return notes


def _place(root: Path, assignment: str, student: str) -> Path:
    (source,) = (root / "source" / assignment).glob("*.ipynb")
    return root / "submitted" / student / assignment / source.name


def _collected_before(root: Path, assignment: str, record: Path) -> Iterator[Version]:
    if not record.exists():
        return
    with record.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            path, time = _place(root, assignment, row["student"]), datetime.fromisoformat(row["handed_in"])
            if path.exists():  # whoever deletes a submission means it
                yield Version(row["student"], time, row["late"] == "late", row["file"], path.read_bytes())


def _entries(path: Path) -> Iterator[tuple[str, datetime, bytes | None]]:
    """Name, time and content of each file; no content where it is too large."""
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file() and not file.is_symlink():
                small = file.stat().st_size <= MAX_BYTES
                time = datetime.fromtimestamp(file.stat().st_mtime)
                yield file.relative_to(path).as_posix(), time, file.read_bytes() if small else None
    else:
        with zipfile.ZipFile(path) as archive:
            yield from _archived(archive)


def _archived(archive: zipfile.ZipFile, within: str = "") -> Iterator[tuple[str, datetime, bytes | None]]:
    for entry in archive.infolist():
        if entry.is_dir() or "__MACOSX" in entry.filename:
            continue
        with archive.open(entry) as file:
            content = file.read(MAX_BYTES + 1)  # the size that an archive states may be a lie
        small = len(content) <= MAX_BYTES
        name = within + entry.filename
        if small and not within and name.lower().endswith(".zip") and zipfile.is_zipfile(BytesIO(content)):
            with zipfile.ZipFile(BytesIO(content)) as inner:
                yield from _archived(inner, f"{name}/")
        else:
            yield name, datetime(*entry.date_time), content if small else None


def _version(
    name: str, time: datetime, content: bytes | None, patterns: list[re.Pattern], deadline: datetime | None
) -> Version | str:
    """The version that a file is, or why it is none."""
    if not name.lower().endswith(".ipynb"):
        return "no notebook"
    if content is None:
        return f"larger than {MAX_BYTES // 10**6} MB"
    match = next(filter(None, (pattern.fullmatch(name) for pattern in patterns)), None)
    if match is None:
        return "its name does not say whose it is"
    groups = match.groupdict()
    whole = "_".join(filter(None, (groups["student"], groups.get("number"))))
    student = re.sub(r"\W+", "_", whole).strip("_")
    if not student:
        return "its name does not say whose it is"
    if groups.get("time"):
        time = datetime.strptime(groups["time"], "%Y-%m-%d-%H-%M-%S")
    late = bool(groups.get("late")) or (deadline is not None and time > deadline)
    return Version(student, time, late, name, content)


def _preference(version: Version) -> tuple:
    return (not version.late, version.time, version.file)


def _write(path: Path, version: Version) -> None:
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir(parents=True)
    path.write_bytes(version.content)
    (path.parent / "timestamp.txt").write_text(version.time.astimezone().isoformat())


def _record(path: Path, chosen: dict[str, Version]) -> None:
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(".part")  # whoever is killed while writing leaves what was there before
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["student", "handed_in", "late", "file"])
        for student, version in chosen.items():
            late = "late" if version.late else ""
            writer.writerow([student, version.time.isoformat(" ", "seconds"), late, version.file])
    part.replace(path)
