"""Every option of `prefgen generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from judges.evidence import Evidence
from judges.pairwise import PrincipleMode
from prefgen.pairing import KTOLabels, PairingRule, Strategy
from prefgen.rows import Format

RUN_OPTIONS = (
    "out",
    "concurrency",
    "deadline",
    "attempts",
    "max_requests",
    "engine_arg",
    "price",
    "ledger",
    "max_failure_share",
)
"""Options that decide how a run goes, not what it makes: a resumed run may change them."""


class PairingConfig(BaseModel):
    """How judgments become pairs: shared by `generate` and `pair`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    strategy: Strategy = "best-worst"
    """Which pair of a prompt's candidates to take. best-2sigma takes the rejected one nearest the mean
    score minus two standard deviations, which holds up better with many candidates."""
    min_confidence: float = Field(default=0.75, ge=0.5, lt=1)
    """Probability that chosen beats rejected, at least; pairs below it are dropped."""
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

    @property
    def rule(self) -> PairingRule:
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
    """Directory for the new pairs."""


class JudgingConfig(BaseModel):
    """Who judges, how, and how calls are made: shared by every job that judges."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    judge: str | None = None
    """MODEL that judges by the constitution."""
    reward_model: str | None = None
    """Reward model that scores instead of a judge: vllm/, transformers/ or openai/…@URL."""
    judging: Literal["pairwise", "pointwise"] = "pairwise"
    """Compare candidates two by two, or score each, principle by principle."""
    constitution: str = "helpful-honest-harmless"
    """Constitution: a YAML file, or helpful-honest-harmless, support-tone, concise-expert."""
    principles: PrincipleMode = "all"
    """Pairwise: all principles in one question, one sampled per pair, or each by itself."""
    both_orders: bool = True
    """Pairwise: ask in both orders and average, which cancels a liking for a position."""
    evidence: Literal[Evidence, "auto"] = "auto"
    """What a verdict is read from; auto takes the best the judge gives: log-probabilities, else a
    stated score, else votes."""
    votes: int = Field(default=1, ge=1)
    """Written verdicts per question, where votes are the evidence."""
    judge_max_tokens: int = Field(default=1024, ge=1)
    """Tokens per written judgment at most."""
    judge_template: Path | None = None
    """Pointwise: a prompt template with {{principle}} {{prompt}} {{response}}."""
    max_failure_share: float = Field(default=0.05, ge=0, le=1)
    """Failed model calls above this share end the run with exit code 3."""
    concurrency: int = Field(default=64, ge=1)
    """Calls in flight per model."""
    deadline: float = Field(default=600, gt=0)
    """Seconds to wait for one call."""
    attempts: int = Field(default=5, ge=1)
    """Tries of one call; being told to slow down costs none."""
    max_requests: int | None = Field(default=None, ge=0)
    """Stop, resumable, after this many requests sent (exit code 4)."""
    engine_arg: tuple[str, ...] = ()
    """KEY=VALUE for models in this process, for example max_model_len=4096."""
    price: tuple[str, ...] = ()
    """MODEL=IN,OUT in US dollars per million tokens; unknown prices stay unknown."""
    ledger: Path | None = None
    """File that remembers every answer. [default: in the user's cache directory]."""
    seed: int = Field(default=0, ge=0)
    """Seed of sampling and of every random choice."""

    @model_validator(mode="after")
    def _one_judge(self) -> Self:
        if (self.judge is None) == (self.reward_model is None):
            raise ValueError("give exactly one of --judge MODEL and --reward-model MODEL")
        if self.judge_template is not None and self.judging != "pointwise":
            raise ValueError("--judge-template goes with --judging pointwise")
        return self


class JudgeConfig(JudgingConfig):
    pairs: Path
    """Pairs file: id, prompt, response_a, response_b."""
    out: Path
    """JSONL file of verdicts."""


class GenerateConfig(PairingConfig, JudgingConfig):
    prompts: Path
    """Prompt file: .jsonl .json .csv .parquet .txt."""
    out: Path
    """Directory of the run."""
    policy: tuple[str, ...] = Field(min_length=1)
    """MODEL that writes candidates; several may be given."""

    n: int = Field(default=6, ge=1, le=256)
    """Candidates per prompt and policy."""
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

    @model_validator(mode="after")
    def _two_candidates(self) -> Self:
        if self.n * len(self.policy) < 2:
            raise ValueError("a pair needs two candidates: raise --n or add a --policy")
        if len(set(self.policy)) < len(self.policy):
            raise ValueError("a --policy stands twice; for more of its candidates raise --n")
        return self
