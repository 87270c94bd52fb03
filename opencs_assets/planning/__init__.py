"""What something would take, before it is started: runs, calls, dollars, hours, questions.

Starting it does not belong here, but for ``walk``, which runs what it has planned.
"""
