"""Decoders: from annotations to words, one paper a file; `config` describes them without torch."""
