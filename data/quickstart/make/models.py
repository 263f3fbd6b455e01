"""Train the quickstart's tokenizer and three tiny models from nothing but the grammar beside this file.

    python data/quickstart/make/models.py            # writes data/quickstart/models/{policy,judge,reward}

Seeded and run on two CPU threads. Each model is checked on cases of the grammar's "check" pool while it
trains and its best state is kept, since models this small are fickle. Weights are trained in fp32 and written
in bf16.
"""

import argparse
import copy
import json
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from grammar import (
    GREETINGS,
    MIX,
    NAMES,
    OPENINGS,
    ORDERS,
    PRODUCTS,
    TRAITS,
    Case,
    Pool,
    sample_case,
    sample_prompt,
    sample_reply,
    sample_traits,
    traits_of,
    vocabulary,
)
from tastes import prefers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

QUICKSTART = Path(__file__).parents[1]
PAD, END, SYSTEM, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|' + message['role'] + '|>' + message['content'] -}}"
    "{%- if message['role'] == 'assistant' -%}{{- '<|end|>' -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
WORDS = r" ?[\p{L}\p{N}]+| ?[^\s\p{L}\p{N}]+|\s+"
"""A code such as F33 stays whole, so that it can become one token."""

IGNORE = -100
"""The label that cross-entropy leaves out."""

BALANCED = dict.fromkeys(TRAITS, 0.5)


@dataclass(frozen=True)
class Example:
    """A customer's message, a reply to it, and the traits of that reply."""

    case: Case
    prompt: str
    reply: str
    traits: frozenset[str]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast one model learns."""

    steps: int
    """Optimizer steps."""
    batch: int
    """Examples (pairs, for the reward model) in each step."""
    peak: float
    """Highest learning rate of the cosine schedule, reached after 5 % of the steps."""
    check_every: int
    """Steps between two looks at the check pool."""


# ------------------------------------------------------------------------------------------------ tokenizer


def make_tokenizer(principles: dict[str, str], template: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE that knows each word of the grammar as one token and spells any other text in pieces."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        min_frequency=1,
        special_tokens=[PAD, END, SYSTEM, USER, ASSISTANT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [f" {text}" for text in [*vocabulary(), *principles.values()]]
    starts = [sentence.split()[0] for sentence in (*OPENINGS, *GREETINGS)]
    core.train_from_iterator([*texts, *starts, template, "yes", "no"], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        chat_template=CHAT_TEMPLATE,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def chat(tokenizer: PreTrainedTokenizerFast, prompt: str, reply: str | None = None) -> list[int]:
    """Token ids of a prompt that awaits its answer, or of a prompt with its reply."""
    messages = [{"role": "user", "content": prompt}]
    if reply is not None:
        messages.append({"role": "assistant", "content": reply})
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=reply is None)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


# ----------------------------------------------------------------------------------------------- one learner


def new_config(
    tokenizer: PreTrainedTokenizerFast, width: int, inner: int, layers: int, theta: float = 1e4
) -> LlamaConfig:
    """A small Llama with heads of 32 (the least that vLLM's CPU attention takes) and untied embeddings.

    A higher `theta` (base of the rotary positions) makes two equal words look alike at any distance.
    """
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 32,
        head_dim=32,
        max_position_embeddings=512,
        initializer_range=0.06,
        rope_parameters={"rope_type": "default", "rope_theta": theta},
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def seek_alike(model: PreTrainedModel) -> None:
    """Start every attention head with equal query and key weights.

    A token then looks for earlier tokens of its own kind from the first step on, which is what comparing a
    reply's order code with the customer's takes; from unequal weights a model this small hardly finds it.
    """
    for layer in model.model.layers:
        layer.self_attn.k_proj.weight.data.copy_(layer.self_attn.q_proj.weight.data)


def fit(
    model: PreTrainedModel,
    schedule: Schedule,
    loss_at: Callable[[int], Tensor],
    check: Callable[[], float],
) -> float:
    """Minimise `loss_at(step)`, leave the model in the state with the highest `check()`, and return that."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=schedule.peak, betas=(0.9, 0.98), weight_decay=0.01)
    best, state, started = -math.inf, model.state_dict(), time.perf_counter()
    for step in range(schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.peak * _pace(step / schedule.steps)
        loss = loss_at(step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % schedule.check_every == 0:
            with torch.inference_mode():
                score = check()
            took = time.perf_counter() - started
            print(f"  step {step + 1:5} loss {loss.item():.3f} check {score:.3f} ({took:.0f} s)", flush=True)
            if score >= best:
                best, state = score, {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(state)
    return best


def _pace(done: float) -> float:
    """Share of the peak learning rate when `done` of the training is over."""
    return min(done / 0.05, 0.5 + 0.5 * math.cos(math.pi * done)) + 1e-3


def pad(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Rows of unequal length as one matrix, filled up at the right."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])


def sample_example(rng: random.Random, pool: Pool, share: dict[str, float]) -> Example:
    """A fresh case of `pool` with a reply whose traits have the given odds."""
    case, traits = sample_case(rng, pool), sample_traits(rng, share)
    return Example(case, sample_prompt(rng, case), sample_reply(rng, case, traits), traits)


# ---------------------------------------------------------------------------------------------------- policy


def train_policy(tokenizer: PreTrainedTokenizerFast, schedule: Schedule, seed: int) -> LlamaForCausalLM:
    """Learn to echo the slots of a prompt first, then to write replies of mixed quality."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    model = LlamaForCausalLM(new_config(tokenizer, width=128, inner=320, layers=4))
    held_out = [sample_example(random.Random(seed + 1 + item), "check", MIX) for item in range(256)]

    def loss_at(step: int) -> Tensor:
        echoes = 0.9 if step < 0.25 * schedule.steps else 0.05
        batch = [sample_example(rng, "train", MIX) for _ in range(schedule.batch)]
        replies = [echo(example.case) if rng.random() < echoes else example.reply for example in batch]
        return reply_loss(model, tokenizer, [example.prompt for example in batch], replies)

    def check() -> float:
        prompts, replies = [e.prompt for e in held_out], [e.reply for e in held_out]
        return -reply_loss(model, tokenizer, prompts, replies).item()

    fit(model, schedule, loss_at, check)
    return model


def echo(case: Case) -> str:
    """The slots of a case and nothing else: the shortest lesson in copying."""
    return f"Hello {case.name}! Order {case.order} for the {case.product}."


def reply_loss(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[str],
    replies: Sequence[str],
) -> Tensor:
    """Mean negative log-likelihood of the replies' tokens, in nats."""
    rows, labels = [], []
    for prompt, reply in zip(prompts, replies, strict=True):
        row, start = chat(tokenizer, prompt, reply), len(chat(tokenizer, prompt))
        rows.append(row)
        labels.append([*[IGNORE] * start, *row[start:]])
    ids, wanted = pad(rows, tokenizer.pad_token_id), pad(labels, IGNORE)
    hidden = model.model(input_ids=ids, attention_mask=ids != tokenizer.pad_token_id).last_hidden_state
    kept = wanted[:, 1:] != IGNORE
    return cross_entropy(model.lm_head(hidden[:, :-1][kept]), wanted[:, 1:][kept])


def sample_policy(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    cases: Sequence[Case],
    seed: int,
    greedy: bool = False,
) -> list[Example]:
    """One reply of the policy to each case, at temperature 1 or greedy, with the traits that it shows."""
    torch.manual_seed(seed)
    rng, examples = random.Random(seed), []
    for start in range(0, len(cases), 250):
        part = cases[start : start + 250]
        prompts = [sample_prompt(rng, case) for case in part]
        rows = [chat(tokenizer, prompt) for prompt in prompts]
        longest = max(len(row) for row in rows)
        ids = torch.tensor([[tokenizer.pad_token_id] * (longest - len(row)) + row for row in rows])
        written = model.generate(
            ids,
            attention_mask=ids != tokenizer.pad_token_id,
            do_sample=not greedy,
            top_k=0,
            max_new_tokens=112,
        )
        replies = tokenizer.batch_decode(written[:, longest:], skip_special_tokens=True)
        for case, prompt, reply in zip(part, prompts, replies, strict=True):
            examples.append(Example(case, prompt, reply, traits_of(case, reply)))
    return examples


# -------------------------------------------------------------------------------------------------- comparer


@dataclass(frozen=True)
class Quiz:
    """Two questions asked along a reply, so that a model this small learns to verify what it repeats.

    At each name, product and order code: does it stand in the customer's message? And at each token: are all
    three slots in the reply by now, and none of them wrong? The verdict alone, one bit for a whole reply,
    hardly teaches the comparison. The first question is put behind layer 2, the second behind layer 3.
    """

    slots: tuple[Tensor, Tensor, Tensor]
    """Token ids of all names, of all products and of all order codes."""
    boundaries: Tensor
    """Token ids with which a reply begins: in the judge's template, and in a conversation."""
    yes: int
    no: int

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerFast) -> "Quiz":
        """The quiz in a tokenizer's ids."""
        banks = (NAMES, PRODUCTS, ORDERS)
        names, products, orders = (
            torch.tensor([tokenizer(f" {word}")["input_ids"][0] for word in bank]) for bank in banks
        )
        yes, no, *starts = (tokenizer(word)["input_ids"][0] for word in ("yes", "no", "Reply", ASSISTANT))
        return cls((names, products, orders), torch.tensor(starts), yes, no)

    def loss(self, ids: Tensor, states: Sequence[Tensor], head: torch.nn.Module, upto: Tensor) -> Tensor:
        """Mean negative log-likelihood of both questions' right answers, in nats, on the tokens `upto`."""
        total = torch.zeros(())
        for state, wanted in zip(states[2:4], self.answers(ids), strict=True):
            asked = (wanted != IGNORE) & upto
            total = total + cross_entropy(head(state[asked]), wanted[asked])
        return total

    def answers(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The right answers' token ids to the two questions, IGNORE where they are not asked."""
        replying = torch.isin(ids, self.boundaries).cumsum(dim=1) > 0
        known = ((ids[:, :, None] == ids[:, None, :]) & ~replying[:, None, :]).any(dim=2)
        kinds = [replying & torch.isin(ids, bank) for bank in self.slots]
        asked = kinds[0] | kinds[1] | kinds[2]
        right = (asked & ~known).cumsum(dim=1) == 0
        for kind in kinds:
            right &= kind.cumsum(dim=1) > 0
        told = torch.where(known, self.yes, self.no), torch.where(right, self.yes, self.no)
        return torch.where(asked, told[0], IGNORE), torch.where(replying, told[1], IGNORE)


def train_comparer(
    tokenizer: PreTrainedTokenizerFast, template: str, schedule: Schedule, seed: int
) -> LlamaForCausalLM:
    """Three layers that pass the quiz: what the judge and the reward model are built upon.

    Mastery learning: texts are short at first, and longer ones come in as fast as the loss stays low. From
    long texts alone the comparison is hardly ever learned, and a sudden change of length undoes it again.
    """
    torch.manual_seed(seed)
    rng = random.Random(seed)
    model = LlamaForCausalLM(comparing_config(tokenizer, layers=3))
    seek_alike(model)
    quiz, template = Quiz.of(tokenizer), template.partition("{{principle}}")[0]
    hard_rng = random.Random(seed + 1)
    hard = [comparison(hard_rng, "check", 1.0) for _ in range(200)]
    running, difficulty = 1.0, 0.0

    def read(examples: Sequence[Example]) -> tuple[Tensor, Sequence[Tensor]]:
        half = len(examples) // 2
        rows = [chat(tokenizer, fill(template, example)) for example in examples[:half]]
        rows += [chat(tokenizer, example.prompt, example.reply) for example in examples[half:]]
        ids = pad(rows, tokenizer.pad_token_id)
        return ids, read_states(model, ids, ids != tokenizer.pad_token_id)

    def loss_at(step: int) -> Tensor:
        nonlocal running, difficulty
        del step
        ids, states = read([comparison(rng, "train", difficulty) for _ in range(schedule.batch)])
        loss = quiz.loss(ids, states, model.lm_head, ids != tokenizer.pad_token_id)
        running = 0.9 * running + 0.1 * loss.item()
        difficulty = min(1.0, difficulty + 0.01 * (running < 0.35))
        return loss

    def check() -> float:
        ids, states = read(hard)
        shares = []
        for state, wanted in zip(states[2:4], quiz.answers(ids), strict=True):
            asked = (wanted != IGNORE) & (ids != tokenizer.pad_token_id)
            logits = model.lm_head(state[asked])
            right = (logits[:, quiz.yes] > logits[:, quiz.no]) == (wanted[asked] == quiz.yes)
            shares.append(right.float().mean().item())
        print(f"   difficulty {difficulty:.2f} words {shares[0]:.3f} running verdict {shares[1]:.3f}")
        return sum(shares) / 2

    fit(model, schedule, loss_at, check)
    return model


def read_states(
    model: PreTrainedModel, ids: Tensor, mask: Tensor, position: Tensor | None = None
) -> list[Tensor]:
    """The normalised hidden states: of the embeddings, then behind each layer."""
    trunk = model.model
    read = trunk(input_ids=ids, attention_mask=mask, position_ids=position, output_hidden_states=True)
    return [*map(trunk.norm, read.hidden_states[:-1]), read.last_hidden_state]


def comparing_config(tokenizer: PreTrainedTokenizerFast, layers: int) -> LlamaConfig:
    """The shape that the comparer, the judge and the reward model share."""
    return new_config(tokenizer, width=160, inner=384, layers=layers, theta=1e6)


def comparison(rng: random.Random, pool: Pool, difficulty: float) -> Example:
    """A message and a reply in which all slots are the customer's (40 %), or each with even odds.

    `difficulty` is the chance for each of the two texts to be a whole one, not just a list of the slots.
    """
    case, other = sample_case(rng, pool), sample_case(rng, pool)
    told = Case(
        case.intent, *(getattr(rng.choice((case, other)), slot) for slot in ("name", "product", "order"))
    )
    prompt, reply = echo(case), echo(told)
    if rng.random() < difficulty:
        prompt = sample_prompt(rng, case)
    if rng.random() < difficulty:
        reply = sample_reply(rng, told, sample_traits(rng, BALANCED) | {"accurate"})
    return Example(case, prompt, reply, traits_of(case, reply))


# ----------------------------------------------------------------------------------------------------- judge


def train_judge(
    tokenizer: PreTrainedTokenizerFast,
    comparer: LlamaForCausalLM,
    principles: dict[str, str],
    template: str,
    samples: Sequence[Example],
    schedule: Schedule,
    seed: int,
) -> LlamaForCausalLM:
    """One more layer upon the comparer, to answer yes or no on all principles at once."""
    torch.manual_seed(seed)
    rng, check_rng = random.Random(seed), random.Random(seed + 1)
    model = LlamaForCausalLM(comparing_config(tokenizer, layers=4))
    seek_alike(model)
    model.load_state_dict(comparer.state_dict(), strict=False)
    quiz = Quiz.of(tokenizer)
    held_out = [sample_example(check_rng, "check", BALANCED) for _ in range(200)]
    rows = [judge_rows(tokenizer, principles, template, example) for example in held_out]

    def example() -> Example:
        kind = rng.choices(("own", "fresh", "comparison"), (4, 4, 2))[0]
        if kind == "own":
            return rng.choice(samples)
        if kind == "fresh":
            return sample_example(rng, "train", BALANCED)
        return comparison(rng, "train", 0.5)

    def loss_at(step: int) -> Tensor:
        del step
        batch = [example() for _ in range(schedule.batch)]
        questions = [judge_rows(tokenizer, principles, template, example) for example in batch]
        states, ends, ids, shared = read_questions(model, tokenizer, questions)
        wanted = [quiz.yes if trait in e.traits else quiz.no for e in batch for trait in TRAITS]
        logits = model.lm_head(states[-1][ends])
        verdicts = cross_entropy(logits, torch.tensor(wanted), label_smoothing=0.02)
        return verdicts + quiz.loss(ids, states, model.lm_head, shared)

    def check() -> float:
        states, ends, _, _ = read_questions(model, tokenizer, rows)
        logits = model.lm_head(states[-1][ends])
        says_yes = (logits[:, quiz.yes] > logits[:, quiz.no]).view(-1, len(TRAITS))
        truth = torch.tensor([[trait in example.traits for trait in TRAITS] for example in held_out])
        right = (says_yes == truth).float().mean(dim=0)
        print("  ", " ".join(f"{trait} {share:.2f}" for trait, share in zip(TRAITS, right, strict=True)))
        return right.mean().item()

    fit(model, schedule, loss_at, check)
    return model


def judge_rows(
    tokenizer: PreTrainedTokenizerFast, principles: dict[str, str], template: str, example: Example
) -> list[list[int]]:
    """The judge's question about one reply, once for each principle, as token ids."""
    filled = fill(template, example)
    return [chat(tokenizer, filled.replace("{{principle}}", principles[trait])) for trait in TRAITS]


def fill(template: str, example: Example) -> str:
    """The judge's template with the message and the reply in it."""
    return template.replace("{{prompt}}", example.prompt).replace("{{response}}", example.reply)


def read_questions(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, questions: Sequence[Sequence[Sequence[int]]]
) -> tuple[Sequence[Tensor], tuple[Tensor, Tensor], Tensor, Tensor]:
    """Hidden states, where each question ends (rows, columns), token ids, and which of them are shared.

    The questions about one reply differ only at their end, so their common start is read once: the ends
    follow in one sequence, each at the positions it would have alone and blind to the other ends.
    """
    rows, places, spans, ends = [], [], [], []
    for variants in questions:
        shared = common_length(variants)
        row, place, span = list(variants[0][:shared]), list(range(shared)), [0] * shared
        for number, variant in enumerate(variants, start=1):
            row += variant[shared:]
            place += range(shared, len(variant))
            span += [number] * (len(variant) - shared)
            ends.append((len(rows), len(row) - 1))
        rows.append(row)
        places.append(place)
        spans.append(span)
    ids, position, part = pad(rows, tokenizer.pad_token_id), pad(places, 0), pad(spans, -1)
    same = (part[:, None, :] == part[:, :, None]) | (part[:, None, :] == 0)
    mask = (same & torch.ones(ids.shape[1], ids.shape[1]).tril().bool())[:, None]
    states = read_states(model, ids, mask, position)
    row_index, column = torch.tensor(ends).unbind(dim=1)
    return states, (row_index, column), ids, part == 0


def common_length(rows: Sequence[Sequence[int]]) -> int:
    """Number of leading tokens that all rows share."""
    return next((i for i, column in enumerate(zip(*rows, strict=False)) if len(set(column)) > 1), 0)


# ---------------------------------------------------------------------------------------------- reward model


def train_reward(
    tokenizer: PreTrainedTokenizerFast,
    comparer: LlamaForCausalLM,
    weights: dict[str, float],
    samples: Sequence[Example],
    schedule: Schedule,
    seed: int,
) -> LlamaForSequenceClassification:
    """One more layer and a score upon the comparer: Bradley-Terry on pairs of one simulated annotator."""
    torch.manual_seed(seed)
    rng, check_rng = random.Random(seed), random.Random(seed + 1)
    config = comparing_config(tokenizer, layers=4)
    config.num_labels = 1
    model = LlamaForSequenceClassification(config)
    seek_alike(model)
    model.model.load_state_dict(comparer.model.state_dict(), strict=False)
    quiz, quiz_head = Quiz.of(tokenizer), copy.deepcopy(comparer.lm_head).requires_grad_(False)
    held_out = [sample_pair(check_rng, "check", weights, ()) for _ in range(300)]

    def read(pairs: Sequence[tuple[Example, Example]]) -> tuple[Tensor, Sequence[Tensor]]:
        replies = [example for side in zip(*pairs, strict=True) for example in side]
        ids = pad([chat(tokenizer, e.prompt, e.reply) for e in replies], tokenizer.pad_token_id)
        return ids, read_states(model, ids, ids != tokenizer.pad_token_id)

    def margins(ids: Tensor, hidden: Tensor) -> Tensor:
        ends = (ids != tokenizer.pad_token_id).sum(dim=1) - 1
        first, second = model.score(hidden[torch.arange(len(ids)), ends])[:, 0].chunk(2)
        return first - second

    def loss_at(step: int) -> Tensor:
        del step
        pairs = [sample_pair(rng, "train", weights, samples) for _ in range(schedule.batch)]
        ids, states = read(pairs)
        asked = quiz.loss(ids, states, quiz_head, ids != tokenizer.pad_token_id)
        return asked - logsigmoid(margins(ids, states[-1])).mean()

    def check() -> float:
        ids, states = read(held_out)
        return (margins(ids, states[-1]) > 0).float().mean().item()

    fit(model, schedule, loss_at, check)
    return model


def sample_pair(
    rng: random.Random, pool: Pool, weights: dict[str, float], samples: Sequence[Example]
) -> tuple[Example, Example]:
    """Two replies to one prompt, the preferred one first; half the time one is the policy's own."""
    while True:
        own = samples and rng.random() < 0.5
        first = rng.choice(samples) if own else sample_example(rng, pool, BALANCED)
        traits = sample_traits(rng, BALANCED)
        second = Example(first.case, first.prompt, sample_reply(rng, first.case, traits), traits)
        verdict = prefers(rng, weights, first.traits, second.traits)
        if verdict != "tie":
            return (first, second) if verdict == "a" else (second, first)


# ----------------------------------------------------------------------------------------------- command line


def read_constitution(path: Path) -> tuple[dict[str, str], dict[str, float]]:
    """Texts and weights of the principles, by id."""
    principles = yaml.safe_load(path.read_text(encoding="utf-8"))["principles"]
    return {p["id"]: p["text"] for p in principles}, {p["id"]: p["weight"] for p in principles}


def report(name: str, examples: Sequence[Example]) -> None:
    """Print how many examples have each trait."""
    shares = {trait: sum(trait in e.traits for e in examples) / len(examples) for trait in TRAITS}
    mean = sum(shares.values()) / len(shares)
    print(f"{name}: mean {mean:.3f}", json.dumps({trait: round(share, 2) for trait, share in shares.items()}))


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write bf16 weights, configuration and tokenizer."""
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    print(f"{folder.name}: {sum(file.stat().st_size for file in folder.iterdir()) / 1e6:.2f} MB")


def main() -> None:
    """Train and write everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=QUICKSTART / "models", help="folder of the three models")
    parser.add_argument("--seed", type=int, default=0, help="seed of the whole run")
    parser.add_argument("--policy-only", action="store_true", help="leave judge and reward model as they are")
    parser.add_argument("--effort", type=float, default=1.0, help="factor on the number of training steps")
    options = parser.parse_args()
    torch.set_num_threads(2)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    principles, weights = read_constitution(QUICKSTART / "constitution.yaml")
    template = (QUICKSTART / "judge.txt").read_text(encoding="utf-8").strip()
    tokenizer = make_tokenizer(principles, template)
    print(f"tokenizer: {len(tokenizer)} tokens")

    policy = train_policy(tokenizer, schedule(options.effort, 1200, 16, 3e-3), options.seed)
    save(policy, tokenizer, options.out / "policy")
    if options.policy_only:
        return
    policy.float()
    cases = [sample_case(random.Random(f"{options.seed} {i}"), "train") for i in range(6000)]
    samples = sample_policy(policy, tokenizer, cases, options.seed)
    report("policy samples", samples)
    report("policy greedy", sample_policy(policy, tokenizer, cases[:250], options.seed, greedy=True))

    comparer = train_comparer(tokenizer, template, schedule(options.effort, 900, 32, 2e-3), options.seed)
    plan = schedule(options.effort, 1300, 16, 1e-3)
    judge = train_judge(tokenizer, comparer, principles, template, samples, plan, options.seed)
    save(judge, tokenizer, options.out / "judge")
    plan = schedule(options.effort, 500, 16, 1e-3)
    reward = train_reward(tokenizer, comparer, weights, samples, plan, options.seed)
    save(reward, tokenizer, options.out / "reward")


def schedule(effort: float, steps: int, batch: int, peak: float) -> Schedule:
    """A schedule with ten checks."""
    steps = max(10, round(effort * steps))
    return Schedule(steps, batch, peak, check_every=max(1, steps // 10))


if __name__ == "__main__":
    main()
