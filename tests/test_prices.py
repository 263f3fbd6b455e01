"""What tokens cost: the shipped table, the user's word, and what neither knows."""

from __future__ import annotations

import re
from datetime import date

import pytest

from prefgen.completion import Completion
from prefgen.errors import UsageError
from prefgen.prices import FREE, Price, find_price, parse_prices, price_table


def test_cached_tokens_are_part_of_the_input() -> None:
    price = Price(2.0, 10.0, cached_input=0.5)
    # 700,000 × $2 + 300,000 × $0.5 + 100,000 × $10, a million each.
    assert price.cost(1_000_000, 100_000, 300_000) == pytest.approx(1.4 + 0.15 + 1.0)
    assert Price(2.0, 10.0).cost(1_000_000, 0, 300_000, 200_000) == 2.0
    dear = Price(2.0, 10.0, cached_input=0.5, cache_write=2.5)
    # 500,000 × $2 + 300,000 × $0.5 + 200,000 × $2.5.
    assert dear.cost(1_000_000, 0, 300_000, 200_000) == pytest.approx(1.0 + 0.15 + 0.5)


def test_the_completions_of_a_call_are_summed() -> None:
    first = Completion("x", input_tokens=1000, output_tokens=10, cached_tokens=400)
    other = Completion("y", input_tokens=10, output_tokens=30, cache_write_tokens=10)
    price = Price(1.0, 100.0, cached_input=0.0, cache_write=2.0)
    assert price.of([first, other]) == pytest.approx((600 + 20 + 40 * 100) / 1e6)
    assert price.of([Completion("nobody counted")]) == 0.0


def test_a_batch_costs_its_share_of_what_is_listed() -> None:
    price, one = Price(2.0, 10.0, 0.5, batch=0.5), Completion("x", input_tokens=1000, output_tokens=100)
    batched = Completion("x", input_tokens=1000, output_tokens=100, batched=True)
    assert price.of([one, batched]) == pytest.approx((3000 + 1500) / 1e6)
    assert price.saved([one, batched]) == pytest.approx(1500 / 1e6)
    assert price.batched == Price(1.0, 5.0, 0.25)
    assert price.batched.of([batched]) == pytest.approx(1500 / 1e6)
    told = parse_prices(["openai/mine=1,2", "openai/mine@http://127.0.0.1:8000/v1=1,2", "vllm/mine=1,2"])
    assert [found.batch for found in told.values()] == [0.5, 1.0, 1.0]


def test_what_is_written_to_the_cache_has_a_price_of_its_own() -> None:
    told = Completion("x", input_tokens=1000, output_tokens=0, cached_tokens=200, cache_write_tokens=700)
    # 100 × $4 + 200 × $0.4 + 700 × $5, a million each.
    assert Price(4.0, 0.0, cached_input=0.4, cache_write=5.0).of([told]) == pytest.approx(3980e-6)
    assert Price(4.0, 0.0).of([told]) == pytest.approx(4000e-6)


def test_every_row_has_a_date_that_is_past_and_a_page() -> None:
    table = price_table()
    assert len(table) > 20
    for name, price in table.items():
        assert price.as_of is not None
        assert date(2024, 1, 1) < date.fromisoformat(price.as_of) <= date.today(), name
        assert "pricing" in price.source
        assert 0 < price.input < price.output
        assert price.cached_input is None or price.cached_input < price.input
        assert not re.search(r"\d{8}$", name), "a dated snapshot needs no row but for a price of its own"


def test_a_name_stands_for_its_dated_snapshots_alone() -> None:
    table = price_table()
    known = table["openai/gpt-4o"]
    assert find_price("openai/gpt-4o", {}) == known
    assert find_price("openai/gpt-4o-2024-08-06", {}) == known
    assert find_price("anthropic/claude-sonnet-4-5-20250929", {}) == table["anthropic/claude-sonnet-4-5"]
    assert find_price("openai/gpt-4o-2024-05-13", {}) == table["openai/gpt-4o-2024-05-13"] != known
    for other in ("gpt-4o-audio-preview", "gpt-4", "gpt-4o-mini-tts", "gpt-4o-20240806x", "GPT-4o"):
        assert find_price(f"openai/{other}", {}) is None, other


def test_another_server_has_other_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_price("openai/gpt-4o@http://127.0.0.1:8000/v1", {}) is None
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1")
    assert find_price("openai/gpt-4o", {}) is None
    assert find_price("openai/gpt-4o", parse_prices(["openai/gpt-4o=1,2"])) == Price(1.0, 2.0)


def test_the_users_word_stands_over_the_table() -> None:
    given = parse_prices(["openai/gpt-4o=1,2", "openai/x@http://h:1/v1=1,0.25,2", "vllm/m=0.1,0.1"])
    assert find_price("openai/gpt-4o", given) == Price(1.0, 2.0, batch=0.5, source="--price")
    assert find_price("openai/x@http://h:1/v1", given) == Price(1.0, 2.0, 0.25)
    assert find_price("vllm/m", given) == Price(0.1, 0.1)
    assert find_price("vllm/other", given) is FREE
    assert find_price("transformers/other", {}) is FREE


@pytest.mark.parametrize("bad", ["m/x=1", "m/x=1,2,3,4", "m/x=-1,2", "m/x=nan,2", "m/x=inf,2", "m/x"])
def test_a_price_that_is_none_is_refused(bad: str) -> None:
    with pytest.raises(UsageError, match=r"expected MODEL=IN,OUT or MODEL=IN,CACHED,OUT"):
        parse_prices([bad])
