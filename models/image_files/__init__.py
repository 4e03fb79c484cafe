"""What image files are made of, one format a file: read from the bytes, before a decoder does.

Each says what a file's structure may cost and hands on only what its decoder needs. Knows no pixels
and no decoder.
"""
