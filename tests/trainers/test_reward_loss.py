"""The loss of the reward stage against the formula, worked from the rewards of the model it starts with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import pytest
from tiny import pairs, write_jsonl

from trainers.loading import load_model, load_tokenizer
from trainers.report import read_report
from trainers.reward import RewardConfig, train_reward

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("one_thread")]


def start_rewards(model: Path, rows: Sequence[dict[str, object]], seed: int) -> list[tuple[float, float]]:
    """Of each pair under the head that training starts with, one text at a time."""
    import torch
    from transformers import set_seed

    set_seed(seed)
    start, tokenizer = load_model(str(model), "reward", "float32"), load_tokenizer(str(model))
    found = []
    for row in rows:
        sides = []
        for side in ("chosen", "rejected"):
            ids = tokenizer.apply_chat_template([*row["prompt"], *row[side]], return_dict=True)["input_ids"]  # type: ignore[misc]
            with torch.no_grad():
                sides.append(start(torch.tensor([ids])).logits.item())
        found.append((sides[0], sides[1]))
    return found


@pytest.mark.parametrize(("use_margin", "centre"), [(False, 0.0), (True, 0.0), (True, 0.7)])
def test_the_loss_is_bradley_terry_with_margin_and_centring(
    use_margin: bool, centre: float, model: Path, tmp_path: Path
) -> None:
    rows = pairs(4)
    config = RewardConfig(
        model=str(model),
        data=write_jsonl(tmp_path / "pairs.jsonl", rows),
        out=tmp_path / "out",
        eval_share=0,
        batch_size=4,
        max_steps=1,
        use_margin=use_margin,
        center_rewards_coefficient=centre,
        gradient_checkpointing=False,
    )
    # -log sigmoid(r_c - r_r - margin) + c (r_c + r_r)², the mean over pairs.
    losses = [
        math.log1p(math.exp(-(chosen - rejected - (float(str(row["margin"])) if use_margin else 0.0))))
        + centre * (chosen + rejected) ** 2
        for row, (chosen, rejected) in zip(rows, start_rewards(model, rows, config.seed), strict=True)
    ]
    assert read_report(train_reward(config)).first_loss == pytest.approx(fmean(losses), abs=1e-4)
