"""How the outside is reached: settings, lake, warehouse, language models, embedder, launcher.

Nothing here knows the method (tags, clusters, scores); it belongs in ``opencs_assets``. Modules
under ``resources/llm`` other than its Dagster resource can be used without a Dagster instance.
"""
