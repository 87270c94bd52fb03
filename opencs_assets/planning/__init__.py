"""What something would take, before it is started: runs, calls, dollars, hours, questions.

Starting it does not belong here: ``wiring.running`` runs what ``walk`` has planned.
"""
