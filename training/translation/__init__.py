"""Learning to translate: pairs to batches, the loop, a run, and its bundle."""
