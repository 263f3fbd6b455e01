"""prompts → candidates → judgments → preferences → rows → model.

The commands are functions here: `prefgen.generate(…)`, see docs/python.md. They live on the top floor, in
`pipelines.api`, which is read by name when one is first used: the one import that goes up.
"""

from importlib import import_module

from prefgen.errors import BudgetError, GateError, InputError, PrefgenError, UsageError

__version__ = "0.1.0"
_FUNCTIONS = (
    "generate", "quote", "judge", "calibrate", "pair", "audit", "evaluate", "revise", "train", "dpo_sweep",
    "rlaif", "convert", "report", "quickstart", "what_if", "why", "constitution_diff", "export",
)  # fmt: skip
_RESULTS = (
    "Run", "Quote", "Verdicts", "Calibration", "Audit", "Evaluation", "Revision", "Training", "Sweep", "Loop",
    "Conversion", "Quickstart", "WhatIf", "Story", "ConstitutionDiff", "Export", "Result", "Estimate", "Job",
)  # fmt: skip
_LATER = (*_FUNCTIONS, *_RESULTS)
__all__ = [*_LATER, "BudgetError", "GateError", "InputError", "PrefgenError", "UsageError", "__version__"]


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module 'prefgen' has no attribute {name!r}")
    return getattr(import_module("pipelines.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
