"""The whole loop, with a policy that is a number: what it makes, when it stops, what it refuses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from looping import install, make_policy, train, write_config
from page import Page
from running import Runner, files, rows, write_prompts

from pipelines.rlaif.data import drawn_count, slice_of
from pipelines.rlaif.stages import STAGES, LoopStage
from prefgen.messages import user
from prefgen.models.scripted import ScriptedModel
from trainers.dpo import DPOConfig
from trainers.rewards import Reward, Sample, total


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch)
    monkeypatch.chdir(tmp_path)


def loop(prefgen: Runner, *more: str) -> dict[str, Any]:
    ran = prefgen("rlaif", "rlaif.yaml", "--out", "loop", "--json", "--quiet", *more)
    assert ran.code == 0, ran.err
    return ran.result


def told(path: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("loop", path).read_text())
    return found


def test_two_rounds_leave_everything_in_its_place(prefgen: Runner, tmp_path: Path) -> None:
    write_config(tmp_path, evaluate={"judge": "scripted/six"}, train={"beta": 0.2})
    ran = prefgen("rlaif", "rlaif.yaml", "--out", "loop")
    assert ran.code == 0, ran.err
    # Six words are one better than five, sigmoid(1) = 73%; seven are as good as five, and worse than six.
    first, second = ran.out.splitlines()[1:3]
    assert first.split()[:2] == ["1", "8"]
    assert "73% [73, 73]" in first
    assert first.endswith("best")
    assert "50% [50, 50]  27% [27, 27]" in second
    assert "×1.43" in second
    made = files(Path("loop"))
    assert {
        "best.json",
        "rounds.json",
        "lineage.parquet",
        "report.html",
        "manifest.json",
        "config.yaml",
    } <= made
    assert {f"rounds/{n}/{name}" for n in (1, 2) for name in ("round.json", "run/manifest.json")} <= made
    assert not [name for name in made if name.endswith(".part")]
    assert told("best.json") == {"round": 1, "model": "rounds/1/model"}
    assert Path("loop/best").resolve() == Path("loop/rounds/1/model").resolve()
    assert yaml.safe_load(Path("loop/config.yaml").read_text())["train"]["beta"] == 0.2


def test_lineage_leads_from_pairs_to_models_and_back(prefgen: Runner, tmp_path: Path) -> None:
    write_config(tmp_path)
    manifest = loop(prefgen)
    lineage = rows(Path("loop/lineage.parquet"))
    for record in manifest["rounds"]:
        number = record["round"]
        pairs = rows(Path(f"loop/rounds/{number}/run/dpo/train.parquet"))
        pairs += rows(Path(f"loop/rounds/{number}/run/dpo/test.parquet"))
        mine = [row for row in lineage if row["round"] == number]
        assert {row["pair_id"] for row in mine} == {row["pair_id"] for row in pairs}
        assert {row["model"] for row in mine} == {f"rounds/{number}/model"} == {record["model"]}
        assert {row["model_identity"] for row in mine} == {record["policy"]["after"]["identity"]}
        assert {row["chosen_policy"] for row in mine} == {record["policy"]["before"]["spec"]}
        assert {row["judge"] for row in mine} == {"scripted/long"}
    one, two = (record["policy"] for record in manifest["rounds"])
    assert one["before"]["identity"] != one["after"]["identity"] == two["before"]["identity"]
    assert two["before"]["spec"] == "transformers/loop/rounds/1/model"
    names = {
        "rounds/1/run/dpo/train.parquet",
        "rounds/1/run/dpo/test.parquet",
        "rounds/1/model/training.json",
    }
    assert set(manifest["rounds"][0]["files"]) == names


def test_it_stops_when_the_judge_is_gamed_and_keeps_the_earlier_round(
    prefgen: Runner, tmp_path: Path
) -> None:
    write_config(tmp_path, rounds=6, evaluate={"judge": "scripted/six"}, stop={"gaming_rounds": 2})
    ran = prefgen("rlaif", "rlaif.yaml", "--out", "loop")
    assert ran.code == 0, ran.err
    assert "stopped after round 3" in ran.out
    assert "the training judge liked the model better each time (73% → 95% over round 0)" in ran.out
    assert "remedy:" in ran.out
    manifest = told("manifest.json")
    assert len(manifest["rounds"]) == 3
    assert [alarm["kind"] for alarm in manifest["stopped"]] == ["gaming"]
    assert manifest["best"] == {"round": 1, "model": "rounds/1/model"}
    # Told to warn only, it goes on from there; more rounds may be added too.
    write_config(
        tmp_path, rounds=4, evaluate={"judge": "scripted/six"}, stop={"gaming_rounds": 2, "on_alarm": "warn"}
    )
    resumed = loop(prefgen, "--resume")
    assert [len(item["alarms"]) for item in resumed["rounds"]] == [0, 0, 1, 1]
    assert resumed["stopped"] is None
    assert resumed["best"]["round"] == 1
    assert resumed["rounds"][:3] == manifest["rounds"]


def written(folder: Path) -> dict[str, int]:
    return {name: (folder / name).stat().st_mtime_ns for name in files(folder)}


def test_a_finished_loop_is_read_and_not_made_again(prefgen: Runner, tmp_path: Path) -> None:
    write_config(tmp_path)
    first = loop(prefgen)
    before = written(Path("loop/rounds"))
    again = loop(prefgen, "--resume")
    assert again["rounds"] == first["rounds"]
    assert again["usage"] == first["usage"]
    assert written(Path("loop/rounds")) == before


def test_a_changed_config_is_refused_with_its_keys(prefgen: Runner, tmp_path: Path) -> None:
    write_config(tmp_path, rounds=1)
    loop(prefgen)
    write_config(tmp_path, rounds=2, generate={"n": 5, "concurrency": 2}, train={"beta": 0.3})
    ran = prefgen("rlaif", "rlaif.yaml", "--out", "loop", "--resume")
    assert ran.code == 2
    assert "generate.n: was 4, now 5" in ran.err
    assert "train.beta: was 0.1, now 0.3" in ran.err
    assert "rounds" not in ran.err
    assert "concurrency" not in ran.err
    write_config(tmp_path, rounds=1)
    (tmp_path / "policy" / "config.json").write_text('{"number": 9}')
    ran = prefgen("rlaif", "rlaif.yaml", "--out", "loop", "--resume")
    assert ran.code == 2
    assert "inputs: was" in ran.err


def test_fewer_rounds_than_are_finished_are_refused(prefgen: Runner, tmp_path: Path) -> None:
    write_config(tmp_path)
    loop(prefgen)
    write_config(tmp_path, rounds=1)
    ran = prefgen("rlaif", "rlaif.yaml", "--out", "loop", "--resume")
    assert ran.code == 2
    assert "2 finished rounds" in ran.err
    assert Path("loop/manifest.json").exists()


def test_a_used_directory_and_overwrite(prefgen: Runner, tmp_path: Path) -> None:
    write_config(tmp_path, rounds=1)
    loop(prefgen)
    assert prefgen("rlaif", "rlaif.yaml", "--out", "loop").code == 2
    Path("loop/mine.txt").write_text("mine")
    loop(prefgen, "--overwrite")
    assert Path("loop/mine.txt").exists()
    assert Path("policy/config.json").exists(), "the link best was followed"


def test_the_budget_ends_it_resumably(prefgen: Runner, tmp_path: Path) -> None:
    write_config(tmp_path, generate={"max_requests": 60})
    ran = prefgen("rlaif", "rlaif.yaml", "--out", "loop")
    assert ran.code == 4
    assert "--resume" in ran.err
    spent = sum(told("usage.json")[name]["requests"] for name in told("usage.json"))
    assert spent == 60
    write_config(tmp_path)
    whole = loop(prefgen, "--resume")
    assert len(whole["rounds"]) == 2
    assert whole["usage"]["requests"] > 60


def test_slices_follow_each_other_and_begin_again(prefgen: Runner, tmp_path: Path) -> None:
    assert [slice_of(5, 2, number) for number in (1, 2, 3)] == [[0, 1], [2, 3], [4, 0]]
    assert slice_of(3, 7, 2) == slice_of(3, None, 2) == [0, 1, 2]
    write_config(tmp_path, prompts=6, prompts_per_round=4)
    manifest = loop(prefgen)
    assert [item["counts"]["prompts"] for item in manifest["rounds"]] == [4, 4]
    numbers = [
        [
            json.loads(line)["number"]
            for line in Path(f"loop/rounds/{n}/prompts.jsonl").read_text().splitlines()
        ]
        for n in (1, 2)
    ]
    assert numbers == [[0, 1, 2, 3], [4, 5, 0, 1]]


def test_given_pairs_are_mixed_in_and_stand_in_the_lineage(prefgen: Runner, tmp_path: Path) -> None:
    assert drawn_count(30, 0.25) == 10  # 10 of 40 are a quarter.
    given = [{"prompt": f"Given {n}", "chosen": f"yes {n}", "rejected": "no"} for n in range(20)]
    write_prompts(tmp_path / "given.jsonl", given)
    write_config(tmp_path, given_pairs={"file": "given.jsonl", "share": 0.5}, generate={"test_share": 0})
    loop(prefgen)
    drawn = []
    for number in (1, 2):
        mixed = rows(Path(f"loop/rounds/{number}/train.parquet"))
        own = [row for row in mixed if row["source"] == "the round"]
        assert (len(own), len(mixed)) == (8, 16)
        theirs = [row for row in mixed if row["source"] == "given.jsonl"]
        assert theirs[0]["chosen"][0]["role"] == "assistant"
        drawn.append({row["pair_id"] for row in theirs})
        lineage = [row for row in rows(Path("loop/lineage.parquet")) if row["round"] == number]
        assert {row["pair_id"] for row in lineage if row["source"] == "given.jsonl"} == drawn[-1]
        assert (
            told(f"rounds/{number}/model/stage.json")["config"]["data"]
            == f"loop/rounds/{number}/train.parquet"
        )
    assert drawn[0] != drawn[1]


def test_given_pairs_as_labels_for_kto(
    prefgen: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(STAGES, "kto", LoopStage(DPOConfig, train, rows="labels"))
    given = [{"prompt": f"Given {n}", "chosen": f"yes {n}", "rejected": "no"} for n in range(20)]
    write_prompts(tmp_path / "given.jsonl", given)
    write_config(
        tmp_path, rounds=1, train={"stage": "kto"}, given_pairs={"file": "given.jsonl", "share": 0.2}
    )
    loop(prefgen)
    mixed = [row for row in rows(Path("loop/rounds/1/train.parquet")) if row["source"] != "the round"]
    assert [row["label"] for row in mixed] == [True, False] * (len(mixed) // 2)
    lineage = [row for row in rows(Path("loop/lineage.parquet")) if row["source"] == "given.jsonl"]
    assert len(lineage) == len(mixed) // 2 > 0


def answer_check(label_of: Sequence[str]) -> None:
    """Labels that say of each pair of check.jsonl what the longer response's side is, or the other's."""
    asked = [json.loads(line) for line in Path("loop/rounds/1/check.jsonl").read_text().splitlines()]
    lines = []
    for row, word in zip(asked, label_of, strict=True):
        longer = "a" if len(row["response_a"]) > len(row["response_b"]) else "b"
        label = {"longer": longer, "shorter": "ab".replace(longer, ""), "tie": "tie"}[word]
        lines.append(json.dumps(row | {"label": label}) + "\n")
    Path("loop/rounds/1/labels.jsonl").write_text("".join(lines))


def test_people_are_asked_and_waited_for(prefgen: Runner, tmp_path: Path) -> None:
    write_config(tmp_path, rounds=1, human_check={"pairs": 4, "min_agreement": 0.6})
    ran = prefgen("rlaif", "rlaif.yaml", "--out", "loop")
    assert ran.code == 3
    assert "waits for people: 4 pairs" in ran.err
    assert "prefgen label loop/rounds/1/check.jsonl --out loop/rounds/1/labels.jsonl" in ran.err
    asked = [json.loads(line) for line in Path("loop/rounds/1/check.jsonl").read_text().splitlines()]
    assert [set(row) for row in asked] == [{"id", "prompt", "response_a", "response_b"}] * 4
    assert not Path("loop/rounds/1/model").exists()
    assert prefgen("rlaif", "rlaif.yaml", "--out", "loop", "--resume").code == 3
    # Two of three decided pairs as the judge has them, which likes long answers: 67%.
    answer_check(["longer", "shorter", "longer", "tie"])
    manifest = loop(prefgen, "--resume")
    found = manifest["rounds"][0]["human_check"]
    assert (found["n"], found["n_ties"], found["agreement"]) == (3, 1, pytest.approx(2 / 3))
    # Clopper-Pearson of 2 of 3.
    assert found["ci"] == pytest.approx([0.0943, 0.9916], abs=1e-4)
    assert "Blinded pairs" in Page(Path("loop/report.html").read_text()).words


def test_a_round_that_people_do_not_stand_behind_is_not_trained_on(prefgen: Runner, tmp_path: Path) -> None:
    write_config(tmp_path, rounds=1, human_check={"pairs": 4, "min_agreement": 0.6})
    prefgen("rlaif", "rlaif.yaml", "--out", "loop")
    answer_check(["shorter", "shorter", "longer", "tie"])
    ran = prefgen("rlaif", "rlaif.yaml", "--out", "loop", "--resume")
    assert ran.code == 3
    assert "33%" in ran.err
    assert not Path("loop/rounds/1/model").exists()
    Path("loop/rounds/1/labels.jsonl").write_text(
        Path("loop/rounds/1/labels.jsonl").read_text().splitlines()[0] + "\n"
    )
    ran = prefgen("rlaif", "rlaif.yaml", "--out", "loop", "--resume")
    assert ran.code == 2
    assert "3 of 4 pairs have no label" in ran.err


def test_an_online_stage_gets_prompts_and_a_reward(
    prefgen: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def online(
        config: DPOConfig, rewards: Sequence[Reward], on_log: Any = None, held_out: Any = None
    ) -> Path:
        samples = [Sample(user("q"), text) for text in ("one two", "one")]
        # The held-out judge compares, first of all with what the start answered.
        assert held_out([Sample(user("q"), "one two three")] * 2) == [0, 0]
        seen.append(
            (config.data, [reward.name for reward in rewards], total(rewards, samples), held_out(samples))
        )
        return train(config)

    monkeypatch.setitem(STAGES, "grpo", LoopStage(DPOConfig, online, rows="prompts"))
    write_config(tmp_path, rounds=1, train={"stage": "grpo", "reward": "judge"})
    loop(prefgen)
    [(data, names, scores, held_out)] = seen
    assert (data, names) == (Path("prompts.jsonl"), ["judge"])
    # The training judge likes two words better than one, the held-out judge the other way round.
    assert scores[0] > scores[1]
    assert held_out[0] < held_out[1]
    assert {row["model"] for row in rows(Path("loop/lineage.parquet"))} == {None}


def test_an_online_stage_may_train_its_reward_model_first(
    prefgen: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    class Length:
        def __init__(self, spec: str) -> None:
            self.spec = self.identity = spec

        async def score(self, messages: object, response: str) -> float:
            return float(len(response))

        async def aclose(self) -> None:
            pass

    async def open_reward(path: str, spec: str, options: object = None) -> Length:
        opened.append(spec)
        return Length(spec)

    def online(
        config: DPOConfig, rewards: Sequence[Reward], on_log: Any = None, held_out: Any = None
    ) -> Path:
        assert total(rewards, [Sample(user("q"), "four")]) == [4.0]
        return train(config)

    monkeypatch.setattr("prefgen.models.transformers_reward.open_transformers_reward", open_reward)
    monkeypatch.setattr("pipelines.rlaif.round.train_reward", train)
    monkeypatch.setitem(STAGES, "ppo", LoopStage(DPOConfig, online, rows="prompts"))
    write_config(
        tmp_path, rounds=2, train={"stage": "ppo", "reward": "trained"}, reward_training={"epochs": 2}
    )
    loop(prefgen)
    assert opened == [f"transformers/loop/rounds/{number}/reward" for number in (1, 2)]
    assert told("rounds/1/reward/stage.json")["config"]["epochs"] == 2
    assert told("rounds/2/reward/stage.json")["config"]["model"] == "loop/rounds/1/model"
    assert {row["model"] for row in rows(Path("loop/lineage.parquet"))} == {
        "rounds/1/reward",
        "rounds/2/reward",
    }


def test_the_constitutional_recipe_tunes_on_revisions_first(
    prefgen: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.rlaif.round.train_sft", train)
    write_config(tmp_path, rounds=1, recipe="constitutional", revise={"rounds": 1}, sft={"epochs": 2})
    manifest = loop(prefgen)
    assert told("start/sft/stage.json")["config"]["data"] == "loop/start/revise/sft.parquet"
    assert manifest["rounds"][0]["policy"]["before"]["spec"] == "transformers/loop/start/sft"
    # Six words after five: the held-out judge likes short answers, sigmoid(-1) = 27%.
    assert manifest["start"]["win_rate"] == pytest.approx(26.9, abs=0.1)
    assert manifest["best"] == {"round": 0, "model": "start/sft"}
    assert (
        "round 0, fine-tuned on revisions, over transformers/policy: 27% [27, 27]"
        in prefgen("rlaif", "rlaif.yaml", "--out", "loop", "--resume").out
    )


def test_models_may_make_room_for_training(
    prefgen: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []

    async def aclose(self: ScriptedModel) -> None:
        closed.append(self.spec)

    monkeypatch.setattr(ScriptedModel, "aclose", aclose)
    at_training: list[list[str]] = []

    def noted(config: DPOConfig, on_log: Any = None, held_out: Any = None) -> Path:
        assert held_out is None
        at_training.append(sorted(closed))
        return train(config)

    monkeypatch.setitem(STAGES, "dpo", LoopStage(DPOConfig, noted))
    write_config(tmp_path, free_memory=True)
    assert len(loop(prefgen)["rounds"]) == 2
    assert at_training[0] == ["scripted/long", "transformers/policy"]


def test_the_page_shows_rounds_alarms_and_links(prefgen: Runner, tmp_path: Path) -> None:
    write_config(tmp_path, rounds=3, stop={"gaming_rounds": 2})
    loop(prefgen)
    page = Page(Path("loop/report.html").read_text())
    assert "The loop stopped itself." in page.words
    links = {value for name, value in page.attributes if name == "href"}
    assert {"rounds/1/run/report.html", "rounds/2/run/report.html"} <= links
    assert all(Path("loop", link).exists() for link in links)
    assert "Round 2." in page.words


def test_the_policy_may_judge_itself(prefgen: Runner, tmp_path: Path) -> None:
    """The judge is the policy of the start and stays so, though the policy's weights change."""
    make_policy(tmp_path / "policy", 5)
    write_config(tmp_path, evaluate={"judge": "scripted/long"})
    ran = prefgen("rlaif", "rlaif.yaml", "--out", "loop")
    assert ran.code == 0
    assert "nobody is left who could see it gamed" in ran.err
