"""What exists: the platform's assets, one package a stage, in the order that data flows.

Here belong assets, their methods, prompts and sample data, and the tables' schemas. How the
outside is reached (models, storage, launchers) belongs in ``resources``; SQL in ``dbt_eval``.
"""
