"""The kernel inside the sandbox: ipykernel on sockets that were opened outside."""

import json
import sys

import examiner  # noqa: F401 - brings torch: a student's first cell need not wait for it
import torch
import zmq
from ipykernel.kernelapp import IPKernelApp

# Otherwise the first use of a TorchDispatchMode imports torch's compiler, as long again as torch itself.
torch._disable_dynamo = lambda function=None, recursive=True: function or (lambda it: it)


class SandboxedKernelApp(IPKernelApp):
    """Takes key and sockets as they are given, and writes no file about them."""

    def init_connection_file(self) -> None:
        given = json.loads(sys.argv[1])
        self.session.key = given["key"].encode()
        self.transport, self.ip = "ipc", "/tmp/kernel"
        self._sockets = given["sockets"]

    def write_connection_file(self, **kwargs: object) -> None:
        pass

    def cleanup_connection_file(self) -> None:
        pass

    def init_sockets(self) -> None:
        self._names = iter(("shell", "stdin", "control", "iopub"))  # the order in which they are bound
        super().init_sockets()

    def _bind_socket(self, channel: zmq.Socket, port: int) -> int:
        name = next(self._names)
        channel.setsockopt(zmq.USE_FD, self._sockets[name])
        channel.bind(f"ipc:///tmp/{name}")  # a name only: the socket that is given listens already
        return 1


if __name__ == "__main__":
    app = SandboxedKernelApp.instance()
    app.initialize(["--HistoryManager.hist_file=:memory:"])
    app.start()
