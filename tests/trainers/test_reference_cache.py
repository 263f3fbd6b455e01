from __future__ import annotations

import json
import sqlite3
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path

import pytest
from tiny import make_model, pairs, turn, write_jsonl

from prefgen.errors import UsageError
from trainers.dpo import DPOConfig, train_dpo
from trainers.reference_cache import ReferenceCache, cache_key, default_path
from trainers.report import read_report

MODEL = {"weights": "abc", "bf16": False}


def test_numbers_are_kept_and_the_first_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "reference.sqlite"
    keys = [cache_key(MODEL, [1], [number]) for number in range(1200)]
    with closing(ReferenceCache(path)) as cache:
        cache.put({key: float(-number) for number, key in enumerate(keys[:1100])})
        cache.put({keys[0]: 7.0})
    with closing(ReferenceCache(path)) as cache:
        found = cache.get(keys)
    assert len(found) == 1100
    assert (found[keys[0]], found[keys[1099]]) == (0, -1099)


def test_a_key_is_model_prompt_and_completion() -> None:
    keys = {
        cache_key(MODEL, [1, 2], [3]),
        cache_key(MODEL, [1], [2, 3]),
        cache_key(MODEL, [1, 2], [4]),
        cache_key({**MODEL, "bf16": True}, [1, 2], [3]),
        cache_key({**MODEL, "weights": "abd"}, [1, 2], [3]),
    }
    assert len(keys) == 5
    assert cache_key({"bf16": False, "weights": "abc"}, [1, 2], [3]) in keys


def fill(path: Path, first: int) -> int:
    """Stores 40 numbers one by one, half of which another process stores as well."""
    with closing(ReferenceCache(path)) as cache:
        for number in range(first, first + 40):
            cache.put({cache_key(MODEL, [0], [number]): float(number)})
    return first


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "reference.sqlite"
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        list(pool.map(fill, [path, path], [0, 20]))
    with closing(ReferenceCache(path)) as cache:
        found = cache.get([cache_key(MODEL, [0], [number]) for number in range(60)])
    assert sorted(found.values()) == list(range(60))


def test_a_file_that_is_no_cache_is_named(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("years of work, " * 100)
    with pytest.raises(UsageError, match=r"text: the reference cache cannot be used .*--reference-cache"):
        ReferenceCache(tmp_path / "text")
    newer = tmp_path / "newer.sqlite"
    with closing(sqlite3.connect(newer)) as connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(UsageError, match="version 2"):
        ReferenceCache(newer)


def test_the_default_is_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PREFGEN_REFERENCE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_path() == tmp_path / "prefgen" / "reference.sqlite"


# ---------------------------------------------------------------------------------------------- in training


def counts(data: Path, out: Path, model: Path, **options: object) -> tuple[int, int]:
    config = {"model": str(model), "data": data, "out": out, "eval_share": 0, "max_steps": 1}
    config |= {"allow_base_model": True, "watch_prompts": 0, **options}
    report = read_report(train_dpo(DPOConfig.model_validate(config)))
    assert report.settings["layout"] == "a row a pair"
    found = report.settings["reference_log_probs"]
    assert isinstance(found, dict)
    return found["cached"], found["computed"]


@pytest.mark.train
@pytest.mark.usefixtures("one_thread")
def test_what_hits_and_what_misses(model: Path, tmp_path: Path) -> None:
    rows = pairs(12)
    data = write_jsonl(tmp_path / "rows.jsonl", rows)
    more = write_jsonl(tmp_path / "more.jsonl", [*rows[6:], *pairs(15)[12:]])
    assert counts(data, tmp_path / "first", model) == (0, 24)
    assert counts(data, tmp_path / "again", model, seed=7, beta=0.5, learning_rate=1e-3, loss="ipo") == (
        24,
        0,
    )
    assert counts(data, tmp_path / "adapter", model, lora=True) == (24, 0)
    # 6 pairs known, 3 new.
    assert counts(more, tmp_path / "more", model) == (12, 6)
    assert counts(data, tmp_path / "half", model, dtype="bfloat16") == (0, 24)
    assert counts(data, tmp_path / "other", make_model(tmp_path / "model", seed=1)) == (0, 24)
    assert counts(data, tmp_path / "own", model, reference_cache=tmp_path / "own.sqlite") == (0, 24)


@pytest.mark.train
@pytest.mark.usefixtures("one_thread")
def test_a_response_cut_elsewhere_is_another_response(model: Path, tmp_path: Path) -> None:
    long = [{**row, "chosen": [turn("assistant", "blue " * 40)]} for row in pairs(4)]
    data = write_jsonl(tmp_path / "rows.jsonl", long)
    assert counts(data, tmp_path / "first", model, max_length=60) == (0, 8)
    assert counts(data, tmp_path / "same", model, max_length=60) == (8, 0)
    assert counts(data, tmp_path / "shorter", model, max_length=50) == (0, 8)


@pytest.mark.train
@pytest.mark.usefixtures("one_thread")
def test_an_interrupted_pass_goes_on(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_jsonl(tmp_path / "rows.jsonl", pairs(12))
    put, calls = ReferenceCache.put, []

    def interrupted(cache: ReferenceCache, values: dict[bytes, float]) -> None:
        calls.append(len(values))
        if len(calls) == 3:
            raise KeyboardInterrupt
        put(cache, values)

    with monkeypatch.context() as patch:
        patch.setattr(ReferenceCache, "put", interrupted)
        with pytest.raises(KeyboardInterrupt):
            counts(data, tmp_path / "out", model, batch_size=4)
    assert calls == [8, 8, 8]
    assert counts(data, tmp_path / "out", model, batch_size=4, resume=True) == (16, 8)
    metrics = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert metrics[0]["loss"] == pytest.approx(0.693147, abs=1e-5)
