"""``probes.watch`` as a handler for an Ignite engine."""

from contextlib import ExitStack

from ignite.engine import Engine, Events
from torch import nn

from nonlinearity import probes


class Watch:
    """Record a model's signals, gradients and updates from the start of an engine's run to its end.

    ::

        watch = Watch(model)
        watch.attach(trainer)
        trainer.run(loader, max_epochs=5)
        watch.monitor.table

    The hooks come off when the run completes or is terminated, and when it ends by an error, which is raised
    again. A further run starts a new record.

    Args:
        model, every: as for ``probes.watch``.

    Attributes:
        monitor: the record of the last run, a ``probes.Monitor``; None before the first.
    """

    def __init__(self, model: nn.Module, *, every: int = 1) -> None:
        self.monitor: probes.Monitor | None = None
        self._model, self._every = model, every
        self._stack = ExitStack()

    def attach(self, engine: Engine) -> None:
        """Have ``engine``, which trains the model, watched."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.COMPLETED, self._stack.close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def _start(self) -> None:
        self._stack.close()  # the run before may have been interrupted
        self.monitor = self._stack.enter_context(probes.watch(self._model, every=self._every))

    def _fail(self, error: BaseException) -> None:
        self._stack.close()
        raise error  # Ignite takes an error that has a handler for handled
