"""Every option of `prefgen generate`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from judges.evidence import Evidence
from judges.listwise import MOST
from judges.pairwise import PrincipleMode
from judges.ranking import Meetings
from pipelines.distributed.config import RAY_OPTIONS, RayConfig
from prefgen.models.ensemble import EnsembleMode
from prefgen.pairing import KTOLabels, PairingRule, Strategy
from prefgen.rows import Format
from prefgen.verdicts import Combine

RUN_OPTIONS = (
    "out",
    "concurrency",
    "deadline",
    "attempts",
    "requests_per_minute",
    "input_tokens_per_minute",
    "output_tokens_per_minute",
    "max_requests",
    "max_cost",
    "engine_arg",
    "price",
    "ledger",
    "max_failure_share",
    "accept_drift",
    *RAY_OPTIONS,
    "batch",
    "batch_requests",
    "batch_poll",
)
"""Options that decide how a run goes, not what it makes: a resumed run may change them."""


class PairingConfig(BaseModel):
    """How judgments become pairs: shared by `generate` and `pair`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
    topics: ClassVar[dict[str, str]] = {"strategy": "Pairs", "seed": "Run"}

    strategy: Strategy = "best-worst"
    """Which pair of a prompt's candidates to take. best-2sigma takes the rejected one nearest the mean
    score minus two standard deviations, which holds up better with many candidates."""
    min_confidence: float = Field(default=0.75, ge=0.5, lt=1)
    """Probability that chosen beats rejected, at least; pairs below it are dropped."""
    calibration: Path | None = None
    """calibration.json of this judge: confidences become probabilities that a human agrees."""
    target_precision: float | None = Field(default=None, gt=0.5, lt=1)
    """Keep the pairs that earn this label precision by the calibration, in place of --min-confidence."""
    max_pairs: int = Field(default=1, ge=1)
    """Pairs per prompt at most, the clearest first."""
    max_similarity: float = Field(default=0.95, gt=0, le=1)
    """Two responses that share more than this of their words are the same answer."""
    max_length_gap: float | None = Field(default=None, gt=0, le=1)
    """Largest difference in characters, as a share of the longer response. Off by default."""
    choose_truncated: bool = False
    """Let a response that was cut by the token limit be chosen."""
    kto_labels: KTOLabels = "pairs"
    """KTO rows: the pairs' two sides, or every candidate clear of its prompt's mean."""
    format: Format = "conversational"
    """Rows as lists of messages, or as plain strings."""
    test_share: float = Field(default=0.05, ge=0, lt=1)
    """Share of rows held out for test, by groups of similar prompts."""
    seed: int = Field(default=0, ge=0)
    """Seed of sampling and of every random choice."""

    @model_validator(mode="after")
    def _calibrated(self) -> Self:
        if self.target_precision is not None and self.calibration is None:
            raise ValueError("--target-precision needs --calibration FILE (prefgen calibrate makes one)")
        if self.kto_labels == "threshold" and self.calibration is not None:
            raise ValueError("--kto-labels threshold goes without --calibration, which speaks of pairs")
        return self

    @property
    def rule(self) -> PairingRule:
        """Without the calibration, which `pipelines.calibration.labelling` adds."""
        return PairingRule(
            strategy=self.strategy,
            min_confidence=self.min_confidence,
            max_pairs=self.max_pairs,
            max_similarity=self.max_similarity,
            max_length_gap=self.max_length_gap,
            allow_truncated=self.choose_truncated,
            seed=self.seed,
        )


class PairConfig(PairingConfig):
    run: Path
    """A finished run."""
    out: Path
    """Directory for the new pairs. Without it nothing is written: a table says what settings come to."""


class CallConfig(BaseModel):
    """How models are called: shared by every job that calls any."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
    topics: ClassVar[dict[str, str]] = {"max_failure_share": "Calls", "batch": "Batches", "seed": "Run"}

    max_failure_share: float = Field(default=0.05, ge=0, le=1)
    """Failed model calls above this share end the run with exit code 3."""
    concurrency: int = Field(default=64, ge=1)
    """Calls in flight per model; of vLLM in this process, which has a queue of its own, at least 256."""
    deadline: float = Field(default=600, gt=0)
    """Seconds to wait for one call."""
    attempts: int = Field(default=5, ge=1)
    """Tries of one call; being told to slow down costs none."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """Requests to each model a minute, as its provider allows."""
    input_tokens_per_minute: float | None = Field(default=None, gt=0)
    """The same of tokens sent."""
    output_tokens_per_minute: float | None = Field(default=None, gt=0)
    """The same of tokens received."""
    max_requests: int | None = Field(default=None, ge=0)
    """Stop, resumable, after this many requests sent (exit code 4). Failed tries count, and so does what a
    resumed run had sent before."""
    max_cost: float | None = Field(default=None, ge=0)
    """Stop, resumable, before more than this many US dollars are spent (exit code 4), all attempts at the run
    together."""
    engine_arg: tuple[str, ...] = ()
    """KEY=VALUE for models in this process, for example max_model_len=4096."""
    price: tuple[str, ...] = ()
    """MODEL=IN,OUT or MODEL=IN,CACHED,OUT in US dollars per million tokens. Without it the shipped table
    tells, whose prices have dates: check them. Unknown prices stay unknown."""
    ledger: Path | None = None
    """File of the ledger. [default: $PREFGEN_LEDGER, else the one in the user's cache directory]."""
    batch: bool = False
    """Ask models behind OpenAI's or Anthropic's API through their batches: half the price, within a day."""
    batch_requests: int = Field(default=2000, ge=1)
    """With --batch: requests in one batch at most, and prompts under way at once; a waiting call takes about
    20 KB of memory."""
    batch_poll: float = Field(default=120, gt=0)
    """With --batch: seconds between two looks at a batch that takes long."""
    seed: int = Field(default=0, ge=0)
    """Seed of sampling and of every random choice."""

    @property
    def window(self) -> int:
        """Prompts under way at once."""
        return self.batch_requests if self.batch else 2 * self.concurrency


class JudgingConfig(CallConfig):
    """Who judges, and how: shared by every job that judges."""

    topics: ClassVar[dict[str, str]] = {"judge": "Judge"}
    judge: tuple[str, ...] = ()
    """MODEL that judges by the constitution; several are a jury."""
    reward_model: str | None = None
    """Reward model that scores instead of a judge: vllm/, transformers/ or openai/…@URL; of a folder that
    `train reward --members` made, all members."""
    reward_ensemble: EnsembleMode = "mean"
    """How the members of a reward model become one reward: their mean, the worst, or the mean less a penalty
    for how far they disagree."""
    ensemble_penalty: float = Field(default=0.5, ge=0)
    """With --reward-ensemble uncertainty: what one unit of variance between the members costs."""
    combine: Combine = "mean"
    """How several judges become one: the mean, median or trimmed mean of their log-odds; stacked, by weights
    that calibrate fits to human labels; cascade, the first (a reward model before judges) where it is sure
    enough, the next where it is not."""
    judging: Literal["pairwise", "pointwise", "score", "listwise"] = "pairwise"
    """How to judge. Compare candidates two by two; ask of each, principle by principle; rate each on a scale;
    or rank all in one call."""
    constitution: str = "helpful-honest-harmless"
    """Constitution: a YAML file, or helpful-honest-harmless, support-tone, concise-expert."""
    principles: PrincipleMode = "all"
    """Pairwise: all principles in one question, one sampled per pair, or each by itself."""
    both_orders: bool = True
    """Pairwise: ask in both orders and average, which cancels a liking for a position."""
    meetings: Meetings = "round-robin"
    """Pairwise: who meets whom. The others find best and worst for a fraction of the calls, and compare only
    those two in both orders: knockout for about 3 K / 2 calls with K candidates, ring for K, swiss for
    3 K / 2."""
    meeting_rounds: int = Field(default=1, ge=1)
    """Laps of the ring; rounds of equals that follow the first lap of swiss."""
    evidence: Literal[Evidence, "auto"] = "auto"
    """What a verdict is read from; auto takes the best the judge gives: log-probabilities, else a
    stated score, else votes."""
    votes: int = Field(default=1, ge=1)
    """Written verdicts per question, where votes are the evidence."""
    adaptive_votes: bool = False
    """Stop drawing votes once one answer leads by three; --votes is then the most."""
    reasoning: bool = False
    """Let the judge write a rationale before the word whose log-probabilities are read: two calls a
    question. A stated score and votes come with their reasons anyway."""
    reference: str | None = None
    """Column of the input file that holds a reference answer to show the judge."""
    scale: Path | None = None
    """Score: a YAML file with id and levels, {digit: what it means}. [default: five levels]."""
    permutations: int = Field(default=4, ge=2)
    """Listwise: rankings per prompt, each with the candidates in another order."""
    judge_max_tokens: int = Field(default=1024, ge=1)
    """Tokens per written judgment at most."""
    judge_template: Path | None = None
    """Pointwise: a prompt template with {{principle}} {{prompt}} {{response}}, and with --reference
    {{reference}}."""

    @field_validator("judge", mode="before")
    @classmethod
    def _listed(cls, judge: object) -> object:
        """One judge needs no list."""
        return (judge,) if isinstance(judge, str) else judge

    @property
    def judges(self) -> tuple[str, ...]:
        """All who judge, in the order of a cascade."""
        return (*([self.reward_model] if self.reward_model is not None else []), *self.judge)

    @property
    def knows_labels(self) -> bool:
        """Whether the job has human labels, or a calibration made from them."""
        return False

    @property
    def needs_judge(self) -> bool:
        """Whether the job calls a judge whatever its options."""
        return True

    @model_validator(mode="after")
    def _one_judge(self) -> Self:
        both = bool(self.judge) and self.reward_model is not None
        if (both and self.combine != "cascade") or (self.needs_judge and not self.judges):
            both_make = "; both make a --combine cascade" if both and self.knows_labels else ""
            raise ValueError(f"give exactly one of --judge MODEL and --reward-model MODEL{both_make}")
        if len(set(self.judge)) < len(self.judge):
            raise ValueError("a --judge stands twice; to ask one more often raise --votes")
        if self.combine != "mean" and len(self.judges) == 1:
            raise ValueError(f"--combine {self.combine} needs several judges")
        if self.combine in ("stacked", "cascade") and not self.knows_labels:
            raise ValueError(f"--combine {self.combine} goes with calibrate, and with generate --calibration")
        if len(self.judges) > 1 and self.meetings != "round-robin":
            raise ValueError(f"--meetings {self.meetings} goes with one judge: each would rank others apart")
        if self.judge_template is not None and self.judging != "pointwise":
            raise ValueError("--judge-template goes with --judging pointwise")
        if self.scale is not None and self.judging != "score":
            raise ValueError("--scale goes with --judging score")
        if self.reward_ensemble != "mean" and self.reward_model is None:
            raise ValueError("--reward-ensemble goes with --reward-model")
        if self.reference is not None and not self.judge:
            raise ValueError("--reference goes with --judge: a reward model reads no reference")
        return self

    @model_validator(mode="after")
    def _evidence_fits(self) -> Self:
        if self.judging == "listwise" and (self.evidence == "logprobs" or self.votes > 1):
            raise ValueError(
                "--judging listwise reads written rankings: no --evidence logprobs, and --permutations "
                "in place of --votes"
            )
        if self.reasoning and (self.judging == "listwise" or self.evidence in ("score", "votes")):
            raise ValueError(
                "--reasoning goes before log-probabilities; a written score, vote or ranking gives its "
                "reasons anyway"
            )
        if self.adaptive_votes and (self.votes == 1 or self.evidence in ("logprobs", "score")):
            raise ValueError("--adaptive-votes needs votes to stop: add --votes 9 --evidence votes")
        if self.adaptive_votes and self.judging not in ("pairwise", "pointwise"):
            raise ValueError("--adaptive-votes goes with --judging pairwise or pointwise")
        return self

    @model_validator(mode="after")
    def _meetings_fit(self) -> Self:
        cheap = self.meetings != "round-robin"
        if cheap and (self.judging != "pairwise" or self.reward_model is not None):
            raise ValueError(f"--meetings {self.meetings} goes with --judge MODEL --judging pairwise")
        if cheap and not self.both_orders:
            raise ValueError(
                f"--meetings {self.meetings} asks in one order but for best against worst: "
                "--no-both-orders goes with --meetings round-robin"
            )
        if self.meeting_rounds > 1 and self.meetings not in ("ring", "swiss"):
            raise ValueError("--meeting-rounds goes with --meetings ring or swiss")
        return self


class JudgeConfig(JudgingConfig):
    pairs: Path
    """Pairs file: id, prompt, response_a, response_b."""
    out: Path
    """JSONL file of verdicts."""


class GenerateConfig(PairingConfig, JudgingConfig, RayConfig):
    topics: ClassVar[dict[str, str]] = {"judge_unfinished": "Checks"}
    prompts: Path
    """Prompt file: .jsonl .json .csv .parquet .txt."""
    out: Path
    """Directory of the run."""
    policy: tuple[str, ...] = Field(min_length=1)
    """MODEL that writes candidates; several may be given."""

    n: int = Field(default=6, ge=1, le=256)
    """Candidates per prompt and policy."""
    n_first: int | None = Field(default=None, ge=1)
    """Draw and judge so many candidates first, and so many more, up to --n, only while no pair of the prompt
    is clear: fewer calls, and pairs of smaller margins than the best and worst of all."""
    temperature: float = Field(default=1.0, ge=0)
    """Sampling temperature of the policy."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus sampling of the policy."""
    max_tokens: int = Field(default=1024, ge=1)
    """Tokens per candidate at most."""
    system: str | None = None
    """System prompt for the policy."""

    judge_unfinished: bool = False
    """Judge empty responses and responses cut by the token limit too."""

    planted: int = Field(default=3, ge=0)
    """Prompts that carry pairs of known answer; one wrong label ends the run."""
    drift_every: int = Field(default=500, ge=0)
    """Ask a judge behind an API the first 20 comparisons again after every so many prompts, and pause the
    run when it judges otherwise. 0: never."""
    accept_drift: bool = False
    """Go on, with a warning, though the judge changed during the run."""
    decontaminate: tuple[Path, ...] = ()
    """File of evaluation questions; prompts that hold one are left out."""
    eval_column: str | None = None
    """Column of those files with the question. [default: prompt, question or text]."""

    @property
    def knows_labels(self) -> bool:
        return self.calibration is not None

    @model_validator(mode="after")
    def _two_candidates(self) -> Self:
        if self.n * len(self.policy) < 2:
            raise ValueError("a pair needs two candidates: raise --n or add a --policy")
        if len(set(self.policy)) < len(self.policy):
            raise ValueError("a --policy stands twice; for more of its candidates raise --n")
        if self.meetings != "round-robin" and self.strategy != "best-worst":
            raise ValueError(
                f"--meetings {self.meetings} compares only best and worst in both orders: it goes with "
                "--strategy best-worst"
            )
        if self.judging == "listwise" and self.n * len(self.policy) > MOST:
            raise ValueError(f"--judging listwise ranks at most {MOST} candidates of a prompt: lower --n")
        return self

    @model_validator(mode="after")
    def _ray_can(self) -> Self:
        if self.engine == "ray" and self.n_first is not None:
            raise ValueError("--n-first goes with --engine local: on Ray who judges does not sample")
        if self.engine == "ray" and self.batch:
            raise ValueError("--batch goes with --engine local: batches need no workers")
        return self

    @model_validator(mode="after")
    def _first_fits(self) -> Self:
        if self.n_first is None:
            return self
        if self.n_first >= self.n or self.n_first * len(self.policy) < 2:
            raise ValueError(
                f"--n-first {self.n_first} draws some of --n {self.n} first, enough for a pair: give at "
                "least 2, or 1 with several policies, and less than --n"
            )
        again = {
            "--judging listwise": self.judging == "listwise",
            f"--meetings {self.meetings}": self.meetings != "round-robin",
        }
        whole = {
            f"--strategy {self.strategy}": self.strategy == "best-2sigma",
            f"--kto-labels {self.kto_labels}": self.kto_labels == "threshold",
            f"--max-pairs {self.max_pairs}": self.max_pairs > 1,
        }
        for option, there in again.items():
            if there:
                raise ValueError(f"--n-first goes without {option}: each round would ask everything anew")
        for option, there in whole.items():
            if there:
                raise ValueError(f"--n-first goes without {option}, which wants all candidates of a prompt")
        return self
