"""`python -m pipelines`: what accelerate starts in each process."""

from pipelines.cli import main

main()
