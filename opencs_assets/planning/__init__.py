"""Planning: the cost of work before it starts, and what other settings would choose.

Calls, dollars, hours and questions are counted here, and subsets are chosen anew from what is kept;
no model is asked. Running does not belong here: ``wiring.running`` runs what ``walk`` has planned.
"""
