"""Every option of `prefgen doctor`."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class DoctorConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    model: tuple[str, ...] = ()
    """MODEL to ask a few small questions: does it answer, how fast, and what can it do? Several may be given,
    and without --model."""
    judge: tuple[str, ...] = ()
    """MODEL that has to give a readable verdict too, in both orders."""
    reward_model: tuple[str, ...] = ()
    """Reward model that has to score two responses."""
    start_vllm: bool = False
    """Start vLLM with a tiny model that ships with prefgen, and ask it something."""
    engine_arg: tuple[str, ...] = ()
    """KEY=VALUE for models in this process, for example max_model_len=4096."""
    price: tuple[str, ...] = ()
    """MODEL=IN,OUT or MODEL=IN,CACHED,OUT in US dollars per million tokens. Without it the shipped table
    tells."""
    deadline: float = Field(default=120, gt=0)
    """Seconds to wait for one call."""
    ledger: Path | None = None
    """File of the ledger. [default: $PREFGEN_LEDGER, else the one in the user's cache directory]."""
