"""Real trainings of a tiny model, every stage in full and with an adapter."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import labelled, make_model, pairs, write_jsonl, write_run

from prefgen.errors import GateError, InputError, MissingExtraError, RunDirectoryError, UsageError
from trainers import run as runs
from trainers.config import StageConfig
from trainers.dpo import DPOConfig, train_dpo
from trainers.fingerprint import hash_files
from trainers.kto import KTOConfig, train_kto
from trainers.orpo import ORPOConfig, train_orpo
from trainers.reference_cache import ReferenceCache
from trainers.report import read_report
from trainers.reward import RewardConfig, train_reward
from trainers.sft import SFTConfig, train_sft

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("one_thread")]

Train = Callable[..., Path]
STAGES: dict[str, tuple[Train, type[StageConfig]]] = {
    "sft": (train_sft, SFTConfig),
    "reward": (train_reward, RewardConfig),
    "dpo": (train_dpo, DPOConfig),
    "kto": (train_kto, KTOConfig),
    "orpo": (train_orpo, ORPOConfig),
}
QUICK = {
    "batch_size": 4,
    "eval_share": 0.2,
    "max_steps": 3,
    "eval_steps": 2,
    "gradient_checkpointing": False,
    "watch_prompts": 0,
    "allow_base_model": True,
}


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Path]:
    paired = write_jsonl(tmp_path / "pairs.jsonl", pairs(24))
    single = write_jsonl(tmp_path / "labelled.jsonl", labelled(24))
    return {"sft": paired, "reward": paired, "dpo": paired, "kto": single, "orpo": paired}


def train(stage: str, model: Path, data: Path, out: Path, on_log: Any = None, **options: object) -> Path:
    function, config = STAGES[stage]
    return function(
        config.model_validate({"model": str(model), "data": data, "out": out, **QUICK, **options}), on_log
    )


@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_trains_and_what_it_saved_is_what_it_trained(
    stage: str,
    adapter: bool,
    model: Path,
    data: dict[str, Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = hash_files(model)
    heard: list[dict[str, float]] = []
    options = {"lora": adapter, "merge": adapter, "gradient_checkpointing": stage == "dpo"}
    out = train(stage, model, data[stage], tmp_path / "out", heard.append, **options)
    assert tuple(capfd.readouterr()) == ("", "")
    assert hash_files(model) == before
    report = read_report(out)
    assert (report.stage, report.steps, report.stopped_early) == (stage, 3, False)
    assert sum(n for name, n in report.counts.items() if not name.endswith("_cut")) == 24
    assert report.reload.rows > 0
    assert report.reload.max_difference < 1e-6
    assert (report.reload.merged_max_difference is not None) == adapter
    assert (report.frozen_sha256 is None) == (not adapter and stage != "kto")
    assert (out / ("adapter_model.safetensors" if adapter else "model.safetensors")).is_file()
    assert (out / "merged" / "model.safetensors").is_file() == adapter
    assert (out / "tokenizer.json").is_file()
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [(line["split"], line["step"]) for line in lines] == [
        ("eval", 0),
        ("train", 1),
        ("train", 2),
        ("eval", 2),
        ("train", 3),
        ("eval", 3),
        ("end", 3),
        ("final", 3),
    ]
    assert len(heard) == len(lines)
    if stage == "dpo":
        assert report.first_loss == pytest.approx(math.log(2), abs=1e-3)
        assert (report.first_eval or {})["loss"] == pytest.approx(math.log(2), abs=1e-3)


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo", "orpo"])
def test_a_run_directory_serves_every_stage_of_pairs(stage: str, model: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", pairs(12), pairs(3))
    report = read_report(train(stage, model, run, tmp_path / "out", max_steps=1))
    assert (report.counts["train_used"], report.counts["eval_used"]) == (12, 3)
    assert report.warnings == ["3 prompts are in the training and in the held-out rows"]


def test_kto_from_a_run_directory_weighs_its_classes(model: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", labelled(13), labelled(4), "kto")
    report = read_report(train("kto", model, run, tmp_path / "out", max_steps=1))
    assert (report.counts["train_used"], report.counts["train_dropped_alone_in_last_batch"]) == (12, 1)
    assert report.settings["desirable_weight"] == 1
    assert report.settings["class_balance"] == pytest.approx(4 / 3)
    assert report.settings["undesirable_weight"] in (
        pytest.approx(2 / (4 / 3)),
        pytest.approx(7 / 5 / (4 / 3)),
    )


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "bfloat16"},
        {"dtype": "bfloat16", "lora": True, "gradient_checkpointing": True},
        {"load_dtype": "bfloat16", "lora": True, "merge": True},
        {"save_dtype": "bfloat16", "loss": "ipo"},
        {"loss": "hinge", "length_normalized": True},
        {"loss": "conservative", "noise_rate": 0.1, "share_prompt": False},
        {"loss": "robust", "noise_rate": 0.1, "group_by_length": True},
        {"loss": "soft"},
        {"sft_weight": 0.5, "weight_by_confidence": True},
    ],
    ids=str,
)
def test_precisions_and_losses(
    options: dict[str, object], model: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    report = read_report(train("dpo", model, data["dpo"], tmp_path / "out", max_steps=1, **options))
    assert report.reload.max_difference < 1e-6
    assert report.settings["bf16"] == (options.get("dtype") == "bfloat16")


def test_a_reward_model_gets_a_padding_token(data: dict[str, Path], tmp_path: Path) -> None:
    start = make_model(tmp_path / "start", pad=None)
    out = train("reward", start, data["reward"], tmp_path / "out", max_steps=1, lora=True, merge=True)
    assert json.loads((out / "merged" / "config.json").read_text())["pad_token_id"] == 0
    assert "<|pad|> is used and saved" in read_report(out).warnings[0]


def test_held_out_numbers_are_means_over_rows(model: Path, tmp_path: Path) -> None:
    """Five held-out pairs, three of them the right way round, in batches of four and one."""
    right, wrong = (
        pairs(40)[35:38],
        [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in pairs(40)[38:]],
    )
    held_out = write_jsonl(tmp_path / "held_out.jsonl", [*wrong, *right])
    data = write_jsonl(tmp_path / "rows.jsonl", pairs(35))
    options = {"eval_data": held_out, "max_steps": 20, "eval_steps": 20, "learning_rate": 3e-3}
    report = read_report(train("dpo", model, data, tmp_path / "out", watch_prompts=0, **options))
    assert report.last_eval is not None
    assert report.last_eval["rewards/accuracies"] == pytest.approx(3 / 5)


def test_a_run_without_a_step_is_no_training(
    model: Path, data: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trl

    monkeypatch.setattr(trl.SFTTrainer, "train", lambda self, resume_from_checkpoint=None: None)
    with pytest.raises(GateError, match="no step was taken"):
        train("sft", model, data["sft"], tmp_path / "out", watch_prompts=0)
    assert not (tmp_path / "out" / "training.json").exists()


# ---------------------------------------------------------------------------------------------- does it learn


def margins(path: Path, model: Path) -> list[float]:
    """log p(blue) - log p(other answer) for prompts never trained on, computed without TRL."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    policy = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()

    def log_prob(prompt: object, answer: object) -> float:
        start = tokenizer.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"]
        ids = tokenizer.apply_chat_template([*prompt, *answer])["input_ids"]  # type: ignore[misc]
        with torch.no_grad():
            scores = policy(torch.tensor([ids])).logits[0].log_softmax(-1)
        return sum(float(scores[at - 1, ids[at]]) for at in range(len(start), len(ids)))

    return [
        log_prob(row["prompt"], row["chosen"]) - log_prob(row["prompt"], row["rejected"])
        for row in pairs(60)[40:]
    ]


@pytest.mark.parametrize(
    ("stage", "options"),
    [
        ("dpo", {}),
        ("dpo", {"lora": True, "merge": True}),
        ("dpo", {"loss": "soft"}),
        ("dpo", {"loss": "robust", "noise_rate": 0.1, "group_by_length": True}),
        ("dpo", {"loss": "conservative", "noise_rate": 0.1}),
        ("dpo", {"loss": "hinge"}),
        ("dpo", {"loss": "ipo"}),
        ("dpo", {"length_normalized": True, "beta": 2.0, "sft_weight": 0.1, "weight_by_confidence": True}),
        ("orpo", {"odds_weight": 0.5}),
        ("kto", {}),
        ("sft", {}),
    ],
    ids=str,
)
def test_a_planted_preference_is_learnt(
    stage: str, options: dict[str, object], model: Path, tmp_path: Path
) -> None:
    adapter = "lora" in options
    rows = labelled(40) if stage == "kto" else pairs(40)
    out = train(
        stage,
        model,
        write_jsonl(tmp_path / "rows.jsonl", rows),
        tmp_path / "out",
        max_steps=30,
        eval_steps=30,
        learning_rate=1e-2 if adapter else 3e-3,
        **options,
    )
    before, after = margins(model, model), margins(out / "merged" if adapter else out, model)
    assert all(late > early + 2 for early, late in zip(before, after, strict=True))


def test_a_reward_model_ranks_the_planted_preference(
    model: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    options = {"max_steps": 30, "eval_steps": 30, "learning_rate": 3e-3, "use_margin": True}
    report = read_report(
        train("reward", model, data["reward"], tmp_path / "out", center_rewards_coefficient=0.01, **options)
    )
    assert report.last_eval is not None
    assert report.last_eval["accuracy"] == 1
    assert report.last_eval["margin"] > 1


# -------------------------------------------------------------------------------------- stopping and going on


class Interrupt:
    """Ctrl-C when training reaches a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, numbers: dict[str, float]) -> None:
        if numbers["step"] >= self.step and "loss" in numbers:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("stage", "adapter", "given"),
    [
        ("sft", False, {}),
        ("reward", True, {}),
        ("dpo", False, {"group_by_length": True}),
        ("dpo", True, {}),
        ("kto", False, {}),
        ("orpo", False, {"group_by_length": True}),
        ("orpo", True, {}),
    ],
)
def test_a_resumed_run_ends_with_the_same_weights(
    stage: str, adapter: bool, given: dict[str, object], model: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    options = {
        **given,
        "max_steps": 6,
        "learning_rate": 1e-3,
        "lora": adapter,
        "early_stopping_patience": 3,
        "gradient_accumulation": 2,
    }
    whole = train(stage, model, data[stage], tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        train(stage, model, data[stage], tmp_path / "parts", Interrupt(5), **options)
    assert not (tmp_path / "parts" / "training.json").exists()
    with pytest.raises(RunDirectoryError, match="--resume"):
        train(stage, model, data[stage], tmp_path / "parts", **options)
    parts = train(stage, model, data[stage], tmp_path / "parts", **options, resume=True)
    name = "adapter_model.safetensors" if adapter else "model.safetensors"
    assert (parts / name).read_bytes() == (whole / name).read_bytes()
    assert metrics(parts) == metrics(whole)
    assert read_report(parts).first_loss == read_report(whole).first_loss


def test_a_run_stopped_before_its_first_checkpoint_begins_anew(
    model: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    whole = train("sft", model, data["sft"], tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train("sft", model, data["sft"], tmp_path / "parts", Interrupt(1))
    parts = train("sft", model, data["sft"], tmp_path / "parts", resume=True)
    assert metrics(parts) == metrics(whole)


def metrics(out: Path) -> list[dict[str, float]]:
    """The lines without what a clock or a counter of this process says."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [
        {
            name: value
            for name, value in line.items()
            if not name.endswith(("runtime", "per_second")) and name != "num_tokens"
        }
        for line in lines
        if line["split"] != "end"
    ]


def test_a_finished_run_is_returned_as_it_is(model: Path, data: dict[str, Path], tmp_path: Path) -> None:
    out = train("sft", model, data["sft"], tmp_path / "out", max_steps=1)
    before = (out / "training.json").read_bytes()
    assert train("sft", model, data["sft"], out, max_steps=1, resume=True) == out
    assert (out / "training.json").read_bytes() == before
    with pytest.raises(RunDirectoryError, match="seed was 42, is 7"):
        train("sft", model, data["sft"], out, max_steps=1, resume=True, seed=7)
    train("sft", model, data["sft"], out, max_steps=2, overwrite=True)
    assert read_report(out).steps == 2


def test_training_stops_when_held_out_loss_rises_and_keeps_the_best(model: Path, tmp_path: Path) -> None:
    swapped = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in pairs(8)]
    out = train(
        "dpo",
        model,
        write_jsonl(tmp_path / "rows.jsonl", pairs(32)),
        tmp_path / "out",
        eval_data=write_jsonl(tmp_path / "held_out.jsonl", swapped),
        max_steps=40,
        eval_steps=2,
        early_stopping_patience=2,
        learning_rate=0.05,
    )
    report = read_report(out)
    assert report.stopped_early
    assert report.steps < 40
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["split"] == "eval" and line["step"] > 0]
    assert losses[-1] > losses[0]
    assert report.last_eval is not None
    assert report.last_eval["loss"] == pytest.approx(min(losses))


# ----------------------------------------------------------------------------------------- what must not pass


def test_reference_log_probs_of_another_model_are_found_out(
    model: Path, data: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = ReferenceCache.put
    monkeypatch.setattr(
        ReferenceCache,
        "put",
        lambda cache, values: put(cache, {key: values[key] + at for at, key in enumerate(values)}),
    )
    with pytest.raises(GateError, match="the reference is not the model"):
        train("dpo", model, data["dpo"], tmp_path / "out")
    assert not (tmp_path / "out" / "training.json").exists()


@pytest.mark.parametrize("adapter", [False, True], ids=["reference", "base"])
def test_frozen_weights_that_move_are_found_out(
    adapter: bool, model: Path, data: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Any] = []
    monkeypatch.setattr(runs, "hash_frozen", lambda model: kept.append(model) or hash_frozen(model))
    from trainers.fingerprint import hash_frozen

    def disturb(numbers: dict[str, float]) -> None:
        if numbers["step"] == 2:
            next(weight for weight in kept[0].parameters() if not weight.requires_grad).data[0] += 0.1

    stage = "dpo" if adapter else "kto"
    with pytest.raises(GateError, match="had to stay frozen"):
        train(stage, model, data[stage], tmp_path / "out", disturb, lora=adapter)
    assert not (tmp_path / "out" / "training.json").exists()


def test_a_starting_model_that_changes_is_found_out(data: dict[str, Path], tmp_path: Path) -> None:
    start = make_model(tmp_path / "start")

    def disturb(_: dict[str, float]) -> None:
        (start / "note.txt").write_text("changed")

    with pytest.raises(GateError, match="starting model"):
        train("sft", start, data["sft"], tmp_path / "out", disturb)
    assert not (tmp_path / "out" / "training.json").exists()


def test_a_model_that_reloads_differently_is_found_out(
    model: Path, data: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainers import saving

    other = make_model(tmp_path / "other", seed=1)
    load = saving.load_model
    monkeypatch.setattr(saving, "load_model", lambda source, *rest: load(str(other), *rest))
    with pytest.raises(GateError, match="the saved model differs"):
        train("sft", model, data["sft"], tmp_path / "out")
    assert not (tmp_path / "out" / "training.json").exists()


def test_wrong_input_is_refused_before_anything_is_written(
    model: Path, data: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_class = write_jsonl(tmp_path / "good.jsonl", [row for row in labelled(24) if row["label"]])
    out = tmp_path / "out"
    with pytest.raises(InputError, match="all labels are the same"):
        train("kto", model, one_class, out)
    with pytest.raises(InputError, match="no row is left"):
        train("dpo", model, data["dpo"], out, max_length=2)
    with pytest.raises(UsageError, match="early stopping needs held-out rows"):
        train("dpo", model, data["dpo"], out, early_stopping_patience=1, eval_share=0)
    with pytest.raises(UsageError, match="cannot load"):
        train("dpo", tmp_path / "nowhere", data["dpo"], out)
    with pytest.raises(UsageError, match="CUDA"):
        train("dpo", model, data["dpo"], out, qlora=True)
    adapter = train("sft", model, data["sft"], tmp_path / "adapter", max_steps=1, lora=True)
    with pytest.raises(UsageError, match="is an adapter"):
        train("dpo", adapter, data["dpo"], out)
    monkeypatch.setitem(__import__("sys").modules, "trl", None)
    with pytest.raises(MissingExtraError, match=r"prefgen\[train\]"):
        train("dpo", model, data["dpo"], out)
    assert not out.exists()
