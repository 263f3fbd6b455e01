"""Watches the judge through a long run and pauses the run when the judge is no longer the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from judges.drift import Asked, Probe, Shift, answers, shift
from judges.judge import Judge
from pipelines.outcome import Outcome
from pipelines.roles import Roles
from prefgen.errors import GateError
from prefgen.run import RunDirectory

PROBES = 20
_FIX = (
    "fix: all answers are kept; --resume --accept-drift goes on and mixes the labels, another --out with "
    "another --judge (best a name with a date, which does not change) makes them all alike"
)


class DriftWatch:
    """Sees the outcomes in order.

    The name a judge is served under is always watched. Every `every` prompts the first comparisons of the run
    are asked anew: `judge(name)` is the judge, which knows from the ledger only what it was asked under that
    name, None being that of the run. While everything comes from the ledger there is nothing to check.
    """

    def __init__(
        self,
        run: RunDirectory,
        roles: Roles,
        judge: Callable[[str | None], Awaitable[Judge]],
        *,
        every: int,
        accept: bool,
    ) -> None:
        self._run, self._roles, self._judge = run, roles, judge
        self._every, self._accept = every, accept
        self._served: dict[str, list[str]] = {}
        self._probes: list[Probe] = []
        self._baseline: tuple[dict[Asked, float], dict[Asked, float]] | None = None
        self._seen = self._paid = 0
        self._checks: list[tuple[int, Shift]] = []

    async def see(self, outcome: Outcome) -> None:
        """Raises GateError, resumable, when the judge has changed and that is not accepted."""
        self._seen += 1
        self._watch_name(outcome)
        if not self._every:
            return
        if self._baseline is None:
            self._collect(outcome)
            if len(self._probes) == PROBES or self._seen == self._every:
                await self._start()
        elif self._seen % self._every == 0 and self._roles.usage["requests"] > self._paid:
            await self._check()

    def _watch_name(self, outcome: Outcome) -> None:
        for item in outcome.results:
            told = item.provenance
            names = self._served.setdefault(told.judge, [])
            if told.served and told.served not in names:
                names.append(told.served)
                if len(names) > 1:
                    self._tell(
                        f"{told.judge} answered as {names[-2]!r} at first and as {names[-1]!r} for prompt "
                        f"{item.prompt_id}: another model may have taken its place"
                    )

    def _collect(self, outcome: Outcome) -> None:
        judged = [item for item in outcome.sampled.distinct if item.id in outcome.standing.scores]
        if len(judged) > 1:
            self._probes.append(Probe(outcome.prompt, judged[0], judged[1]))

    async def _start(self) -> None:
        first = await self._ask(None)
        self._baseline = first, await self._ask("repeat")
        self._paid = self._roles.usage["requests"]
        if self._run.attempt:  # The run may have been paused: look before more is paid for.
            await self._check()

    async def _ask(self, name: str | None) -> dict[Asked, float]:
        return await answers(await self._judge(name), self._probes)

    async def _check(self) -> None:
        assert self._baseline is not None, "asked first"
        later = await self._ask(f"check {self._run.attempt}.{self._seen}")
        found = shift(*self._baseline, later)
        self._checks.append((self._seen, found))
        if found.drifted:
            if self._accept:
                self._baseline = later, await self._ask(f"repeat {self._run.attempt}.{self._seen}")
            else:
                self._run.ended_owing()  # Resuming asks the probes anew: the judge may be back.
            judge = await self._judge(None)
            self._tell(
                f"{judge.name} no longer judges as at the start: after {self._seen} prompts, "
                f"{found.n} questions of the first ones were asked again, and the answers have moved by "
                f"{found.change:.2f} log-odds on average, {found.noise:.2f} when they were asked twice at "
                f"the start (p = {found.p_value:.2g})"
            )
        self._paid = self._roles.usage["requests"]

    def _tell(self, what: str) -> None:
        if not self._accept:
            raise GateError(f"paused: {what}\n  {_FIX}")
        self._roles.console.warn(what)

    def as_json(self) -> dict[str, Any]:
        """What was watched, for the manifest."""
        checks = [{"after_prompts": seen, **asdict(found)} for seen, found in self._checks]
        return {"served": self._served, "n_probes": len(self._probes), "checks": checks}
