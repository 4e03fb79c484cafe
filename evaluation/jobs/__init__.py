"""What each command that measures does from beginning to end: read, measure, merge, write.

One file a job. A job takes a request, says what it does through `Messages`, and knows no command
line.
"""
