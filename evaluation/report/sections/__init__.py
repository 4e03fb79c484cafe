"""The results page, one section a file.

Each file has `section(results)`, which writes Markdown, or "" where it has nothing to say.
"""
