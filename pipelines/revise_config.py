"""Every option of `prefgen revise`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from pipelines.generate_config import CallConfig


class ReviseConfig(CallConfig):
    prompts: Path
    """Prompt file: .jsonl .json .csv .parquet .txt."""
    out: Path
    """Directory of the run."""
    policy: str
    """MODEL that writes the responses and rewrites them."""
    critic: str | None = None
    """MODEL that writes the critiques. [default: the policy]."""
    constitution: str = "helpful-honest-harmless"
    """Constitution: a YAML file, or helpful-honest-harmless, support-tone, concise-expert."""
    rounds: int = Field(default=4, ge=1)
    """Rounds of critique and revision, each by a principle drawn anew."""
    temperature: float = Field(default=1.0, ge=0)
    """Sampling temperature of responses, critiques and revisions."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus sampling of the same."""
    max_tokens: int = Field(default=1024, ge=1)
    """Tokens per response, critique and revision at most."""
    system: str | None = None
    """System prompt for the policy's responses."""

    @property
    def critic_spec(self) -> str:
        return self.critic or self.policy
