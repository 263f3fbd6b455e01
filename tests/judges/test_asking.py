"""One question to a judge: which evidence, one re-ask, and what a failure is called."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from making import scripted

from judges.asking import Answer, Asking, Question, ask, wordings
from judges.evidence import Evidence, Reading, TwoWords, Unreadable
from judges.prompting import Template
from prefgen.budget import Account
from prefgen.completion import Capabilities, Completion, CompletionRequest
from prefgen.engine import EngineModel, Limits
from prefgen.errors import DeadlineError, RequestRefusedError, TransientError, UnsupportedParameterError
from prefgen.ledger import Ledger
from prefgen.messages import Message
from prefgen.models.scripted import ScriptedModel
from prefgen.prices import Price
from prefgen.recorded import RecordedModel
from prefgen.usage import Usage

QUESTION = Question(
    Template("{{text}}\n{{question}}"), {"text": "x"}, wordings("pairwise"), TwoWords(("A", "B"), "percent_a")
)
SCORE_90 = '{"reason": "", "percent_a": 90}'
SURE_A = Completion("A", label_logprobs={"A": -0.1, "B": -3.0})


async def put(
    model: ScriptedModel, path: Path, asking: Asking | None = None, question: Question[Reading] = QUESTION
) -> Answer[Reading]:
    with Ledger(path / "l.sqlite") as ledger:
        engine = EngineModel(model, Limits(attempts=1, first_wait=0.001, deadline=0.2), Account())
        return await ask(RecordedModel(engine, ledger), question, asking or Asking())


async def test_a_readable_reply_is_asked_for_once(tmp_path: Path) -> None:
    model = scripted(SURE_A)
    answer = await put(model, tmp_path)
    assert isinstance(answer.result, Reading)
    assert answer.result.log_odds == pytest.approx(2.9)
    assert len(model.calls) == 1
    assert answer.key is not None
    assert len(answer.key) == 64


@pytest.mark.parametrize("evidence", ["logprobs", "score", "votes"])
async def test_an_unreadable_reply_is_asked_for_once_more(evidence: Evidence, tmp_path: Path) -> None:
    model = scripted(Completion("what?", label_logprobs={}))
    answer = await put(model, tmp_path, Asking(evidence=evidence))
    assert answer.result == Unreadable("parse_failure")
    assert answer.raw == "what?"
    assert len(model.calls) == 2
    first, second = model.calls
    assert (first.samples, second.samples) == ((0,), (1,))
    assert second.messages[0] == first.messages[0]
    assert second.messages[1].content == "what?"
    assert "could not be read" in second.messages[2].content


async def test_the_second_reply_counts(tmp_path: Path) -> None:
    model = scripted("hm", "Verdict: B")
    answer = await put(model, tmp_path, Asking(evidence="votes"))
    assert isinstance(answer.result, Reading)
    assert answer.result.log_odds < 0
    assert answer.raw == "Verdict: B"


async def test_an_empty_reply_is_asked_again_without_an_empty_message(tmp_path: Path) -> None:
    """Providers refuse messages without text."""
    model = scripted("", "Verdict: A")
    await put(model, tmp_path, Asking(evidence="votes"))
    assert all(message.content for message in model.calls[1].messages)


async def test_votes_are_drawn_together_and_again_as_further_samples(tmp_path: Path) -> None:
    model = scripted("hm")
    await put(model, tmp_path, Asking(evidence="votes", votes=3))
    assert [call.samples for call in model.calls] == [(0, 1, 2), (3, 4, 5)]
    assert model.calls[0].sampling.temperature == 1.0


async def test_a_resumed_run_asks_twice_more_and_pays_only_for_that(tmp_path: Path) -> None:
    first, second = scripted("hm"), scripted("Verdict: A")
    await put(first, tmp_path, Asking(evidence="votes"))
    answer = await put(second, tmp_path, Asking(evidence="votes", attempt=1))
    assert isinstance(answer.result, Reading)
    assert [call.samples for call in first.calls + second.calls] == [(0,), (1,), (2,)]


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ("cannot be read", "parse_failure"),
        (Completion("I will not judge this.", "refusal"), "refusal"),
        (Completion("Both responses are", "length"), "truncated"),
        (RequestRefusedError("400: no"), "api_error"),
        (TransientError("500"), "api_error"),
        (DeadlineError("late"), "timeout"),
    ],
)
async def test_each_failure_has_its_name_and_keeps_its_raw_text(
    reply: str | Completion | Exception, status: str, tmp_path: Path
) -> None:
    answer = await put(scripted(reply), tmp_path, Asking(evidence="votes"))
    assert answer.result == Unreadable(status)
    assert answer.raw == (reply.text if isinstance(reply, Completion) else str(reply))


async def test_a_model_that_never_answers_is_a_timeout(tmp_path: Path) -> None:
    answer = await put(
        ScriptedModel(lambda request, sample: "A", latency=5), tmp_path, Asking(evidence="votes")
    )
    assert answer.result == Unreadable("timeout")


async def test_a_failed_call_is_not_asked_again_by_the_judge(tmp_path: Path) -> None:
    model = scripted(RequestRefusedError("400"))
    await put(model, tmp_path)
    assert len(model.calls) == 1


def lacking(*missing: str) -> ScriptedModel:
    """Refuses parameters as providers do, and answers in whatever form it was asked for."""

    def answer(request: CompletionRequest, sample: int) -> str | Exception:
        if request.label_words and "logprobs" in missing and not model.capabilities.lacks("logprobs"):
            return UnsupportedParameterError("logprobs", "no logprobs here")
        if request.schema and "schema" in missing and not model.capabilities.lacks("structured_output"):
            return UnsupportedParameterError("structured_output", "no schema here")
        if request.label_words:
            return "A"
        return '{"reason": "", "percent_a": 90}' if "schema" not in missing else "Verdict: A"

    model = ScriptedModel(answer, capabilities=Capabilities())
    return model


async def test_missing_logprobs_are_learnt_once_and_degraded_to_a_score(tmp_path: Path) -> None:
    model = lacking("logprobs")
    with Ledger(tmp_path / "l.sqlite") as ledger:
        recorded = RecordedModel(EngineModel(model, Limits(), Account()), ledger)
        answers = [
            await ask(
                recorded,
                replace(QUESTION, values={"text": text}),
                Asking(),
            )
            for text in ("one", "two", "three")
        ]
    assert [answer.evidence for answer in answers] == ["score", "score", "score"]
    assert all(isinstance(answer.result, Reading) for answer in answers)
    assert sum(bool(call.label_words) for call in model.calls) == 2  # Refused, and once more without.
    assert "logprobs" in model.capabilities.learnt


async def test_a_reply_that_silently_lacks_logprobs_is_learnt_too(tmp_path: Path) -> None:
    model = scripted("A", '{"reason": "", "percent_a": 90}')
    model.capabilities = Capabilities()
    answer = await put(model, tmp_path)
    assert answer.evidence == "score"
    assert model.capabilities.lacks("logprobs")


async def test_without_structured_output_votes_are_the_evidence(tmp_path: Path) -> None:
    model = lacking("schema")
    model.capabilities = Capabilities(logprobs=False, structured_output=False)
    answer = await put(model, tmp_path)
    assert answer.evidence == "votes"
    assert isinstance(answer.result, Reading)


async def test_evidence_that_was_asked_for_is_not_exchanged(tmp_path: Path) -> None:
    answer = await put(scripted("A"), tmp_path, Asking(evidence="logprobs"))
    assert answer.evidence == "logprobs"
    assert answer.result == Unreadable("parse_failure")


async def test_a_thinking_model_that_says_nothing_in_four_tokens_is_asked_for_a_score(tmp_path: Path) -> None:
    silent = Completion("", "length", label_logprobs={})
    answer = await put(scripted(silent, '{"reason": "", "percent_a": 20}'), tmp_path)
    assert answer.evidence == "score"
    assert isinstance(answer.result, Reading)


async def test_what_a_vain_question_cost_is_counted(tmp_path: Path) -> None:
    """Six tokens in and one out for the letter, seven in and three out for the score."""
    model = scripted(Completion("A", input_tokens=6), Completion(SCORE_90, input_tokens=7, output_tokens=3))
    with Ledger(tmp_path / "l.sqlite") as ledger:
        usage = Usage(Price(1e6, 1e6))
        answer = await ask(RecordedModel(model, ledger, usage), QUESTION, Asking())
    assert answer.evidence == "score"
    assert answer.cost_usd == 6 + 1 + 7 + 3


async def test_a_rationale_goes_before_the_letter(tmp_path: Path) -> None:
    """Two calls; the second sees the first, and both are kept."""
    model = scripted(Completion("A is clearer.", "length", output_tokens=4), SURE_A)
    answer = await put(model, tmp_path, Asking(reasoning=True, max_tokens=77))
    first, second = model.calls
    assert "Do not decide yet" in first.messages[0].content
    assert (first.sampling.max_tokens, first.sampling.temperature, first.label_words) == (77, 0.0, ())
    assert [message.role for message in second.messages] == ["user", "assistant", "user"]
    assert second.messages[:2] == (*first.messages, Message("assistant", "A is clearer."))
    assert second.label_words == ("A", "B")
    assert isinstance(answer.result, Reading)
    assert json.loads(answer.raw) == ["A is clearer.", "A"]


async def test_both_calls_of_a_reasoned_answer_are_paid(tmp_path: Path) -> None:
    thought = Completion("Hm.", input_tokens=10, output_tokens=2)
    model = scripted(thought, replace(SURE_A, input_tokens=13, output_tokens=1))
    with Ledger(tmp_path / "l.sqlite") as ledger:
        behind = RecordedModel(model, ledger, Usage(Price(1e6, 1e6)))
        answer = await ask(behind, QUESTION, Asking(reasoning=True))
    assert answer.cost_usd == 26


@pytest.mark.parametrize(
    ("thought", "status"),
    [
        (Completion("", "length"), "truncated"),
        (Completion("I would rather not.", "refusal"), "refusal"),
        (Completion("  "), "parse_failure"),
        (DeadlineError("late"), "timeout"),
    ],
)
async def test_no_letter_is_asked_for_without_a_rationale(
    thought: Completion | Exception, status: str, tmp_path: Path
) -> None:
    model = scripted(thought)
    answer = await put(model, tmp_path, Asking(reasoning=True))
    assert answer.result == Unreadable(status)
    assert [call.samples for call in model.calls] == ([(0,)] if status == "timeout" else [(0,), (1,)])
    assert not any(call.label_words for call in model.calls)


async def test_an_empty_rationale_is_asked_for_again(tmp_path: Path) -> None:
    answer = await put(scripted("", "A is clearer.", SURE_A), tmp_path, Asking(reasoning=True))
    assert isinstance(answer.result, Reading)
    assert json.loads(answer.raw) == ["A is clearer.", "A"]


async def test_a_letter_that_cannot_be_read_is_asked_for_again_after_the_same_rationale(
    tmp_path: Path,
) -> None:
    model = scripted("A is clearer.", Completion("so", label_logprobs={}), SURE_A)
    answer = await put(model, tmp_path, Asking(reasoning=True))
    assert isinstance(answer.result, Reading)
    last = model.calls[-1].messages
    assert [message.role for message in last] == ["user", "assistant", "user", "assistant", "user"]
    assert last[1].content == "A is clearer."


async def test_written_evidence_needs_no_rationale_of_its_own(tmp_path: Path) -> None:
    model = scripted("Verdict: A")
    await put(model, tmp_path, Asking(evidence="votes", reasoning=True))
    assert len(model.calls) == 1


async def test_a_template_hash_for_each_way_of_asking() -> None:
    ways = [
        Asking(),
        Asking(reasoning=True),
        Asking(reference="gold"),
        Asking(reasoning=True, reference="gold"),
    ]
    assert len({QUESTION.template("logprobs", way) for way in ways}) == 4
    assert QUESTION.template("votes", Asking(reasoning=True)) == QUESTION.template("votes", Asking())


@pytest.mark.parametrize(
    ("said", "drawn", "log_odds"),
    [
        ("AAA", [(0, 1, 2)], math.log(3.5 / 0.5)),
        ("AABAA", [(0, 1, 2), (3, 4)], math.log(4.5 / 1.5)),
        ("BABABBB", [(0, 1, 2), (3, 4), (5, 6)], math.log(2.5 / 5.5)),
        ("A?BAAA", [(0, 1, 2), (3, 4, 5)], math.log(4.5 / 1.5)),
    ],
)
async def test_adaptive_votes_stop_when_it_is_decided(
    said: str, drawn: Sequence[tuple[int, ...]], log_odds: float, tmp_path: Path
) -> None:
    """At most nine, a lead of three decides."""
    model = ScriptedModel(lambda request, sample: f"Verdict: {said[sample]}")
    answer = await put(model, tmp_path, Asking(evidence="votes", votes=9, adaptive=True))
    assert [call.samples for call in model.calls] == drawn
    assert isinstance(answer.result, Reading)
    assert answer.result.log_odds == pytest.approx(log_odds)
    assert len(json.loads(answer.raw)) == len(said)


async def test_adaptive_votes_are_not_drawn_twice(tmp_path: Path) -> None:
    for calls in (2, 0):
        model = ScriptedModel(lambda request, sample: f"Verdict: {'AABAA'[sample]}")
        await put(model, tmp_path, Asking(evidence="votes", votes=9, adaptive=True))
        assert len(model.calls) == calls


async def test_adaptive_votes_that_cannot_be_read_are_all_drawn_and_then_asked_for_again(
    tmp_path: Path,
) -> None:
    model = scripted("hm")
    answer = await put(model, tmp_path, Asking(evidence="votes", votes=3, adaptive=True))
    assert answer.result == Unreadable("parse_failure")
    assert [sample for call in model.calls for sample in call.samples] == [0, 1, 2, 3, 4, 5]
