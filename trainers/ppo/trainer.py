"""Proximal policy optimization on rewards of whole responses: the loop.

rollouts → scores → advantages → several passes of clipped updates → the KL coefficient → rollouts …
(Schulman et al. 2017, arXiv 1707.06347; on language models Ziegler et al. 2019, arXiv 1909.08593, and Ouyang
et al. 2022, arXiv 2203.02155). Callbacks of transformers watch it as they watch its Trainer.

All that is random (order of the prompts, sampling, minibatches) comes from generators seeded by the run's
seed and the step, so a checkpoint holds no random state.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefgen.errors import GateError
from trainers.ppo.config import PPOConfig
from trainers.ppo.experience import describe_kl, describe_text, learn_from
from trainers.ppo.kl import KLController
from trainers.ppo.learner import Learner, means
from trainers.ppo.networks import Networks, restore_weights, trained_weights
from trainers.ppo.rollout import Rollouts, Sampler, lay_out
from trainers.ppo.schedule import derive, draw, rate_factor
from trainers.rewards import Reward, Sample, length_correlation, total

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainingArguments

STATE_FILE = "training_state.pt"
ENOUGH = 50
"""Samples from which on the share of those without a score is held against its limit."""


@dataclass(frozen=True, slots=True)
class Task:
    """A prompt: its token ids, and the sample without its completion that a reward will be shown."""

    ids: tuple[int, ...]
    sample: Sample


@dataclass(frozen=True, slots=True)
class World:
    """What the policy acts in: prompts and their rewards."""

    tasks: Sequence[Task]
    eval_tasks: Sequence[Task]
    rewards: Sequence[Reward]
    tokenizer: PreTrainedTokenizerBase
    ends: frozenset[int]


@dataclass
class Tally:
    """Counts over the whole run."""

    samples: int = 0
    unscored: int = 0
    skipped_batches: int = 0
    updates: int = 0


class PPOTrainer:
    """Trains a policy by its rewards. A step is one batch of rollouts and all updates made on it.

    It has what `trainers.stage.Trainer` asks for, which is a small part of transformers' own.
    """

    def __init__(
        self,
        config: PPOConfig,
        world: World,
        networks: Networks,
        sampler: Sampler,
        args: TrainingArguments,
        accelerator: Accelerator,
        callbacks: Sequence[TrainerCallback],
    ) -> None:
        from transformers import TrainerControl, TrainerState
        from transformers.integrations import get_reporting_integration_callbacks
        from transformers.trainer_callback import CallbackHandler, DefaultFlowCallback

        self.model = self.model_wrapped = networks.policy
        self.accelerator = accelerator
        self.state = TrainerState(max_steps=config.max_steps or _steps(config, len(world.tasks)))
        self.state.compute_steps(args, self.state.max_steps)
        self._config, self._world, self._args = config, world, args
        self._networks, self._sampler = networks, sampler
        self._learner = Learner(config, networks, accelerator)
        self._kl = KLController(config.kl_coef, config.kl_target, config.kl_horizon)
        self._tally = Tally()
        self._unlogged: list[dict[str, float]] = []
        self._over = False
        self._control = TrainerControl()
        self._callbacks = CallbackHandler(
            [DefaultFlowCallback, *get_reporting_integration_callbacks(args.report_to), *callbacks],
            self.model,
            world.tokenizer,
            self._learner.optimizer,
            None,
        )

    # ---------------------------------------------------------------------------------------------- the run

    def train(self, resume_from_checkpoint: str | None = None) -> None:
        """Takes all steps, from the start or a checkpoint, and writes the value function to OUT/value.

        Raises GateError where too many samples have no score.
        """
        started = time.monotonic()
        if resume_from_checkpoint:
            self._load_from_checkpoint(resume_from_checkpoint)
        self._tell("on_train_begin")
        if self._args.eval_on_start:
            self.evaluate()
        while self.state.global_step < self.state.max_steps and not self._control.should_training_stop:
            self._unlogged.append(self._step(self.state.global_step))
            self.state.global_step += 1
            self.state.epoch = (
                self.state.global_step * self._config.rollout_batch_size / len(self._world.tasks)
            )
            self._tell("on_step_end")
            self._after_step()
        self._tell("on_train_end")
        self._log({"train_runtime": time.monotonic() - started, **asdict(self._tally)})
        self._over = True
        self._networks.save_value(self._config.out / "value")
        self._networks.use_policy()

    def evaluate(self) -> dict[str, float]:
        """Samples the held-out prompts once, always with the same seed, and logs what came of it."""
        found = self._examine(self._world.eval_tasks, derive(self._config.seed, 0, "evaluation"))
        numbers = {f"eval_{name}": value for name, value in found.items()}
        self._log(numbers)
        self._tell("on_evaluate", metrics=numbers)
        return numbers

    def _tell(self, event: str, **facts: object) -> None:
        # Who listens may look at the model, and shall find the policy.
        self._networks.use_policy()
        self._control = getattr(self._callbacks, event)(self._args, self.state, self._control, **facts)

    def _log(self, numbers: Mapping[str, float]) -> None:
        logs = {**numbers, "epoch": self.state.epoch or 0.0}
        self._control = self._callbacks.on_log(self._args, self.state, self._control, logs)

    def _after_step(self) -> None:
        if self._control.should_log:
            self._log(means(self._unlogged))
            self._unlogged.clear()
        if self._control.should_evaluate:
            self.evaluate()
        if self._control.should_save:
            self._save()

    # --------------------------------------------------------------------------------------------- one step

    def _step(self, step: int) -> dict[str, float]:
        """Samples, scores and learns; returns the step's numbers."""
        config, tally = self._config, self._tally
        self._learner.set_rates(rate_factor(step, self.state.max_steps, config.warmup))
        tasks = draw(self._world.tasks, config.rollout_batch_size, step, config.seed)
        rollouts, samples = self._write(tasks, derive(config.seed, step, "rollouts"))
        scores = total(self._world.rewards, samples)
        scored = {place: score for place, score in enumerate(scores) if score is not None}
        if not all(math.isfinite(score) for score in scored.values()):
            raise GateError("a reward gave a score that is no finite number; a sample without one is None")
        numbers = {**describe_text(rollouts), "completions/unscored": 1 - len(scored) / len(scores)}
        by_length = length_correlation(scores, [len(response) for response in rollouts.responses])
        numbers |= {} if by_length is None else {"reward_length_correlation": by_length}
        tally.samples += len(scores)
        tally.unscored += len(scores) - len(scored)
        self._check_failures()
        if not scored:
            tally.skipped_batches += 1
            return numbers
        kept = rollouts.select(list(scored))
        experience, found = learn_from(
            kept, self._learner.measure(kept), list(scored.values()), self._kl.coefficient, config
        )
        numbers |= found | self._learner.learn(experience, derive(config.seed, step, "minibatches"))
        self._kl.update(found["objective/kl"], len(scored))
        tally.updates += int(numbers["policy/updates"])
        return {**numbers, "learning_rate": self._learner.optimizer.param_groups[0]["lr"]}

    def _check_failures(self) -> None:
        share = self._tally.unscored / self._tally.samples
        enough = self._tally.samples >= ENOUGH or self.state.global_step + 1 == self.state.max_steps
        if enough and share > self._config.max_failure_share:
            raise GateError(
                f"{self._tally.unscored} of {self._tally.samples} samples ({share:.0%}) have no score, above "
                f"--max-failure-share {self._config.max_failure_share}; those that have one may be a biased "
                "choice: see why the reward fails, then go on with --resume, or with a higher share"
            )

    def _write(self, tasks: Sequence[Task], seed: int) -> tuple[Rollouts, list[Sample]]:
        prompts = [task.ids for task in tasks]
        written = self._sampler.sample(prompts, seed)
        tokenizer, device = self._world.tokenizer, self.accelerator.device
        rollouts = lay_out(prompts, written, self._world.ends, tokenizer.pad_token_id, device)
        texts = tokenizer.batch_decode(rollouts.responses, skip_special_tokens=True)
        samples = [
            Sample(task.sample.prompt, text, finished, task.sample.columns)
            for task, text, finished in zip(tasks, texts, rollouts.finished.tolist(), strict=True)
        ]
        return rollouts, samples

    def _examine(self, tasks: Sequence[Task], seed: int) -> dict[str, float]:
        rollouts, samples = self._write(tasks, seed)
        numbers = describe_text(rollouts)
        numbers |= describe_kl(self._learner.measure(rollouts, values=False), rollouts.mask)
        scores = total(self._world.rewards, samples)
        known = [score for score in scores if score is not None]
        numbers |= {"objective/scores": sum(known) / len(known)} if known else {}
        return {**numbers, "completions/unscored": 1 - len(known) / len(scores)}

    # ------------------------------------------------------------------------------------------ checkpoints

    def _save(self) -> None:
        """A checkpoint; `trainer_state.json` is written last and makes it whole."""
        import torch

        folder = self._config.out / "checkpoints" / f"checkpoint-{self.state.global_step}"
        folder.mkdir(parents=True, exist_ok=True)
        state: dict[str, Any] = {
            "weights": trained_weights(self._networks),
            "optimizer": self._learner.optimizer.state_dict(),
            "kl_coef": self._kl.coefficient,
            "tally": asdict(self._tally),
            "unlogged": self._unlogged,
        }
        torch.save(state, folder / STATE_FILE)
        self.state.save_to_json(str(folder / "trainer_state.json"))
        self._tell("on_save")
        for old in _checkpoints(folder.parent)[: -self._config.keep_checkpoints]:
            shutil.rmtree(old)

    def _load_from_checkpoint(self, resume_from_checkpoint: str) -> None:
        import torch

        folder = Path(resume_from_checkpoint)
        saved = torch.load(folder / STATE_FILE, map_location=self.accelerator.device, weights_only=True)
        restore_weights(self._networks, saved["weights"])
        if self._over:
            # An alarm ended the run, and what is kept is an earlier policy with its value function.
            self._networks.save_value(self._config.out / "value")
            return
        self._learner.optimizer.load_state_dict(saved["optimizer"])
        self._kl.coefficient = saved["kl_coef"]
        self._tally = Tally(**saved["tally"])
        self._unlogged = saved["unlogged"]
        before = type(self.state).load_from_json(str(folder / "trainer_state.json"))
        self.state.global_step, self.state.epoch = before.global_step, before.epoch


def _steps(config: PPOConfig, tasks: int) -> int:
    return math.ceil(config.epochs * tasks / config.rollout_batch_size)


def _checkpoints(folder: Path) -> list[Path]:
    """Oldest first."""
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.removeprefix("checkpoint-")))
