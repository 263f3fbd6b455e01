"""Keeps the training libraries from talking: no bars, no printed dictionaries, no telemetry."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from prefgen.errors import MissingExtraError

LIBRARIES = ("transformers", "trl", "peft", "accelerate", "vllm")


def require_packages(*names: str) -> None:
    """Raises MissingExtraError for the first package that cannot be imported."""
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise MissingExtraError(name, "train") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silences the libraries for a while and puts their settings back."""
    with ExitStack() as stack:
        for library in LIBRARIES:
            stack.enter_context(_level(logging.getLogger(library), logging.ERROR))
        stack.enter_context(_environment("TQDM_DISABLE", "1"))
        stack.enter_context(_no_telemetry())
        stack.enter_context(_no_bars())
        yield


@contextmanager
def _level(logger: logging.Logger, level: int) -> Iterator[None]:
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def _no_telemetry() -> Iterator[None]:
    """TRL reports every trainer it builds to the Hub; the variable is read at import, so set both."""
    from huggingface_hub import constants

    before = constants.HF_HUB_DISABLE_TELEMETRY
    constants.HF_HUB_DISABLE_TELEMETRY = True
    try:
        with _environment("HF_HUB_DISABLE_TELEMETRY", "1"):
            yield
    finally:
        constants.HF_HUB_DISABLE_TELEMETRY = before


@contextmanager
def _no_bars() -> Iterator[None]:
    import datasets
    import transformers.utils.logging as transformers_logging

    datasets_bars = datasets.are_progress_bars_disabled()
    transformers_bars = transformers_logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if not datasets_bars:
            datasets.enable_progress_bars()
        if transformers_bars:
            transformers_logging.enable_progress_bar()
