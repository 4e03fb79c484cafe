"""Measuring and reporting, through the same seam that is served. Not part of the service.

Commands call jobs, which measure through `captioning`, `scoring` and `measures`, put what they find
into `results`, and write it by `report`.
"""
