"""``probes.watch`` as a callback for a Lightning trainer."""

from contextlib import ExitStack

import lightning as L

from nonlinearity import probes


class Watch(L.Callback):
    """Record a LightningModule's signals, gradients and updates while ``Trainer.fit`` trains it.

    ::

        watch = Watch()
        L.Trainer(callbacks=[watch]).fit(module, data)
        watch.monitor.table

    The hooks come off when the training ends, by an error too. A further ``fit`` starts a new record. The
    sanity check before the training is not recorded.

    Args:
        every: as for ``probes.watch``.

    Attributes:
        monitor: the record of the last training, a ``probes.Monitor``; None before the first.
    """

    def __init__(self, *, every: int = 1) -> None:
        self.monitor: probes.Monitor | None = None
        self._every = every
        self._stack = ExitStack()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stack.close()
        self.monitor = self._stack.enter_context(probes.watch(pl_module, every=self._every))

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._stack.close()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        self._stack.close()
