"""The file of `prefgen rlaif`: what stands in it, and what it comes to.

Every path in the file is relative to the file's own folder. So is the PATH of a local MODEL where there is
such a folder; else it names a model of the hub.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipelines.generate_config import RUN_OPTIONS, CallConfig, GenerateConfig, JudgingConfig
from pipelines.revise_config import ReviseConfig
from pipelines.rewards_config import check_group
from pipelines.rlaif.stages import STAGES, LoopStage, names
from prefgen.errors import InputError, UsageError
from prefgen.yamlfile import line_of, read_yaml, validation_message
from trainers.config import StageConfig
from trainers.reward import RewardConfig
from trainers.sft import SFTConfig

C = TypeVar("C", bound=BaseModel)
_MODELS = ("policy", "judge", "reward_model", "critic")
_CALLS = tuple(CallConfig.model_fields)
_LOOP_SETS = (
    *("model", "data", "out", "eval_data", "resume", "overwrite", "merge", "accelerate", "accelerate_arg"),
    *("watch_judge", "watch_reward_model"),
)
RUN_KEYS = (
    *("rounds", "keep", "free_memory", "stop.*", "human_check.min_agreement"),
    *(f"generate.{name}" for name in RUN_OPTIONS),
    *(f"train.{name}" for name in ("report_to", "keep_checkpoints")),
)
"""Keys that a resumed loop may change: they decide how long it goes on, not what a round makes."""


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class StopRules(_Block):
    """When the loop stops itself. A rule is switched off with null."""

    on_alarm: Literal["stop", "warn"] = "stop"
    """Stop at the first alarm, or go on and say so."""
    gaming_rounds: int | None = Field(default=2, ge=1)
    """Rounds in a row in which the training judge likes the model better and the held-out judge less."""
    length_ratio: float | None = Field(default=1.25, gt=1)
    """Mean length of the answers to held-out prompts, over that of round 0, from which on it is too long."""
    no_gain_rounds: int | None = Field(default=2, ge=1)
    """Rounds in a row without a gain over the round before that is beyond chance."""


class GivenPairs(_Block):
    """Pairs from elsewhere, mixed into each round's own."""

    file: Path
    """A file of prompt, chosen, rejected."""
    share: float = Field(gt=0, lt=1)
    """Share of a round's training pairs that is drawn from the file."""


class HumanCheck(_Block):
    """Pairs of each round for a person to label before the round is trained on."""

    pairs: int = Field(ge=1)
    """Pairs a round, drawn at random."""
    min_agreement: float = Field(default=0.5, ge=0, le=1)
    """The round is not trained on where people agree with fewer of its labels."""


class HeldOut(JudgingConfig):
    """The judge that decides what a round is worth, and what it is asked."""

    prompts: Path
    """Prompts that no round is trained on."""
    temperature: float = Field(default=0, ge=0)
    """Sampling temperature of the answers; 0 takes the likeliest token."""
    max_tokens: int = Field(default=1024, ge=1)
    """Tokens per answer at most."""
    system: str | None = None
    """System prompt for the answers."""


class LoopFile(_Block):
    """What stands in the file. The blocks generate, train, evaluate, revise, sft and reward_training hold
    options of these commands under the same names."""

    policy: str
    """The model to improve: vllm/PATH or transformers/PATH of a local folder."""
    prompts: Path
    """Prompts to sample from."""
    prompts_per_round: int | None = Field(default=None, ge=1)
    """Each round takes the next so many prompts, from the first again after the last; unset, all of them."""
    rounds: int = Field(ge=1)
    """Rounds of sample, judge, pair, train and evaluate; a resumed loop may have more."""
    generate: dict[str, Any]
    """Options of `prefgen generate`. Those on how models are called and the seed hold for the whole loop."""
    train: dict[str, Any]
    """`stage` and its options; for an online stage `reward` too: judge, trained, or a reward MODEL."""
    evaluate: dict[str, Any]
    """Held-out prompts and the judge or reward model that looks at the answers, not the one that labels."""
    keep: Literal["lower", "mean"] = "lower"
    """The best round has the highest win rate over round 0: by the lower end of its interval, or its mean."""
    stop: StopRules = StopRules()
    recipe: Literal["rlaif", "constitutional"] = "rlaif"
    """constitutional: first a round of critique and revision that the policy is fine-tuned on."""
    revise: dict[str, Any] = {}
    """Options of `prefgen revise`, for the constitutional recipe."""
    sft: dict[str, Any] = {}
    """Options of `prefgen train sft`, for the same."""
    reward_training: dict[str, Any] = {}
    """Options of `prefgen train reward`, for `reward: trained`."""
    given_pairs: GivenPairs | None = None
    human_check: HumanCheck | None = None
    free_memory: bool = False
    """Close all models while a round trains, so that training has the device to itself."""
    out: Path | None = None
    """Directory of the loop; --out wins."""

    @model_validator(mode="after")
    def _recipe_has_blocks(self) -> Self:
        if self.recipe == "rlaif" and (self.revise or self.sft):
            raise ValueError("revise and sft go with recipe: constitutional")
        return self


@dataclass(frozen=True, slots=True)
class Training:
    """`options`: of the stage's config but for the model, the data and the folder. `reward`: of an online
    stage: judge, trained, or a MODEL."""

    name: str
    stage: LoopStage
    options: Mapping[str, Any]
    reward: str | None = None

    def config(self, model: Path, data: Path, out: Path, eval_data: Path | None) -> StageConfig:
        return stage_config(self.stage.config, self.options, model, data, out, eval_data)


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """A file with its paths found and every block parsed. `file`: as it stands, but for its paths."""

    path: Path
    out: Path
    file: LoopFile
    generate: GenerateConfig
    train: Training
    evaluate: HeldOut
    revise: ReviseConfig | None

    @property
    def seed(self) -> int:
        return self.generate.seed

    @property
    def policy(self) -> str:
        return self.file.policy

    def resolved(self) -> dict[str, Any]:
        """What goes into OUT/config.yaml: every option with its value."""
        whole = self.file.model_dump(mode="json", exclude={"out"})
        own = {"policy", "prompts", "out"}
        train = {"stage": self.train.name} | ({"reward": self.train.reward} if self.train.reward else {})
        config = self.train.config(Path("-"), Path("-"), Path("-"), None)
        return whole | {
            "generate": self.generate.model_dump(mode="json", exclude=own),
            "evaluate": self.evaluate.model_dump(mode="json", exclude=set(_CALLS)),
            "train": train | config.model_dump(mode="json", exclude=set(_LOOP_SETS)),
            "revise": self.revise and self.revise.model_dump(mode="json", exclude=own),
        }


def stage_config(
    kind: type[StageConfig],
    options: Mapping[str, Any],
    model: Path,
    data: Path,
    out: Path,
    eval_data: Path | None = None,
) -> StageConfig:
    """The config of a stage in the loop: it goes on where it stopped, and an adapter is merged, because what
    comes next starts from a whole model."""
    places = {"model": str(model), "data": data, "out": out, "eval_data": eval_data, "resume": True}
    merge = bool(options.get("lora") or options.get("qlora"))
    return kind.model_validate({**options, **places, "merge": merge})


def read_config(path: Path, out: Path | None) -> LoopConfig:
    """The loop of a file. `out`: where the command line names it. Raises InputError with file and line."""
    home, values = path.parent, read_yaml(path)
    file = _parse(path, LoopFile, _rooted(values, LoopFile, home))
    place = out or file.out
    if place is None:
        raise UsageError(f"no directory for the loop: add --out DIR, or out: DIR to {path}")
    generate = _generate(path, file, home)
    evaluate = _evaluate(path, file, home, generate)
    train = _train(path, file, home)
    revise = _revise(path, file, home, generate) if file.recipe == "constitutional" else None
    _check_stage_options(path, "sft", SFTConfig, file.sft)
    _check_stage_options(path, "reward_training", RewardConfig, file.reward_training)
    _check_together(path, file, generate, train)
    return LoopConfig(path, place, file, generate, train, evaluate, revise)


def _generate(path: Path, file: LoopFile, home: Path) -> GenerateConfig:
    values = _block(path, "generate", file.generate, GenerateConfig, home, ("policy", "prompts", "out"))
    if values.get("format", "conversational") != "conversational":
        raise _wrong(path, ("generate", "format"), "a loop trains on messages", values["format"])
    given = {"policy": (file.policy,), "prompts": file.prompts, "out": Path("-")}
    return _parse(path, GenerateConfig, values | given, ("generate",))


def _evaluate(path: Path, file: LoopFile, home: Path, generate: GenerateConfig) -> HeldOut:
    values = _block(path, "evaluate", file.evaluate, HeldOut, home, _CALLS)
    calls = {name: getattr(generate, name) for name in _CALLS}
    return _parse(path, HeldOut, values | calls, ("evaluate",))


def _revise(path: Path, file: LoopFile, home: Path, generate: GenerateConfig) -> ReviseConfig:
    values = _block(path, "revise", file.revise, ReviseConfig, home, ("policy", "out", *_CALLS))
    given = {name: getattr(generate, name) for name in _CALLS} | {"policy": file.policy, "out": Path("-")}
    defaults = {"prompts": file.prompts, "constitution": generate.constitution}
    return _parse(path, ReviseConfig, defaults | values | given, ("revise",))


def _train(path: Path, file: LoopFile, home: Path) -> Training:
    options = dict(file.train)
    name, reward = options.pop("stage", None), options.pop("reward", None)
    if not isinstance(name, str) or name not in STAGES:
        raise _wrong(path, ("train", "stage"), f"not a stage of the loop; expected {names()}", name)
    stage = STAGES[name]
    if stage.online and not isinstance(reward, str):
        raise _wrong(
            path, ("train", "reward"), f"{name} needs reward: judge, trained, or a reward MODEL", reward
        )
    if reward is not None and not stage.online:
        raise _wrong(path, ("train", "reward"), f"{name} learns from pairs, not from a reward", reward)
    _check_stage_options(path, "train", stage.config, options)
    return Training(name, stage, options, _model(reward, home) if reward is not None else None)


def _check_stage_options(path: Path, block: str, kind: type[StageConfig], options: Mapping[str, Any]) -> None:
    """Raises InputError for an option the stage has not, or that the loop sets by itself."""
    for name in options:
        if name in _LOOP_SETS:
            raise _wrong(path, (block, name), "the loop sets this by itself; remove it", options[name])
    try:
        stage_config(kind, options, Path("-"), Path("-"), Path("-"))
    except ValidationError as error:
        raise validation_message(path, error, kind, (block,)) from error
    except UsageError as error:
        raise InputError(path, f"{block}: {error}", line=line_of(path, (block,))) from error


def _check_together(path: Path, file: LoopFile, generate: GenerateConfig, train: Training) -> None:
    _check_labels(path, file, generate, train)
    if train.reward == "judge":
        try:
            check_group(generate, train.options.get("group_size", 8) if train.name == "grpo" else 1)
        except UsageError as error:
            raise _wrong(path, ("train", "reward"), str(error), train.reward) from error
    if file.given_pairs is not None and train.stage.online and train.reward != "trained":
        raise _wrong(
            path,
            ("given_pairs",),
            f"{train.name} learns from prompts, so given pairs go with reward: trained only",
            file.given_pairs.file,
        )
    if file.reward_training and train.reward != "trained":
        raise _wrong(path, ("reward_training",), "goes with an online stage and reward: trained")


def _check_labels(path: Path, file: LoopFile, generate: GenerateConfig, train: Training) -> None:
    """What a stage wants to know of its pairs has to be known of all of them."""
    given, loss = file.given_pairs is not None, train.options.get("loss")
    if given and (loss == "soft" or train.options.get("weight_by_confidence")):
        raise _wrong(path, ("given_pairs",), "given pairs have no confidence, which this training reads")
    if given and file.reward_training.get("use_margin"):
        raise _wrong(
            path, ("given_pairs",), "given pairs have no margin, which reward_training.use_margin reads"
        )
    unknown = train.options.get("noise_rate") is None and (given or generate.calibration is None)
    if loss in ("robust", "conservative") and unknown:
        raise _wrong(
            path, ("train", "loss"), "the share of wrong labels is not known: add train.noise_rate", loss
        )


# ---------------------------------------------------------------------------------------------------- parsing


def _block(
    path: Path,
    name: str,
    values: Mapping[str, Any],
    kind: type[BaseModel],
    home: Path,
    set_above: Sequence[str],
) -> dict[str, Any]:
    """A block's values with their paths found. Raises InputError for what stands elsewhere in the file."""
    for key in values:
        if key in set_above:
            where = "generate" if name != "generate" and key in _CALLS else "the top of the file"
            raise _wrong(path, (name, key), f"this is set in {where} for the whole loop", values[key])
    return _rooted(values, kind, home)


def _parse(path: Path, kind: type[C], values: Mapping[str, Any], inside: tuple[str, ...] = ()) -> C:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise validation_message(path, error, kind, inside) from error


def _wrong(path: Path, where: tuple[str, ...], message: str, seen: object = None) -> InputError:
    return InputError(path, f"{'.'.join(where)}: {message}", line=line_of(path, where), seen=seen)


def _rooted(values: Mapping[str, Any], kind: type[BaseModel], home: Path) -> dict[str, Any]:
    """The values with every relative path under `home`; one text where a list is taken becomes a list."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        field = kind.model_fields.get(name)
        if field is not None and typing.get_origin(field.annotation) is tuple and isinstance(value, str):
            value = [value]
        if isinstance(value, dict) and name in ("given_pairs",) and isinstance(value.get("file"), str):
            value = value | {"file": str(home / value["file"])}
        elif field is not None and Path in (field.annotation, *typing.get_args(field.annotation)):
            value = _each(value, lambda item: str(home / item))
        elif name in _MODELS:
            value = _each(value, lambda item: _model(item, home))
        elif name == "constitution" and isinstance(value, str) and (home / value).is_file():
            value = str(home / value)
        found[name] = value
    return found


def _each(value: Any, change: typing.Callable[[str], str]) -> Any:
    if isinstance(value, list):
        return [_each(item, change) for item in value]
    return change(value) if isinstance(value, str) else value


def _model(spec: str, home: Path) -> str:
    """A MODEL whose PATH is a folder under `home`, by that folder; any other as it is."""
    provider, _, name = spec.partition("/")
    local = provider in ("vllm", "transformers") and (home / name).is_dir()
    return f"{provider}/{home / name}" if local else spec
