"""Many photos into one output: which there are, their captions, and the rows that are kept.

   sources: Photo ──> mapper: Outcome ──> writer: Row
                   runner: the loop over them, on this machine

A runner for other machines uses the same sources, mapper and writers. Knows no command line.
"""
