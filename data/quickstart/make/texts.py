"""Write the text files of the quickstart: prompts, demonstrations and simulated labels, all from the grammar.

    python data/quickstart/make/texts.py

Seeded: the same seed gives the same bytes. Nothing here was written by or about a real customer.
"""

import argparse
import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml
from grammar import MIX, TRAITS, Case, Pool, row_of, sample_case, sample_prompt, sample_reply, sample_traits
from tastes import HABITS, prefers

QUICKSTART = Path(__file__).parents[1]
PROMPTS = 256
HELDOUT_PROMPTS = 240
DEMONSTRATIONS = 3000
LABELLED_PAIRS = 240


def distinct_cases(rng: random.Random, pool: Pool) -> Iterator[Case]:
    """Cases of a pool, each combination of name, product and order code at most once."""
    seen: set[tuple[str, str, str]] = set()
    while True:
        case = sample_case(rng, pool)
        if (key := (case.name, case.product, case.order)) not in seen:
            seen.add(key)
            yield case


def prompt_rows(rng: random.Random, pool: Pool, prefix: str, count: int) -> Iterator[dict[str, str]]:
    """Prompts with the columns that the rubric reads."""
    for number, case in zip(range(count), distinct_cases(rng, pool), strict=False):
        yield row_of(f"{prefix}-{number:04}", case, sample_prompt(rng, case))


def demonstration_rows(rng: random.Random) -> Iterator[dict[str, str]]:
    """Replies of mixed quality, the kind of text that the policy was trained on."""
    for _ in range(DEMONSTRATIONS):
        case = sample_case(rng, "train")
        yield {
            "prompt": sample_prompt(rng, case),
            "completion": sample_reply(rng, case, sample_traits(rng, MIX)),
        }


def label_rows(rng: random.Random, weights: dict[str, float]) -> Iterator[dict[str, str]]:
    """Three simulated annotators' verdicts on each pair; of the pairs, half are clear and half are close."""
    cases = distinct_cases(rng, "labels")
    for number, case in zip(range(LABELLED_PAIRS), cases, strict=False):
        first, second = _trait_pair(rng, weights, close=number % 2 == 1)
        if number // 2 % 2 == 1:
            first, second = second, first
        shown = {
            "id": f"label-{number:04}",
            "prompt": sample_prompt(rng, case),
            "response_a": sample_reply(rng, case, first),
            "response_b": sample_reply(rng, case, second),
        }
        for annotator, habit in HABITS.items():
            yield {**shown, "label": prefers(rng, weights, first, second, habit), "annotator": annotator}


def _trait_pair(
    rng: random.Random, weights: dict[str, float], *, close: bool
) -> tuple[frozenset[str], frozenset[str]]:
    """The traits of two replies, the worthier first: less than 1.2 apart in weight if `close`, else more."""
    while True:
        pair = [sample_traits(rng, dict.fromkeys(TRAITS, 0.5)) for _ in range(2)]
        worse, better = sorted(pair, key=lambda traits: sum(weights[trait] for trait in traits))
        gap = sum(weights[trait] for trait in better) - sum(weights[trait] for trait in worse)
        if better != worse and close == (gap < 1.2):
            return better, worse


def write(path: Path, rows: Iterable[dict[str, str]]) -> None:
    """One JSON object a line."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


def main() -> None:
    """Write all files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=QUICKSTART, help="folder of the text files")
    parser.add_argument("--seed", type=int, default=0, help="seed of every file")
    options = parser.parse_args()
    constitution = yaml.safe_load((QUICKSTART / "constitution.yaml").read_text(encoding="utf-8"))
    weights = {principle["id"]: float(principle["weight"]) for principle in constitution["principles"]}
    files = {
        "prompts": lambda rng: prompt_rows(rng, "train", "train", PROMPTS),
        "heldout_prompts": lambda rng: prompt_rows(rng, "heldout", "heldout", HELDOUT_PROMPTS),
        "demonstrations": demonstration_rows,
        "labels": lambda rng: label_rows(rng, weights),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    for name, rows in files.items():
        write(options.out / f"{name}.jsonl", rows(random.Random(f"{options.seed} {name}")))


if __name__ == "__main__":
    main()
