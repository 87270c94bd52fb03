"""What `opencs doctor` looks at to say whether this machine can run the platform."""

import logging
import os
import platform
import shutil
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import httpx

from resources.launcher.protocol import LauncherError, launcher_of
from resources.llm.budget import lost_part
from resources.llm.coordination import Coordination
from resources.llm.errors import LLMError
from resources.llm.prices import own_prices, price_of
from resources.llm.probe import ask_anew, remembered
from resources.llm.request import asked_form
from resources.llm.store import VERSION, ReplyStore, month_start
from resources.llm.transport import http_settings, is_loopback
from resources.llm.upkeep import size_of
from resources.settings import FurtherEndpoint, Role, Settings

State = Literal["ok", "warning", "problem"]
PACKAGES = (
    *("dagster", "dbt-core", "dbt-duckdb", "deepspeed", "duckdb", "faiss-cpu", "openai", "polars"),
    *("sentence-transformers", "torch", "transformers", "trl", "xllamacpp"),
)
LOW_DISK_GB = 5
PROBE_TIMEOUT_S = 5.0
# The daemon sends a heartbeat every 30 s.
DAEMON_SILENT_S = 90.0
LONG_QUEUE_S = 900.0
# An endpoint that does not list its models answers with one of these; so does a wrong URL.
_LISTS_NONE = (404, 405, 501)


@dataclass(frozen=True)
class Diagnosis:
    """The state of one thing, and in ``detail`` what was seen and, unless ok, what to do.

    A ``warning`` works but needs attention; a ``problem`` will not work.
    """

    what: str
    state: State
    detail: str


def _ok(what: str, detail: str) -> Diagnosis:
    return Diagnosis(what, "ok", detail)


def _warning(what: str, detail: str) -> Diagnosis:
    return Diagnosis(what, "warning", detail)


def _problem(what: str, detail: str) -> Diagnosis:
    return Diagnosis(what, "problem", detail)


def examine(settings: Settings, *, probe: bool = False) -> list[Diagnosis]:
    """Look at everything that a run needs; paid calls are made only to ``probe`` the endpoints."""
    landing = settings.home / "landing"
    return [
        *_versions(),
        _disk(settings),
        _gpu(),
        *_models(settings),
        *_replies(settings),
        *_instance(settings),
        _prices(settings),
        *_roles(settings, probe),
        _launcher(settings),
        _ok("landing.on_new_data", f"{settings.on_new_data} (a new file in {landing})"),
    ]


def _versions() -> Iterator[Diagnosis]:
    yield _ok("python", f"{platform.python_version()} on {platform.machine()}")
    for package in PACKAGES:
        try:
            yield Diagnosis(package, "ok", version(package))
        except PackageNotFoundError:
            yield Diagnosis(package, "problem", "not installed; run `make install`")


def _disk(settings: Settings) -> Diagnosis:
    free = shutil.disk_usage(settings.home).free / 1e9
    detail = f"{free:.0f} GB free at {settings.home}"
    if free < LOW_DISK_GB:
        return _warning("disk", f"{detail}; a checkpoint of a 135M model takes 0.6 GB")
    return _ok("disk", detail)


def _gpu() -> Diagnosis:
    import torch

    if torch.cuda.is_available():
        names = map(torch.cuda.get_device_name, range(torch.cuda.device_count()))
        return _ok("gpu", ", ".join(names))
    return _ok("gpu", f"none; models train on {os.cpu_count()} CPU cores (small models only)")


def _launcher(settings: Settings) -> Diagnosis:
    """Say where trainings run, and whether this account may start them there."""
    kind = settings.launcher.kind
    quiet = logging.Logger("doctor", logging.CRITICAL)
    try:
        place = launcher_of(settings, quiet, patience_s=PROBE_TIMEOUT_S).look()
    except LauncherError as error:
        return _problem("launcher", f"{kind}: {error}")
    return _ok("launcher", f"{kind}; {place}")


def _models(settings: Settings) -> Iterator[Diagnosis]:
    from resources.models import BASE, ORIGINAL, SERVED

    for name in (ORIGINAL, SERVED, BASE):
        path = settings.models / name
        if path.exists():
            yield _ok(f"model {name}", str(path))
        else:
            yield _warning(f"model {name}", "not there yet; made on first use, or by `make models`")


def _replies(settings: Settings) -> Iterator[Diagnosis]:
    """Diagnose the reply store and the budget."""
    try:
        # When the coordination is opened, the calls of killed processes are counted as lost.
        with ReplyStore(settings.replies) as store, Coordination(settings.replies):
            size = size_of(store)
            spent = store.spent(since=month_start())
            lost = store.lost_usd(since=month_start())
            name = store.database.name
    except LLMError as error:
        yield _problem("reply store", str(error))
        return
    yield _ok(
        "reply store",
        f"{size.replies:,} replies, {size.bytes / 1e6:,.1f} MB, version {VERSION}, at {name}",
    )
    yield _budget(settings, spent, lost)


def _budget(settings: Settings, spent: float, lost: float) -> Diagnosis:
    """The ceilings with what counts against them."""
    budget = settings.budget
    monthly = budget.max_cost_usd_per_month
    ceiling = "" if monthly is None else f" of at most ${monthly:,.4g}"
    parts = [f"${spent:,.4g} spent this month{ceiling}{lost_part(lost)}"]
    if budget.max_cost_usd is not None:
        parts.append(f"a run at most ${budget.max_cost_usd:,.4g}")
    parts += [
        f"{asset} at most ${most:,.4g} in a run"
        for asset, most in budget.max_cost_usd_per_asset.items()
    ]
    if budget == type(budget)():
        parts.append("no ceiling is set")
    detail = ", ".join(parts)
    if monthly is None or spent < monthly:
        return _ok("budget", detail)
    remedy = "no paid call is made before the next month: raise budget.max_cost_usd_per_month"
    return _warning("budget", f"{detail}; {remedy}")


def _instance(settings: Settings) -> Iterator[Diagnosis]:
    """Diagnose Dagster's instance: its databases, its runs and its growth."""
    from resources.runs import health

    folder = settings.instance
    if not folder.is_dir():
        yield _ok("dagster instance", f"{folder} is made by the first run")
        return
    damaged = health.damaged_databases(folder)
    for path, reason in damaged.items():
        yield _problem(
            "dagster database",
            f"{path} is damaged ({reason}). End what uses this home, put {folder} back from a "
            "backup or move it away, and name the datasets again with `opencs add`: the history "
            "of runs is lost, while tables, replies and checkpoints stay and are used again",
        )
    if damaged:
        return
    try:
        yield from _runs(settings)
    except Exception as error:  # a diagnosis reports every reason why it can't be opened
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        yield _problem(
            "dagster instance",
            f"{folder} can't be opened: {reason}; see its dagster.yaml, and whether its database "
            "is up",
        )
    yield _sizes(settings)


def _runs(settings: Settings) -> Iterator[Diagnosis]:
    from resources.instance import open_instance
    from resources.runs import health

    with open_instance(settings.home) as instance:
        dead = health.dead_run_names(instance)
        stale = health.stale_holders(instance)
        held = health.held_pools(instance)
        waiting = health.queue(instance)
        silent = health.daemon_silent_s(instance)
        watched = bool(instance.run_launcher.supports_check_run_worker_health)
    yield _dead(dead, stale)
    yield _ok(
        "pools",
        "; ".join(f"{pool} is held by {' and '.join(runs)}" for pool, runs in held.items())
        or "no run holds a place",
    )
    yield _queue(waiting.runs, waiting.oldest_s, silent)
    if not watched:
        yield _warning(
            "run monitoring",
            f"{settings.instance / 'dagster.yaml'} was changed by hand and names no launcher that "
            "can say whether a run lives: take run_launcher, run_retries and run_monitoring from "
            "deploy/laptop/dagster.yaml",
        )


def _dead(dead: Sequence[str], stale: Sequence[str]) -> Diagnosis:
    lines = [*dead, *(f"run {run_id[:8]} has ended and holds a place" for run_id in stale)]
    if not lines:
        return _ok("dead runs", "none")
    remedy = "the next `opencs materialize` or `opencs ui` ends and frees them"
    return _warning("dead runs", f"{'; '.join(lines)}; {remedy}")


def _queue(runs: int, oldest_s: float, silent_s: float | None) -> Diagnosis:
    """The queue, and the daemon that is to empty it."""
    running = silent_s is not None and silent_s < DAEMON_SILENT_S
    daemon = "the daemon runs" if running else "no daemon runs: `opencs ui` starts one"
    if not running and silent_s is not None:
        daemon += f" (it was last heard of {_ago(silent_s)} ago)"
    if not runs:
        return _ok("queue", f"empty; {daemon}")
    late = not running or oldest_s > LONG_QUEUE_S
    return Diagnosis(
        "queue",
        "warning" if late else "ok",
        f"{runs} runs wait, the first for {_ago(oldest_s)}; {daemon}",
    )


def _sizes(settings: Settings) -> Diagnosis:
    from resources.runs import health

    parts = []
    for folder in (settings.instance, settings.home / "llm", settings.home / "lake"):
        grown = health.growth(folder)
        megabytes = grown.bytes / 1e6
        pace = f" ({megabytes / grown.days:,.1f} MB a day)" if grown.days >= 1 else ""
        parts.append(f"{folder.name} {megabytes:,.1f} MB{pace}")
    return _ok("sizes", ", ".join(parts))


def _ago(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.0f} h"


def _prices(settings: Settings) -> Diagnosis:
    """Say which prices count for the calls of each paid role."""
    try:
        own_prices(settings.home)
        priced = [(role.model_label, price_of(role, settings.home)) for _, role in settings.roles]
    except LLMError as error:
        return _problem("prices", str(error))
    sources = (f"{model} by {price.source}" for model, price in priced if price and price.source)
    details = list(dict.fromkeys(sources))
    if unpriced := dict.fromkeys(model for model, price in priced if price is None):
        details.append(
            f"no price of {', '.join(unpriced)}: add it to {settings.home / 'prices.toml'} under "
            "[models] (input = 0, output = 0 where it costs nothing); without it costs are unknown "
            "and a budget allows no call"
        )
    state: State = "warning" if unpriced else "ok"
    return Diagnosis("prices", state, "; ".join(details) or "every role is free")


def _roles(settings: Settings, probe: bool) -> Iterator[Diagnosis]:
    with ExitStack() as opened:
        shared: Coordination | None = None
        for name, role in settings.roles:
            if role.embedded:
                yield _warning(
                    f"role {name}",
                    f"{role.model_label}, read by {role.resolved_reading}: it is there to run, not "
                    "to judge well",
                )
                continue
            if shared is None:
                try:
                    shared = opened.enter_context(Coordination(settings.replies))
                except LLMError as error:
                    yield _problem(f"role {name}", str(error))
                    continue
            for number, place in enumerate(role.places, start=1):
                what = f"role {name}" if number == 1 else f"role {name}, endpoint {number}"
                yield _endpoint(what, name, role, place, shared, probe)


def _endpoint(
    what: str, name: str, role: Role, place: FurtherEndpoint, shared: Coordination, probe: bool
) -> Diagnosis:
    """Say whether an endpoint answers and has the model, and what it can do as far as is known."""
    url, model = place.base_url, place.model or role.model
    variable = place.api_key_env or role.api_key_env
    key = os.environ.get(variable, "")
    if not url.startswith(("http://", "https://")):
        return _problem(what, f"{url} must begin with http:// or https://")
    if not key and not is_loopback(url):
        return _problem(what, f"{model}: set the variable {variable} to the key of {url}")
    try:
        answer = _ask_for_models(place, key)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return _problem(what, _unreachable(url, error))
    if answer.status_code in (401, 403):
        return _problem(what, f"{url} answers {answer.status_code}: check the key in {variable}")
    if answer.is_redirect:
        where = answer.headers.get("location", "elsewhere")
        return _problem(what, f"{url} redirects to {where}: set base_url to where it is")
    if answer.status_code != 200 and answer.status_code not in _LISTS_NONE:
        return _problem(what, f"{url} answers {answer.status_code}")
    try:
        features = ask_anew(name, role, place, shared) if probe else remembered(role, place, shared)
    except LLMError as error:
        return _problem(what, str(error))
    can = (
        f"read by {role.resolved_reading}, replies held by {asked_form(role)}; "
        f"{_features_text(features)}"
    )
    # Azure lists what its resource could deploy, not what is deployed.
    served = None if place.api_version else _served(answer)
    if served is None and not place.api_version and not probe:
        return _warning(what, f"{url} lists no models: check it with --probe if calls fail; {can}")
    if served is not None and model not in served:
        listed = f"it lists {', '.join(served[:5])}" if served else "it lists none"
        return _warning(what, f"{url} does not list {model}, {listed}; {can}")
    return _ok(what, f"{model} at {url}, {can}")


def _ask_for_models(place: FurtherEndpoint, key: str) -> httpx.Response:
    """Ask an endpoint for its models, with the TLS and proxy settings of calls."""
    base = place.base_url.rstrip("/")
    if place.api_version:
        url = f"{base}/openai/models?api-version={place.api_version}"
        headers = {"api-key": key}
    else:
        url, headers = f"{base}/models", {"Authorization": f"Bearer {key}"}
    with httpx.Client(timeout=PROBE_TIMEOUT_S, **http_settings(base)) as client:
        return client.get(url, headers=headers if key else {})


def _served(answer: httpx.Response) -> list[str] | None:
    """The models that an endpoint lists; ``None`` where it lists none at all."""
    if answer.status_code != 200:
        return None
    try:
        return [str(model["id"]) for model in answer.json()["data"]]
    except (ValueError, KeyError, TypeError):
        return None


def _unreachable(url: str, error: Exception) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            reason = getattr(cause, "verify_message", "") or cause.reason or str(cause)
            return (
                f"{url}: TLS fails: {reason}; for an authority of your own set SSL_CERT_FILE to "
                "its certificate"
            )
        cause = cause.__cause__ or cause.__context__
    return f"{url} does not answer ({type(error).__name__})"


def _features_text(features: Mapping[str, bool]) -> str:
    parts = []
    for verb, state in (("has", True), ("lacks", False)):
        if names := [name for name, is_there in features.items() if bool(is_there) == state]:
            parts.append(f"{verb} {', '.join(names)}")
    return "; ".join(parts) or "not asked yet what it can do (asked when first needed, or --probe)"
