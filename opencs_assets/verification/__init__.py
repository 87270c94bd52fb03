"""Whether what is published follows from what is kept: from replies and files to the marts.

Here belongs what derives verdicts and numbers anew and names what differs. How verdicts come about
belongs in ``verdicts``, how they are counted in ``dbt_eval``; ``tests/oracle`` proves that count.
"""
