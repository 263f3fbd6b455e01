"""`prefgen export`: nothing lost or changed, nothing let by that a trainer would read as something else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from exporting import TALK, Made, lines, plain, write_run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from pydantic import ValidationError
from running import FAKES, Runner, files, rows, some_prompts, write_prompts

from pipelines.export.card import card
from pipelines.export.job import TRAINERS
from pipelines.export.target import Dataset, Row, Target
from pipelines.uses import uses
from prefgen.messages import Message, Messages, user

ALL = [(trainer, dataset) for trainer, takes in TRAINERS.items() for dataset in takes]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Runner:
    return Runner(capsys)


def read(out: Path, split: str = "train") -> list[dict[str, Any]]:
    path = out / f"{split}.parquet"
    return rows(path) if path.exists() else lines(out / f"{split}.jsonl")


# -------------------------------------------------------------------------------------- what each one writes


def turns(*said: str) -> list[dict[str, str]]:
    roles = [turn.role for turn in TALK] if len(said) == 4 else ["user"]
    return [{"role": role, "content": text} for role, text in zip(roles, said, strict=True)]


SAID = turns("Be brief.", "Where is my parcel?", "Which order?", "D14, please.")
GOOD = {"role": "assistant", "content": "It arrives on Tuesday."}
BAD = {"role": "assistant", "content": "No idea, sorry."}
FROM = [
    {"from": "system", "value": "Be brief."},
    {"from": "human", "value": "Where is my parcel?"},
    {"from": "gpt", "value": "Which order?"},
    {"from": "human", "value": "D14, please."},
]
FIRST_ROW: dict[tuple[str, Dataset], Any] = {
    ("trl", "dpo"): {"prompt": SAID, "chosen": [GOOD], "rejected": [BAD], "prompt_id": "p1"},
    ("trl", "reward"): {
        "prompt": SAID, "chosen": [GOOD], "rejected": [BAD], "prompt_id": "p1", "margin": 1.5,
    },
    ("trl", "kto"): {"prompt": SAID, "completion": [GOOD], "label": True, "prompt_id": "p1"},
    ("trl", "prompts"): {"prompt": SAID, "prompt_id": "p1"},
    ("llamafactory", "dpo"): {
        "conversations": FROM,
        "chosen": {"from": "gpt", "value": GOOD["content"]},
        "rejected": {"from": "gpt", "value": BAD["content"]},
        "prompt_id": "p1",
    },
    ("llamafactory", "kto"): {
        "conversations": [*FROM, {"from": "gpt", "value": GOOD["content"]}],
        "kto_tag": True,
        "prompt_id": "p1",
    },
    ("axolotl", "dpo"): {"messages": SAID, "chosen": GOOD, "rejected": BAD},
    ("axolotl", "kto"): {"completion": [*SAID, GOOD], "label": True},
    ("openrlhf", "dpo"): {"prompt": SAID, "chosen": [GOOD], "rejected": [BAD], "prompt_id": "p1"},
    ("openrlhf", "reward"): {
        "prompt": SAID, "chosen": [GOOD], "rejected": [BAD], "prompt_id": "p1", "margin": 1.5,
    },
    ("openrlhf", "prompts"): {"prompt": SAID, "label": "", "datasource": "prefgen"},
    ("nemo-rl", "dpo"): {
        "context": SAID,
        "completions": [{"rank": 0, "completion": [GOOD]}, {"rank": 1, "completion": [BAD]}],
        "prompt_id": "p1",
    },
    ("verl", "prompts"): {
        "data_source": "prefgen",
        "prompt": SAID,
        "ability": "chat",
        "reward_model": {"style": "model", "ground_truth": ""},
        "extra_info": {
            "split": "train", "index": 0, "prompt_id": "p1",
            "columns": '{"images": "none", "system": "mine", "answer": "Tuesday"}',
        },
    },
}  # fmt: skip
FIRST_ROW["llamafactory", "reward"] = FIRST_ROW["llamafactory", "dpo"]
FIRST_ROW["nemo-rl", "reward"] = FIRST_ROW["nemo-rl", "dpo"]
COLUMNS = {"images": "none", "system": "mine", "answer": "Tuesday"}


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """System prompt, several turns, columns whose names mean something to a trainer, text of every kind."""
    odd = 'line\u2028break, tab\t, quote " and \\, nul-like \\u0000, 漢字 👍🏽, <|im_end|>, C:\\new\r\nline'
    made = [
        Made(TALK, columns=COLUMNS),
        Made(user(odd), odd + " yes", odd + " no", COLUMNS),
        *(plain(number, **COLUMNS) for number in range(18)),
    ]
    test = [plain(100, **COLUMNS), plain(101, **COLUMNS)]
    return write_run(tmp_path_factory.mktemp("export") / "run", made, test)


def texts(values: object) -> list[str]:
    if isinstance(values, dict):
        return [text for value in values.values() for text in texts(value)]
    if isinstance(values, list):
        return [text for value in values for text in texts(value)]
    return [values] if isinstance(values, str) else []


@pytest.mark.parametrize(("trainer", "dataset"), ALL)
def test_rows_are_as_the_trainer_reads_them(
    trainer: str, dataset: Dataset, talking: Path, run: Runner, tmp_path: Path
) -> None:
    margin = ("--margin",) if dataset == "reward" else ()
    arguments = ("export", talking, "--for", trainer, "--dataset", dataset, *margin)
    done = run(*arguments, "--out", tmp_path / "out", "--json")
    assert done.code == 0, done.err
    told = done.result["splits"]
    written = {split: read(tmp_path / "out", split) for split in ("train", "test")}
    assert {split: len(found) for split, found in written.items()} == {
        split: told[split]["written"] for split in told
    }
    assert all(split["rows"] == split["written"] + split["rejected"] for split in told.values())
    odd = rows(talking / "dpo" / "train.parquet")[1]["prompt"][0]["content"]
    assert odd in [text for row in written["train"] for text in texts(row)]
    if (trainer, dataset) == ("axolotl", "reward"):
        assert told["train"]["rejected"] == 1
        assert "not one user message" in done.err
        assert written["train"][0] == {
            "system": "", "input": odd, "chosen": f"{odd} yes", "rejected": f"{odd} no",
        }  # fmt: skip
        return
    assert told["train"]["rejected"] == 0
    first = written["train"][0]
    assert {name: value for name, value in first.items() if name != "pair_id"} == FIRST_ROW[trainer, dataset]


def test_a_default_export_lies_in_the_run_and_does_not_disturb_it(
    talking: Path, run: Runner, tmp_path: Path
) -> None:
    from datasets import load_dataset

    first = run("export", talking, "--for", "trl")
    assert first.code == 0, first.err
    out = talking / "exports" / "trl" / "dpo"
    assert ("export", out, False) in {(use.kind, use.path, use.gone) for use in uses(talking)}
    assert files(out) == {"README.md", "export.json", "train.parquet", "test.parquet"}
    assert f"trl dpo --model_name_or_path MODEL --dataset_name {out} --output_dir" in first.out
    loaded = load_dataset(str(out), cache_dir=str(tmp_path))
    assert (loaded["train"].num_rows, loaded["test"].num_rows) == (20, 2)
    again = run("export", talking, "--for", "trl")
    assert again.code == 2
    assert "--overwrite" in again.err
    assert run("export", talking, "--for", "trl", "--overwrite", "--split", "test").code == 0
    assert files(out) == {"README.md", "export.json", "test.parquet"}


def test_a_real_run_still_loads_with_exports_in_it(run: Runner, tmp_path: Path) -> None:
    from datasets import load_dataset

    prompts = write_prompts(
        tmp_path / "prompts.jsonl",
        [{"prompt": f"What of parcel {n * 37}?", "answer": f"It is {n}.", "messages": n} for n in range(30)],
    )
    made = tmp_path / "run"
    assert (
        run("generate", prompts, *FAKES, "--out", made, "--n", 3, "--reference", "answer", "--quiet").code
        == 0
    )
    for trainer in TRAINERS:
        done = run("export", made, "--for", trainer, "--json")
        assert done.code == 0, done.err
    verl = read(made / "exports" / "verl" / "prompts")
    assert {row["reward_model"]["style"] for row in verl} == {"rule"}
    assert verl[0]["reward_model"]["ground_truth"].startswith("It is ")
    pairs = load_dataset(str(made), "dpo", cache_dir=str(tmp_path / "cache"))
    manifest = json.loads((made / "manifest.json").read_text())
    assert {split: pairs[split].num_rows for split in pairs} == manifest["splits"]["dpo"]
    # Each prompt is on one side, the one its pairs are on.
    out = made / "exports" / "verl" / "prompts"
    sides = [{row["extra_info"]["prompt_id"] for row in read(out, split)} for split in ("train", "test")]
    assert len(sides[0]) + len(sides[1]) == manifest["counts"]["prompts"]
    assert not sides[0] & sides[1]
    assert set(pairs["test"]["prompt_id"]) <= sides[1]


def test_two_folders_of_one_name_are_not_taken_for_each_other(run: Runner, tmp_path: Path) -> None:
    """`datasets` keeps what it has read under the folder's last name and its card."""
    from datasets import load_dataset

    found = []
    for parent in ("a", "b"):
        made = tmp_path / parent / "run"
        prompts = write_prompts(
            tmp_path / f"{parent}.jsonl", [{"prompt": f"{parent} asks of lamp {n * 37}"} for n in range(6)]
        )
        assert run("generate", prompts, *FAKES, "--out", made, "--n", 3, "--quiet").code == 0
        assert run("export", made, "--for", "trl").code == 0
        for folder, name in ((made, "dpo"), (made / "exports" / "trl" / "dpo", None)):
            rows_of = load_dataset(str(folder), name, split="train", cache_dir=str(tmp_path / "cache"))
            found.append({row["prompt"][0]["content"][0] for row in rows_of})
    assert found == [{"a"}, {"a"}, {"b"}, {"b"}]
    assert run("generate", prompts, *FAKES, "--out", made, "--n", 2, "--overwrite", "--quiet").code == 0
    assert not (made / "exports").exists()


def test_near_duplicates_of_a_test_prompt_are_test_prompts(run: Runner, tmp_path: Path) -> None:
    long = "Please tell me in a few words what became of the parcel that I ordered from you in May"
    made = [Made(user(f"{long}?")), *(plain(number) for number in range(4))]
    folder = write_run(tmp_path / "run", made, [Made(user(f"{long}!"))])
    assert run("export", folder, "--for", "verl").code == 0
    test = read(folder / "exports" / "verl" / "prompts", "test")
    assert [row["prompt"][0]["content"] for row in test] == [f"{long}?", f"{long}!"]


@pytest.mark.parametrize("trainer", ["trl", "llamafactory"])
def test_a_standard_run(trainer: str, run: Runner, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [plain(1), Made(TALK), plain(2)], format="standard")
    done = run("export", folder, "--for", trainer, "--json")
    assert done.code == 0, done.err
    first, second, third = read(folder / "exports" / trainer / "dpo")
    if trainer == "trl":
        assert first["prompt"] == "Question 1: what now?"
        assert (third["chosen"], third["rejected"]) == ("Answer 2.", "No answer to 2.")
    else:
        assert "takes messages" in done.err
        assert second["conversations"] == FROM
        assert third["chosen"] == {"from": "gpt", "value": "Answer 2."}


# ---------------------------------------------------------------------------- what a trainer would change

TWICE = (Message("user", "One more thing."), Message("user", "Where is it?"))
LATE_SYSTEM = (
    Message("user", "Hi."),
    Message("assistant", "Hi!"),
    Message("system", "S"),
    Message("user", "?"),
)


@pytest.mark.parametrize(
    ("trainer", "dataset", "made", "why"),
    [
        ("llamafactory", "dpo", Made(TWICE), "do not take turns"),
        ("llamafactory", "kto", Made(LATE_SYSTEM), "a system message that is not the first"),
        ("llamafactory", "dpo", Made((Message("assistant", "H"), Message("user", "?"))), "do not take turns"),
        ("llamafactory", "dpo", Made((Message("system", "S"),)), "do not take turns"),
        ("llamafactory", "kto", Made(user("p"), rejected=""), "every empty one for undesirable"),
        ("axolotl", "dpo", Made(user("p"), rejected=""), "is empty or has white space"),
        ("axolotl", "dpo", Made(user("p"), chosen=" yes, gladly"), "is empty or has white space"),
        ("axolotl", "dpo", Made(user("p"), chosen="user"), "also stands in chat templates"),
        ("axolotl", "reward", Made(TALK), "not one user message"),
        ("axolotl", "reward", Made((Message("system", "S"), Message("user", "?"))), "not one user message"),
        ("openrlhf", "prompts", Made(user("See <image> here")), "reads as a picture"),
        *((trainer, "dpo", Made(user("p"), "same", "same "), "are the same text") for trainer in
          ("trl", "llamafactory", "openrlhf", "nemo-rl")),
    ],
)  # fmt: skip
def test_a_row_that_would_be_read_as_something_else_is_refused(
    trainer: str, dataset: str, made: Made, why: str, run: Runner, tmp_path: Path
) -> None:
    folder = write_run(tmp_path / "run", [plain(1), made, plain(2)])
    arguments = ("export", folder, "--for", trainer, "--dataset", dataset, "--json")
    refused = run(*arguments)
    assert refused.code == 3
    assert "raise --max-rejected" in refused.err
    out = folder / "exports" / trainer / dataset
    assert not out.exists()
    assert not list(out.parent.glob(".*"))
    done = run(*arguments, "--max-rejected", 0.9)
    assert done.code == 0, done.err
    left = lines(Path(done.result["rejected_file"]))
    names = {"prompts": "candidates.parquet", "kto": "kto/train.parquet"}
    source = folder / names.get(dataset, "dpo/train.parquet")
    assert {item["file"] for item in left} == {str(source)}
    assert all(why in item["why"] for item in left)
    assert f"{source}:{left[0]['line']}: " in done.err
    assert left[0]["row"]["prompt_id"] == "p2"
    told = done.result["splits"]["train"]
    assert told["rows"] == told["written"] + len(left)
    assert len(read(out)) == told["written"]


def test_a_row_that_is_none_is_told_with_its_line(run: Runner, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [plain(1), plain(2)])
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / "dpo" / "train.parquet"
    broken = rows(path)
    broken[1]["prompt"] = [{"role": "robot", "content": "hi"}]
    pq.write_table(pa.Table.from_pylist(broken), path)
    done = run("export", folder, "--for", "trl", "--max-rejected", 0.5)
    assert done.code == 0, done.err
    assert f"{path}:2: message 0 has role 'robot'" in done.err
    pq.write_table(pq.read_table(path).drop(["pair_id"]), path)
    assert f"{path}:1: no column 'pair_id'" in run("export", folder, "--for", "nemo-rl").err
    path.write_bytes(path.read_bytes()[:500])
    cut = run("export", folder, "--for", "nemo-rl")
    assert cut.code == 2
    assert f"{path}: not a table of a run" in cut.err
    assert not list((folder / "exports").glob("*/.*"))


def test_nothing_is_published_that_does_not_come_back(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shape that swaps the two responses is found out."""
    import dataclasses

    from pipelines.export import job

    target = TRAINERS["nemo-rl"]["dpo"]
    swapped = dataclasses.replace(
        target, shape=lambda row: target.shape(dataclasses.replace(row, responses=row.responses[::-1]))
    )
    monkeypatch.setattr(job, "TRAINERS", {**TRAINERS, "nemo-rl": {"dpo": swapped}})
    folder = write_run(tmp_path / "run", [plain(1)])
    done = run("export", folder, "--for", "nemo-rl")
    assert done.code == 3
    assert "does not give back row 1" in done.err
    assert not (folder / "exports" / "nemo-rl" / "dpo").exists()


# ------------------------------------------------------------------------------------ there and back, for any

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
PROMPT = st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), TEXT), max_size=4).map(
    lambda turns: (*turns, Message("user", "and?"))
)


def shaped(target: Target, row: Row) -> dict[str, Any] | None:
    try:
        values = target.shape(row)
        target.schema.model_validate(values)
    except (ValidationError, ValueError):
        return None
    return values


@pytest.mark.parametrize(("trainer", "dataset"), ALL)
def test_what_is_let_through_comes_back_whole(trainer: Any, dataset: Dataset) -> None:
    target = TRAINERS[trainer][dataset]

    @settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
    @given(PROMPT, TEXT, TEXT, st.booleans(), st.none() | TEXT.filter(bool))
    def check(prompt: Messages, one: str, other: str, label: bool, reference: str | None) -> None:
        ids = {"pair_id": "x", "prompt_id": "y"}
        if dataset == "kto":
            row = Row(1, prompt, (one,), label, ids={"prompt_id": "y"})
        elif dataset == "prompts":
            row = Row(1, prompt, ids={"prompt_id": "y", "split": "train"}, reference=reference)
        else:
            row = Row(1, prompt, (one, other), margin=0.5, ids=ids)
        values = shaped(target, row)
        if values is not None:
            assert target.back(json.loads(json.dumps(values))) == row.essence

    check()


# ----------------------------------------------------------------------------------------- what stands beside


def test_llamafactory_is_given_its_registration_and_config(
    talking: Path, run: Runner, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run("export", talking, "--for", "llamafactory", "--dataset", "kto", "--out", out).code == 0
    info = json.loads((out / "dataset_info.json").read_text())
    assert {name: entry["file_name"] for name, entry in info.items()} == {
        "prefgen_kto_train": "train.jsonl", "prefgen_kto_test": "test.jsonl",
    }  # fmt: skip
    assert info["prefgen_kto_train"]["columns"] == {"messages": "conversations", "kto_tag": "kto_tag"}
    config = yaml.safe_load((out / "train.yaml").read_text())
    assert (config["stage"], config["dataset"], config["eval_dataset"]) == ("kto", *info)
    assert (config["kto_chosen_weight"], config["kto_rejected_weight"]) == (1.0, 1.0)


def test_axolotl_is_given_its_config(talking: Path, run: Runner, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("export", talking, "--for", "axolotl", "--out", out).code == 0
    config = yaml.safe_load((out / "train.yaml").read_text())
    assert (config["rl"], config["chat_template"]) == ("dpo", "tokenizer_default")
    assert config["datasets"][0]["type"] == "chat_template.default"
    assert (config["datasets"][0]["path"], config["test_datasets"][0]["path"]) == (
        "train.jsonl",
        "test.jsonl",
    )


def test_the_weights_are_of_the_rows_that_are_written(run: Runner, tmp_path: Path) -> None:
    made = [plain(1), plain(2), *(Made(user(f"q{n}"), rejected="") for n in range(2))]
    folder = write_run(tmp_path / "run", made)
    done = run("export", folder, "--for", "llamafactory", "--dataset", "kto", "--max-rejected", 1)
    assert done.code == 0, done.err
    config = yaml.safe_load((folder / "exports" / "llamafactory" / "kto" / "train.yaml").read_text())
    assert (config["kto_chosen_weight"], config["kto_rejected_weight"]) == (1.0, 1.5)


def test_the_margin_is_given_when_asked_for(talking: Path, run: Runner, tmp_path: Path) -> None:
    arguments = ("export", talking, "--for", "trl", "--dataset", "reward", "--out", tmp_path / "out")
    assert "asks of each pair a lead" in run(*arguments, "--margin").out
    assert "a lead" not in run(*arguments, "--overwrite").out
    assert "margin" not in read(tmp_path / "out")[0]
    told = run("export", talking, "--for", "openrlhf", "--dataset", "reward").out
    assert "--data.max_len is 512" in told
    assert "margin_loss" not in told


def test_the_export_says_what_it_is_and_nothing_of_this_machine(
    talking: Path, run: Runner, tmp_path: Path
) -> None:
    import hashlib

    out = tmp_path / "out"
    done = run("export", talking, "--for", "openrlhf", "--out", out, "--json")
    made = json.loads((out / "export.json").read_text())
    assert made["manifest_sha256"] == hashlib.sha256((talking / "manifest.json").read_bytes()).hexdigest()
    assert made["read_from"].startswith("OpenRLHF 0.11.2")
    assert made["files"]["train.jsonl"] == hashlib.sha256((out / "train.jsonl").read_bytes()).hexdigest()
    assert f"{out}/train.jsonl" in done.result["start"][0]
    everything = "".join((out / name).read_text() for name in files(out))
    config = json.loads((talking / "manifest.json").read_text())["config"]
    assert f"pairs with confidence ≥ {config['min_confidence']:g}." in (out / "README.md").read_text()
    for private in (str(tmp_path), str(talking.parent), "/home/me", "10.0.0.7"):
        assert private not in everything


def test_the_card_tells_what_a_pair_had_to_reach(talking: Path, run: Runner) -> None:
    arguments = ("export", talking, "--for", "nemo-rl", "--overwrite")
    card = talking / "exports" / "nemo-rl" / "dpo" / "README.md"
    assert run(*arguments).code == 0
    assert "pairs with confidence ≥ 0.8." in card.read_text()
    manifest = json.loads((talking / "manifest.json").read_text())
    stages = [{"judge": "vllm//home/me/models/judge", "selective": {"threshold": 0.91}}]
    manifest["calibration"] = {"target": 0.95, "n_labels": 200, "stages": stages}
    (talking / "manifest.json").write_text(json.dumps(manifest))
    assert run(*arguments).code == 0
    reached = "calibrated confidence `judge` ≥ 0.910, which earns 95% precision by 200 labels"
    assert reached in card.read_text()
    assert "0.8" not in card.read_text()


# ----------------------------------------------------------------------------------------------- wrong input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run",), "missing --for: who is to train on it"),
        (("run", "--for", "torchtune"), "'torchtune' is not one of"),
        (("run", "--for", "verl", "--dataset", "dpo"), "verl takes prompts (as read in verl 0.9.1)"),
        (("run", "--for", "openrlhf", "--dataset", "kto"), "openrlhf takes dpo, reward, prompts"),
        (("nowhere", "--for", "trl"), "not a run directory"),
        (("unfinished", "--for", "trl"), "an unfinished run"),
        (("empty", "--for", "trl"), "the run has no such rows"),
        (("run", "--for", "trl", "--out", "run"), "is the run itself"),
        (("run", "--for", "trl", "--out", "mine"), "no export of prefgen"),
        (("run", "--for", "trl", "--reference", "answer"), "goes with --dataset prompts"),
        (("run", "--for", "trl", "--public"), "go with --push"),
        (("run", "--for", "trl", "--max-rejected", "2"), "--max-rejected"),
    ],
)
def test_wrong_input_is_refused_and_nothing_is_written(
    arguments: tuple[str, ...], message: str, run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run", [plain(1)])
    write_run(tmp_path / "empty", [])
    (write_run(tmp_path / "unfinished", [plain(1)]) / "manifest.json").unlink()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("mine")
    before = files(tmp_path)
    done = run("export", *arguments)
    assert done.code == 2
    assert message in done.err
    assert files(tmp_path) == before


def test_a_missing_reference_is_told_row_by_row(run: Runner, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [plain(1, answer="a"), plain(2, answer=None), plain(3, answer="c")])
    done = run("export", folder, "--for", "verl", "--reference", "answer", "--max-rejected", 0.5)
    assert done.code == 0, done.err
    assert f"{folder}/candidates.parquet:3: no text in column 'answer'" in done.err
    assert [row["reward_model"]["ground_truth"] for row in read(folder / "exports/verl/prompts")] == [
        "a",
        "c",
    ]


def test_a_config_file_says_for_whom(run: Runner, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [plain(1)])
    (tmp_path / "e.yaml").write_text("for: nemo-rl\nsplit: train\n")
    done = run("export", folder, "--config", tmp_path / "e.yaml", "--json")
    assert done.code == 0, done.err
    assert (done.result["trainer"], list(done.result["splits"])) == ("nemo-rl", ["train"])


def test_names_in_the_card_cannot_break_out_of_it() -> None:
    name = "openai/x\n\n# Owned\n<script>alert(1)</script> `b`"
    counts = {"prompts": 1, "candidates": 2, "judgments": 3, "pairs": 1}
    config = {"policy": [name], "judge": [name], "constitution": name}
    stages = [{"judge": name, "selective": {"threshold": 0.8}}]
    calibration = {"target": 0.9, "n_labels": 60, "stages": stages}
    made = {"dataset": "dpo", "trainer": "trl", "read_from": "x: y", "splits": {}, "start": []}
    told = card(Path(), {}, made, {"config": config, "counts": counts, "calibration": calibration})
    assert "\n# Owned" not in told
    assert "<script>" not in MarkdownIt("commonmark", {"html": True}).render(told.split("---\n", 2)[2])


def test_a_model_trained_among_a_runs_exports_survives_the_run_begun_anew(
    run: Runner, tmp_path: Path
) -> None:
    folder, prompts = tmp_path / "run", some_prompts(tmp_path / "p.jsonl", 8)
    made = ("generate", prompts, *FAKES, "--out", folder, "--n", 2, "--min-confidence", 0.6, "--quiet")
    assert run(*made).code == 0
    done = run("export", folder, "--for", "axolotl", "--dataset", "dpo", "--json")
    assert done.code == 0, done.err
    weights = Path(done.result["out"]) / "models" / "axolotl" / "weights"
    weights.parent.mkdir(parents=True)
    weights.write_text("hours of work")
    before = files(folder)
    refused = run(*made, "--overwrite")
    assert refused.code == 2
    assert "holds more than an export (models)" in refused.err
    assert files(folder) == before
    shutil.rmtree(weights.parents[1])
    assert run(*made, "--overwrite").code == 0
    assert not (folder / "exports").exists()


def test_what_is_no_export_is_never_deleted(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_run(tmp_path / "run", [plain(1)])
    out = tmp_path / "out"
    arguments = ("export", folder, "--for", "trl", "--overwrite", "--out")
    # A folder whose name a part of an export might have.
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part" / "mine").write_text("mine")
    assert run(*arguments, out).code == 0
    assert (tmp_path / "out.part" / "mine").exists()
    assert run(*arguments, out).code == 0
    # Somebody trained in it.
    (out / "models").mkdir()
    (out / "models" / "weights").write_text("hours of work")
    refused = run(*arguments, out)
    assert refused.code == 2
    assert "holds more than an export (models)" in refused.err
    assert (out / "models" / "weights").exists()
    # A file of that name is not enough, and a run is none.
    home = tmp_path / "home"
    home.mkdir()
    (home / "export.json").write_text('{"files": null}')
    monkeypatch.chdir(home)
    for place in (home, folder / "dpo", Path(), Path("..")):
        refused = run(*arguments, place)
        assert refused.code == 2
        assert "no export of prefgen" in refused.err
    (home / "export.json").unlink()
    assert run(*arguments, Path()).code == 0
    # What a link leads to stays.
    (out / "models" / "weights").unlink()
    (out / "models").rmdir()
    (tmp_path / "link").symlink_to(out)
    assert run(*arguments, tmp_path / "link").code == 2
    assert (out / "export.json").exists()
