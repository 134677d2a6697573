"""The commands of the Makefile: listed, not repeated in vain, and clear about what is missing."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLACE = ["Makefile", "requirements.txt", "pyproject.toml"]
# Of a make or pip around these tests nothing may reach the make that is tested.
OUTSIDE = re.compile(r"MAKE|MFLAGS|PYTHON$|PIP_|VIRTUAL_ENV|\w*_proxy$", re.IGNORECASE)
ENVIRONMENT = {key: value for key, value in os.environ.items() if not OUTSIDE.match(key)}


@pytest.fixture
def copy(tmp_path):
    """A folder with what make needs, and no environment yet."""
    for name in PLACE:
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def make(folder, *arguments, **environment):
    return subprocess.run(
        ["make", "-C", str(folder), "--no-print-directory", *arguments],
        env=ENVIRONMENT | environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def python_that(folder, prelude):
    """A Python in that folder that runs ``prelude`` before any ``-c`` program."""
    shim = folder / "python-shim"
    shim.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} -c "{prelude}; $2"\nexit 9\n')
    shim.chmod(0o755)
    return f"PYTHON={shim}"


def test_help_lists_every_target_and_is_what_make_does_alone_or_when_asked():
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    listed = re.findall(r"^  make ([\w.]+) +\S.*$", make(ROOT, "help").stdout, re.MULTILINE)
    assert sorted([*listed, "help"]) == sorted(phony.split())
    assert make(ROOT).stdout == make(ROOT, "help").stdout


@pytest.mark.parametrize("target", ["book", "test", "notebooks", "bench", "lab", "serve", "check", "grade"])
def test_what_needs_the_environment_makes_it_first(copy, target):
    assert "pip install" in make(copy, "-n", target).stdout


def test_nothing_is_installed_again_until_the_requirements_change(copy):
    installed = copy / ".venv" / "installed"
    installed.parent.mkdir()
    installed.touch()
    now = installed.stat().st_mtime
    for name in PLACE:
        os.utime(copy / name, (now - 10, now - 10))
    assert "pip install" not in make(copy, "-n", "book").stdout
    assert "jupyter-book build" in make(copy, "-n", "book").stdout
    for name in ("requirements.txt", "pyproject.toml"):
        os.utime(copy / name, (now + 10, now + 10))
        assert "pip install" in make(copy, "-n", "book").stdout
        os.utime(copy / name, (now - 10, now - 10))


def refused(copy, *arguments, **environment):
    """What make says on stderr and stdout when it stops, with no environment taken for complete."""
    done = make(copy, "book", *arguments, **environment)
    assert done.returncode != 0
    assert not (copy / ".venv" / "installed").exists()
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


def test_missing_python_is_named(copy):
    said = refused(copy, "PYTHON=python9.9")
    assert "No python9.9 here. Install Python 3.11 or newer, or name it: make book PYTHON=" in said
    assert not (copy / ".venv").exists()


def test_old_python_is_named_with_its_version(copy):
    old = python_that(copy, "import sys; sys.version_info = (3, 9, 2); sys.version = '3.9.2 (fake)'")
    said = refused(copy, old)
    assert "The course needs Python 3.11 or newer" in said
    assert "python-shim is 3.9.2" in said
    assert not (copy / ".venv").exists()


def test_full_disk_is_named_with_what_is_free(copy):
    full = python_that(
        copy,
        "import shutil, types; shutil.disk_usage = lambda path: types.SimpleNamespace(free=1.26e9)",
    )
    said = refused(copy, full)
    assert "The environment takes 4 GB of disk; 1.3 GB are free." in said
    assert not (copy / ".venv").exists()


def test_python_without_venv_is_told_how_to_get_it(copy):
    said = refused(copy, python_that(copy, "import sys"))
    assert "cannot make a virtual environment; on Debian: apt-get install python3-venv" in said


def test_missing_network_is_named_and_the_next_run_goes_on(copy):
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull}
    said = refused(copy, f"PYTHON={sys.executable}", **nowhere)
    assert "Could not find a version" in said or "Connection" in said  # pip's own words
    assert "The environment could not be installed" in said
    assert "Without network" in said
    assert "pip install" in make(copy, "-n", "book").stdout


@pytest.mark.parametrize(
    ("given", "meant"), [("~/a b.ipynb", "/home/ada/a b.ipynb"), ("b~/c.ipynb", "b~/c.ipynb")]
)
def test_check_finds_a_notebook_at_home_whatever_the_shell(copy, given, meant):
    said = make(copy, "-n", "check", f"NOTEBOOK={given}", HOME="/home/ada").stdout
    assert f'nonlinearity.check "{meant}"' in said
