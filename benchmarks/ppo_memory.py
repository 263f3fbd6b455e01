"""Peak memory of PPO: LoRA on one backbone, against one model alone and against four separate models.

    one    one model, a forward pass of inference
    lora   our PPO with LoRA: policy, value function and reference on one backbone
    four   PPO in full: policy and value function trained with AdamW, reference, reward: four models

Each runs in a process of its own, in float32 with gradient checkpointing, on the same random model and
prompts, and takes one step: rollouts, scores, two passes of updates. Counted is the highest memory of the
process above what it had after its imports (on CUDA what torch had allocated at most): weights, gradients,
optimizer, activations and rollouts; not what saving takes. The reward of `lora` is a rule without weights,
as a reward model weighs the same whoever trains. Target: lora / one at most 1.4.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from trainers.rewards import Reward, Sample, Score

TARGET = 1.4
PROMPTS, PROMPT_WORDS, NEW_TOKENS, BATCH = 4, 12, 16, 2
VOCABULARY = 8000
MEBIBYTE = 2**20


class _DoneError(Exception):
    """Ends a run after its first step."""


def make_model(folder: Path) -> int:
    """Writes a random Llama with a tokenizer of whole words; returns its size in bytes."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = {word: place for place, word in enumerate(["<pad>", "<end>", *map(str, range(VOCABULARY - 2))])}
    core = Tokenizer(models.WordLevel(words, unk_token="0"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>", pad_token="<pad>")
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] + ' ' }}{% endfor %}"
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=12,
        num_attention_heads=16,
        max_position_embeddings=256,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    return sum(weight.nbytes for weight in model.parameters())


def write_prompts(path: Path) -> None:
    rows = [
        {"prompt": " ".join(str(31 * row + 7 * word) for word in range(PROMPT_WORDS))}
        for row in range(PROMPTS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


# ----------------------------------------------------------------------------------------- what is measured


def one(home: Path) -> None:
    _forward(home, "language")()


def lora(home: Path) -> None:
    _ppo(home, lora=True, score=_even_words)


def four(home: Path) -> None:
    ask = _forward(home, "reward")

    def score(samples: Sequence[Sample]) -> list[float | None]:
        ask()
        return _even_words(samples)

    _ppo(home, lora=False, score=score)


def _ppo(home: Path, *, lora: bool, score: Score) -> None:
    from trainers.ppo import PPOConfig, train_ppo

    config = PPOConfig(
        model=str(home / "model"),
        data=home / "prompts.jsonl",
        out=home / ("lora" if lora else "full"),
        eval_share=0,
        lora=lora,
        rollout_batch_size=PROMPTS,
        batch_size=BATCH,
        ppo_epochs=2,
        max_new_tokens=NEW_TOKENS,
        max_length=128,
        max_steps=2,
        watch_prompts=0,
    )

    def stop(numbers: dict[str, float]) -> None:
        assert numbers["policy/updates"] == 2 * PROMPTS // BATCH
        raise _DoneError

    try:
        train_ppo(config, [Reward("even words", score)], stop)
    except _DoneError:
        return
    raise AssertionError("the run did not log its first step")


def _forward(home: Path, head: str) -> Callable[[], None]:
    """A loaded model, as a function that runs it over a batch as long as a prompt with its response."""
    import torch

    from trainers.loading import load_model

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_model(str(home / "model"), head, "float32").to(device)  # type: ignore[arg-type]
    ids = torch.randint(2, VOCABULARY, (BATCH, PROMPT_WORDS + NEW_TOKENS), device=device)

    def ask() -> None:
        with torch.no_grad():
            model(ids)

    return ask


def _even_words(samples: Sequence[Sample]) -> list[float | None]:
    return [float(sum(word[-1] in "02468" for word in sample.completion.split())) for sample in samples]


KINDS: dict[str, Callable[[Path], None]] = {"one": one, "lora": lora, "four": four}


def measure(kind: str, home: Path) -> float:
    """Peak memory in MiB, in this process."""
    import accelerate  # noqa: F401
    import datasets  # noqa: F401
    import peft  # noqa: F401
    import torch
    import transformers
    import trl  # noqa: F401

    from trainers.ppo import learner, networks, rollout, trainer  # noqa: F401

    # What is loaded lazily counts as imported too.
    _ = transformers.LlamaForCausalLM, transformers.TrainingArguments, torch.optim.AdamW
    base = _peak()
    KINDS[kind](home)
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / MEBIBYTE
    return _peak() - base


def _peak() -> float:
    """Of this program: what getrusage tells is begun by the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


# ------------------------------------------------------------------------------------------------- the table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.kind:
        print(measure(chosen.kind, chosen.home))
        return
    with tempfile.TemporaryDirectory(prefix="prefgen-ppo-memory-") as folder:
        home = Path(folder)
        weights = make_model(home / "model") / MEBIBYTE
        write_prompts(home / "prompts.jsonl")
        print(
            f"model: {weights:.0f} MiB of weights ({weights * MEBIBYTE / 4e6:.0f} million, float32)",
            flush=True,
        )
        found: dict[str, float] = {}
        for kind in KINDS:
            found[kind] = _in_own_process(kind, home)
            print(f"{kind:5} {found[kind]:6.0f} MiB  {found[kind] / found['one']:5.2f} x one", flush=True)
    ratio = found["lora"] / found["one"]
    print(f"four / lora: {found['four'] / found['lora']:.1f}")
    print(f"lora / one: {ratio:.2f} (target: at most {TARGET}) {'ok' if ratio <= TARGET else 'MISSED'}")
    sys.exit(ratio > TARGET)


def _in_own_process(kind: str, home: Path) -> float:
    command = [sys.executable, __file__, "--kind", kind, "--home", str(home)]
    # One arena: else glibc keeps freed memory for each of torch's threads, differently from run to run.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
