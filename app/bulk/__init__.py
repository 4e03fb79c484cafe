"""Many photos into one output: which there are, their captions, and the rows that are kept.

    reader: Photo ──> mapper: Outcome ──> writer: Row
                   runner: the loop over them, on this machine

A runner for other machines uses the same reader, mapper and writers. Knows no command line.
"""
