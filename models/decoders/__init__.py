"""Networks that write: annotations in, words out. One paper a file."""
