"""nbgrader in processes of their own, which need not import it first: that takes longer than most notebooks.

A server imports it once, and each process is a fork of that.
"""

import multiprocessing
import os
import resource
import signal
import threading
from pathlib import Path

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["nbgrader.apps.nbgraderapp"])


def run(
    arguments: list[str], folder: Path, log: Path, memory: int, seconds: float, environment: dict[str, str]
) -> bool:
    """Call ``nbgrader``.

    Args:
        arguments: its command line.
        folder: the course folder.
        log: gets what it says.
        memory: bytes of address space that it may take.
        seconds: that it may take; then it is killed.
        environment: further variables.

    Returns:
        Whether it succeeded.
    """
    variables = dict(os.environ) | environment
    process = _forks.Process(target=_nbgrader, args=(arguments, folder, log, memory, variables))
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
        with log.open("a") as file:
            file.write(f"\nIt was stopped after {seconds} s\n")
    return process.exitcode == 0


def _nbgrader(arguments: list[str], folder: Path, log: Path, memory: int, variables: dict[str, str]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.environ.update(variables)
    os.chdir(folder)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    from nbgrader.apps.nbgraderapp import NbGraderApp

    NbGraderApp.launch_instance(arguments)


def _end_with_parent() -> None:
    """Nothing goes on writing grades when whoever asked for them was killed."""
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGKILL)
