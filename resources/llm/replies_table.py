"""The schema of the table of all kept replies, which has no texts."""

import polars as pl

from resources.schema import Column, Table

MODEL = Column(pl.String, "Model that replied; `embedded:` in front for the embedded default")
PROMPT_VERSION = Column(pl.String, "Version of the prompt and its parser")

LLM_REPLIES = Table(
    "llm_replies",
    (),
    ("reply_id",),
    {
        "reply_id": Column(
            pl.String, "Key of the reply in the reply store; lost:… of a call without a reply"
        ),
        "role": Column(pl.String, "tagger, scorer, refiner, judge, or outside_models.NAME"),
        "stage": Column(pl.String, "Asset that made the call"),
        "dataset": Column(pl.String, "Dataset that the call was first made for", nullable=True),
        "model": MODEL,
        "provider": Column(pl.String, "Host of the endpoint, or embedded"),
        "prompt_version": PROMPT_VERSION,
        "run": Column(pl.String, "Run that paid for it", nullable=True),
        "status": Column(
            pl.String,
            "ok, truncated, refused or garbled, as it was completed; lost where the call was in "
            "flight when its process was killed",
        ),
        "readable": Column(
            pl.Boolean,
            "Whether the stage could read it; null where it was not tried",
            nullable=True,
        ),
        "via": Column(pl.String, "call, or batch for the provider's Batch API"),
        "request_id": Column(pl.String, "The provider's id of the request", nullable=True),
        "finish_reason": Column(
            pl.String, "The provider's reason for the end of the reply", nullable=True
        ),
        "prompt_tokens": Column(pl.Int64, "Tokens of the prompt"),
        "cached_tokens": Column(
            pl.Int64, "Tokens of the prompt that the provider had in its cache"
        ),
        "completion_tokens": Column(pl.Int64, "Tokens of the reply"),
        "cost_usd": Column(
            pl.Float64,
            "Cost in US dollars, of a lost call the most that it can have cost; null where the "
            "price is unknown",
            nullable=True,
        ),
        "latency_s": Column(pl.Float64, "Seconds from request to reply"),
        "created_at": Column(
            pl.Datetime("us", "UTC"), "When the reply was stored, or the lost call was sent"
        ),
    },
)
