"""A small grammar of customer support: what a customer writes, and replies with known good and bad traits.

One `Case` (intent, name, product, order code) gives many prompts; a `Case` with a set of wanted traits gives
many replies. `traits_of` reads the traits back from any text, so samples of a model can be labelled as well.
"""

import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Pool = Literal["train", "check", "heldout", "labels"]

TRAITS = ("accurate", "empathetic", "concrete", "respectful", "private", "concise")
"""The six traits a reply has or lacks, in the order of the constitution's principles."""

MIX = {
    "accurate": 0.62,
    "empathetic": 0.58,
    "concrete": 0.52,
    "respectful": 0.66,
    "private": 0.66,
    "concise": 0.62,
}
"""Share of demonstrations with each trait. Far from 1, so that the policy has something left to learn."""

MAX_WORDS = 60
"""Words above which a reply is no longer concise."""

_NAME_LIST = """
Ada Amir Anna Ben Bo Carla Chen Dana Dev Elif Emma Eva Finn Gita Hana Hugo Ida Igor Ines Ivan Jade
Jonas Juan Kai Karim Lara Leo Lina Luca Maya Mei Milo Nadia Nils Noor Omar Otto Paula Petra Quinn
Rosa Sami Sara Tariq Tess Uma Vera Yuki
"""
NAMES = tuple(_NAME_LIST.split())
_PRODUCT_LIST = """
backpack bicycle blender cable camera carpet chair clock curtain desk drill fan freezer guitar
hammock headset heater helmet jacket kettle keyboard ladder lamp mattress microphone mirror monitor
oven piano printer radio router scooter shelf sofa speaker stove suitcase tablet tent toaster tripod
vacuum watch
"""
PRODUCTS = tuple(_PRODUCT_LIST.split())
ORDERS = tuple(f"{letter}{number}" for letter in "BCDFGHJKLMPR" for number in range(31, 51))
"""Order codes. Few enough for one token each, so that a tiny model can compare two of them."""

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = ("March", "April", "May", "June")

PROBLEMS = {
    "late": (
        "My {product} has not come yet.",
        "I am still waiting for my {product}.",
        "The {product} should have been here last week.",
        "Where is my {product}? It is overdue.",
    ),
    "broken": (
        "My {product} came with a crack.",
        "The {product} was smashed in the box.",
        "My {product} arrived in pieces.",
        "The {product} is dented and bent.",
    ),
    "wrong_item": (
        "I ordered a {product} and got something else.",
        "The box did not hold my {product} but another item.",
        "You sent the wrong thing instead of the {product}.",
        "This is not the {product} that I picked.",
    ),
    "refund": (
        "I sent the {product} back and want my money.",
        "I returned the {product} and saw no money so far.",
        "I would like my money back for the {product}.",
        "The {product} is back with you, but my money is not with me.",
    ),
    "cancel": (
        "I do not want the {product} any more.",
        "Please stop my purchase of the {product}.",
        "I changed my mind about the {product}.",
        "I ordered the {product} by mistake.",
    ),
    "address": (
        "I moved, so the {product} must go to my new home.",
        "The {product} is going to my old flat.",
        "I gave you the wrong street for the {product}.",
        "Please send the {product} to my office instead.",
    ),
    "charged_twice": (
        "I paid two times for the {product}.",
        "My bank shows the price of the {product} twice.",
        "You took the money for the {product} two times.",
        "There are two payments for one {product}.",
    ),
    "faulty": (
        "My {product} stopped working.",
        "The {product} does not switch on.",
        "My {product} makes a strange noise and quits.",
        "The {product} works for a minute and then dies.",
    ),
}
OPENINGS = (
    "Hi, this is {name}.",
    "Hello, my name is {name}.",
    "Hi, {name} here.",
    "Good morning, I am {name}.",
    "Hello, {name} writing.",
    "Dear team, this is {name}.",
)
REFERENCES = (
    "It is order {order}.",
    "The order is {order}.",
    "My order number is {order}.",
    "See order {order}.",
    "The number on the bill is {order}.",
)
REQUESTS = (
    "Can you help?",
    "Please sort this out.",
    "What happens now?",
    "What can you do?",
    "I hope for a quick answer.",
    "This is urgent.",
    "I am rather upset.",
    "",
)

GREETINGS = ("Hi {name}!", "Hello {name}!", "Good day, {name}.", "Thank you for writing, {name}.")
NAMELESS_GREETINGS = ("Hello!", "Dear customer.", "Thank you for writing.")
EMPATHY = (
    "I am sorry about this.",
    "I am very sorry for the trouble.",
    "Sorry that this went wrong for you.",
    "I am sorry, I know how annoying this is.",
    "We are truly sorry for the bother.",
)
CURT = ("Noted.", "Your message was received.", "These things happen.", "So be it.", "")
IDENTIFY = (
    "I see order {order} for the {product}.",
    "I have order {order} for your {product} in front of me.",
    "I found the {product} under order {order}.",
    "This is about the {product} in order {order}.",
)
ORDERLESS_IDENTIFY = ("I see your {product} here.", "This is about the {product}.", "")
STEPS = {
    "late": (
        "The courier will bring your {product} {when}.",
        "I told the courier to hand you the {product} {when}.",
        "Our courier comes with the {product} {when}.",
    ),
    "broken": (
        "We will replace the {product} {when}.",
        "I replace your {product} and the new one comes {when}.",
        "We replace the {product} for free {when}.",
    ),
    "wrong_item": (
        "We will exchange it for the right {product} {when}.",
        "I set up an exchange and you get the {product} {when}.",
        "You can exchange it for your {product} {when}.",
    ),
    "refund": (
        "Your refund for the {product} arrives {when}.",
        "I started the refund for the {product} and it is there {when}.",
        "We pay the full refund for the {product} {when}.",
    ),
    "cancel": (
        "I will cancel the {product} {when}.",
        "We cancel the {product} and confirm it {when}.",
        "I asked the shop to cancel your {product} {when}.",
    ),
    "address": (
        "I changed the address and the {product} gets there {when}.",
        "The {product} goes to the new address {when}.",
        "We bring the {product} to the right address {when}.",
    ),
    "charged_twice": (
        "The second charge for the {product} is undone {when}.",
        "I took back the extra charge for the {product} and you see it {when}.",
        "We reverse one charge for the {product} {when}.",
    ),
    "faulty": (
        "A technician will repair your {product} {when}.",
        "We repair the {product} at your home {when}.",
        "I booked a repair of the {product} {when}.",
    ),
}
STEP_WORDS = {
    "late": "courier",
    "broken": "replace",
    "wrong_item": "exchange",
    "refund": "refund",
    "cancel": "cancel",
    "address": "address",
    "charged_twice": "charge",
    "faulty": "repair",
}
VAGUE_STEPS = (
    "Someone will look into the {product} at some point.",
    "We may get back to you about the {product}.",
    "There is nothing we can do about the {product}.",
    "Our policy speaks about the {product} in section 4.",
    "The {product} is being handled in the usual way.",
)
PREACHING = (
    "Next time you should read the rules first.",
    "You should have checked this yourself.",
    "A careful customer avoids such problems.",
    "You must learn to be more patient.",
    "Frankly, this is your own fault.",
)
PRYING = (
    "Please send me your password.",
    "Tell me your card number and the security code.",
    "I need your bank PIN first.",
    "Reply with your login and password.",
)
IDLE = (
    "By the way, the weather here is lovely today.",
    "My cat loves empty boxes.",
    "We had soup for lunch and it was great.",
    "Our office has a new plant near the window.",
    "I watched football all weekend with my brother.",
    "My aunt sings in a choir every evening.",
)
CLOSINGS = ("Kind regards.", "Best wishes.", "Have a good day.", "")

_CODE = re.compile(r"\b[A-Z]\d\d\b")
_WORD = re.compile(r"[A-Za-z]+")
_WHEN = re.compile(rf"\b(?:{'|'.join(WEEKDAYS)}|\d+ (?:{'|'.join(MONTHS)}))\b")
_SENTENCE = re.compile(r"[^.?!]+")


@dataclass(frozen=True)
class Case:
    """What one customer's message is about."""

    intent: str
    name: str
    product: str
    order: str


def pool_of(product: str, order: str) -> Pool:
    """The only pool where this pair of product and order may occur: 70 % train, 10 % each for the others."""
    others: tuple[Pool, ...] = ("check", "heldout", "labels")
    bucket = hashlib.sha256(f"{product}|{order}".encode()).digest()[0] % 10
    return others[bucket] if bucket < len(others) else "train"


def sample_case(rng: random.Random, pool: Pool) -> Case:
    """A case whose product and order code belong to `pool`."""
    while True:
        product, order = rng.choice(PRODUCTS), rng.choice(ORDERS)
        if pool_of(product, order) == pool:
            return Case(rng.choice(list(PROBLEMS)), rng.choice(NAMES), product, order)


def sample_prompt(rng: random.Random, case: Case) -> str:
    """One way for the customer to put the case, with the order number before or after the problem."""
    middle = [rng.choice(PROBLEMS[case.intent]), rng.choice(REFERENCES)]
    if rng.random() < 0.3:
        middle.reverse()
    return _fill([rng.choice(OPENINGS), *middle, rng.choice(REQUESTS)], case)


def sample_traits(rng: random.Random, share: Mapping[str, float] = MIX) -> frozenset[str]:
    """Traits drawn independently, each with its own probability."""
    return frozenset(trait for trait in TRAITS if rng.random() < share[trait])


def sample_reply(rng: random.Random, case: Case, traits: frozenset[str]) -> str:
    """A reply that has exactly `traits`."""
    if "accurate" in traits:
        greetings, identify, told = GREETINGS, IDENTIFY, case
    else:
        greetings, identify, told = _spoil(rng, case, keep_product="concrete" in traits)
    body = [rng.choice(EMPATHY if "empathetic" in traits else CURT), rng.choice(identify)]
    if rng.random() < 0.3:
        body.reverse()
    body.append(_step(rng, told, dated="concrete" in traits))
    for trait, sentences in (("respectful", PREACHING), ("private", PRYING)):
        if trait not in traits:
            body.insert(rng.randint(1, len(body)), rng.choice(sentences))
    if "concise" not in traits:
        place = rng.randint(1, len(body))
        body[place:place] = rng.sample(IDLE, rng.choice((1, 1, 2, 3)))
    return _fill([rng.choice(greetings), *body, rng.choice(CLOSINGS)], told)


def traits_of(case: Case, reply: str) -> frozenset[str]:
    """The traits a text has, by the grammar's phrases; for a grammatical reply, those it was made with."""
    words = set(_WORD.findall(reply))
    checks = {
        "accurate": words & set(NAMES) == {case.name}
        and words & set(PRODUCTS) == {case.product}
        and set(_CODE.findall(reply)) == {case.order},
        "empathetic": bool(words & {"sorry", "Sorry"}),
        "concrete": any(_is_step(case, sentence) for sentence in _SENTENCE.findall(reply)),
        "respectful": not _mentions(reply, ("you should", "careful customer", "must learn", "own fault")),
        "private": not _mentions(reply, ("password", "card number", "security code", "pin first", "login")),
        "concise": len(reply.split()) <= MAX_WORDS
        and not words & {"weather", "cat", "soup", "lunch", "plant", "football", "aunt", "choir"},
    }
    return frozenset(trait for trait, holds in checks.items() if holds)


def row_of(identifier: str, case: Case, prompt: str) -> dict[str, str]:
    """The case and its prompt as one JSON line."""
    return {"id": identifier, "prompt": prompt, **asdict(case)}


def vocabulary() -> list[str]:
    """Every word of the grammar, as it is written behind a space; the tokenizer learns each as one token."""
    banks: list[Sequence[str]] = [
        NAMES,
        PRODUCTS,
        ORDERS,
        WEEKDAYS,
        MONTHS,
        [str(day) for day in range(1, 29)],
    ]
    banks += [
        *PROBLEMS.values(),
        *STEPS.values(),
        OPENINGS,
        REFERENCES,
        REQUESTS,
        GREETINGS,
        NAMELESS_GREETINGS,
    ]
    banks += [
        EMPATHY,
        CURT,
        IDENTIFY,
        ORDERLESS_IDENTIFY,
        VAGUE_STEPS,
        PREACHING,
        PRYING,
        IDLE,
        CLOSINGS,
        ["on", "by"],
    ]
    return [sentence.format(name="", product="", order="", when="") for bank in banks for sentence in bank]


def _spoil(
    rng: random.Random, case: Case, *, keep_product: bool
) -> tuple[Sequence[str], Sequence[str], Case]:
    """Make a reply inaccurate: a wrong slot most of the time, else no name or no order number at all.

    A wrong product would spoil the concrete step as well, so `keep_product` rules it out.
    """
    fault = rng.choices(("order", "name", "product", "nameless", "orderless"), (9, 4, 4, 2, 2))[0]
    if fault == "nameless":
        return NAMELESS_GREETINGS, IDENTIFY, case
    if fault == "orderless":
        return GREETINGS, ORDERLESS_IDENTIFY, case
    if fault == "product" and keep_product:
        fault = "order"
    slots = asdict(case)
    bank = {"order": ORDERS, "name": NAMES, "product": PRODUCTS}[fault]
    slots[fault] = rng.choice([word for word in bank if word != slots[fault]])
    return GREETINGS, IDENTIFY, Case(**slots)


def _step(rng: random.Random, case: Case, *, dated: bool) -> str:
    """What happens next: this intent's step with a date, or something less helpful."""
    if dated:
        return rng.choice(STEPS[case.intent]).replace("{when}", _when(rng))
    fault = rng.random()
    if fault < 0.45:
        return rng.choice(VAGUE_STEPS)
    if fault < 0.75:
        return rng.choice(STEPS[case.intent]).replace(
            "{when}", rng.choice(("soon", "at some point", "one day"))
        )
    other = rng.choice([intent for intent in STEPS if intent != case.intent])
    return rng.choice(STEPS[other]).replace("{when}", _when(rng))


def _when(rng: random.Random) -> str:
    if rng.random() < 0.7:
        return f"{rng.choice(('on', 'by'))} {rng.choice(WEEKDAYS)}"
    return f"{rng.choice(('on', 'by'))} {rng.randint(1, 28)} {rng.choice(MONTHS)}"


def _is_step(case: Case, sentence: str) -> bool:
    step = STEP_WORDS[case.intent] in sentence and case.product in _WORD.findall(sentence)
    return step and _WHEN.search(sentence) is not None


def _mentions(text: str, phrases: Sequence[str]) -> bool:
    return any(phrase in text.lower() for phrase in phrases)


def _fill(sentences: Sequence[str], case: Case) -> str:
    return " ".join(sentence.format(**asdict(case)) for sentence in sentences if sentence)
