"""Measuring and reporting, through the same seam that is served. Not part of the service.

cli -> jobs -> captioning, scoring, measures -> results -> report
"""
