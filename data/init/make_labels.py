"""Makes labels.jsonl: pairs of replies of one to seven sentences, labelled by two simulated annotators.

    python data/init/make_labels.py

Both like the reply that says more, and where the two are nearly alike they often see it otherwise. It is what
`scripted/judge` likes too: the file shows what a calibration looks like and says nothing of any judge.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

HERE = Path(__file__).parent
PAIRS = 60
SENTENCES = (
    "I am sorry that this went wrong.",
    "I found the {product} under order {order}.",
    "We send a new one by Tuesday.",
    "You need not return the old one.",
    "All costs are ours.",
    "A photo would help us to find the cause.",
    "Write to me at any time if something is unclear.",
)


def main() -> None:
    lot = random.Random(0)
    prompts = (HERE.parent / "quickstart" / "prompts.jsonl").read_text("utf-8").splitlines()
    lines = []
    for number, line in enumerate(prompts[:PAIRS]):
        row = json.loads(line)
        sizes = lot.sample(range(1, len(SENTENCES) + 1), 2)
        a, b = (_reply(row, size, lot) for size in sizes)
        pair = {"id": f"pair-{number:02d}", "prompt": row["prompt"], "response_a": a, "response_b": b}
        lines += [pair | {"label": _label(sizes, lot), "annotator": name} for name in ("ann", "ben")]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (HERE / "labels.jsonl").write_text(text, encoding="utf-8")


def _reply(row: dict[str, str], size: int, lot: random.Random) -> str:
    chosen = sorted(lot.sample(range(len(SENTENCES)), size))
    return f"Hi {row['name']}! " + " ".join(SENTENCES[place].format(**row) for place in chosen)


def _label(sizes: list[int], lot: random.Random) -> str:
    seen = sizes[0] - sizes[1] + lot.gauss(0, 0.7)
    return "tie" if abs(seen) < 0.3 else "a" if seen > 0 else "b"


if __name__ == "__main__":
    main()
