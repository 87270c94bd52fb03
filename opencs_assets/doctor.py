"""Whether this machine can run the platform: keys, endpoints, models, disk, GPU, versions."""

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from resources.settings import Role, Settings

State = Literal["ok", "warning", "problem"]
PACKAGES = (
    "dagster",
    "dbt-core",
    "dbt-duckdb",
    "duckdb",
    "faiss-cpu",
    "openai",
    "polars",
    "sentence-transformers",
    "torch",
    "transformers",
    "trl",
    "xllamacpp",
)
LOW_DISK_GB = 5
PROBE_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        what: What was looked at.
        state: ``ok``, ``warning`` (works, but mind this) or ``problem`` (will not work).
        detail: What was found and, unless ok, what to do.
    """

    what: str
    state: State
    detail: str


def examine(settings: Settings) -> list[Finding]:
    """Look at everything that a run needs; makes no paid call."""
    return [
        *_versions(),
        _disk(settings),
        _gpu(),
        *_models(settings),
        *(
            finding
            for name in type(settings.roles).model_fields
            for finding in _role(name, getattr(settings.roles, name))
        ),
        Finding(
            "landing.on_new_data",
            "ok",
            f"{settings.on_new_data} (a new file in {settings.home / 'landing'})",
        ),
    ]


def _versions() -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.machine()}")
    for package in PACKAGES:
        try:
            yield Finding(package, "ok", version(package))
        except PackageNotFoundError:
            yield Finding(package, "problem", "not installed; run `make install`")


def _disk(settings: Settings) -> Finding:
    free = shutil.disk_usage(settings.home).free / 1e9
    detail = f"{free:.0f} GB free at {settings.home}"
    if free < LOW_DISK_GB:
        return Finding("disk", "warning", f"{detail}; a checkpoint of a 135M model takes 0.6 GB")
    return Finding("disk", "ok", detail)


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(each) for each in range(torch.cuda.device_count())]
        return Finding("gpu", "ok", ", ".join(names))
    return Finding(
        "gpu", "ok", f"none; models train on {os.cpu_count()} CPU cores (small models only)"
    )


def _models(settings: Settings) -> Iterator[Finding]:
    from resources.models import BASE, ORIGINAL, SERVED

    for name in (ORIGINAL, SERVED, BASE):
        path = settings.models / name
        if path.exists():
            yield Finding(f"model {name}", "ok", str(path))
        else:
            yield Finding(
                f"model {name}", "warning", "not there yet; made on first use, or by `make models`"
            )


def _role(name: str, role: Role) -> Iterator[Finding]:
    what = f"role {name}"
    if role.embedded:
        yield Finding(
            what,
            "warning",
            f"{role.model_label}, read by {role.resolved_reading}: it is there to run, not to "
            "judge well",
        )
        return
    key = os.environ.get(role.api_key_env)
    local = any(host in role.base_url for host in ("127.0.0.1", "localhost", "[::1]"))
    if not key and not local:
        yield Finding(
            what, "problem", f"{role.model}: set the variable {role.api_key_env} to the key"
        )
        return
    yield _endpoint(what, role, key)


def _endpoint(what: str, role: Role, key: str | None) -> Finding:
    import openai

    client = openai.OpenAI(
        base_url=role.base_url, api_key=key or "none", timeout=PROBE_TIMEOUT_S, max_retries=0
    )
    capabilities = f"read by {role.resolved_reading}, replies held by {role.resolved_structured}"
    try:
        served = [model.id for model in client.models.list()]
    except openai.APIConnectionError:
        return Finding(what, "problem", f"{role.base_url} does not answer")
    except openai.APIStatusError as error:
        return Finding(what, "problem", f"{role.base_url} answers {error.status_code}")
    if role.model not in served:
        return Finding(
            what,
            "warning",
            f"{role.base_url} does not list {role.model}; it lists {', '.join(served[:5])}",
        )
    return Finding(what, "ok", f"{role.model} at {role.base_url}, {capabilities}")
