"""Decoders: from annotations to words. One paper a file; `config` describes them all without
torch."""
