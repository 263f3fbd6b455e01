from __future__ import annotations

import logging
import os

import pytest

from trainers.quiet import quiet


def test_the_libraries_are_silent_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    import transformers.utils.logging as transformers_logging
    from huggingface_hub import constants

    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    before = (logging.getLogger("trl").level, datasets.are_progress_bars_disabled())
    with quiet():
        assert constants.HF_HUB_DISABLE_TELEMETRY
        assert os.environ["TQDM_DISABLE"] == os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"
        assert logging.getLogger("trl").level == logging.ERROR
        assert datasets.are_progress_bars_disabled()
        assert not transformers_logging.is_progress_bar_enabled()
    assert not constants.HF_HUB_DISABLE_TELEMETRY
    assert "TQDM_DISABLE" not in os.environ
    assert before == (logging.getLogger("trl").level, datasets.are_progress_bars_disabled())
