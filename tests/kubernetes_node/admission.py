"""What new objects must be, and what they get: Kubernetes' schemas, rules beyond them, defaults."""

import base64
import re
from collections.abc import Mapping
from typing import Any

import kubernetes_validate

from tests.kubernetes_node.store import (
    KINDS,
    ApiError,
    Kind,
    Object,
    Store,
    bad_request,
    invalid,
    not_built,
    random_suffix,
)

VERSION = "1.37.0"
NAMESPACE = "default"  # the only one
GRACE_S = 30
DNS_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
QUANTITY = re.compile(r"([0-9.]+)([mkMGT]|[KMGT]i)?")
UNITS = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12} | {
    f"{letter}i": 1024.0**power for power, letter in enumerate("KMGT", 1)
}
NOT_BUILT_OF_JOBS = (
    "backoffLimitPerIndex",
    "maxFailedIndexes",
    "successPolicy",
    "managedBy",
    "suspend",
)
RESTARTS = "pods whose containers are started again"
NOT_BUILT_OF_PODS = ("initContainers", "activeDeadlineSeconds", "ephemeralContainers")


def quantity(text: Any) -> float:
    """A resource's amount as a number; a ``ValueError`` where it is none."""
    match = QUANTITY.fullmatch(str(text))
    if match is None:
        raise ValueError(
            "quantities must match the regular expression "
            "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        )
    return float(match[1]) * UNITS[match[2] or ""]


def admit(store: Store, kind: Kind, namespace: str, thing: Object) -> None:
    """Refuse what Kubernetes refuses, and give an object what it gets when it is made.

    Raises:
        ApiError: It is refused.
    """
    metadata = thing.setdefault("metadata", {})
    if namespace != NAMESPACE:
        details = {"name": namespace, "kind": "namespaces"}
        raise ApiError(404, "NotFound", f'namespaces "{namespace}" not found', details)
    if metadata.get("namespace") not in (None, namespace):
        raise bad_request(
            f"the namespace of the provided object does not match the namespace sent on the "
            f"request ({metadata['namespace']} and {namespace})"
        )
    _check(kind, thing)
    if not metadata.get("name"):
        metadata["name"] = metadata["generateName"] + random_suffix()
    if kind.plural == "pods":
        admit_pod(store, namespace, thing)
    elif kind.plural == "jobs":
        _admit_job(thing)
    elif kind.plural == "secrets":
        texts = thing.pop("stringData", None) or {}
        encoded = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
        thing["data"] = {**(thing.get("data") or {}), **encoded}


def _check(kind: Kind, thing: Object) -> None:
    metadata = thing["metadata"]
    whole = {"apiVersion": kind.api_version, "kind": kind.kind, **_without_nulls(thing)}
    try:
        kubernetes_validate.validate(whole, VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        where = ".".join(str(part) for part in error.path)
        raise bad_request(
            f"{kind.kind} in version 'v1' cannot be handled as a {kind.kind}: strict decoding "
            f"error: {where}: {error.message}"
        ) from None
    name = metadata.get("name") or (metadata.get("generateName") or "") + "x"
    pattern = DNS_LABEL if kind.plural in ("jobs", "services") else DNS_NAME
    if not pattern.fullmatch(name):
        why = f'Invalid value: "{name}": a lowercase RFC 1123 name must consist of lower case '
        raise invalid(kind, name, "metadata.name", why + "alphanumeric characters or '-'")
    template = ((thing.get("spec") or {}).get("template") or {}).get("metadata") or {}
    for where, labelled in (("metadata.labels", metadata), ("spec.template.labels", template)):
        for key, value in (labelled.get("labels") or {}).items():
            if not LABEL_VALUE.fullmatch(value):
                why = f'Invalid value: "{value}": must be a valid label value (of {key})'
                raise invalid(kind, name, where, why)


def _without_nulls(value: Any) -> Any:
    """An object without its null fields, which mean the same as none."""
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_without_nulls(each) for each in value]
    return value


def set_defaults(spec: Object, **values: Any) -> None:
    """Set what is absent or null."""
    for key, value in values.items():
        if spec.get(key) is None:
            spec[key] = value


# Pods.


def admit_pod(store: Store, namespace: str, pod: Object) -> None:
    """Check a pod beyond its schema, and give it its defaults."""
    kind, name, spec = KINDS["pods"], pod["metadata"]["name"], pod["spec"]
    _check_pod_spec("spec", kind, name, spec)
    if spec.get("restartPolicy") != "Never":
        raise not_built(RESTARTS)
    set_defaults(spec, serviceAccountName="default", terminationGracePeriodSeconds=GRACE_S)
    account = spec["serviceAccountName"]
    if store.find("serviceaccounts", namespace, account) is None:
        raise ApiError(
            403,
            "Forbidden",
            f'pods "{name}" is forbidden: error looking up service account {namespace}/{account}: '
            f'serviceaccount "{account}" not found',
            kind.details(name),
        )
    for container in spec["containers"]:
        set_defaults(container, terminationMessagePolicy="File", resources={})
        resources = container["resources"]
        if resources.get("limits"):
            resources["requests"] = {**resources["limits"], **(resources.get("requests") or {})}
    pod["status"] = {"phase": "Pending"}


def _check_pod_spec(where: str, kind: Kind, name: str, spec: Object) -> None:
    for field in NOT_BUILT_OF_PODS:
        if spec.get(field):
            raise not_built(f"{where}.{field}")
    if not spec.get("containers"):
        raise invalid(kind, name, f"{where}.containers", "Required value")
    volumes = {volume["name"] for volume in spec.get("volumes") or []}
    for place, container in enumerate(spec["containers"]):
        at = f"{where}.containers[{place}]"
        if not container.get("image"):
            raise invalid(kind, name, f"{at}.image", "Required value")
        _check_resources(kind, name, at, container.get("resources") or {})
        for mount in container.get("volumeMounts") or []:
            if mount["name"] not in volumes:
                why = f'name: Not found: "{mount["name"]}"'
                raise invalid(kind, name, f"{at}.volumeMounts", why)
        for variable in container.get("env") or []:
            if variable.get("value") and variable.get("valueFrom"):
                why = "may not be specified when `value` is not empty"
                raise invalid(kind, name, f"{at}.env[{variable['name']}].valueFrom", why)


def _check_resources(kind: Kind, name: str, at: str, resources: Object) -> None:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for which, amounts in (("limits", limits), ("requests", requests)):
        for resource, amount in amounts.items():
            try:
                quantity(amount)
            except ValueError as error:
                where = f"{at}.resources.{which}[{resource}]"
                raise invalid(kind, name, where, str(error)) from None
    for resource, amount in requests.items():
        limit = limits.get(resource)
        if limit is not None and quantity(amount) > quantity(limit):
            why = f'Invalid value: "{amount}": must be less than or equal to {resource} limit'
            raise invalid(kind, name, f"{at}.resources.requests", why)
        if "/" in resource and amount != limit:
            why = f"must be equal to {resource} limit"
            raise invalid(kind, name, f"{at}.resources.requests", why)


# Jobs.


def _admit_job(job: Object) -> None:
    kind, name, spec = KINDS["jobs"], job["metadata"]["name"], job["spec"]
    for field in NOT_BUILT_OF_JOBS:
        if spec.get(field):
            raise not_built(f"Job {field}")
    template = spec["template"]
    template["metadata"] = template.get("metadata") or {}
    pod, policy = template.setdefault("spec", {}), spec.get("podFailurePolicy") or {}
    _check_pod_spec("spec.template.spec", kind, name, pod)
    if pod.get("restartPolicy") not in ("Never", "OnFailure"):
        why = 'Required value: valid values: "OnFailure", "Never"'
        raise invalid(kind, name, "spec.template.spec.restartPolicy", why)
    if pod["restartPolicy"] == "OnFailure":
        raise not_built(RESTARTS)
    for index, rule in enumerate(policy.get("rules") or []):
        at = f"spec.podFailurePolicy.rules[{index}]"
        if why := _wrong_with_rule(rule, {each["name"] for each in pod["containers"]}):
            raise invalid(kind, name, at, why)
    set_defaults(
        spec,
        parallelism=1,
        completions=1,
        backoffLimit=6,
        completionMode="NonIndexed",
        podReplacementPolicy="Failed" if policy else "TerminatingOrFailed",
    )
    if policy and spec["podReplacementPolicy"] != "Failed":
        why = "Unsupported value: only Failed is supported where podFailurePolicy is used"
        raise invalid(kind, name, "spec.podReplacementPolicy", why)
    if spec.get("selector"):
        raise invalid(kind, name, "spec.selector", "`selector` not auto-generated")
    job["status"] = {}
    job["metadata"].setdefault("labels", dict(template["metadata"].get("labels") or {}))


def _wrong_with_rule(rule: Mapping[str, Any], containers: set[str]) -> str | None:
    """Why Kubernetes refuses a rule of a pod failure policy, if it does."""
    codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions")
    if rule.get("action") not in ("FailJob", "Ignore", "Count"):
        return f'action: Unsupported value: "{rule.get("action")}"'
    if bool(codes) == bool(conditions):
        return "specifying one of OnExitCodes and OnPodConditions is required"
    if not codes:
        return None
    values = list(codes["values"])
    if codes.get("containerName") not in {None, *containers}:
        return "onExitCodes.containerName: must be one of the containers"
    if codes["operator"] == "In" and 0 in values:
        return "onExitCodes.values: Invalid value: 0: must not be 0 for the In operator"
    if values != sorted(set(values)):
        return "onExitCodes.values: Invalid value: must be ordered and without duplicates"
    return None


def label_of(job: Object) -> None:
    """Give a stored Job, which has its uid now, the labels and the selector of its pods."""
    name, uid = job["metadata"]["name"], job["metadata"]["uid"]
    prefix, template = "batch.kubernetes.io/", job["spec"]["template"]["metadata"]
    own = {f"{prefix}controller-uid": uid, f"{prefix}job-name": name}
    old = {"controller-uid": uid, "job-name": name}
    template["labels"] = {**(template.get("labels") or {}), **own, **old}
    job["spec"]["selector"] = {"matchLabels": {f"{prefix}controller-uid": uid}}
