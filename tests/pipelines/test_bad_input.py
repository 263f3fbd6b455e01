"""Bad input: exit 2, a message that says where, what was seen and what to do, and nothing written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from running import FAKES, Ran, Runner, files, some_prompts

OK = b'{"prompt": "fine"}\n'
BAD_PROMPTS: dict[str, tuple[str, bytes, list[str]]] = {
    "empty": ("p.jsonl", b"", ["p.jsonl: the file holds no rows", "expected: at least one row"]),
    "blank lines": ("p.jsonl", b"\n \n", ["the file holds no rows"]),
    "no rows": ("p.json", b"[]", ["the file holds no rows"]),
    "wrong column": (
        "p.jsonl",
        OK + b'{"text": "x", "n": 1}\n',
        ["p.jsonl:2", "no column 'prompt'", "seen: columns text, n"],
    ),
    "number": (
        "p.jsonl",
        OK + b'{"prompt": 5}\n',
        ["p.jsonl:2", "not int: 5", 'expected: a non-empty string, or [{"role"'],
    ),
    "null": ("p.jsonl", b'{"prompt": null}\n', ["p.jsonl:1", "not NoneType"]),
    "empty prompt": ("p.jsonl", OK * 1 + b'{"prompt": "  "}\n', ["p.jsonl:2", "the prompt is empty"]),
    "empty list": ("p.jsonl", b'{"prompt": []}\n', ["p.jsonl:1", "a string or a list of messages"]),
    "wrong role": (
        "p.jsonl",
        b'{"prompt": [{"role": "bot", "content": "x"}]}\n',
        ["p.jsonl:1", "role 'bot'", "system, user, assistant"],
    ),
    "no content": (
        "p.jsonl",
        b'{"prompt": [{"role": "user"}]}\n',
        ["p.jsonl:1", "content None, expected a string"],
    ),
    "strings": ("p.jsonl", b'{"prompt": ["x"]}\n', ["p.jsonl:1", "not an object with role and content"]),
    "answered": (
        "p.jsonl",
        b'{"prompt": [{"role": "assistant", "content": "x"}]}\n',
        ["p.jsonl:1", "the last message is the assistant's"],
    ),
    "same id": (
        "p.jsonl",
        b'{"prompt": "a", "id": 1}\n\n{"prompt": "b", "id": "1"}\n',
        ["p.jsonl:3", "the id '1' twice", "first on line 1", "fix: "],
    ),
    "same prompt": (
        "p.jsonl",
        OK + OK,
        ["p.jsonl:2", "the same prompt twice", "first on line 1", "its own id"],
    ),
    "bad id": (
        "p.jsonl",
        b'{"prompt": "a", "id": [1]}\n',
        ["p.jsonl:1", "a bad id", "seen: [1]", "string or an integer"],
    ),
    "truth id": ("p.jsonl", b'{"prompt": "a", "id": true}\n', ["p.jsonl:1", "a bad id", "seen: True"]),
    "float id": ("p.jsonl", b'{"prompt": "a", "id": 1.5}\n', ["p.jsonl:1", "a bad id"]),
    "empty id": ("p.jsonl", b'{"prompt": "a", "id": ""}\n', ["p.jsonl:1", "a bad id"]),
    "control id": (
        "p.jsonl",
        b'{"prompt": "a", "id": "a\\u001b[2J"}\n',
        ["p.jsonl:1", "control characters", "x1b"],
    ),
    "broken": (
        "p.jsonl",
        OK + b'{"prompt": "x"\n',
        ["p.jsonl:2", "broken JSON", "column", "one JSON object a line"],
    ),
    "single quotes": (
        "p.jsonl",
        OK + b"{'prompt': 'x'}\n",
        ["p.jsonl:2", "broken JSON", "seen: {'prompt': 'x'}"],
    ),
    "nan": (
        "p.jsonl",
        OK + b'{"prompt": "x", "n": NaN}\n',
        ["p.jsonl:2", "NaN is not a JSON value", "write null"],
    ),
    "infinity": (
        "p.jsonl",
        b'{"prompt": "x", "n": -Infinity}\n',
        ["p.jsonl:1", "-Infinity is not a JSON value"],
    ),
    "huge number": ("p.jsonl", b'{"prompt": "x", "n": ' + b"9" * 5000 + b"}\n", ["p.jsonl:1", "broken JSON"]),
    "deep": ("p.jsonl", b'{"prompt": ' + b"[" * 50_000, ["p.jsonl:1", "broken JSON"]),
    "array line": ("p.jsonl", b'["x"]\n', ["p.jsonl:1", "a row is not an object", "seen: ['x']"]),
    "half a character": (
        "p.jsonl",
        OK + b'{"prompt": "\\ud83d"}\n',
        ["p.jsonl:2", "surrogate", "cut in two"],
    ),
    "half a character in a column": (
        "p.jsonl",
        b'{"prompt": "x", "n": ["\\uD83D"]}\n',
        ["p.jsonl:1", "surrogate"],
    ),
    "latin-1": (
        "p.jsonl",
        OK + OK.replace(b"fine", b"caf\xe9"),
        ["p.jsonl:2", "not UTF-8", "caf", "expected: a UTF-8 file"],
    ),
    "utf-16": ("p.txt", "one\ntwo".encode("utf-16"), ["p.txt:1", "not UTF-8"]),
    "lfs": (
        "p.jsonl",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        ["p.jsonl:1", "git-lfs pointer", "git lfs pull"],
    ),
    "json object": ("p.json", b'{"prompt": "x"}', ["p.json:1", "not a list of rows", "seen: {'prompt'"]),
    "json lines": ("p.json", OK + OK, ["p.json:2", "broken JSON (Extra data", "name the file .jsonl"]),
    "json broken": (
        "p.json",
        b'[\n{"prompt": "x"},\n{"prompt" "y"}]',
        ["p.json:3", 'seen: {"prompt" "y"}]', "one list of objects"],
    ),
    "csv short": (
        "p.csv",
        b"prompt,n\nx,1\ny\n",
        ["p.csv:3", "does not have the columns of the header", "2 columns: prompt, n"],
    ),
    "csv long": ("p.csv", b"prompt\nx\ny,z\n", ["p.csv:3", "does not have the columns of the header"]),
    "csv quotes": ("p.csv", b'prompt\n"x" y\n', ["p.csv:2", "broken CSV", "expected: fields with quotes"]),
    "csv column": ("p.csv", b"text\nx\n", ["p.csv:2", "no column 'prompt'"]),
    "parquet": ("p.parquet", b"not parquet at all", ["p.parquet: not a Parquet file"]),
    "suffix": ("p.xlsx", b"x", ["unknown file type", "seen: .xlsx", ".jsonl .json .csv .parquet .txt"]),
    "no suffix": ("prompts", b"x", ["unknown file type", "seen: no suffix"]),
}


def refused(done: Ran, *parts: str) -> None:
    assert done.code == 2, done.err
    assert done.out == ""
    assert "Traceback" not in done.err
    for part in parts:
        assert part in done.err, done.err
    assert done.err.count("error: ") <= 1
    assert done.err.isascii() or "\x1b" not in done.err


@pytest.mark.parametrize("name", BAD_PROMPTS)
def test_prompt_files(prefgen: Runner, tmp_path: Path, name: str) -> None:
    file, content, parts = BAD_PROMPTS[name]
    (tmp_path / file).write_bytes(content)
    refused(prefgen("generate", tmp_path / file, *FAKES, "--out", tmp_path / "run"), *parts)
    assert not (tmp_path / "run").exists()


def test_no_prompt_file(prefgen: Runner, tmp_path: Path) -> None:
    refused(
        prefgen("generate", tmp_path / "p.jsonl", *FAKES, "--out", tmp_path / "run"),
        "no such file",
        "check the path",
    )
    some_prompts(tmp_path / "prompts.jsonl", 1)
    refused(
        prefgen("generate", tmp_path / "promts.jsonl", *FAKES, "--out", tmp_path / "run"),
        f"did you mean {tmp_path}/prompts.jsonl?",
    )
    refused(prefgen("generate", tmp_path / "x" / "p.jsonl", *FAKES, "--out", tmp_path / "run"), "no folder")
    refused(prefgen("generate", tmp_path, *FAKES, "--out", tmp_path / "run"), "is a directory")
    refused(prefgen("generate", *FAKES, "--out", tmp_path / "run"), "missing PROMPTS")
    assert not (tmp_path / "run").exists()


def test_parquet_with_wrong_rows(prefgen: Runner, tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": pa.array(["x", None])}), tmp_path / "p.parquet")
    refused(
        prefgen("generate", tmp_path / "p.parquet", *FAKES, "--out", tmp_path / "run"),
        "p.parquet:2",
        "NoneType",
    )


def test_a_broken_parquet_file(prefgen: Runner, tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"prompt": [f"prompt {n}" * 50 for n in range(500)]}), path, compression="none")
    content = bytearray(path.read_bytes())
    content[4:400] = os.urandom(396)
    path.write_bytes(content)
    refused(prefgen("generate", path, *FAKES, "--out", tmp_path / "run"), "p.parquet", "Parquet")


def test_good_files_of_every_kind(prefgen: Runner, tmp_path: Path) -> None:
    long = "long " * 60_000  # More than the csv module takes by default.
    contents: dict[str, str] = {
        "a.jsonl": '\ufeff{"prompt": "one", "id": null}\n\n'
        '{"prompt": [{"role": "user", "content": "two"}]}\n',
        "a.json": '[{"prompt": "one"}, {"prompt": "two"}]',
        "a.csv": f'prompt,n\n"one, with\n""lines""",1\n{long},2\n',
        "a.txt": "one\n\ntwo\n",
    }
    for name, text in contents.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        done = prefgen(
            "generate", tmp_path / name, *FAKES, "--n", 2, "--out", tmp_path / f"run-{name}", "--json"
        )
        assert done.code == 0, done.err
        assert done.result["counts"]["prompts"] == 2


OPTIONS: list[tuple[list[str], list[str]]] = [
    (
        ["--policy", "opnai/gpt", "--judge", "scripted/judge"],
        ["unknown provider 'opnai'", "did you mean openai/gpt?"],
    ),
    (
        ["--policy", "gpt-5", "--judge", "scripted/judge"],
        ["'gpt-5' is not a model", "PROVIDER/NAME", "did you mean openai/gpt-5?"],
    ),
    (["--policy", "scripted/writer", "--judge", "claude-x"], ["did you mean anthropic/claude-x?"]),
    (["--policy", "scripted/writer", "--judge", "openai"], ["did you mean openai/NAME?"]),
    (
        ["--policy", "models/mine", "--judge", "scripted/judge"],
        ["did you mean vllm/models/mine or transformers/models/mine?"],
    ),
    (
        ["--policy", "scripted/writer", "--reward-model", "m/rm"],
        ["unknown provider 'm'", "did you mean vllm/m/rm or transformers/m/rm?"],
    ),
    (
        ["--policy", "http://127.0.0.1:8000/v1", "--judge", "scripted/judge"],
        ["did you mean openai/NAME@http://127.0.0.1:8000/v1?"],
    ),
    ([*FAKES, "--constitution", "helpfull"], ["did you mean 'helpful-honest-harmless'?"]),
    (["--policy", "scripted/poet", "--judge", "scripted/judge"], ["no such script", "scripted/writer"]),
    (
        ["--policy", "vllm/x@http://h/v1", "--judge", "scripted/judge"],
        ["takes no URL", "openai/x@http://h/v1"],
    ),
    (
        ["--policy", "openai/x@127.0.0.1:8000/v1", "--judge", "scripted/judge"],
        ["starts with http://", "openai/x@http://127.0.0.1:8000/v1"],
    ),
    (["--policy", "scripted/writer", "--judge", "nope/x"], ["unknown provider 'nope'"]),
    (["--policy", "scripted/writer"], ["give exactly one of --judge MODEL and --reward-model MODEL"]),
    ([*FAKES, "--reward-model", "vllm/x"], ["exactly one"]),
    (
        ["--policy", "scripted/writer", "--reward-model", "anthropic/x"],
        ["unknown provider 'anthropic'", "openai, vllm, transformers"],
    ),
    (["--judge", "scripted/judge"], ["missing --policy"]),
    ([*FAKES, "--policy", "scripted/writer"], ["stands twice", "raise --n"]),
    ([*FAKES, "--n", "1"], ["a pair needs two candidates"]),
    ([*FAKES, "--n", "0"], ["--n", "greater than or equal to 1", "seen: 0"]),
    ([*FAKES, "--n", "many"], ["--n", "many"]),
    ([*FAKES, "--min-confidence", "75"], ["--min-confidence", "less than 1: a share, such as 0.75"]),
    ([*FAKES, "--temperature", "nan"], ["--temperature"]),
    ([*FAKES, "--deadline", "inf"], ["--deadline", "finite"]),
    ([*FAKES, "--strategy", "worst"], ["--strategy", "best-worst"]),
    ([*FAKES, "--tempratur", "1"], ["--tempratur", "--temperature"]),
    ([*FAKES, "--engine-arg", "latency"], ["--engine-arg 'latency'", "KEY=VALUE"]),
    ([*FAKES, "--engine-arg", "speed=1"], ["unknown option 'speed'"]),
    ([*FAKES, "--price", "scripted/judge"], ["--price", "MODEL=IN,OUT"]),
    ([*FAKES, "--price", "openai/x=nan,1"], ["--price", "MODEL=IN,OUT"]),
    ([*FAKES, "--constitution", "nice"], ["nice: no such constitution", "helpful-honest-harmless"]),
    ([*FAKES, "--judge-template", "x.txt"], ["--judge-template goes with --judging pointwise"]),
    ([*FAKES, "--resume", "--overwrite"], ["--resume", "--overwrite", "give one"]),
]


@pytest.mark.parametrize(("options", "parts"), OPTIONS, ids=lambda value: " ".join(value)[:60])
def test_options(prefgen: Runner, tmp_path: Path, options: list[str], parts: list[str]) -> None:
    prompts = some_prompts(tmp_path / "p.jsonl", 2)
    refused(prefgen("generate", prompts, *options, "--out", tmp_path / "run"), *parts)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("provider", "variable"), [("openai", "OPENAI_API_KEY"), ("anthropic", "ANTHROPIC_API_KEY")]
)
def test_a_missing_key(
    prefgen: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: str, variable: str
) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    prompts = some_prompts(tmp_path / "p.jsonl", 2)
    base = ("generate", prompts, "--out", tmp_path / "run", "--policy", "scripted/writer")
    refused(prefgen(*base, "--judge", f"{provider}/some-model"), variable)
    assert not (tmp_path / "run").exists()
    assert prefgen(*base, "--judge", "scripted/judge").code == 0  # The corrected command just works.


CONSTITUTIONS: dict[str, tuple[str, list[str]]] = {
    "unknown field": (
        "id: x\nprinciples:\n  - id: a\n    text: be kind\n    wieght: 2\n",
        ["c.yaml:5", "unknown field 'principles.0.wieght'", "did you mean 'weight'?"],
    ),
    "twice": (
        "id: x\nprinciples:\n  - {id: a, text: b}\n  - {id: a, text: c}\n",
        ["c.yaml:2", "the principle 'a' stands twice"],
    ),
    "broken": ("id: x\nprinciples: [\n", ["c.yaml:3", "broken YAML"]),
    "text": ("be kind", ["c.yaml:1", "not a mapping of names to values", "be kind"]),
    "empty": ("", ["c.yaml:1", "the file is empty"]),
    "no principles": ("id: x\nprinciples: []\n", ["c.yaml:2", "principles", "at least 1"]),
    "missing": ("id: x\n", ["c.yaml", "principles", "required"]),
    "weight": (
        "id: x\nprinciples:\n  - id: a\n    text: b\n    weight: -1\n",
        ["c.yaml:5", "greater than 0", "seen: -1"],
    ),
    "infinite": ("id: x\nprinciples:\n  - id: a\n    text: b\n    weight: .inf\n", ["c.yaml:5", "finite"]),
    "binary": ("id: \x00", ["c.yaml", "cannot be read"]),
}


@pytest.mark.parametrize("name", CONSTITUTIONS)
def test_constitutions(prefgen: Runner, tmp_path: Path, name: str) -> None:
    text, parts = CONSTITUTIONS[name]
    (tmp_path / "c.yaml").write_text(text)
    prompts = some_prompts(tmp_path / "p.jsonl", 2)
    done = prefgen(
        "generate", prompts, *FAKES, "--constitution", tmp_path / "c.yaml", "--out", tmp_path / "run"
    )
    refused(done, *parts)
    assert not (tmp_path / "run").exists()


CONFIGS: dict[str, tuple[str, list[str]]] = {
    "unknown": (
        "n: 3\npolcy: scripted/writer\n",
        ["c.yaml:2", "unknown field 'polcy'", "did you mean 'policy'?"],
    ),
    "dashes": ("n: 3\nmin-confidence: 7\n", ["c.yaml:2", "min_confidence", "less than 1", "seen: 7"]),
    "quoted": ("min-confidence: '75'\n", ["c.yaml:1", "less than 1", "seen: 75"]),
    "number as name": ("n: 3\n5: x\n", ["c.yaml:2", "unknown field '5'"]),
    "type": ("\nn: many\n", ["c.yaml:2", "n: ", "integer", "seen: many"]),
    "list": ("- n\n", ["c.yaml:1", "not a mapping"]),
    "choice": ("strategy: worst\n", ["c.yaml:1", "best-worst"]),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_config_files(prefgen: Runner, tmp_path: Path, name: str) -> None:
    text, parts = CONFIGS[name]
    (tmp_path / "c.yaml").write_text(text)
    prompts = some_prompts(tmp_path / "p.jsonl", 2)
    refused(
        prefgen("generate", prompts, *FAKES, "--config", tmp_path / "c.yaml", "--out", tmp_path / "run"),
        *parts,
    )
    assert not (tmp_path / "run").exists()


@pytest.fixture
def used(prefgen: Runner, tmp_path: Path) -> tuple[Any, ...]:
    """A command whose output directory holds its finished run."""
    command = ("generate", some_prompts(tmp_path / "p.jsonl", 2), *FAKES, "--n", 2, "--out", tmp_path / "run")
    assert prefgen(*command).code == 0
    return command


def test_a_used_directory(prefgen: Runner, used: tuple[Any, ...], tmp_path: Path) -> None:
    before = {name: (tmp_path / "run" / name).read_bytes() for name in files(tmp_path / "run")}
    refused(prefgen(*used), "holds a finished run", "--resume", "--overwrite", "another --out")
    assert {name: (tmp_path / "run" / name).read_bytes() for name in files(tmp_path / "run")} == before


def test_a_changed_config_on_resume(prefgen: Runner, used: tuple[Any, ...], tmp_path: Path) -> None:
    before = (tmp_path / "run" / "config.yaml").read_bytes()
    refused(
        prefgen(*used, "--resume", "--temperature", 0.5), "temperature: was 1.0, now 0.5", "put these back"
    )
    assert (tmp_path / "run" / "config.yaml").read_bytes() == before
    assert prefgen(*used, "--resume", "--concurrency", 3, "--max-requests", 9).code == 0


def test_changed_prompts_on_resume(prefgen: Runner, used: tuple[Any, ...], tmp_path: Path) -> None:
    some_prompts(tmp_path / "p.jsonl", 3)
    refused(prefgen(*used, "--resume"), "inputs: was")


def test_a_file_as_directory(prefgen: Runner, tmp_path: Path) -> None:
    prompts = some_prompts(tmp_path / "p.jsonl", 2)
    for extra in ([], ["--overwrite"], ["--resume"]):
        refused(
            prefgen("generate", prompts, *FAKES, "--out", prompts, *extra),
            "is a file; --out names a directory",
        )
        refused(prefgen("generate", prompts, *FAKES, "--out", prompts / "run", *extra), "cannot be written")
    assert prompts.read_text().count("\n") == 2


@pytest.mark.parametrize("extra", [[], ["--overwrite"], ["--resume"]])
@pytest.mark.parametrize("config", [None, "learning_rate: 0.1\n", "prompts: mine\n"])
def test_a_directory_with_other_files(
    prefgen: Runner, tmp_path: Path, extra: list[str], config: str | None
) -> None:
    """Another project's folder may hold a config.yaml and a README.md too."""
    out = tmp_path / "run"
    (out / "dpo").mkdir(parents=True)
    (out / "dpo" / "mine.txt").write_text("mine")
    (out / "README.md").write_text("mine")
    if config is not None:
        (out / "config.yaml").write_text(config)
    before = files(out)
    prompts = some_prompts(tmp_path / "p.jsonl", 2)
    refused(prefgen("generate", prompts, *FAKES, "--out", out, *extra), "no prefgen run", "another --out")
    assert files(out) == before
    assert (out / "README.md").read_text() == "mine"


def test_overwrite_removes_what_the_run_wrote_and_nothing_else(
    prefgen: Runner, used: tuple[Any, ...], tmp_path: Path
) -> None:
    (tmp_path / "run" / "notes.txt").write_text("mine")
    assert prefgen(*used, "--overwrite").code == 0
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_what_a_kill_left_before_the_config_is_no_hindrance(prefgen: Runner, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in (".lock", "config.yaml.part"):
        (tmp_path / "run" / name).write_text("")
    prompts = some_prompts(tmp_path / "p.jsonl", 2)
    assert prefgen("generate", prompts, *FAKES, "--out", tmp_path / "run").code == 0


def test_a_ledger_that_cannot_be_used(prefgen: Runner, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("not a ledger " * 100)
    prompts = some_prompts(tmp_path / "p.jsonl", 2)
    done = prefgen("generate", prompts, *FAKES, "--out", tmp_path / "run", "--ledger", tmp_path / "notes")
    refused(done, "notes: the ledger cannot be used", "--ledger")
    assert not (tmp_path / "run").exists()


def test_errors_keep_stdout_empty_for_json_too(prefgen: Runner, tmp_path: Path) -> None:
    done = prefgen(
        "generate", tmp_path / "none.jsonl", *FAKES, "--out", tmp_path / "run", "--json", "--quiet"
    )
    refused(done, "no such file")
    with pytest.raises(json.JSONDecodeError):
        _ = done.result


def test_a_model_that_is_nowhere(tmp_path: Path) -> None:
    """What the hub's library says of a name is no help to whoever misspelt a path."""
    from prefgen.models.local import reason

    said = "We couldn't connect to 'https://huggingface.co' to load the files"
    told = reason(OSError(said), "models/nope")
    assert told.startswith("there is no folder models/nope here, and the Hugging Face hub gave no model")
    assert "huggingface.co" not in told
    # Where the folder is there, it is another model that is not: the base of an adapter.
    assert reason(OSError(said), str(tmp_path)) == said
    assert reason(OSError("it has no config.json"), "models/nope") == "it has no config.json"


MISSPELT: dict[str, tuple[list[str], str, list[str]]] = {
    "a name that is not known comes before what is missing": (
        ["generate", "--config"], "polcy: scripted/writer\n", ["c.yaml:1", "mean 'policy'?"]
    ),
    "generate": (
        ["generate", "--config"], "n: 4\nmin_confidense: 0.8\n", ["c.yaml:2", "mean 'min_confidence'?"]
    ),
    "judge": (["judge", "p", "--config"], "jugde: x\n", ["c.yaml:1", "did you mean 'judge'?"]),
    "calibrate": (["calibrate", "--config"], "labls: x\n", ["did you mean 'labels'?"]),
    "evaluate": (["evaluate", "--config"], "\nbasline: x\n", ["c.yaml:2", "did you mean 'baseline'?"]),
    "revise": (["revise", "--config"], "critik: x\n", ["did you mean 'critic'?"]),
    "pair": (["pair", "run", "--config"], "strateggy: all\n", ["did you mean 'strategy'?"]),
    "audit": (["audit", "run", "--config"], "eval_fil: x\n", ["did you mean 'eval_file'?"]),
    "convert": (["convert", "f", "--config"], "good_form: 4\n", ["did you mean 'good_from'?"]),
    "ledger": (["ledger", "prune", "--config"], "older_then: 30d\n", ["did you mean 'older_than'?"]),
    "doctor": (["doctor", "--config"], "start_vlm: true\n", ["did you mean 'start_vllm'?"]),
    "train": (["train", "dpo", "--config"], "betta: 1\n", ["did you mean 'beta'?"]),
    "train, the reward's": (["train", "grpo", "--config"], "rewad_model: x\n", ["mean 'reward_model'?"]),
    "train dpo-sweep": (["train", "dpo-sweep", "--config"], "sweep_beat: [1]\n", ["mean 'sweep_beta'?"]),
    "rlaif": (["rlaif"], "policy: vllm/x\nronds: 2\n", ["c.yaml:2", "did you mean 'rounds'?"]),
    "a constitution": (
        ["generate", "p.txt", *FAKES, "--out", "r", "--constitution"],
        "id: x\nprinciples:\n  - {id: a, text: b, wieght: 2}\n", ["c.yaml:3", "did you mean 'weight'?"],
    ),
    "a scale": (
        ["generate", "p.txt", *FAKES, "--out", "r", "--judging", "score", "--scale"],
        "id: x\nlevls: {1: bad, 2: good}\n", ["c.yaml:2", "did you mean 'levels'?"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISSPELT)
def test_a_misspelt_name_in_a_file_is_told_with_its_line_and_the_nearest(
    prefgen: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    typed, text, parts = MISSPELT[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.txt").write_text("hello\n")
    (tmp_path / "c.yaml").write_text(text)
    refused(prefgen(*typed, "c.yaml"), *parts)
    assert files(tmp_path) <= {"p.txt", "c.yaml", "ledger.sqlite"}


def test_a_config_that_is_not_there(prefgen: Runner, tmp_path: Path) -> None:
    (tmp_path / "generate.yaml").write_text("n: 4\n")
    refused(
        prefgen("generate", "--config", tmp_path / "generat.yaml"),
        "no such file", f"did you mean {tmp_path}/generate.yaml?",
    )  # fmt: skip
