"""Figures with matplotlib, for notebooks and the documentation: they draw a captioner's answers.

matplotlib is a dependency of development: nothing that is served or trained imports this package.
"""
