"""Everything that is looked at before a loop writes or pays for anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.evaluation.evaluate import Asked, read_asked
from pipelines.judging import check_judging, judging_files
from pipelines.publish import sha256_of
from pipelines.rlaif.config import LoopConfig
from pipelines.rlaif.data import read_given
from prefgen.errors import InputError, UsageError
from prefgen.messages import messages_hash
from prefgen.models import REWARD_PROVIDERS, ModelSpec, family
from prefgen.models.local import find_folder
from prefgen.prompt import read_prompts
from trainers.fingerprint import hash_files


@dataclass(frozen=True, slots=True)
class Inputs:
    """`hashes`: SHA-256 by path of every file, and of the policy's folder."""

    asked: list[Asked]
    hashes: dict[str, str]


def look_over(config: LoopConfig) -> Inputs:
    """Reads every file once. Raises UsageError and its kinds."""
    _check_policy(config)
    for judging in (config.generate, config.evaluate):
        check_judging(judging)
    reward = config.train.reward
    if reward not in (None, "judge", "trained"):
        ModelSpec.parse(reward, REWARD_PROVIDERS)
    for spec in models_of(config):
        if ModelSpec.parse(spec).provider in ("vllm", "transformers"):
            find_folder(ModelSpec.parse(spec).name, spec)
    asked, given = read_asked(config.evaluate.prompts), config.file.given_pairs
    trained = {messages_hash(prompt.messages) for prompt in read_prompts(config.file.prompts)}
    _check_apart(config.evaluate.prompts, asked, trained, config.file.prompts)
    files = [config.file.prompts, config.evaluate.prompts, *judging_files(config.generate)]
    files += judging_files(config.evaluate)
    if given is not None:
        pairs = read_given(given.file)
        _check_apart(config.evaluate.prompts, asked, {row.prompt_hash for row in pairs}, given.file)
        files.append(given.file)
    if config.revise is not None:
        files.append(config.revise.prompts)
    if config.generate.calibration is not None:
        files.append(config.generate.calibration)
    _check_out(config, files)
    folder = ModelSpec.parse(config.policy).name
    return Inputs(asked, sha256_of(dict.fromkeys(files)) | {folder: hash_files(Path(folder)) or ""})


def models_of(config: LoopConfig) -> list[str]:
    """The specs of all models that the loop opens, trained ones aside."""
    reward = config.train.reward
    named = [config.policy, *config.generate.judges, *config.evaluate.judges]
    named += [reward] if reward not in (None, "judge", "trained") else []
    named += [config.revise.critic_spec] if config.revise is not None else []
    return list(dict.fromkeys(named))


def _check_policy(config: LoopConfig) -> None:
    spec = ModelSpec.parse(config.policy)
    if spec.provider not in ("vllm", "transformers") or find_folder(spec.name, spec.text) is None:
        raise InputError(
            config.path,
            "policy is not a model in a local folder",
            seen=config.policy,
            expected="vllm/PATH or transformers/PATH of a folder, which the loop trains from",
        )
    if (Path(spec.name) / "adapter_config.json").is_file():
        raise InputError(
            config.path, "policy is an adapter", seen=config.policy, fix="merge it into its model first"
        )


def _check_apart(path: Path, asked: Iterable[Asked], trained: set[str], other: Path) -> None:
    both = [item.prompt.id for item in asked if messages_hash(item.prompt.messages) in trained]
    if both:
        raise InputError(
            path,
            f"{len(both)} held-out prompts are trained on: they stand in {other} too",
            seen=both[0],
            fix="remove them from one of the files",
        )


def _check_out(config: LoopConfig, files: Iterable[Path]) -> None:
    """Raises UsageError where --overwrite would delete what is read."""
    out = config.out.resolve()
    for path in (config.path, Path(ModelSpec.parse(config.policy).name), *files):
        if path.resolve().is_relative_to(out):
            raise UsageError(f"{path} is read, but lies in --out {config.out}; name another directory")


def warnings_about(config: LoopConfig) -> Iterator[str]:
    """What is allowed but should be known."""
    for judge in config.evaluate.judges:
        if judge in config.generate.judges:
            yield (
                f"{judge} labels the pairs and evaluates the rounds: it finds its own taste, and its errors, "
                "again, and nobody is left who could see it gamed; evaluate with another judge"
            )
        elif any(family(judge) == family(other) for other in config.generate.judges):
            yield f"the held-out judge {judge} is of the family of the judge that labels the pairs"
