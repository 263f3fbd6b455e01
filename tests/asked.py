"""A run whose judge says, principle by principle, what a table says."""

from __future__ import annotations

import json
import math
import re
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from running import Runner, write_prompts

from prefgen.completion import Completion, CompletionRequest
from prefgen.models.scripted import ScriptedModel

TEXTS = ("alpha is one answer", "beta goes a second way", "gamma has nothing in common")
TABLE = {
    "kind": {"alpha": 2.0, "beta": 0.0, "gamma": -2.0},
    "brief": {"alpha": -2.0, "beta": 2.0, "gamma": 0.0},
    "kinder": {"alpha": -2.0, "beta": 0.0, "gamma": 2.0},
    "calm": {"alpha": 0.0, "beta": 0.0, "gamma": 8.0},
}
"""Log-odds of yes, by a word of the principle and of the response.

With weights 3 and 1 for kind and brief the scores are alpha .75·2 - .25·2 = 1, beta .5 and gamma -1.5, so the
margins are alpha over beta .5 (62.2%), alpha over gamma 2.5 (92.4%) and beta over gamma 2 (88.1%).
"""
_RESPONSE = re.compile(r"<(response-\w+)>\n(\w+)")


class Fakes:
    """`asked`: the requests to the judge; `failing`: (principle, response) that the judge refuses."""

    def __init__(self) -> None:
        self.asked: deque[CompletionRequest] = deque()
        self.failing: set[tuple[str, str]] = set()

    async def open(self, text: str, *_: Any) -> ScriptedModel:
        if "judge" in text:
            return ScriptedModel(self._judge, text)
        return ScriptedModel(lambda request, sample: TEXTS[sample % 3], text)

    def _judge(self, request: CompletionRequest, sample: int) -> Completion:
        self.asked.append(request)
        question = request.messages[0].content
        principle = re.search(r"must be (\w+)", question)
        response = _RESPONSE.search(question)
        assert principle is not None
        assert response is not None
        if (principle[1], response[2]) in self.failing:
            return Completion("I will not say", "refusal", label_logprobs={})
        odds = TABLE[principle[1]][response[2]]
        yes, no = -math.log1p(math.exp(-odds)), -math.log1p(math.exp(odds))
        return Completion("yes" if odds > 0 else "no", label_logprobs={"yes": yes, "no": no})


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Fakes:
    found = Fakes()
    monkeypatch.setattr("pipelines.roles.open_model", found.open)
    return found


def constitution(path: Path, principles: Mapping[str, tuple[str, float]]) -> Path:
    """`principles`: word of the table and weight, by id."""
    told = [
        {"id": name, "text": f"The reply must be {word}.", "weight": weight}
        for name, (word, weight) in principles.items()
    ]
    path.write_text(yaml.safe_dump({"id": path.stem, "principles": told}))
    return path


def generated(prefgen: Runner, folder: Path, *more: object) -> Path:
    """Two prompts with the three answers each, under principles kind (3) and brief (1)."""
    prompts = [{"id": "first", "prompt": "What of the parcel?"}, {"id": "second", "prompt": "And my lamp?"}]
    write_prompts(folder / "prompts.jsonl", prompts)
    a = constitution(folder / "a.yaml", {"kind": ("kind", 3.0), "brief": ("brief", 1.0)})
    done = prefgen(
        "generate", folder / "prompts.jsonl", "--policy", "scripted/w", "--judge", "scripted/judge", "--n", 3,
        "--judging", "pointwise", "--constitution", a, "--planted", 0, "--strategy", "all", "--max-pairs", 3,
        "--min-confidence", 0.6, "--test-share", 0, "--out", folder / "run", *more,
    )  # fmt: skip
    assert done.code == 0, done.err
    return folder / "run"


def calibrate_by_hand(run: Path, temperature: float) -> None:
    """As if the run had been labelled by a calibration whose map is this temperature."""
    manifest = json.loads((run / "manifest.json").read_text())
    fitted = {"kind": "temperature", "temperature": temperature, "style": {}, "steps": [], "tie": 0.0}
    stage = {"judge": "", "selective": None, "map": fitted}
    told = {"file": "c.json", "n_labels": 10, "target": None, "stages": [stage]}
    config = manifest["config"] | {"calibration": "c.json"}
    (run / "manifest.json").write_text(json.dumps(manifest | {"calibration": told, "config": config}))
