"""The tables of a comparison as files that can be passed on, and read again where nothing is trained."""

import hashlib
import json
import os
import platform
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import pandas as pd
import torch

from nonlinearity.comparison.report import Comparison

_ABOUT = "about.json"
_TABLES = {"runs": "runs.csv", "curves": "curves.csv", "step_times": "step-times.csv"}


@dataclass(frozen=True)
class About:
    """Where saved tables come from.

    Attributes:
        command: that made them.
        made: the day.
        environment: what it ran in: versions, machine, vector instructions that PyTorch used, cores.
        baseline, level, measure: of the comparison.
        sha256: file → checksum of its content.
    """

    command: str
    made: str
    environment: dict[str, str | int]
    baseline: str
    level: float
    measure: str
    sha256: dict[str, str]


def save(result: Comparison, folder: str | Path, command: str) -> None:
    """Write a comparison's tables and summary, and ``about.json`` with the checksums of the tables.

    Args:
        folder: is made if it is not there; files of these names in it are replaced.
        command: that made the comparison, so that others can make it again.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in _TABLES.items():
        getattr(result, name).to_csv(folder / file, index=False, lineterminator="\n")
    result.summary().to_csv(folder / "summary.csv", index=False, lineterminator="\n")
    (folder / "summary.txt").write_text(f"{result.text()}\n", encoding="utf-8")
    checksums = {file: _digest(folder / file) for file in _TABLES.values()}
    about = About(
        command, f"{date.today()}", _environment(), result.baseline, result.level, result.measure, checksums
    )
    (folder / _ABOUT).write_text(json.dumps(asdict(about), indent=1) + "\n", encoding="utf-8")


def read(folder: str | Path) -> tuple[Comparison, About]:
    """Read what ``save`` wrote.

    Returns:
        the comparison, equal to the one that was saved, and where it comes from.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a table is not the one that was saved; the message names it.
    """
    folder = Path(folder)
    about = About(**json.loads((folder / _ABOUT).read_text("utf-8")))
    for file, expected in about.sha256.items():
        found = _digest(folder / file)
        if found != expected:
            raise ValueError(f"{folder / file} was changed: its SHA-256 is {found}, expected {expected}")
    tables = {name: pd.read_csv(folder / file) for name, file in _TABLES.items()}
    return Comparison(**tables, baseline=about.baseline, level=about.level, measure=about.measure), about


def _environment() -> dict[str, str | int]:
    environment = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.system(),
        "machine": platform.machine(),
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
    }
    if torch.cuda.is_available():
        environment["gpu"] = torch.cuda.get_device_name()
    return environment


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
