"""`python -m training` is `glimpse-train`."""

from training.cli import main

main()
