"""Packed rows: the same tokens carry the loss, and no row sees another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny import pairs, turn, write_jsonl

from prefgen.errors import GateError
from trainers import sft
from trainers.packing import check_packing, packing_difference
from trainers.report import read_report
from trainers.sft import SFTConfig, train_sft

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("one_thread")]

QUICK = {"max_steps": 1, "eval_share": 0.2, "batch_size": 2, "gradient_checkpointing": False}
ROWS = [row | {"chosen": [turn("assistant", "blue " * (1 + n % 5))]} for n, row in enumerate(pairs(20))]


@pytest.fixture
def trainers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The TRL trainers that stages build."""
    built: list[Any] = []
    build = sft._build

    def kept(config: SFTConfig, setup: Any) -> Any:
        result = build(config, setup)
        built.append((result[0], result[0].train_dataset, result[0].data_collator, result[0].eval_dataset))
        return result

    monkeypatch.setattr(sft, "_build", kept)
    return built


def learnt(ids: list[int], labels: list[int]) -> list[tuple[int, ...]]:
    """The runs of tokens that carry loss, in order."""
    runs: list[list[int]] = [[]]
    for token, label in zip(ids, labels, strict=True):
        if label == -100:
            runs.append([])
        else:
            assert label == token
            runs[-1].append(token)
    return [tuple(run) for run in runs if run]


def test_packed_or_not_the_loss_is_on_the_tokens_of_completions_alone(
    model: Path, tokenizer: Any, tmp_path: Path, trainers: list[Any]
) -> None:
    data = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    runs = {}
    for packing in (False, True):
        config = SFTConfig(model=str(model), data=data, out=tmp_path / str(packing), packing=packing, **QUICK)  # type: ignore[arg-type]
        train_sft(config)
        _, train, collate, held_out = trainers[-1]
        batch = collate([train[n] for n in range(len(train))])
        runs[packing] = [
            run
            for ids, labels in zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True)
            for run in learnt(ids, labels)
        ]
        assert len(held_out) == 4
        if packing:
            assert len(train) < 16
            # Packed into one row of the batch, the positions begin anew with each row of the data.
            starts = (batch["position_ids"][0] == 0).sum()
            assert starts == 16
    answers = [tokenizer.decode(run) for run in runs[False]]
    assert {answer.replace("blue ", "") for answer in answers} == {"<|end|>"}
    assert len(answers) == 16
    assert sorted(runs[True]) == sorted(runs[False])
    settings = read_report(tmp_path / "True").settings
    assert settings["packed_sequences"] == len(trainers[-1][1])
    assert 0 <= settings["packing_difference"] < 1e-5  # type: ignore[operator]


def load(model: Path) -> Any:
    from trainers.loading import load_model

    return load_model(str(model), "language", "float32")


def test_a_packed_row_gets_the_logits_it_gets_alone(model: Path) -> None:
    rows = [[7, 30, 60, 9, 200], [41, 42], [300, 7, 7, 12, 13, 14, 90]]
    assert packing_difference(load(model), rows) < 1e-5


def test_a_model_in_which_rows_see_each_other_is_refused(model: Path) -> None:
    leaking = load(model)
    forward = leaking.forward
    leaking.forward = lambda input_ids, **rest: forward(input_ids, use_cache=False)
    packed = {"input_ids": [7, 30, 60, 41, 42], "seq_lengths": [3, 2]}
    with pytest.raises(GateError, match="sees the rows packed before it"):
        check_packing(leaking, [packed])
    assert check_packing(load(model), [packed]) < 1e-5  # type: ignore[operator]
    assert check_packing(load(model), [{"input_ids": [7], "seq_lengths": [1]}]) is None


def test_packing_with_an_adapter_resumes(model: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    values = {"model": str(model), "data": data, "packing": True, "lora": True, **QUICK, "batch_size": 1}
    values |= {"max_steps": 4, "eval_steps": 2}
    whole = train_sft(SFTConfig.model_validate(values | {"out": tmp_path / "whole"}))

    def stop(numbers: dict[str, float]) -> None:
        if numbers["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_sft(SFTConfig.model_validate(values | {"out": tmp_path / "parts"}), stop)
    parts = train_sft(SFTConfig.model_validate(values | {"out": tmp_path / "parts", "resume": True}))
    name = "adapter_model.safetensors"
    assert (parts / name).read_bytes() == (whole / name).read_bytes()
