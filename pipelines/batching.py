"""`--batch`: which models of a job are asked through their provider's batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipelines.console import Console
from prefgen.budget import Account
from prefgen.completion import Model
from prefgen.errors import RateLimitError, TransientError, UsageError
from prefgen.ledger import Ledger
from prefgen.models import LOCAL_PROVIDERS, ModelSpec
from prefgen.models.batches.settings import BatchSettings

if TYPE_CHECKING:
    from prefgen.models.batches.model import BatchModel


def with_servers(specs: Sequence[str | None]) -> set[str]:
    """Those of a job's models that may have batches. Raises UsageError where there is none."""
    parsed = (ModelSpec.parse(spec) for spec in specs if spec is not None)
    found = {spec.text for spec in parsed if spec.provider not in LOCAL_PROVIDERS}
    if not found:
        raise UsageError("--batch: all models of this job run in this process; only servers have batches")
    return found


@dataclass(slots=True)
class Batching:
    """`may`: models that may have batches, as far as is known. `models`: those asked through them."""

    settings: BatchSettings
    may: set[str]
    models: dict[str, BatchModel] = field(default_factory=dict)

    async def wrap(
        self,
        direct: Model,
        adapter: Model,
        ledger: Ledger,
        account: Account,
        console: Console,
        busy: Callable[[], bool],
    ) -> Model:
        """The model through its batches where it has them. Raises UsageError, before anything is paid for,
        where no model of the job has."""
        from prefgen.models.anthropic import AnthropicModel
        from prefgen.models.batches.anthropic import AnthropicBatches
        from prefgen.models.batches.model import BatchModel
        from prefgen.models.batches.openai import OpenAIBatches
        from prefgen.models.batches.store import BatchStore
        from prefgen.models.http import NoSuchRouteError
        from prefgen.models.openai import OpenAIModel

        if not isinstance(adapter, OpenAIModel | AnthropicModel):
            return direct
        openai = isinstance(adapter, OpenAIModel)
        service = (OpenAIBatches if openai else AnthropicBatches)(adapter.endpoint)
        try:
            await service.check()
        except NoSuchRouteError as error:
            self.may.discard(adapter.spec)
            if self.may:
                console.warn(f"{adapter.spec} has no batches: it is asked directly, at its full price")
                return direct
            await adapter.aclose()
            raise UsageError(
                f"--batch: the server has no batches: {error}\n  fix: leave out --batch"
            ) from error
        except (TransientError, RateLimitError):
            pass  # It may be busy, but it has them.
        except BaseException:
            await adapter.aclose()
            raise
        model = BatchModel(
            direct, adapter, service, BatchStore(ledger), account, self.settings,
            busy=busy, tell=console.note, warn=console.warn,
        )  # fmt: skip
        model.start()
        self.models[adapter.spec] = model
        return model

    def leave(self) -> None:
        """The run is ending: see `BatchModel.leave`."""
        for model in self.models.values():
            model.leave()


def warn_of_open(spec: str, identity: str, ledger: Ledger, console: Console) -> None:
    """A run without --batch pays a second time for what stands in open batches."""
    from prefgen.models.batches.store import BatchStore

    store = BatchStore(ledger)
    waiting = sum(batch.requests for batch in store.open_batches(identity))
    store.close()
    if waiting:
        console.warn(
            f"{waiting} requests to {spec} stand in open batches: --batch collects them, without it they may "
            "be paid for again"
        )
