"""From uploaded bytes to a caption, in batches: what talks to the models. Knows no HTTP."""
