"""audit: what it finds in runs whose faults are known, and what it refuses."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from running import FAKES, Runner, files, rows, some_prompts, write_prompts

from prefgen.completion import Completion, CompletionRequest
from prefgen.models.scripted import ScriptedModel, _shown

GOOD, BAD = ("because", "example", "exactly", "therefore"), ("whatever", "stuff", "dunno", "maybe")
FILLER = [
    f"{a}{b}{c}"
    for a in ("ta", "mi", "ro", "sun")
    for b in ("no", "ki", "vel")
    for c in ("dor", "pax", "ust")
]


def write(request: CompletionRequest, sample: int) -> str:
    """Five sentences of good or of bad words among others."""
    draw = random.Random(f"{request.messages[-1].content}{sample}")
    kind = GOOD if sample % 2 else BAD
    told = [" ".join([*draw.sample(FILLER, 5), draw.choice(kind)]) + "." for _ in range(5)]
    return " ".join(told)


def judge(request: CompletionRequest, sample: int) -> Completion:
    """Counts good words; likes bold; wrong on every seventh prompt or so, whatever the order."""
    first, second = (
        [text.count(word) for word in (*GOOD, "**")] for text in _shown(request.messages[0].content)
    )
    odds = float(sum(first) - sum(second))
    prompt = request.messages[0].content.partition("Question ")[2][:3]
    odds *= -1 if prompt.isdigit() and int(prompt) % 7 == 3 else 1
    z = {"A": -math.log1p(math.exp(-odds)), "B": -math.log1p(math.exp(odds))}
    return Completion("A", label_logprobs=z)


@pytest.fixture
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    async def opened(text: str, options: Mapping[str, Any] | None = None, share: int = 1) -> Any:
        return ScriptedModel(judge if "judge" in text else write, text)

    monkeypatch.setattr("pipelines.roles.open_model", opened)


def varied_prompts(path: Path, n: int) -> Path:
    draw = random.Random(0)
    texts = [f"Question {number:03}: {' '.join(draw.sample(FILLER, 12))}?" for number in range(n)]
    return write_prompts(path, [{"id": f"p{number}", "prompt": text} for number, text in enumerate(texts)])


@pytest.fixture
def run(tmp_path: Path, prefgen: Runner, _scripts: None) -> Path:
    prompts = varied_prompts(tmp_path / "p.jsonl", 300)
    arguments = (*FAKES, "--n", 2, "--planted", 0, "--test-share", 0.1)
    done = prefgen("generate", prompts, *arguments, "--out", tmp_path / "run")
    assert done.code == 0, done.err
    return tmp_path / "run"


@pytest.fixture
def small(tmp_path: Path, prefgen: Runner) -> Path:
    prompts = some_prompts(tmp_path / "p.jsonl", 5)
    assert prefgen("generate", prompts, *FAKES, "--out", tmp_path / "run").code == 0
    return tmp_path / "run"


def test_wrong_labels_are_found_and_listed(run: Path, prefgen: Runner) -> None:
    before = {name: (run / name).read_bytes() for name in files(run)}
    done = prefgen("audit", run, "--json")
    assert done.code == 0, done.err
    noise = done.result["label_noise"]
    assert noise["learnable"]
    listed = [json.loads(line) for line in (run / "audit" / "suspicious.jsonl").read_text().splitlines()]
    wrong = [row for row in listed if int(row["prompt_id"][1:]) % 7 == 3]
    assert 20 <= len(listed) == noise["flagged"]
    assert len(wrong) >= 0.9 * len(listed), "43 labels are wrong"
    assert [row["probability"] for row in listed] == sorted(row["probability"] for row in listed)
    pairs = {
        row["pair_id"]: row for split in ("train", "test") for row in rows(run / "dpo" / f"{split}.parquet")
    }
    for row in listed:
        assert row["chosen"] == pairs[row["pair_id"]]["chosen"][0]["content"]
    assert before == {name: (run / name).read_bytes() for name in before}, (
        "the run's own files stay as they are"
    )
    assert json.loads((run / "audit" / "audit.json").read_text()) == done.result


def test_the_number_of_suspicious_pairs_can_be_set(run: Path, prefgen: Runner, tmp_path: Path) -> None:
    done = prefgen("audit", run, "--flag-share", 0.1, "--out", tmp_path / "a", "--json")
    assert done.result["label_noise"]["flagged"] == round(0.1 * done.result["n_pairs"])
    assert "audit" not in {path.name for path in run.iterdir()}


def test_probes_show_a_judge_that_likes_bold(run: Path, prefgen: Runner) -> None:
    done = prefgen("audit", run, "--judge", "scripted/judge", "--probes", 30, "--json")
    kinds = done.result["probes"]["kinds"]
    assert {kind: told["failed"] for kind, told in kinds.items()} == dict.fromkeys(kinds, 0)
    assert kinds["markdown"]["n"] == 30
    assert kinds["markdown"]["prefers_variant"] > 0.6
    assert any("list with bold words" in warning for warning in done.result["warnings"])
    again = prefgen("audit", run, "--judge", "scripted/judge", "--probes", 30, "--json", "--overwrite")
    assert again.result["probes"]["kinds"] == kinds
    assert again.result["probes"]["usage"]["requests"] == 0


def test_failed_probes_are_counted_and_gated(
    run: Path, prefgen: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def opened(text: str, options: Mapping[str, Any] | None = None, share: int = 1) -> Any:
        return ScriptedModel(lambda *_: Completion("?", label_logprobs={"A": -20.0}), text)

    monkeypatch.setattr("pipelines.roles.open_model", opened)
    done = prefgen("audit", run, "--judge", "scripted/judge", "--probes", 5)
    assert done.code == 3
    assert "30 of 30 calls of the probes failed (parse_failure: 30)" in done.err
    told = json.loads((run / "audit" / "audit.json").read_text())["probes"]["kinds"]
    assert [(kind["n"], kind["failed"], kind["prefers_variant"]) for kind in told.values()] == [
        (0, 5, None)
    ] * 3


def test_evaluation_questions_in_prompts_and_responses(run: Path, prefgen: Runner, tmp_path: Path) -> None:
    candidate = rows(run / "candidates.parquet")[0]
    prompt = rows(run / "candidates.parquet")[-1]
    held = [
        prompt["prompt"][0]["content"],
        candidate["response"],
        "How deep is the lake behind the old dam now?",
    ]
    file = write_prompts(tmp_path / "eval.jsonl", [{"question": text} for text in held])
    told = prefgen("audit", run, "--eval-file", file, "--json").result["contamination"][str(file)]
    assert (told["n_items"], told["contaminated"]) == (3, 1)
    assert told["items"][0]["found_in"][prompt["prompt_id"]] == 1.0
    more = prefgen("audit", run, "--eval-file", file, "--eval-responses", "--json", "--overwrite")
    items = more.result["contamination"][str(file)]["items"]
    assert [item["line"] for item in items] == [1, 2]
    assert candidate["candidate_id"] in items[1]["found_in"]


def test_duplicates_and_boilerplate(tmp_path: Path, prefgen: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two prompts of eleven are alike; one answer is chosen for all but the one the judge gets wrong."""

    async def opened(text: str, options: Mapping[str, Any] | None = None, share: int = 1) -> Any:
        said = lambda _, sample: "because exactly" if sample else "stuff"  # noqa: E731
        return ScriptedModel(judge if "judge" in text else said, text)

    monkeypatch.setattr("pipelines.roles.open_model", opened)
    prompts = varied_prompts(tmp_path / "p.jsonl", 10)
    lines = prompts.read_text().splitlines()
    twin = json.loads(lines[0]) | {"id": "twin"}
    prompts.write_text("\n".join([*lines, json.dumps(twin | {"prompt": twin["prompt"] + "!"})]) + "\n")
    arguments = (*FAKES, "--n", 2, "--planted", 0, "--test-share", 0.3)
    assert prefgen("generate", prompts, *arguments, "--out", tmp_path / "run").code == 0
    found = prefgen("audit", tmp_path / "run", "--json").result
    alike = found["duplicates"]
    assert (alike["n_groups"], alike["n_in_groups"], alike["straddling"]) == (1, 2, [])
    assert {row["prompt_id"] for row in alike["largest"][0]["prompts"]} == {"p0", "twin"}
    assert alike["boilerplate"]["most_repeated"][0] == {"prompts": 10, "chosen": "because exactly"}
    assert found["label_noise"] is None, "ten prompts are too few"
    policies = found["balance"]["policies"]["scripted/writer"]
    assert (policies["candidates"], policies["chosen"], policies["rejected"]) == (22, 11, 11)


def test_the_page_is_whole_and_inert(run: Path, prefgen: Runner, tmp_path: Path) -> None:
    file = write_prompts(tmp_path / "<b>.jsonl", [{"question": "<script>alert(1)</script> is this found?"}])
    assert prefgen("audit", run, "--eval-file", file, "--judge", "scripted/judge").code == 0
    page = (run / "audit" / "audit.html").read_text()
    assert page.count("<h2>") == 6
    assert "$" not in page.partition("</style>")[2]
    for never in ("<script", "http://", "https://", "<b>"):
        assert never not in page


def test_a_run_without_pairs(tmp_path: Path, prefgen: Runner) -> None:
    prompts = some_prompts(tmp_path / "p.jsonl", 3)
    strict = ("--min-confidence", 0.999999999, "--planted", 0)
    assert prefgen("generate", prompts, *FAKES, *strict, "--out", tmp_path / "run").code == 0
    done = prefgen("audit", tmp_path / "run")
    assert done.code == 0, done.err
    assert "0 pairs looked at" in done.out
    assert "fewer than two pairs" in done.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("{none}",), "not a run directory"),
        (("{run}", "--eval-file", "{none}"), "no such file"),
        (("{run}", "--eval-column", "nope", "--eval-file", "{eval}"), "no column 'nope'"),
        (("{run}", "--out", "{run}"), "is the run itself"),
        (("{run}", "--out", "{eval}"), "name another directory with --out"),
        (("{run}", "--judge", "scripted/judge", "--reward-model", "openai/x@http://h"), "exactly one of"),
        (("{run}", "--flag-share", 1.5), "--flag-share"),
        (("{run}", "--judge", "nonsense"), "nonsense"),
        (("{run}", "--probes", 0), "--probes"),
    ],
)
def test_wrong_use_is_told(
    small: Path, prefgen: Runner, tmp_path: Path, arguments: tuple[object, ...], said: str
) -> None:
    file = write_prompts(tmp_path / "eval.jsonl", [{"question": "What now?"}])
    names = {"run": small, "none": tmp_path / "none.jsonl", "eval": file}
    done = prefgen("audit", *(str(part).format(**names) for part in arguments))
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert not (small / "audit").exists()


def test_an_earlier_audit_is_kept(small: Path, prefgen: Runner) -> None:
    assert prefgen("audit", small).code == 0
    refused = prefgen("audit", small)
    assert refused.code == 2
    assert "--overwrite" in refused.err


def test_a_broken_table_is_named(small: Path, prefgen: Runner) -> None:
    (small / "dpo" / "train.parquet").write_bytes(b"no")
    assert "broken Parquet file" in prefgen("audit", small).err
    (small / "dpo" / "train.parquet").unlink()
    assert "missing" in prefgen("audit", small).err


def test_generate_leaves_contaminated_prompts_out(tmp_path: Path, prefgen: Runner) -> None:
    prompts = some_prompts(tmp_path / "p.jsonl", 10)
    held = json.loads(prompts.read_text().splitlines()[4])["prompt"]
    file = write_prompts(
        tmp_path / "eval.jsonl", [{"text": held.upper()}, {"text": "Something else entirely?"}]
    )
    arguments = (*FAKES, "--decontaminate", file, "--out", tmp_path / "run", "--json")
    result = prefgen("generate", prompts, *arguments).result
    gone = len(result["contaminated"])
    assert (result["counts"]["prompts"], result["counts"]["dropped"]["contaminated"]) == (10 - gone, gone)
    assert {overlap["line"] for overlap in result["contaminated"].values()} == {1}
    texts = {row["prompt"][0]["content"] for row in rows(tmp_path / "run" / "candidates.parquet")}
    assert held not in texts
    assert len(texts) == 10 - gone
    assert "hold an evaluation question" in (tmp_path / "run" / "report.html").read_text()


def test_generate_refuses_when_nothing_is_left(tmp_path: Path, prefgen: Runner) -> None:
    prompts = some_prompts(tmp_path / "p.jsonl", 3)
    done = prefgen("generate", prompts, *FAKES, "--decontaminate", prompts, "--out", tmp_path / "run")
    assert done.code == 2
    assert "every prompt stands in" in done.err
    assert not (tmp_path / "run").exists()
