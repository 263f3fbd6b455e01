"""Small things that tests are made of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import settings

from prefgen.candidate import Candidate
from prefgen.comparison import Order
from prefgen.completion import Capabilities, Completion, CompletionRequest
from prefgen.judgment import FailureStatus, JudgeFailure, Judgment, Provenance
from prefgen.ledger import Ledger
from prefgen.messages import user
from prefgen.models.scripted import ScriptedModel
from prefgen.prompt import Prompt
from prefgen.recorded import RecordedModel

# No deadline: how long an example takes says more about the machine than about the code.
settings.register_profile("prefgen", deadline=None, max_examples=60)
settings.load_profile("prefgen")

PROMPT = Prompt("p1", user("What is the best way to ask for a refund?"))


def candidate(
    text: str, sample: int = 0, finish_reason: str = "stop", policy: str = "test/writer"
) -> Candidate:
    return Candidate("p1", text, policy, sample, finish_reason)


def provenance(
    principle: str | None = None, order: Order | None = "ab", key: str | None = None
) -> Provenance:
    return Provenance("test/judge", "served", "template", None, principle, order, key, "logprobs")


def judgment(
    a: str,
    b: str | None,
    log_odds: float,
    principle: str | None = None,
    order: Order | None = "ab",
    key: str | None = None,
) -> Judgment:
    return Judgment("p1", a, b, log_odds, provenance(principle, order, key))


def failure(a: str, b: str | None, status: FailureStatus = "parse_failure") -> JudgeFailure:
    return JudgeFailure("p1", a, b, status, provenance())


def scripted(
    *answers: str | Completion | Exception, capabilities: Capabilities | None = None
) -> ScriptedModel:
    """A model that gives these answers one after the other, and the last of them for ever."""
    left = list(answers)

    def answer(request: CompletionRequest, sample: int) -> str | Completion | Exception:
        return left.pop(0) if len(left) > 1 else left[0]

    return ScriptedModel(answer, capabilities=capabilities)


@contextmanager
def recorded(model: ScriptedModel, path: Path) -> Iterator[RecordedModel]:
    with Ledger(path) as ledger:
        yield RecordedModel(model, ledger)
