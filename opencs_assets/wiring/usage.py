"""The metadata of an asset's LLM calls for its page in the UI."""

from typing import Any

import dagster as dg

from resources.llm.client import LLMClient

EMBEDDED_NOTE = (
    "Filled by the embedded model (SmolLM2-135M), which is there so that everything runs offline, "
    "not to judge well. Set the role's base_url and model for results to rely on."
)


def usage_metadata(client: LLMClient) -> dict[str, Any]:
    """Calls, tokens, dollars, latency and model of a stage, and how far its ceilings are spent.

    A note marks results of the embedded model.
    """
    usage = client.usage
    metadata: dict[str, Any] = {
        "model": client.model_label,
        "calls": usage.calls,
        "calls_from_store": usage.stored,
        "calls_failed": usage.failed,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cost_usd": "unknown (no price for this model)"
        if usage.cost_usd is None
        else usage.cost_usd,
        "llm_seconds": round(usage.seconds, 1),
    }
    if usage.calls:
        metadata["calls_from_store_pct"] = round(100 * usage.stored / usage.calls, 2)
    metadata |= client.report.metadata()
    for scope, (spent, ceiling) in client.ceilings().items():
        metadata |= {f"{scope}_spent_usd": spent, f"{scope}_ceiling_usd": ceiling}
    if client.role.embedded:
        metadata["note"] = dg.MetadataValue.md(f"⚠️ {EMBEDDED_NOTE}")
    return metadata
