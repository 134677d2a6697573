"""Start one student's kernel in a bubblewrap sandbox; the kernelspec beside this file calls it.

The sandbox has no network, no sight of anything but Python, its packages and the assignment's data files, all
read-only, and a work folder in memory that ends with it. The kernel does not even reach the folder of its own
sockets: they are opened out here, where nbgrader connects to them, and handed in as open files.
"""

import json
import os
import socket
import sys
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
INSIDE = "/sandbox"
HOME = "/home/student"
SOCKETS = ("shell", "stdin", "control", "iopub")

SECONDS = int(os.environ.get("GRADING_SECONDS", 900))  # for a whole notebook, then it is killed
MEMORY = 4 << 30  # bytes of address space, for each process; training with torch takes 2 GiB of it
FILE = 64 << 20  # bytes, for each file
PROCESSES = 64  # and threads, of which an idle kernel has about 10
FOLDER = 256 << 20  # bytes in all, for each of the folders that can be written to


def command(*program: str, data: Path | None = None, environment: dict[str, str] | None = None) -> list[str]:
    """The command line that runs a program in a sandbox of its own.

    Args:
        program: what to run, and its arguments.
        data: a folder whose content, without notebooks, is shown in the work folder, read-only.
        environment: variables for the program, besides the few that every sandbox has.
    """
    # setpriv: if whoever started this dies, so does all of it, down to what a student's code left running.
    outside = ["setpriv", "--pdeathsig", "KILL", "timeout", "--signal", "KILL", str(SECONDS)]
    isolation = ["--unshare-all", "--unshare-user", "--disable-userns", "--uid", "1000", "--gid", "1000"]
    isolation += ["--cap-drop", "ALL", "--die-with-parent", "--new-session", "--clearenv"]
    limits = [
        "prlimit",
        f"--as={MEMORY}",
        f"--fsize={FILE}",
        f"--nproc={PROCESSES}",
        "--nofile=256",
        "--core=0",
    ]
    return [*outside, "bwrap", *isolation, *_folders(data), *_variables(environment or {}), *limits, *program]


def _folders(data: Path | None) -> list[str]:
    """bwrap's options for what is seen where."""
    course = find_spec(
        "nonlinearity"
    ).submodule_search_locations  # found, not imported: that would take seconds
    python = dict.fromkeys([sys.prefix, sys.base_prefix, *course])
    shown = ["--ro-bind", "/usr", "/usr"]
    for link in ("bin", "lib", "lib64"):
        shown += ["--symlink", f"usr/{link}", f"/{link}"]
    shown += ["--proc", "/proc", "--dev", "/dev"]
    for folder in ("/dev/shm", "/tmp", HOME):
        shown += ["--size", str(FOLDER), "--tmpfs", folder]
    for folder in (*python, str(HERE)):  # after the empty /tmp, in which the environment may lie
        shown += ["--ro-bind", folder, INSIDE if folder == str(HERE) else folder]
    for path in sorted(data.iterdir()) if data else ():
        if path.suffix != ".ipynb":  # the source notebook is there too, with solutions and hidden tests
            shown += ["--ro-bind", str(path), f"{HOME}/{path.name}"]
    # /proc/sys belongs to root, and this may be root's process: there it could write the machine's settings.
    for folder in ("/proc", "/dev", "/"):
        shown += ["--remount-ro", folder]
    return [*shown, "--chdir", HOME]


def _variables(further: dict[str, str]) -> list[str]:
    variables = {"HOME": HOME, "LANG": "C.UTF-8", "PATH": f"{sys.prefix}/bin:/usr/bin", "USER": "student"}
    variables |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return [word for item in (variables | further).items() for word in ("--setenv", *item)]


def _listening(path: str) -> int:
    """An open socket that listens there, as a file descriptor that the kernel will inherit."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen()
    listener.set_inheritable(True)
    return listener.detach()


def main(connection_file: str) -> None:
    """Become the sandbox, with a kernel in it."""
    connection = json.loads(Path(connection_file).read_text())
    sockets = {name: _listening(f"{connection['ip']}-{connection[f'{name}_port']}") for name in SOCKETS}
    kernel = [
        sys.executable,
        f"{INSIDE}/kernel.py",
        json.dumps({"key": connection["key"], "sockets": sockets}),
    ]
    data = os.environ.get("GRADING_DATA")
    arguments = command(
        *kernel,
        data=Path(data) if data else None,
        environment={"GRADING_SEED": os.environ.get("GRADING_SEED", "0")},
    )
    # First in line if the machine runs out of memory: many processes of 4 GiB each may be too much for it.
    Path("/proc/self/oom_score_adj").write_text("1000")
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # output comes as messages; anything else would go to nbgrader's own terminal
        os.dup2(nothing, stream)
    os.execvp(arguments[0], arguments)


if __name__ == "__main__":
    main(sys.argv[1])
