"""prompts → candidates → judgments → preferences → rows → model."""

__version__ = "0.1.0"
