"""The table of the stage that fine-tunes base models."""

import polars as pl

from resources.schema import Column, Table

CHECKPOINT = Table(
    "checkpoint",
    ("dataset", "experiment"),
    ("provenance",),
    {
        "provenance": Column(pl.String, "Hash of all that determined the weights"),
        "path": Column(pl.String, "Folder of the checkpoint"),
        "base_model": Column(pl.String, "Base model"),
        "selector": Column(pl.String, "Selector whose subset it was trained on"),
        "recipe": Column(pl.String, "Resolved recipe as JSON"),
        "subset_hash": Column(pl.String, "Hash of the subset's sample ids in order"),
        "template_hash": Column(pl.String, "Hash of the chat template in the checkpoint"),
        "samples": Column(pl.Int64, "Samples trained on"),
        "truncated_samples": Column(pl.Int64, "Samples cut at the length limit"),
        "dropped_samples": Column(
            pl.Int64, "Samples without a response token in the limit, or dropped as too long"
        ),
        "held_out_samples": Column(pl.Int64, "Samples that were evaluated and not trained on"),
        "held_out_loss": Column(
            pl.Float64,
            "Loss on the held-out samples in the end; null without such samples",
            nullable=True,
        ),
        "epochs": Column(pl.Float64, "Passes over the subset"),
        "steps": Column(pl.Int64, "Optimizer steps"),
        "tokens": Column(pl.Int64, "Tokens seen, padding left out"),
        "packed": Column(
            pl.Boolean, "Whether the samples of a forward pass stood one after the other"
        ),
        "first_loss": Column(pl.Float64, "Loss of the first logged step"),
        "final_loss": Column(pl.Float64, "Loss of the last logged step"),
        "train_seconds": Column(pl.Float64, "Seconds of training, those before a stop included"),
        "tokens_per_second": Column(pl.Float64, "Tokens a second, over all devices"),
        "mfu": Column(
            pl.Float64,
            "Model FLOPs utilization: share of the devices' peak; null where the peak is unknown",
            nullable=True,
        ),
        "device": Column(pl.String, "Name of a device, or cpu"),
        "devices": Column(pl.Int64, "Devices that trained together"),
        "gpu_hours": Column(pl.Float64, "Devices times hours of training; 0 on CPUs"),
        "cost_usd": Column(
            pl.Float64, "GPU hours times their price; null where no price is set", nullable=True
        ),
        "peak_memory_mb": Column(pl.Float64, "Peak memory of a GPU, else of the process, in MB"),
        "resumed_from_step": Column(
            pl.Int64,
            "Step of the saved state that training resumed from; null where it did not resume",
            nullable=True,
        ),
        "packages": Column(
            pl.List(pl.Struct({"name": pl.String, "version": pl.String})),
            "Versions of the packages that trained",
        ),
        "log": Column(
            pl.List(
                pl.Struct(
                    {
                        "step": pl.Int64,
                        "loss": pl.Float64,
                        "learning_rate": pl.Float64,
                        "grad_norm": pl.Float64,
                        "tokens": pl.Int64,
                        "tokens_per_second": pl.Float64,
                    }
                )
            ),
            "Loss curve",
        ),
    },
)
