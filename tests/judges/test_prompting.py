"""Templates filled in one pass, and fences that no text holds."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges.prompting import Template, fence, fenced, load_template, shipped
from prefgen.errors import InputError, UsageError
from prefgen.messages import user
from prefgen.prompt import Prompt


def test_what_is_filled_in_is_never_filled_again() -> None:
    filled = Template("{{a}} {{b}}").fill({"a": "{{b}}", "b": "{{a}}"})
    assert filled == "{{b}} {{a}}"


def test_a_beginning_ends_where_the_first_other_placeholder_is() -> None:
    template, values = Template("By {{rules}}: {{prompt}} or {{x}}?"), {"rules": "long {{x}}", "prompt": ""}
    filled = template.fill({**values, "x": "?"})
    ends = [template.beginning(values, names) for names in ({"prompt"}, {"rules"}, {"rules", "prompt"})]
    assert [filled[:end] for end in ends] == ["By ", "By long {{x}}: ", "By long {{x}}:  or "]
    assert Template("none").beginning({}, {"x"}) == 4


@given(st.text(), st.text(), st.text())
def test_no_text_holds_its_fence(prompt: str, a: str, b: str) -> None:
    tag = fence(prompt, a, b)
    assert tag not in prompt + a + b
    assert tag.isalnum()


def test_all_questions_about_a_prompt_share_their_fence() -> None:
    assert fence("p", "a", "b") == fence("p", "c", "d")
    assert fence("p", "a") != fence("q", "a")


def test_a_response_that_holds_the_fence_gets_another() -> None:
    first = fence("p")
    assert fence("p", f"</response-{first}>") != first
    assert fence("p", f"</response-{first.upper()}>") != first


def test_a_response_made_to_hold_every_fence_is_fenced_all_the_same() -> None:
    guesses = [hashlib.sha256(f"{attempt}\0p".encode()).hexdigest()[:8] for attempt in range(5000)]
    tag = fence("p", " ".join(guesses))
    assert tag not in guesses


@pytest.mark.parametrize("kind", ["pairwise", "principle", "score", "listwise", "critique", "revision"])
def test_shipped_templates_name_the_fence_and_close_what_they_open(kind: str) -> None:
    text = shipped(kind).text
    assert {"fence", "prompt"} <= shipped(kind).names
    assert ("question" in shipped(kind).names) == (kind not in ("critique", "revision"))
    assert text.count("-{{fence}}>") == 2 * text.count("</")


def test_a_users_template(tmp_path: Path) -> None:
    path = tmp_path / "judge.txt"
    path.write_text("{{principle}} {{prompt}} {{response}}\n")
    assert load_template(path, {"prompt"}, {"prompt", "principle", "response"}).text.endswith("{{response}}")


@pytest.mark.parametrize("text", ["{{prompt}}", "{{prompt}} {{response}} {{answer}}", ""])
def test_wrong_placeholders(text: str, tmp_path: Path) -> None:
    path = tmp_path / "judge.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=r"judge\.txt: a judge template with wrong placeholders"):
        load_template(path, {"prompt", "response"}, {"prompt", "response"})


def test_a_missing_template(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_template(tmp_path / "none.txt", set(), set())


def test_a_question_without_a_reference_is_what_it_was() -> None:
    values = fenced(Prompt("p", user("q"), {"gold": "42"}), None, response="r")
    assert values == {"response": "r", "prompt": "q", "fence": fence("q", "r"), "reference": ""}
    filled = shipped("principle").fill({**values, "principle": "Be.", "question": "?"})
    assert f"</request-{values['fence']}>\n\n<response-{values['fence']}>\n" in filled


def test_a_reference_has_a_fence_of_its_own() -> None:
    values = fenced(
        Prompt("p", user("q"), {"gold": f"42 {fence('q')} {{{{response}}}}"}), "gold", response="r"
    )
    tag = values["fence"]
    assert tag != fence("q")
    held = values["reference"].partition(f"<reference-{tag}>\n")[2]
    assert held == f"42 {fence('q')} {{{{response}}}}\n</reference-{tag}>\n\n"


@pytest.mark.parametrize("columns", [{}, {"gold": None}, {"gold": ""}, {"gold": 42}, {"Gold": "42"}])
def test_no_reference_where_one_is_wanted(columns: dict[str, str | int | None]) -> None:
    with pytest.raises(UsageError, match="--reference gold: prompt p has no text in that column"):
        fenced(Prompt("p", user("q"), columns), "gold", response="r")
