"""From verdicts and all other tables of the lake to the warehouse's marts.

Here belong how the dbt project is read and run and how its marts are shown. Their SQL belongs in
``dbt_eval``, the file that they are in and how it is published in ``resources.warehouse``.
"""
