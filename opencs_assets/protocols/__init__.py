"""Ways to ask a judge, a file each: its facts, its prompt and what reads its replies.

``registry`` lists them, and the lake's table ``judge_protocols`` carries their facts to SQL.
``tasks`` says what is to be judged, ``merging`` how two orders become one outcome and ``stopping``
when enough is judged. Calling the judge and the tables of verdicts are the stage ``verdicts``.
"""
