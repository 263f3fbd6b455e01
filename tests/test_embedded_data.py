"""What the quickstart ships: texts that keep apart what must be apart, models that keep what is promised."""

import importlib.util
import json
import random
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from pipelines.rubric import score

QUICKSTART = Path(__file__).parents[1] / "data" / "quickstart"
MODELS = QUICKSTART / "models"
ROLES = ("policy", "judge", "reward")


def rows(name: str) -> list[dict[str, str]]:
    """All rows of one of the quickstart's JSONL files."""
    text = (QUICKSTART / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def grammar() -> ModuleType:
    """The grammar, loaded from its file: the folder of scripts is no package."""
    spec = importlib.util.spec_from_file_location("grammar", QUICKSTART / "make" / "grammar.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["grammar"] = module
    spec.loader.exec_module(module)
    return module


def test_prompts_are_many_distinct_and_complete() -> None:
    train, held_out = rows("prompts"), rows("heldout_prompts")
    assert len(train) >= 240
    assert len(held_out) >= 200
    everything = train + held_out
    for column in ("id", "prompt"):
        assert len({row[column] for row in everything}) == len(everything)
    assert len({(row["name"], row["product"], row["order"]) for row in everything}) == len(everything)
    for row in everything:
        assert all(row[slot] in row["prompt"] for slot in ("name", "product", "order"))


def test_held_out_products_and_orders_never_meet_in_training() -> None:
    trained = {(row["product"], row["order"]) for row in rows("prompts")}
    held_out = {(row["product"], row["order"]) for row in rows("heldout_prompts")}
    assert not trained & held_out
    demonstrated = [row["prompt"] for row in rows("demonstrations")]
    judged = {row["prompt"] for row in rows("labels")}
    for product, order in held_out:
        assert not any(f" {product}" in text and f" {order}." in text for text in demonstrated)
    assert (
        not judged & {row["prompt"] for row in rows("prompts") + rows("heldout_prompts")} & set(demonstrated)
    )


def test_labels_are_three_opinions_on_balanced_pairs() -> None:
    by_item: dict[str, list[dict[str, str]]] = {}
    for row in rows("labels"):
        by_item.setdefault(row["id"], []).append(row)
    assert len(by_item) >= 200
    for opinions in by_item.values():
        assert [row["annotator"] for row in opinions] == ["a1", "a2", "a3"]
        assert len({(row["prompt"], row["response_a"], row["response_b"]) for row in opinions}) == 1
        assert all(row["label"] in ("a", "b", "tie") for row in opinions)
    verdicts = Counter(row["label"] for row in rows("labels"))
    assert 0.8 < verdicts["a"] / verdicts["b"] < 1.25
    unanimous = sum(len({row["label"] for row in opinions}) == 1 for opinions in by_item.values())
    assert 0.5 < unanimous / len(by_item) < 0.9


def test_constitution_names_the_rubric_traits_in_sentences() -> None:
    constitution = yaml.safe_load((QUICKSTART / "constitution.yaml").read_text(encoding="utf-8"))
    assert set(constitution) == {"id", "title", "principles"}
    traits = score({"intent": "late", "name": "Ada", "product": "lamp", "order": "B31"}, "")
    assert [principle["id"] for principle in constitution["principles"]] == list(vars(traits))
    for principle in constitution["principles"]:
        assert set(principle) == {"id", "text", "weight"}
        assert principle["text"].endswith(".")
        assert principle["weight"] > 0


def test_judge_template_has_each_placeholder_once_and_the_principle_last() -> None:
    template = (QUICKSTART / "judge.txt").read_text(encoding="utf-8")
    places = [template.index("{{" + name + "}}") for name in ("prompt", "response", "principle")]
    assert places == sorted(places)
    assert template.count("{{") == 3


def test_replies_have_the_traits_they_were_made_with(grammar: ModuleType) -> None:
    rng = random.Random(7)
    for _ in range(2000):
        case = grammar.sample_case(rng, "check")
        traits = grammar.sample_traits(rng)
        assert grammar.traits_of(case, grammar.sample_reply(rng, case, traits)) == traits


def test_rubric_agrees_with_the_grammar(grammar: ModuleType) -> None:
    rng, agreed = random.Random(8), 0
    for _ in range(2000):
        case = grammar.sample_case(rng, "check")
        traits = grammar.sample_traits(rng)
        result = score(vars(case), grammar.sample_reply(rng, case, traits))
        agreed += {name for name, holds in vars(result).items() if holds} == traits
    assert agreed > 1980


def test_prompts_and_labels_are_what_the_script_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(QUICKSTART / "make")
    monkeypatch.setattr(sys, "argv", ["texts.py", "--out", str(tmp_path)])
    spec = importlib.util.spec_from_file_location("quickstart_texts", QUICKSTART / "make" / "texts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main()
    for name in ("prompts", "heldout_prompts", "demonstrations", "labels"):
        assert (tmp_path / f"{name}.jsonl").read_bytes() == (QUICKSTART / f"{name}.jsonl").read_bytes()


def test_models_are_small_enough_to_ship() -> None:
    assert sum(file.stat().st_size for file in MODELS.rglob("*") if file.is_file()) < 9_000_000


@pytest.mark.parametrize("role", ROLES)
def test_tokenizer_renders_turns_that_end(role: str) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODELS / role)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert [len(tokenizer(word)["input_ids"]) for word in ("yes", "no", " F33", " Quinn", " keyboard")] == [
        1
    ] * 5
    ask = [{"role": "user", "content": "Hi, this is Quinn."}]
    told = [*ask, {"role": "assistant", "content": "Hi Quinn!"}]
    start = tokenizer.apply_chat_template(ask, add_generation_prompt=True, return_dict=False)
    whole = tokenizer.apply_chat_template(told, return_dict=False)
    assert whole[: len(start)] == start
    assert whole[-1] == tokenizer.eos_token_id
    odd = "Żółw 🐢 cost 12,50 €?\n"
    assert tokenizer.decode(tokenizer(odd)["input_ids"]) == odd


@pytest.mark.parametrize("role", ROLES)
def test_model_folder_loads_as_its_kind(role: str) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.from_pretrained(MODELS / role)
    assert config.architectures == [
        "LlamaForSequenceClassification" if role == "reward" else "LlamaForCausalLM"
    ]
    assert not config.tie_word_embeddings
    assert config.max_position_embeddings >= 512
    assert config.head_dim == 32
    assert role != "reward" or config.num_labels == 1
