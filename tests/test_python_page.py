"""docs/python.md does what it says: each example in a script, and awaited as a notebook does."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from looping import install, write_config

import prefgen

PAGE = (Path(__file__).parents[1] / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
GENERATE, CALIBRATE, RLAIF, ASYNC, ERRORS = BLOCKS
FAKES = {"vllm/PATH_OR_ID": "scripted/writer", "openai/NAME": "scripted/judge"}


def parsed(block: str) -> ast.Module:
    for model, fake in FAKES.items():
        block = block.replace(model, fake)
    return ast.parse(block)


def script(block: str) -> None:
    exec(compile(parsed(block), "page", "exec"), {"__name__": "__main__"})


class Awaiting(ast.NodeTransformer):
    """Puts `await` before every call of a function of prefgen's."""

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        called = node.func
        if isinstance(called, ast.Attribute) and called.attr in prefgen._FUNCTIONS:
            return ast.Await(node)
        return node


def notebook(block: str) -> None:
    """As IPython runs a cell: with `await` at the top, in a loop that runs already."""
    tree = ast.fix_missing_locations(Awaiting().visit(parsed(block)))
    code = compile(tree, "page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert code.co_flags & inspect.CO_COROUTINE

    async def cell() -> None:
        await eval(code, {})

    asyncio.run(cell())


ways = pytest.mark.parametrize("run", [script, notebook])


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


@ways
def test_generate_then_calibrate(run: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
    run(GENERATE)
    assert "24 prompts → 96 candidates" in capsys.readouterr().out
    assert prefgen.Run("runs/strict").manifest["config"]["min_confidence"] == 0.95
    run(CALIBRATE)
    assert "Estimate(value=" in capsys.readouterr().out
    assert prefgen.Calibration("calibrations/first").values["n"] == 24


@ways
def test_rounds(
    run: Callable[[str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install(monkeypatch)
    write_config(tmp_path, evaluate={"judge": "scripted/six"}, train={"beta": 0.2})
    run(RLAIF)
    assert "win_rate" in capsys.readouterr().out
    assert prefgen.Loop("loops/first").best.exists()


def test_all_of_it_in_async_code(capsys: pytest.CaptureFixture[str]) -> None:
    script(ASYNC)
    assert re.fullmatch(r"runs/async-first \d\nruns/async-strict \d\n", capsys.readouterr().out)


@ways
def test_an_error_is_as_printed(run: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
    run(ERRORS)
    assert f"```\n{capsys.readouterr().out}```" in PAGE


def test_the_page_names_every_function_and_result() -> None:
    for name in (*prefgen._FUNCTIONS, *prefgen._RESULTS):
        assert name in {"report", "Result", "Job"} or f"`{name}" in PAGE or f"{name}(" in PAGE, name
