"""`prefgen train dpo` against a plain TRL script with TRL's defaults, on pairs of mixed lengths.

The model is a Llama of 5 million parameters; a pair has a prompt of 8–170 and responses of 12–130 tokens.
Each run is a process of its own, the two kinds take turns, and ratios are medians over the rounds. Tokens are
those of the sequences trained on, prompt and response, without padding, whatever a run computes. Seconds are
of the processor, on one thread, so other jobs on the machine do not count.

    training       tokens a second of the training loop; one-off work (tokenisation, reference) left out
    with one-off   of one epoch with all that comes before it: files, model, tokenisation, an empty cache
    memory         peak of the process's resident memory
    same losses    float32, same order: the largest difference of a step's loss
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BATCH, RATE, BETA = 8, 1e-5, 0.1
VOCABULARY = 1024
FIXED = {"plain": "plain TRL", "ours": "prefgen"}


def make(home: Path, pairs: int) -> None:
    """A random model, and pairs of random words of one token each."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = {"<pad>": 0, "<end>": 1, **{f"w{number}": number for number in range(2, VOCABULARY)}}
    core = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>", pad_token="<pad>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(home / "model")
    tokenizer.save_pretrained(home / "model")
    rng = random.Random(0)

    def text(low: int, high: int) -> str:
        return " ".join(f"w{rng.randrange(2, VOCABULARY)}" for _ in range(rng.randint(low, high)))

    with (home / "pairs.jsonl").open("w") as file:
        for _ in range(pairs):
            row = {
                "prompt": text(8, 170),
                "chosen": f" {text(12, 130)} <end>",
                "rejected": f" {text(12, 130)} <end>",
            }
            file.write(json.dumps(row) + "\n")


def tokens(home: Path) -> int:
    """Of all sequences once; a word is a token."""
    rows = [json.loads(line) for line in (home / "pairs.jsonl").read_text().splitlines()]
    return sum(len(f"{row['prompt']}{row[side]}".split()) for row in rows for side in ("chosen", "rejected"))


# ---------------------------------------------------------------------------------------- one run, a process


def run(kind: str, home: Path, epochs: int, exact: bool) -> dict[str, Any]:
    """Trains once on one thread. `exact`: float32 and the order of rows as stock, to compare losses."""
    import torch
    import transformers

    import trainers.pair_trainer as everything

    assert everything  # what both import, imported before the clock starts
    torch.set_num_threads(1)
    loop, spans = transformers.Trainer.train, []

    def timed(trainer: Any, *arguments: Any, **options: Any) -> Any:
        begin = time.process_time()
        result = loop(trainer, *arguments, **options)
        spans.append((begin, time.process_time()))
        return result

    transformers.Trainer.train = timed
    start = time.process_time()
    losses = (plain if kind == "plain" else ours)(home, epochs, exact)
    [(begin, end)] = spans
    return {
        "losses": losses,
        "before": begin - start,
        "train": end - begin,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def plain(home: Path, epochs: int, exact: bool) -> list[float]:
    """What TRL's documentation shows; on a machine without a GPU it has to be told so."""
    import torch
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    settings: dict[str, Any] = {"use_cpu": True, "per_device_train_batch_size": BATCH, "learning_rate": RATE}
    settings |= {"num_train_epochs": epochs, "save_strategy": "no", "disable_tqdm": True, "beta": BETA}
    if exact:
        settings |= {"bf16": False, "logging_steps": 1, "lr_scheduler_type": "cosine", "warmup_steps": 0.1}
    rows = load_dataset(
        "json", data_files=str(home / "pairs.jsonl"), split="train", cache_dir=str(home / "hf")
    )
    trainer = DPOTrainer(
        AutoModelForCausalLM.from_pretrained(home / "model", dtype=torch.float32),
        args=DPOConfig(output_dir=str(home / "trl"), **settings),
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(home / "model"),
    )
    trainer.train()
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


def ours(home: Path, epochs: int, exact: bool) -> list[float]:
    """The stage as `prefgen train dpo` runs it."""
    from trainers.dpo import DPOConfig, train_dpo

    losses: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        config = DPOConfig(
            model=str(home / "model"),
            data=home / "pairs.jsonl",
            out=Path(folder) / "out",
            reference_cache=Path(folder) / "reference.sqlite",
            eval_share=0,
            epochs=epochs,
            batch_size=BATCH,
            learning_rate=RATE,
            beta=BETA,
            dtype="float32" if exact else "bfloat16",
            group_by_length=not exact,
            gradient_checkpointing=False,
            logging_steps=1 if exact else 10,
            save_steps=10**6,
            # The model is random, and plain TRL watches nothing.
            allow_base_model=True,
            watch_prompts=0,
        )
        train_dpo(config, lambda numbers: losses.extend([numbers["loss"]] if "loss" in numbers else []))
    return losses


# --------------------------------------------------------------------------------------------- all the runs


def measure(kind: str, home: Path, epochs: int, exact: bool = False) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", kind, "--home", str(home), "--epochs", str(epochs)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TQDM_DISABLE": "1"}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [*command, *(["--exact"] if exact else [])],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def compare(home: Path, rounds: int, epochs: int) -> None:
    print(f"{'':10}  {'training':>18}  {'one epoch, one-off':>18}  {'memory':>9}")
    n_tokens = tokens(home)
    found: dict[str, list[tuple[float, float, float]]] = {kind: [] for kind in FIXED}
    for _ in range(rounds):
        for kind in FIXED:
            one = measure(kind, home, epochs)
            whole = one["before"] + one["train"] / epochs
            found[kind].append((epochs * n_tokens / one["train"], n_tokens / whole, one["memory"]))
            speed, all_in, memory = found[kind][-1]
            print(
                f"{FIXED[kind]:10}  {speed:12.0f} tok/s  {all_in:12.0f} tok/s  {memory:6.0f} MB", flush=True
            )
    ratios = [
        statistics.median(
            ours[at] / theirs[at] for ours, theirs in zip(found["ours"], found["plain"], strict=True)
        )
        for at in range(3)
    ]
    print(f"{'ratio':10}  {ratios[0]:16.2f} x  {ratios[1]:16.2f} x  {ratios[2]:7.2f} x")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--one", choices=list(FIXED))
    parser.add_argument("--exact", action="store_true")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(run(given.one, given.home, given.epochs, given.exact)))
        return
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        make(home, given.pairs)
        print(
            f"{given.pairs} pairs, {tokens(home)} tokens an epoch, batches of {BATCH}, {given.epochs} epochs"
        )
        compare(home, given.rounds, given.epochs)
        theirs, mine = (measure(kind, home, 1, exact=True)["losses"] for kind in FIXED)
        apart = max(abs(one - other) for one, other in zip(theirs, mine, strict=True))
        print(f"same losses: {len(mine)} steps in float32, at most {apart:.1e} apart")


if __name__ == "__main__":
    main()
