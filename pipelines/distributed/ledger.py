"""The ledger of a worker: a file on its machine, and a note of all that a task got from it or put into it.

The notes travel back with the rows, so that the driver's ledger ends up with every answer, as after a local
run, and so that work that is done again elsewhere brings along what was paid for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path

from pipelines.distributed.rows import Answers
from prefgen.ledger import Ledger, Paid
from prefgen.messages import Json

noted: ContextVar[dict[bytes, tuple[str, dict[str, Json]]] | None] = ContextVar("noted", default=None)
"""Where a task and the tasks it starts note the answers they use."""


class NotingLedger(Ledger):
    """`on_paid`: told of what each call cost."""

    def __init__(self, path: Path, on_paid: Callable[[Paid], None]) -> None:
        super().__init__(path)
        self.on_paid = on_paid

    async def charge(self, paid: Paid) -> None:
        self.on_paid(paid)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, dict[str, Json]]:
        found = super().get(keys)
        notes = noted.get()
        if notes is not None:
            for key, value in found.items():
                notes[key] = self._model(key), value
        return found

    async def put(
        self, model: str, values: Mapping[bytes, dict[str, Json]], paid: Paid | None = None
    ) -> dict[bytes, dict[str, Json]]:
        """What it cost is not booked here but where the run is, by way of `on_paid`."""
        kept = await super().put(model, values)
        if paid is not None:
            self.on_paid(paid)
        notes = noted.get()
        if notes is not None:
            notes |= {key: (model, value) for key, value in kept.items()}
        return kept

    def _model(self, key: bytes) -> str:
        return str(self.read("SELECT model FROM answers WHERE key = ?", key)[0][0])


async def put_all(ledger: Ledger, answers: Answers) -> None:
    """Answers that were paid for elsewhere."""
    by_model: dict[str, dict[bytes, dict[str, Json]]] = {}
    for key, (model, value) in answers.items():
        by_model.setdefault(model, {})[key] = value
    for model, values in by_model.items():
        await ledger.put(model, values)
