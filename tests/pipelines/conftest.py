from __future__ import annotations

import pytest
from running import Runner


@pytest.fixture
def prefgen(capsys: pytest.CaptureFixture[str]) -> Runner:
    return Runner(capsys)
