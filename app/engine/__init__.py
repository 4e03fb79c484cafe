"""From uploaded bytes to a caption, in batches: the part of the service that talks to the
models. Knows no HTTP."""
