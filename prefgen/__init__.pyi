# Written by `python -m pipelines.api.stub`. It names what it needs of the other floors and imports none:
# a checker that followed would read torch and vLLM too.
# fmt: off
# ruff: noqa
import os
from collections.abc import Awaitable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeAlias, TypeVar

import pandas as pd
from datasets import Dataset, DatasetDict

from prefgen.errors import BudgetError as BudgetError
from prefgen.errors import GateError as GateError
from prefgen.errors import InputError as InputError
from prefgen.errors import PrefgenError as PrefgenError
from prefgen.errors import UsageError as UsageError

T = TypeVar("T")
StrPath: TypeAlias = str | os.PathLike[str]
Rows: TypeAlias = Iterable[str | Mapping[str, Any]] | pd.DataFrame | Dataset
Source: TypeAlias = StrPath | Rows
TrainingReport: TypeAlias = Any
__version__: str
__all__: list[str]
_FUNCTIONS: tuple[str, ...]
_RESULTS: tuple[str, ...]

class Job(Awaitable[T]):
    def __await__(self) -> Generator[Any, None, T]: ...

class Result:
    """`path`: the folder or file, as it was given. `values`: what the command prints with --json, read from
    FILE where it is left out. `summary`: what the command prints without."""
    FILE: ClassVar[str]
    MADE_BY: ClassVar[str]
    path: Path
    values: Mapping[str, Any]
    def __init__(self, path: str | os.PathLike[str], values: Mapping[str, Any] | None = ...) -> None: ...
    @property
    def summary(self) -> str: ...
    @property
    def report(self) -> Path | None:
        """The page to look at, where there is one."""
    def __fspath__(self) -> str: ...
    def __await__(self) -> Generator[Any, None, Self]:
        """Itself, at once: so that what is called in a script is typed as what is awaited in a notebook."""

class Estimate:
    """`low` and `high`: its interval."""
    value: float
    low: float
    high: float
    def __init__(self, value: float, low: float, high: float) -> None: ...

class Run(Result):
    """A run of `generate` or `pair`: candidates, judgments, and the datasets made of them."""
    @property
    def summary(self) -> str: ...
    @property
    def manifest(self) -> Mapping[str, Any]: ...
    @property
    def counts(self) -> Mapping[str, Any]: ...
    def dataset(self, name: str = ...) -> DatasetDict:
        """`dpo` or `kto` with its splits, as TRL's trainers take it."""
    def pairs(self) -> pd.DataFrame:
        """Every pair, with its split: prompt chosen rejected split + ids, margin, confidence."""
    def kto(self) -> pd.DataFrame:
        """Every labelled response, with its split: prompt completion label split + ids, score."""
    def candidates(self) -> pd.DataFrame:
        """Everything sampled."""
    def judgments(self) -> pd.DataFrame:
        """Everything the judge said; its failures too, where `status` is not ok."""
    def scores(self) -> pd.DataFrame:
        """What the judgments make of each candidate."""
    def undecided(self) -> pd.DataFrame:
        """Pairs that were not clear enough, for people to label."""

class Quote(Result):
    """What a run will take, told by a few of its prompts; nothing stands at `path` yet."""
    @property
    def summary(self) -> str: ...
    @property
    def cost(self) -> float | None:
        """US dollars, most likely; None where a price is not known."""

class Verdicts(Result):
    """`path` is a file of verdicts."""
    @property
    def summary(self) -> str: ...
    def verdicts(self) -> pd.DataFrame:
        """One row for each pair and order shown: id verdict p_a order judge."""

class Calibration(Result):
    """A judge held against human labels."""
    def __fspath__(self) -> str:
        """The file that `calibration=` of generate and pair takes."""
    @property
    def summary(self) -> str: ...
    @property
    def agreement(self) -> Estimate | None:
        """Share of labels that the judge agrees with, ties counted."""
    @property
    def kappa(self) -> Estimate | None: ...
    @property
    def threshold(self) -> float | None:
        """Confidence from which on labels earn the target precision; None where none does."""
    def curve(self) -> pd.DataFrame:
        """What each threshold keeps of the labels on which people decide: threshold coverage precision, both
        shares."""

class Audit(Result):
    """What was found wrong with a run's labels."""
    @property
    def summary(self) -> str: ...
    @property
    def report(self) -> Path | None: ...
    @property
    def warnings(self) -> list[str]: ...
    def suspicious(self) -> pd.DataFrame:
        """The pairs whose label looks wrong, the most suspicious first."""

class Evaluation(Result):
    """One model against another. `path`: the folder; where stored annotations were looked at and nothing was
    written, their file."""
    @property
    def summary(self) -> str: ...
    @property
    def win_rate(self) -> Estimate:
        """Of the model over the baseline, in percent."""
    def annotations(self) -> pd.DataFrame:
        """What the judge made of each prompt."""

class Revision(Result):
    """A run of `revise`: responses criticised and rewritten."""
    @property
    def summary(self) -> str: ...
    def demonstrations(self) -> pd.DataFrame:
        """The last revisions, to train on."""
    def pairs(self) -> pd.DataFrame:
        """Response and revision, to be judged."""
    def rounds(self) -> pd.DataFrame:
        """Every critique and revision."""

class Training(Result):
    """A trained model; `path` is its folder."""
    @property
    def summary(self) -> str: ...
    @property
    def outcome(self) -> TrainingReport:
        """`training.json`: steps, alarms, held-out numbers before and after."""
    @property
    def model(self) -> Path:
        """The folder to load or to train on: of LoRA with merge=True, the whole model."""
    def metrics(self) -> pd.DataFrame:
        """One row for each logged step."""

class Sweep(Result):
    """DPO with several β."""
    @property
    def summary(self) -> str: ...
    def betas(self) -> pd.DataFrame:
        """One row for each β."""

class Loop(Result):
    """Rounds of sample, judge, pair, train and evaluate."""
    @property
    def summary(self) -> str: ...
    @property
    def best(self) -> Path:
        """The model of the best round."""
    @property
    def stopped(self) -> list[str]:
        """Why the loop stopped itself; empty where it ran to its end."""
    def rounds(self) -> pd.DataFrame:
        """One row a round: pairs, win rate over round 0 in percent with its interval, length over round 0."""
    def lineage(self) -> pd.DataFrame:
        """From every pair to the model and back."""

class Conversion(Result):
    """`path` is the file of rows to train on."""
    @property
    def summary(self) -> str: ...
    def rows(self) -> pd.DataFrame: ...
    def rejected(self) -> pd.DataFrame:
        """Rows that could not be used: file, line and why."""

class Quickstart(Result):
    """The whole job on the embedded models."""
    @property
    def summary(self) -> str: ...
    @property
    def run(self) -> Run: ...
    def training(self, stage: str = ...) -> Training: ...
    def samples(self) -> pd.DataFrame:
        """What every model answered to the held-out prompts."""

class WhatIf(Result):
    """What other settings come to; `path` is the run. Nothing is written."""
    @property
    def summary(self) -> str: ...
    def settings(self) -> pd.DataFrame:
        """One row a setting: what it keeps, length gap, confidence, expected precision, and its command."""

class Story(Result):
    """How a pair came to be, or why there is none; `path` is the run."""
    @property
    def summary(self) -> str: ...

class ConstitutionDiff(Result):
    """What another constitution changes; `path` is the folder it was written to, else the run."""
    @property
    def summary(self) -> str: ...
    def flips(self) -> pd.DataFrame:
        """The pairs that flip, appear or disappear."""

class Export(Result):
    """A run's rows as another trainer takes them."""
    @property
    def summary(self) -> str: ...

def generate(
    prompts: Source = ..., *, out: StrPath = ..., policy: str | Sequence[str] = ..., n: int = ...,
    n_first: int | None = ..., temperature: float = ..., top_p: float = ..., max_tokens: int = ...,
    system: str | None = ..., judge_unfinished: bool = ..., planted: int = ..., drift_every: int = ...,
    accept_drift: bool = ..., decontaminate: StrPath | Sequence[StrPath] = ...,
    eval_column: str | None = ...,
    strategy: Literal['best-worst', 'best-random', 'best-2sigma', 'all'] = ..., min_confidence: float = ...,
    calibration: StrPath | None = ..., target_precision: float | None = ..., max_pairs: int = ...,
    max_similarity: float = ..., max_length_gap: float | None = ..., choose_truncated: bool = ...,
    kto_labels: Literal['pairs', 'threshold'] = ..., format: Literal['conversational', 'standard'] = ...,
    test_share: float = ..., seed: int = ..., judge: str | Sequence[str] = ...,
    reward_model: str | None = ..., reward_ensemble: Literal['mean', 'worst', 'uncertainty'] = ...,
    ensemble_penalty: float = ...,
    combine: Literal['mean', 'median', 'trimmed', 'stacked', 'cascade'] = ...,
    judging: Literal['pairwise', 'pointwise', 'score', 'listwise'] = ..., constitution: str = ...,
    principles: Literal['all', 'sample', 'each'] = ..., both_orders: bool = ...,
    meetings: Literal['round-robin', 'ring', 'swiss', 'knockout'] = ..., meeting_rounds: int = ...,
    evidence: Literal['logprobs', 'score', 'votes', 'auto'] = ..., votes: int = ...,
    adaptive_votes: bool = ..., reasoning: bool = ..., reference: str | None = ...,
    scale: StrPath | None = ..., permutations: int = ..., judge_max_tokens: int = ...,
    judge_template: StrPath | None = ..., max_failure_share: float = ..., concurrency: int = ...,
    deadline: float = ..., attempts: int = ..., requests_per_minute: float | None = ...,
    input_tokens_per_minute: float | None = ..., output_tokens_per_minute: float | None = ...,
    max_requests: int | None = ..., max_cost: float | None = ..., engine_arg: str | Sequence[str] = ...,
    price: str | Sequence[str] = ..., ledger: StrPath | None = ..., batch: bool = ...,
    batch_requests: int = ..., batch_poll: float = ..., engine: Literal['local', 'ray'] = ...,
    ray_address: str | None = ..., policy_workers: int = ..., judge_workers: int = ...,
    gpus_per_worker: float | None = ..., shard_size: int | None = ..., resume: bool = ...,
    overwrite: bool = ..., config: StrPath | None = ..., quiet: bool | None = ...,
) -> Run:
    """Make a preference dataset from prompts: a file, or a list, DataFrame or Dataset of them."""

def quote(
    prompts: Source = ..., *, out: StrPath = ..., policy: str | Sequence[str] = ..., n: int = ...,
    n_first: int | None = ..., temperature: float = ..., top_p: float = ..., max_tokens: int = ...,
    system: str | None = ..., judge_unfinished: bool = ..., planted: int = ..., drift_every: int = ...,
    accept_drift: bool = ..., decontaminate: StrPath | Sequence[StrPath] = ...,
    eval_column: str | None = ...,
    strategy: Literal['best-worst', 'best-random', 'best-2sigma', 'all'] = ..., min_confidence: float = ...,
    calibration: StrPath | None = ..., target_precision: float | None = ..., max_pairs: int = ...,
    max_similarity: float = ..., max_length_gap: float | None = ..., choose_truncated: bool = ...,
    kto_labels: Literal['pairs', 'threshold'] = ..., format: Literal['conversational', 'standard'] = ...,
    test_share: float = ..., seed: int = ..., judge: str | Sequence[str] = ...,
    reward_model: str | None = ..., reward_ensemble: Literal['mean', 'worst', 'uncertainty'] = ...,
    ensemble_penalty: float = ...,
    combine: Literal['mean', 'median', 'trimmed', 'stacked', 'cascade'] = ...,
    judging: Literal['pairwise', 'pointwise', 'score', 'listwise'] = ..., constitution: str = ...,
    principles: Literal['all', 'sample', 'each'] = ..., both_orders: bool = ...,
    meetings: Literal['round-robin', 'ring', 'swiss', 'knockout'] = ..., meeting_rounds: int = ...,
    evidence: Literal['logprobs', 'score', 'votes', 'auto'] = ..., votes: int = ...,
    adaptive_votes: bool = ..., reasoning: bool = ..., reference: str | None = ...,
    scale: StrPath | None = ..., permutations: int = ..., judge_max_tokens: int = ...,
    judge_template: StrPath | None = ..., max_failure_share: float = ..., concurrency: int = ...,
    deadline: float = ..., attempts: int = ..., requests_per_minute: float | None = ...,
    input_tokens_per_minute: float | None = ..., output_tokens_per_minute: float | None = ...,
    max_requests: int | None = ..., max_cost: float | None = ..., engine_arg: str | Sequence[str] = ...,
    price: str | Sequence[str] = ..., ledger: StrPath | None = ..., batch: bool = ...,
    batch_requests: int = ..., batch_poll: float = ..., engine: Literal['local', 'ray'] = ...,
    ray_address: str | None = ..., policy_workers: int = ..., judge_workers: int = ...,
    gpus_per_worker: float | None = ..., shard_size: int | None = ..., resume: bool = ...,
    overwrite: bool = ..., config: StrPath | None = ..., quiet: bool | None = ...,
) -> Quote:
    """What `generate` will take: calls, tokens and dollars, by a few of the prompts: `generate --quote`."""

def judge(
    pairs: Source = ..., *, out: StrPath = ..., judge: str | Sequence[str] = ...,
    reward_model: str | None = ..., reward_ensemble: Literal['mean', 'worst', 'uncertainty'] = ...,
    ensemble_penalty: float = ...,
    combine: Literal['mean', 'median', 'trimmed', 'stacked', 'cascade'] = ...,
    judging: Literal['pairwise', 'pointwise', 'score', 'listwise'] = ..., constitution: str = ...,
    principles: Literal['all', 'sample', 'each'] = ..., both_orders: bool = ...,
    meetings: Literal['round-robin', 'ring', 'swiss', 'knockout'] = ..., meeting_rounds: int = ...,
    evidence: Literal['logprobs', 'score', 'votes', 'auto'] = ..., votes: int = ...,
    adaptive_votes: bool = ..., reasoning: bool = ..., reference: str | None = ...,
    scale: StrPath | None = ..., permutations: int = ..., judge_max_tokens: int = ...,
    judge_template: StrPath | None = ..., max_failure_share: float = ..., concurrency: int = ...,
    deadline: float = ..., attempts: int = ..., requests_per_minute: float | None = ...,
    input_tokens_per_minute: float | None = ..., output_tokens_per_minute: float | None = ...,
    max_requests: int | None = ..., max_cost: float | None = ..., engine_arg: str | Sequence[str] = ...,
    price: str | Sequence[str] = ..., ledger: StrPath | None = ..., batch: bool = ...,
    batch_requests: int = ..., batch_poll: float = ..., seed: int = ..., resume: bool = ...,
    overwrite: bool = ..., config: StrPath | None = ..., quiet: bool | None = ...,
) -> Verdicts:
    """Judge pairs of responses that exist already; writes one verdict a line."""

def calibrate(
    labels: Source = ..., *, out: StrPath = ..., verdicts: Source = ..., target: float = ...,
    delta: float = ..., map: Literal['temperature', 'debiased', 'isotonic', 'auto'] = ...,
    failures_as_tie: bool = ..., repeats: int = ..., epsilon: float = ..., width: float = ...,
    unlabelled: Source = ..., next: int = ..., judge: str | Sequence[str] = ...,
    reward_model: str | None = ..., reward_ensemble: Literal['mean', 'worst', 'uncertainty'] = ...,
    ensemble_penalty: float = ...,
    combine: Literal['mean', 'median', 'trimmed', 'stacked', 'cascade'] = ...,
    judging: Literal['pairwise', 'pointwise', 'score', 'listwise'] = ..., constitution: str = ...,
    principles: Literal['all', 'sample', 'each'] = ..., both_orders: bool = ...,
    meetings: Literal['round-robin', 'ring', 'swiss', 'knockout'] = ..., meeting_rounds: int = ...,
    evidence: Literal['logprobs', 'score', 'votes', 'auto'] = ..., votes: int = ...,
    adaptive_votes: bool = ..., reasoning: bool = ..., reference: str | None = ...,
    scale: StrPath | None = ..., permutations: int = ..., judge_max_tokens: int = ...,
    judge_template: StrPath | None = ..., max_failure_share: float = ..., concurrency: int = ...,
    deadline: float = ..., attempts: int = ..., requests_per_minute: float | None = ...,
    input_tokens_per_minute: float | None = ..., output_tokens_per_minute: float | None = ...,
    max_requests: int | None = ..., max_cost: float | None = ..., engine_arg: str | Sequence[str] = ...,
    price: str | Sequence[str] = ..., ledger: StrPath | None = ..., batch: bool = ...,
    batch_requests: int = ..., batch_poll: float = ..., seed: int = ..., resume: bool = ...,
    overwrite: bool = ..., config: StrPath | None = ..., quiet: bool | None = ...,
) -> Calibration:
    """Hold a judge against human labels: may it be trusted, and how far?"""

def pair(
    run: StrPath = ..., *, out: StrPath = ...,
    strategy: Literal['best-worst', 'best-random', 'best-2sigma', 'all'] = ..., min_confidence: float = ...,
    calibration: StrPath | None = ..., target_precision: float | None = ..., max_pairs: int = ...,
    max_similarity: float = ..., max_length_gap: float | None = ..., choose_truncated: bool = ...,
    kto_labels: Literal['pairs', 'threshold'] = ..., format: Literal['conversational', 'standard'] = ...,
    test_share: float = ..., seed: int = ..., overwrite: bool = ..., config: StrPath | None = ...,
    quiet: bool | None = ...,
) -> Run:
    """Make other pairs from a finished run's judgments; no model is called."""

def audit(
    run: StrPath = ..., *, out: StrPath | None = ..., eval_file: StrPath | Sequence[StrPath] = ...,
    eval_column: str | None = ..., eval_responses: bool = ..., flag_share: float | None = ...,
    probes: int = ..., judge: str | Sequence[str] = ..., reward_model: str | None = ...,
    reward_ensemble: Literal['mean', 'worst', 'uncertainty'] = ..., ensemble_penalty: float = ...,
    combine: Literal['mean', 'median', 'trimmed', 'stacked', 'cascade'] = ...,
    judging: Literal['pairwise', 'pointwise', 'score', 'listwise'] = ..., constitution: str = ...,
    principles: Literal['all', 'sample', 'each'] = ..., both_orders: bool = ...,
    meetings: Literal['round-robin', 'ring', 'swiss', 'knockout'] = ..., meeting_rounds: int = ...,
    evidence: Literal['logprobs', 'score', 'votes', 'auto'] = ..., votes: int = ...,
    adaptive_votes: bool = ..., reasoning: bool = ..., reference: str | None = ...,
    scale: StrPath | None = ..., permutations: int = ..., judge_max_tokens: int = ...,
    judge_template: StrPath | None = ..., max_failure_share: float = ..., concurrency: int = ...,
    deadline: float = ..., attempts: int = ..., requests_per_minute: float | None = ...,
    input_tokens_per_minute: float | None = ..., output_tokens_per_minute: float | None = ...,
    max_requests: int | None = ..., max_cost: float | None = ..., engine_arg: str | Sequence[str] = ...,
    price: str | Sequence[str] = ..., ledger: StrPath | None = ..., batch: bool = ...,
    batch_requests: int = ..., batch_poll: float = ..., seed: int = ..., overwrite: bool = ...,
    config: StrPath | None = ..., quiet: bool | None = ...,
) -> Audit:
    """Look for what is wrong with a finished run's labels; no model is called without judge."""

def evaluate(
    prompts: Source = ..., *, model: str | None = ..., baseline: str | None = ...,
    out: StrPath | None = ..., annotations: Source = ..., against: StrPath | None = ...,
    labels: Source = ..., detect: float = ..., stop_when_clear: bool = ...,
    trained_on: StrPath | None = ..., held_out: StrPath | None = ...,
    task: StrPath | Sequence[StrPath] = ..., temperature: float = ..., max_tokens: int = ...,
    system: str | None = ..., judge: str | Sequence[str] = ..., reward_model: str | None = ...,
    reward_ensemble: Literal['mean', 'worst', 'uncertainty'] = ..., ensemble_penalty: float = ...,
    combine: Literal['mean', 'median', 'trimmed', 'stacked', 'cascade'] = ...,
    judging: Literal['pairwise', 'pointwise', 'score', 'listwise'] = ..., constitution: str = ...,
    principles: Literal['all', 'sample', 'each'] = ..., both_orders: bool = ...,
    meetings: Literal['round-robin', 'ring', 'swiss', 'knockout'] = ..., meeting_rounds: int = ...,
    evidence: Literal['logprobs', 'score', 'votes', 'auto'] = ..., votes: int = ...,
    adaptive_votes: bool = ..., reasoning: bool = ..., reference: str | None = ...,
    scale: StrPath | None = ..., permutations: int = ..., judge_max_tokens: int = ...,
    judge_template: StrPath | None = ..., max_failure_share: float = ..., concurrency: int = ...,
    deadline: float = ..., attempts: int = ..., requests_per_minute: float | None = ...,
    input_tokens_per_minute: float | None = ..., output_tokens_per_minute: float | None = ...,
    max_requests: int | None = ..., max_cost: float | None = ..., engine_arg: str | Sequence[str] = ...,
    price: str | Sequence[str] = ..., ledger: StrPath | None = ..., batch: bool = ...,
    batch_requests: int = ..., batch_poll: float = ..., seed: int = ..., resume: bool = ...,
    overwrite: bool = ..., config: StrPath | None = ..., quiet: bool | None = ...,
) -> Evaluation:
    """How often a judge prefers one model's answers to another's, and how sure that is."""

def revise(
    prompts: Source = ..., *, out: StrPath = ..., policy: str = ..., critic: str | None = ...,
    constitution: str = ..., rounds: int = ..., temperature: float = ..., top_p: float = ...,
    max_tokens: int = ..., system: str | None = ..., max_failure_share: float = ..., concurrency: int = ...,
    deadline: float = ..., attempts: int = ..., requests_per_minute: float | None = ...,
    input_tokens_per_minute: float | None = ..., output_tokens_per_minute: float | None = ...,
    max_requests: int | None = ..., max_cost: float | None = ..., engine_arg: str | Sequence[str] = ...,
    price: str | Sequence[str] = ..., ledger: StrPath | None = ..., batch: bool = ...,
    batch_requests: int = ..., batch_poll: float = ..., seed: int = ..., resume: bool = ...,
    overwrite: bool = ..., config: StrPath | None = ..., quiet: bool | None = ...,
) -> Revision:
    """Criticise and rewrite a model's responses by a constitution, in rounds."""

def train(
    stage: Literal['sft', 'reward', 'dpo', 'kto', 'orpo', 'grpo', 'ppo'] = ..., *, packing: bool = ...,
    model: str = ..., data: Source = ..., out: StrPath = ..., eval_data: Source = ...,
    eval_share: float = ..., as_chat: bool = ..., allow_no_end: bool = ..., epochs: float = ...,
    max_steps: int = ..., batch_size: int = ..., gradient_accumulation: int = ...,
    learning_rate: float | None = ..., warmup: float = ..., max_length: int = ..., seed: int = ...,
    lora: bool = ..., lora_rank: int = ..., lora_alpha: int = ..., lora_targets: str | Sequence[str] = ...,
    qlora: bool = ..., merge: bool = ..., dtype: Literal['auto', 'float32', 'bfloat16'] = ...,
    load_dtype: Literal['float32', 'bfloat16'] = ...,
    save_dtype: Literal['auto', 'float32', 'bfloat16'] = ..., gradient_checkpointing: bool = ...,
    logging_steps: int = ..., eval_steps: int | None = ..., early_stopping_patience: int = ...,
    save_steps: int | None = ..., keep_checkpoints: int = ..., report_to: str | Sequence[str] = ...,
    accelerate: str | None = ..., accelerate_arg: str | Sequence[str] = ..., resume: bool = ...,
    overwrite: bool = ..., watch_prompts: int = ..., watch_tokens: int = ..., watch_kl: float | None = ...,
    watch_judge: str | None = ..., watch_reward_model: str | None = ...,
    watch_judging: Literal['pairwise', 'pointwise'] = ..., watch_constitution: str = ...,
    watch_judge_template: StrPath | None = ..., watch_engine_arg: str | Sequence[str] = ...,
    on_alarm: Literal['warn', 'stop'] = ..., allow_base_model: bool = ..., members: int = ...,
    use_margin: bool = ..., center_rewards_coefficient: float = ..., beta: float = ...,
    loss: Literal['sigmoid', 'ipo', 'hinge', 'robust', 'conservative', 'soft'] = ...,
    noise_rate: float | None = ..., length_normalized: bool = ..., sft_weight: float = ...,
    weight_by_confidence: bool = ..., reference_cache: StrPath | None = ..., group_by_length: bool = ...,
    share_prompt: bool = ..., desirable_weight: float | None = ..., undesirable_weight: float | None = ...,
    odds_weight: float = ..., learn_prompts: bool = ..., group_size: int = ..., max_new_tokens: int = ...,
    temperature: float = ..., epsilon: float = ..., epsilon_high: float | None = ...,
    num_iterations: int = ..., scale_rewards: Literal['group', 'batch', 'none'] = ...,
    mask_truncated: bool = ..., rollouts: Literal['transformers', 'vllm'] = ..., vllm_memory: float = ...,
    eval_samples: int = ..., judging: Literal['pairwise', 'pointwise', 'score', 'listwise'] = ...,
    reward_function: str | Sequence[str] = ..., reward_weight: str | Sequence[str] = ...,
    judge: str | Sequence[str] = ..., reward_model: str | None = ...,
    reward_ensemble: Literal['mean', 'worst', 'uncertainty'] = ..., ensemble_penalty: float = ...,
    combine: Literal['mean', 'median', 'trimmed', 'stacked', 'cascade'] = ..., constitution: str = ...,
    principles: Literal['all', 'sample', 'each'] = ..., both_orders: bool = ...,
    meetings: Literal['round-robin', 'ring', 'swiss', 'knockout'] = ..., meeting_rounds: int = ...,
    evidence: Literal['logprobs', 'score', 'votes', 'auto'] = ..., votes: int = ...,
    adaptive_votes: bool = ..., reasoning: bool = ..., reference: str | None = ...,
    scale: StrPath | None = ..., permutations: int = ..., judge_max_tokens: int = ...,
    judge_template: StrPath | None = ..., max_failure_share: float = ..., concurrency: int = ...,
    deadline: float = ..., attempts: int = ..., requests_per_minute: float | None = ...,
    input_tokens_per_minute: float | None = ..., output_tokens_per_minute: float | None = ...,
    max_requests: int | None = ..., max_cost: float | None = ..., engine_arg: str | Sequence[str] = ...,
    price: str | Sequence[str] = ..., ledger: StrPath | None = ..., batch: bool = ...,
    batch_requests: int = ..., batch_poll: float = ..., rollout_batch_size: int = ...,
    ppo_epochs: int = ..., rollout_memory: float = ..., kl_coef: float = ..., kl_target: float | None = ...,
    kl_horizon: int = ..., target_kl: float | None = ..., clip_range: float = ...,
    value_clip_range: float = ..., vf_coef: float = ..., value_learning_rate: float | None = ...,
    gamma: float = ..., lam: float = ..., whiten_rewards: bool = ..., missing_eos_penalty: float = ...,
    check_vllm: bool = ..., config: StrPath | None = ..., quiet: bool | None = ...,
) -> Training:
    """Train a model: sft, reward, dpo, kto, orpo, grpo or ppo.

    prefgen.train("dpo", model="PATH_OR_ID", data="runs/first", out="models/dpo"). Each stage takes its own of
    the options below; `data` may be rows, or what `generate` returned."""

def dpo_sweep(
    *, sweep_beta: float | Sequence[float] = ..., sweep_prompts: int = ..., sweep_tokens: int = ...,
    loss: Literal['sigmoid', 'ipo', 'hinge', 'robust', 'conservative', 'soft'] = ...,
    noise_rate: float | None = ..., length_normalized: bool = ..., sft_weight: float = ...,
    weight_by_confidence: bool = ..., reference_cache: StrPath | None = ..., group_by_length: bool = ...,
    share_prompt: bool = ..., model: str = ..., data: Source = ..., out: StrPath = ...,
    eval_data: Source = ..., eval_share: float = ..., as_chat: bool = ..., allow_no_end: bool = ...,
    epochs: float = ..., max_steps: int = ..., batch_size: int = ..., gradient_accumulation: int = ...,
    learning_rate: float | None = ..., warmup: float = ..., max_length: int = ..., seed: int = ...,
    lora: bool = ..., lora_rank: int = ..., lora_alpha: int = ..., lora_targets: str | Sequence[str] = ...,
    qlora: bool = ..., merge: bool = ..., dtype: Literal['auto', 'float32', 'bfloat16'] = ...,
    load_dtype: Literal['float32', 'bfloat16'] = ...,
    save_dtype: Literal['auto', 'float32', 'bfloat16'] = ..., gradient_checkpointing: bool = ...,
    logging_steps: int = ..., eval_steps: int | None = ..., early_stopping_patience: int = ...,
    save_steps: int | None = ..., keep_checkpoints: int = ..., report_to: str | Sequence[str] = ...,
    accelerate: str | None = ..., accelerate_arg: str | Sequence[str] = ..., resume: bool = ...,
    overwrite: bool = ..., watch_prompts: int = ..., watch_tokens: int = ..., watch_kl: float | None = ...,
    watch_judge: str | None = ..., watch_reward_model: str | None = ...,
    watch_judging: Literal['pairwise', 'pointwise'] = ..., watch_constitution: str = ...,
    watch_judge_template: StrPath | None = ..., watch_engine_arg: str | Sequence[str] = ...,
    on_alarm: Literal['warn', 'stop'] = ..., allow_base_model: bool = ..., judge: str | Sequence[str] = ...,
    reward_model: str | None = ..., reward_ensemble: Literal['mean', 'worst', 'uncertainty'] = ...,
    ensemble_penalty: float = ...,
    combine: Literal['mean', 'median', 'trimmed', 'stacked', 'cascade'] = ...,
    judging: Literal['pairwise', 'pointwise', 'score', 'listwise'] = ..., constitution: str = ...,
    principles: Literal['all', 'sample', 'each'] = ..., both_orders: bool = ...,
    meetings: Literal['round-robin', 'ring', 'swiss', 'knockout'] = ..., meeting_rounds: int = ...,
    evidence: Literal['logprobs', 'score', 'votes', 'auto'] = ..., votes: int = ...,
    adaptive_votes: bool = ..., reasoning: bool = ..., reference: str | None = ...,
    scale: StrPath | None = ..., permutations: int = ..., judge_max_tokens: int = ...,
    judge_template: StrPath | None = ..., max_failure_share: float = ..., concurrency: int = ...,
    deadline: float = ..., attempts: int = ..., requests_per_minute: float | None = ...,
    input_tokens_per_minute: float | None = ..., output_tokens_per_minute: float | None = ...,
    max_requests: int | None = ..., max_cost: float | None = ..., engine_arg: str | Sequence[str] = ...,
    price: str | Sequence[str] = ..., ledger: StrPath | None = ..., batch: bool = ...,
    batch_requests: int = ..., batch_poll: float = ..., config: StrPath | None = ...,
    quiet: bool | None = ...,
) -> Sweep:
    """DPO with several β: held-out margin, KL to the start, and with a judge the win rate over the start
    (`train dpo-sweep`)."""

def rlaif(
    file: Source = ..., *, out: StrPath | None = ..., resume: bool = ..., overwrite: bool = ...,
    quiet: bool | None = ...,
) -> Loop:
    """Rounds of sample, judge, pair, train and evaluate, which stop when the judge is gamed."""

def convert(
    file: Source = ..., *, to: Literal['dpo', 'kto', 'reward'] = ..., out: StrPath = ...,
    format: Literal['conversational', 'standard'] = ..., good_from: float | None = ...,
    bad_to: float | None = ..., zero: Literal['bad', 'neutral'] | None = ...,
    rate_by: Literal['aspects', 'overall'] = ..., pair_by: Literal['best-worst', 'all'] = ...,
    min_gap: float = ..., dry_run: bool = ..., max_failed: float = ..., overwrite: bool = ...,
    config: StrPath | None = ..., quiet: bool | None = ...,
) -> Conversion:
    """Turn logged feedback, or another stage's rows, into rows to train on."""

def report(
    directory: StrPath = ..., *, quiet: bool | None = ...,
) -> Result:
    """Write anew the page of any directory that prefgen made."""

def quickstart(
    out: StrPath = ..., *,
    stages: Literal['dpo', 'kto', 'grpo', 'ppo'] | Sequence[Literal['dpo', 'kto', 'grpo', 'ppo']] = ...,
    seed: int = ..., resume: bool = ..., overwrite: bool = ..., quiet: bool | None = ...,
) -> Quickstart:
    """The whole RLAIF run on embedded models: no key, no network, no GPU."""

def what_if(
    run: StrPath = ..., *, calibration: StrPath | None = ..., choose_truncated: bool | None = ...,
    kto_labels: Literal['pairs', 'threshold'] | None = ..., seed: int | None = ...,
    strategy: Literal['best-worst', 'best-random', 'best-2sigma', 'all'] | Sequence[Literal['best-worst', 'best-random', 'best-2sigma', 'all']] = ...,
    min_confidence: float | Sequence[float] = ..., target_precision: float | Sequence[float] = ...,
    max_pairs: int | Sequence[int] = ..., max_similarity: float | Sequence[float] = ...,
    max_length_gap: float | Sequence[float] = ..., config: StrPath | None = ..., quiet: bool | None = ...,
) -> WhatIf:
    """What other settings would make of a run's judgments (`pair` without --out)."""

def why(
    run: StrPath = ..., *, ids: str | Sequence[str] = ..., constitution: str | None = ...,
    look_in: StrPath | Sequence[StrPath] = ..., config: StrPath | None = ..., quiet: bool | None = ...,
) -> Story:
    """How a pair came to be, or why there is none."""

def constitution_diff(
    *, a: str = ..., b: str = ..., run: StrPath | None = ..., out: StrPath | None = ...,
    judge_template: StrPath | None = ..., max_failure_share: float = ..., concurrency: int = ...,
    deadline: float = ..., attempts: int = ..., requests_per_minute: float | None = ...,
    input_tokens_per_minute: float | None = ..., output_tokens_per_minute: float | None = ...,
    max_requests: int | None = ..., max_cost: float | None = ..., engine_arg: str | Sequence[str] = ...,
    price: str | Sequence[str] = ..., ledger: StrPath | None = ..., batch: bool = ...,
    batch_requests: int = ..., batch_poll: float = ..., seed: int = ..., resume: bool = ...,
    overwrite: bool = ..., config: StrPath | None = ..., quiet: bool | None = ...,
) -> ConstitutionDiff:
    """What constitution b changes in a and, with run, which pairs flip by it (`constitution diff`)."""

def export(
    run: StrPath = ..., *,
    trainer: Literal['trl', 'llamafactory', 'axolotl', 'openrlhf', 'nemo-rl', 'verl'] = ...,
    dataset: Literal['dpo', 'kto', 'reward', 'prompts'] | None = ..., out: StrPath | None = ...,
    split: Literal['all', 'train', 'test'] = ..., margin: bool = ..., reference: str | None = ...,
    max_rejected: float = ..., push: str | None = ..., public: bool = ..., yes: bool = ...,
    overwrite: bool = ..., config: StrPath | None = ..., quiet: bool | None = ...,
) -> Export:
    """Write a finished run's rows as another trainer takes them; `trainer` is the command's --for."""
