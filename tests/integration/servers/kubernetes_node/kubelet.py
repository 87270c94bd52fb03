"""The node: decides whether a pod fits, and runs its containers as local processes."""

import asyncio
import base64
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from .config import Config
from .faults import Faults
from .pods import Pods, quantity
from .store import Object, Store, condition, now, set_condition

NODE = "node-1"
ADDRESS = "127.0.0.1"
SHIM = Path(__file__).with_name("shim.py")
USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LONGEST_LINE = 16384  # a longer one is cut, as container runtimes do
OWN_SCRATCH = (Path("/tmp"), Path("/dev/shm"))  # what an emptyDir may be mounted over
REFERENCE = re.compile(r"\$(\$|\(([A-Za-z0-9_.-]+)\))")
IMAGE = re.compile(r"[a-z0-9./:_-]+(:[\w.-]+)?(@sha256:[0-9a-f]{1,64})?")
POLL_S = 0.02


class StoppedError(Exception):
    """The pod is to end."""


class ConfigError(Exception):
    """A container can't be made from what its pod says."""


class Log:
    """What a container wrote: lines with the time at which each was whole."""

    def __init__(self) -> None:
        self.lines: list[tuple[float, bytes]] = []
        self.closed = False
        self.changed = asyncio.Event()
        self._part = b""

    def write(self, data: bytes) -> None:
        *whole, self._part = (self._part + data).split(b"\n")
        for line in whole:
            self._add(line + b"\n")
        while len(self._part) > LONGEST_LINE:
            self._add(self._part[:LONGEST_LINE])
            self._part = self._part[LONGEST_LINE:]

    def close(self) -> None:
        if self._part:
            self._add(self._part)
        self._part, self.closed = b"", True
        self._tell()

    def _add(self, line: bytes) -> None:
        self.lines.append((time.time(), line))
        self._tell()

    def _tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    def tail(self, lines: int, most_bytes: int) -> str:
        text = b"".join(line for _, line in self.lines[-lines:])[-most_bytes:]
        return text.decode("utf-8", "replace")


def stamp(seconds: float) -> str:
    """A time as logs have it."""
    whole = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return f"{whole}000Z"


@dataclass
class Container:
    """A container of a pod that is being run."""

    spec: Object
    status: Object
    init: bool
    log: Log = field(default_factory=Log)
    previous: Log | None = None
    process: asyncio.subprocess.Process | None = None
    killed_for: str | None = None  # the reason that its end will have

    def signal(self, number: int) -> None:
        if self.process is not None and self.process.returncode is None:
            assert self.process.stdin is not None
            self.process.stdin.write(b"%d\n" % number)

    @property
    def exit_code(self) -> int | None:
        ended = self.status["state"].get("terminated")
        return ended["exitCode"] if ended else None


class Kubelet:
    """Schedules pods to the one node and runs them there."""

    def __init__(self, store: Store, pods: Pods, config: Config, faults: Faults) -> None:
        self.store, self.pods, self.config, self.faults = store, pods, config, faults
        self.runners: dict[str, Runner] = {}
        self.links: dict[Path, set[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def sync(self) -> None:
        """Schedule what waits and start what is scheduled."""
        for pod in self.store.all("pods"):
            if pod["status"]["phase"] in ("Succeeded", "Failed"):
                continue
            if not pod["spec"].get("nodeName") and "deletionTimestamp" not in pod["metadata"]:
                self._schedule(pod)
            uid = pod["metadata"]["uid"]
            if pod["spec"].get("nodeName") and uid not in self.runners:
                self.runners[uid] = runner = Runner(self, pod)
                task = asyncio.ensure_future(runner.run())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _schedule(self, pod: Object) -> None:
        why = self._why_not(pod)
        before = condition(pod, "PodScheduled")
        if why is None:
            pod["spec"]["nodeName"] = NODE
            set_condition(pod, "PodScheduled")
            self.store.touch(pod)
            metadata = pod["metadata"]
            message = f"Successfully assigned {metadata['namespace']}/{metadata['name']} to {NODE}"
            self.store.event(pod, "Scheduled", message, by="default-scheduler")
        elif before is None or before.get("message") != why:
            set_condition(pod, "PodScheduled", False, "Unschedulable", why)
            self.store.touch(pod)
            self.store.event(pod, "FailedScheduling", why, True, by="default-scheduler")

    def _why_not(self, pod: Object) -> str | None:
        """Why a pod does not fit the node; None where it does."""
        spec, metadata = pod["spec"], pod["metadata"]
        fault = self.faults.of_pod("unschedulable", metadata["uid"], metadata["name"])
        if fault:
            return fault.message or "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
        for claim in claims_of(spec):
            if self.store.find("persistentvolumeclaims", metadata["namespace"], claim) is None:
                return f'0/1 nodes are available: persistentvolumeclaim "{claim}" not found.'
        labels = {"kubernetes.io/hostname": NODE, **self.config.node_labels}
        selector = spec.get("nodeSelector") or {}
        if any(labels.get(key) != value for key, value in selector.items()) or not fits_affinity(
            spec, labels
        ):
            return "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
        for taint in self.config.taints:
            tolerations = spec.get("tolerations") or []
            if taint["effect"] != "PreferNoSchedule" and not any(
                tolerates(each, taint) for each in tolerations
            ):
                shown = f"{{{taint['key']}: {taint.get('value', '')}}}"
                return f"0/1 nodes are available: 1 node(s) had untolerated taint {shown}."
        running = [
            each["spec"]
            for each in self.store.all("pods")
            if each["spec"].get("nodeName")
            and each["status"]["phase"] not in ("Succeeded", "Failed")
        ]
        for resource in sorted(requested(spec)):
            used = sum(requested(each).get(resource, 0.0) for each in running)
            free = quantity(self.config.allocatable.get(resource, "0")) - used
            if requested(spec)[resource] > free:
                return f"0/1 nodes are available: 1 Insufficient {resource}."
        return None

    def terminate(self, pod: Object, grace_s: float) -> None:
        runner = self.runners.get(pod["metadata"]["uid"])
        if runner is not None:
            runner.terminate(grace_s * self.config.grace_scale)

    async def close(self) -> None:
        """Kill all containers and wait for their end."""
        for runner in self.runners.values():
            runner.terminate(0.0)
        if self._tasks:
            await asyncio.wait(self._tasks)
        for link in self.links:
            link.unlink(missing_ok=True)


class Runner:
    """Runs one pod, from its first container's creation to its last one's end."""

    def __init__(self, kubelet: Kubelet, pod: Object) -> None:
        self._kubelet, self.pod = kubelet, pod
        self._store, self._config = kubelet.store, kubelet.config
        self.lost = False  # the node is gone: nobody reports any more
        self.done = asyncio.Event()
        self._stop = asyncio.Event()
        self._kill_at = float("inf")
        spec = pod["spec"]
        self.containers = {
            each["name"]: Container(each, waiting_status(each), init)
            for init, each in [
                *((True, each) for each in spec.get("initContainers") or []),
                *((False, each) for each in spec["containers"]),
            ]
        }
        folder = Path(self._config.root) / "pods" / pod["metadata"]["uid"]
        self._folder = folder
        self._volumes: dict[str, Path | None] = {}

    def terminate(self, grace_s: float) -> None:
        """End the pod: SIGTERM now, SIGKILL after the grace."""
        self._kill_at = min(self._kill_at, time.monotonic() + grace_s)
        self._stop.set()

    async def run(self) -> None:
        """Run the pod to its end."""
        status, spec = self.pod["status"], self.pod["spec"]
        status.update(
            hostIP=ADDRESS,
            podIP=ADDRESS,
            podIPs=[{"ip": ADDRESS}],
            startTime=now(),
            phase="Pending",
        )
        inits = [each for each in self.containers.values() if each.init]
        mains = [each for each in self.containers.values() if not each.init]
        if inits:
            status["initContainerStatuses"] = [each.status for each in inits]
            for each in mains:
                each.status["state"] = {"waiting": {"reason": "PodInitializing"}}
        status["containerStatuses"] = [each.status for each in mains]
        set_condition(self.pod, "Initialized", not inits)
        self._show_ready()
        deadline = spec.get("activeDeadlineSeconds")
        timer = asyncio.get_running_loop().call_later(deadline, self._expire) if deadline else None
        try:
            await self._mount_all()
            for each in inits:
                if await self._run_container(each) != 0:
                    return
            set_condition(self.pod, "Initialized")
            await asyncio.gather(*(self._run_container(each) for each in mains))
        except StoppedError:
            pass
        finally:
            if timer is not None:
                timer.cancel()
            self._finish()

    def _expire(self) -> None:
        self.pod["status"]["reason"] = "DeadlineExceeded"
        self.pod["status"]["message"] = (
            "Pod was active on the node longer than the specified deadline"
        )
        self.terminate(self.pod["spec"]["terminationGracePeriodSeconds"] * self._config.grace_scale)

    def _finish(self) -> None:
        for each in self.containers.values():
            each.log.close()
        self._unlink()
        shutil.rmtree(self._folder, ignore_errors=True)
        self.done.set()
        if self.lost:
            return
        codes = [each.exit_code for each in self.containers.values()]
        succeeded = not self.pod["status"].get("reason") and all(code == 0 for code in codes)
        self.pod["status"]["phase"] = "Succeeded" if succeeded else "Failed"
        self._show_ready("PodCompleted" if succeeded else "PodFailed")
        self._kubelet.pods.collect(self.pod)

    def _touch(self) -> None:
        if not self.lost:
            self._store.touch(self.pod)

    def _show_ready(self, reason: str = "ContainersNotReady") -> None:
        mains = [each.status for each in self.containers.values() if not each.init]
        ready = all(each["ready"] for each in mains)
        for kind in ("Ready", "ContainersReady"):
            set_condition(self.pod, kind, ready, "" if ready else reason)
        self._touch()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return
        raise StoppedError

    def _wait_for(self, container: Container, reason: str, message: str = "") -> None:
        """Say why a container waits."""
        state = {"reason": reason, **({"message": message} if message else {})}
        if container.status["state"] != {"waiting": state}:
            container.status["state"] = {"waiting": state}
            self._touch()

    def _event(self, reason: str, message: str, warning: bool = False) -> None:
        if not self.lost:
            self._store.event(self.pod, reason, message, warning)

    async def _run_container(self, container: Container) -> int:
        """Run a container, again and again where its pod says so; returns its last exit code."""
        policy, waits = self.pod["spec"]["restartPolicy"], self._config.backoff_s
        while True:
            argv, env, cwd = await self._prepare(container)
            code = await self._execute(container, argv, env, cwd)
            again = policy != "Never" and (code != 0 or (policy == "Always" and not container.init))
            if not again or self._stop.is_set():
                return code
            status = container.status
            status["lastState"], status["restartCount"] = (
                status["state"],
                status["restartCount"] + 1,
            )
            container.previous, container.log = container.log, Log()
            name = container.spec["name"]
            message = f"back-off {waits:g}s restarting failed container={name}"
            self._wait_for(container, "CrashLoopBackOff", message)
            self._event("BackOff", f"Back-off restarting failed container {name}", True)
            await self._pause(waits)
            waits = min(2 * waits, self._config.longest_backoff_s)

    async def _prepare(self, container: Container) -> tuple[list[str], dict[str, str], str]:
        """Wait until a container can be made; returns its command, environment and folder."""
        if self._stop.is_set():
            raise StoppedError
        self._wait_for(container, "ContainerCreating")
        await self._pause(self._config.start_s)
        await self._pull(container)
        metadata, name = self.pod["metadata"], container.spec["name"]
        while True:
            fault = self._kubelet.faults.of_pod("create_error", metadata["uid"], metadata["name"])
            try:
                if fault is None:
                    made = self._make(container.spec)
                    self._event("Created", f"Created container: {name}")
                    return made
                reason = "CreateContainerError"
                message = fault.message or "failed to reserve container name: name is reserved"
            except ConfigError as error:
                reason, message = "CreateContainerConfigError", str(error)
            self._wait_for(container, reason, message)
            self._event("Failed", f"Error: {message}", True)
            await self._pause(self._config.retry_s)

    async def _pull(self, container: Container) -> None:
        image, metadata = container.spec["image"], self.pod["metadata"]
        tried = 0
        if not IMAGE.fullmatch(image):
            while True:
                message = f'Failed to apply default image tag "{image}": couldn\'t parse image name'
                self._wait_for(container, "InvalidImageName", message)
                self._event("InspectFailed", message, True)
                await self._pause(self._config.retry_s)
        while True:
            fault = self._kubelet.faults.of_pod("pull_error", metadata["uid"], metadata["name"])
            if image in self._config.images and fault is None:
                if container.spec["imagePullPolicy"] == "Always" or tried:
                    self._event("Pulling", f'Pulling image "{image}"')
                self._event("Pulled", f'Container image "{image}" already present on machine')
                return
            if container.spec["imagePullPolicy"] == "Never":
                message = f'Container image "{image}" is not present with pull policy of Never'
                self._wait_for(container, "ErrImageNeverPull", message)
                self._event("ErrImageNeverPull", message, True)
            else:
                self._event("Pulling", f'Pulling image "{image}"')
                why = (fault and fault.message) or (
                    f'failed to pull and unpack image "{image}": failed to resolve reference '
                    f'"{image}": {image}: not found'
                )
                message = f"rpc error: code = NotFound desc = {why}"
                self._wait_for(container, "ErrImagePull", message)
                self._event("Failed", f'Failed to pull image "{image}": {message}', True)
                self._event("Failed", "Error: ErrImagePull", True)
                await self._pause(self._config.retry_s)
                back_off = f'Back-off pulling image "{image}"'
                shown = f"{back_off}: ErrImagePull: {message}"
                self._wait_for(container, "ImagePullBackOff", shown)
                self._event("BackOff", back_off)
                self._event("Failed", "Error: ImagePullBackOff", True)
            tried += 1
            await self._pause(self._config.retry_s)

    async def _execute(
        self, container: Container, argv: list[str], env: dict[str, str], cwd: str
    ) -> int:
        status = container.status
        image = container.spec["image"]
        found = shutil.which(argv[0], path=env["PATH"]) if "/" not in argv[0] else argv[0]
        if found is None or not os.access(found, os.X_OK) or Path(found).is_dir():
            return await self._cannot_start(container, argv[0])
        started = now()
        container.process = process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            str(SHIM),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={},
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        told = {"argv": [found, *argv[1:]], "env": env, "cwd": cwd}
        process.stdin.write(json.dumps(told).encode() + b"\n")
        status.update(
            state={"running": {"startedAt": started}},
            ready=not container.init,
            started=True,
            imageID=f"docker.io/{image}",
            containerID=f"local://{process.pid}",
        )
        if not container.init:
            self.pod["status"]["phase"] = "Running"
        self._event("Started", f"Started container {container.spec['name']}")
        self._show_ready()
        stopper = asyncio.ensure_future(self._stop_in_time(container))
        while data := await process.stdout.read(65536):
            container.log.write(data)
        code = await process.wait()
        stopper.cancel()
        container.log.close()
        reason = container.killed_for or ("Completed" if code == 0 else "Error")
        self._end(container, code, reason, started)
        return code

    async def _stop_in_time(self, container: Container) -> None:
        await self._stop.wait()
        if self._kill_at > time.monotonic():
            self._event("Killing", f"Stopping container {container.spec['name']}")
            container.signal(signal.SIGTERM)
        while time.monotonic() < self._kill_at:
            await asyncio.sleep(POLL_S)
        container.signal(signal.SIGKILL)

    async def _cannot_start(self, container: Container, command: str) -> int:
        started = now()
        message = (
            "failed to create containerd task: failed to create shim task: OCI runtime create "
            "failed: runc create failed: unable to start container process: exec: "
            f'"{command}": executable file not found in $PATH: unknown'
        )
        self._wait_for(container, "RunContainerError", message)
        self._event("Failed", f"Error: {message}", True)
        await self._pause(self._config.retry_s)
        container.log.close()
        self._end(container, 128, "StartError", started, message)
        return 128

    def _end(
        self, container: Container, code: int, reason: str, started: str, message: str = ""
    ) -> None:
        policy = container.spec["terminationMessagePolicy"]
        if code and not message and policy == "FallbackToLogsOnError":
            message = container.log.tail(80, 2048)
        container.status.update(
            ready=False,
            started=False,
            state={
                "terminated": {
                    "exitCode": code,
                    "reason": reason,
                    "startedAt": started,
                    "finishedAt": now(),
                    "containerID": container.status.get("containerID", ""),
                    **({"message": message} if message else {}),
                }
            },
        )
        if container.init and code == 0:
            container.status["ready"] = True
        self._show_ready()

    # What a container is made of.

    def _make(self, spec: Object) -> tuple[list[str], dict[str, str], str]:
        env = self._environment(spec)
        for mount in spec.get("volumeMounts") or []:
            self._mount(mount, env)
        argv = [
            self._local(expand(each, env))
            for each in [*(spec.get("command") or []), *(spec.get("args") or [])]
        ]
        if not argv:
            raise ConfigError("no command specified, and images here have none of their own")
        home = self._folder / "home"
        home.mkdir(parents=True, exist_ok=True)
        env.setdefault("HOME", str(home))
        cwd = spec.get("workingDir") or str(home)
        if not Path(cwd).is_dir():
            raise ConfigError(f"workingDir {cwd} is no folder on the machine of the tests")
        return argv, env, cwd

    def _environment(self, spec: Object) -> dict[str, str]:
        metadata, pod_spec = self.pod["metadata"], self.pod["spec"]
        env = {"PATH": USUAL_PATH, **self._config.images[spec["image"]]}
        env["HOSTNAME"] = pod_spec.get("hostname") or metadata["name"]
        for source in spec.get("envFrom") or []:
            prefix = source.get("prefix") or ""
            for plural, reference in (
                ("configmaps", source.get("configMapRef")),
                ("secrets", source.get("secretRef")),
            ):
                if reference:
                    env.update(
                        (prefix + key, value.decode())
                        for key, value in self._data(plural, reference).items()
                    )
        for variable in spec.get("env") or []:
            value = self._value(variable, env, spec)
            if value is not None:
                env[variable["name"]] = self._local(value)
        env.update(self._config.env)
        return env

    def _value(self, variable: Object, env: Mapping[str, str], spec: Object) -> str | None:
        source = variable.get("valueFrom")
        if not source:
            return expand(variable.get("value") or "", env)
        for plural, name in (("secrets", "secretKeyRef"), ("configmaps", "configMapKeyRef")):
            if reference := source.get(name):
                data = self._data(plural, reference)
                if reference["key"] in data:
                    return data[reference["key"]].decode()
                if reference.get("optional"):
                    return None
                kind = "Secret" if plural == "secrets" else "ConfigMap"
                place = f"{self.pod['metadata']['namespace']}/{reference['name']}"
                raise ConfigError(f"couldn't find key {reference['key']} in {kind} {place}")
        if reference := source.get("fieldRef"):
            return self._field(reference["fieldPath"])
        if reference := source.get("resourceFieldRef"):
            which, resource = reference["resource"].split(".", 1)
            amount = (spec["resources"].get(which) or {}).get(resource)
            amount = amount or self._config.allocatable.get(resource, "0")
            divisor = quantity(reference.get("divisor") or "1") or 1.0
            return str(-(-int(quantity(amount) * 1000) // int(divisor * 1000)))
        raise ConfigError(f"env {variable['name']} has a source that the tests' cluster lacks")

    def _field(self, path: str) -> str:
        metadata, spec = self.pod["metadata"], self.pod["spec"]
        if match := re.fullmatch(r"metadata\.(labels|annotations)\['([^']+)'\]", path):
            return str((metadata.get(match[1]) or {}).get(match[2], ""))
        values = {
            "metadata.name": metadata["name"],
            "metadata.namespace": metadata["namespace"],
            "metadata.uid": metadata["uid"],
            "spec.nodeName": NODE,
            "spec.serviceAccountName": spec["serviceAccountName"],
            "status.hostIP": ADDRESS,
            "status.podIP": ADDRESS,
        }
        if path not in values:
            raise ConfigError(f"fieldPath {path} is none that the tests' cluster has")
        return str(values[path])

    def _data(self, plural: str, reference: Object) -> dict[str, bytes]:
        """Content of a secret or config map; empty where it is optional and not there."""
        found = self._store.find(plural, self.pod["metadata"]["namespace"], reference["name"])
        if found is None:
            if reference.get("optional"):
                return {}
            kind = "secret" if plural == "secrets" else "configmap"
            raise ConfigError(f'{kind} "{reference["name"]}" not found')
        data = found.get("data") or {}
        if plural == "secrets":
            return {key: base64.b64decode(value) for key, value in data.items()}
        binary = found.get("binaryData") or {}
        return {key: value.encode() for key, value in data.items()} | {
            key: base64.b64decode(value) for key, value in binary.items()
        }

    def _local(self, text: str) -> str:
        """Names of headless services' pods become this machine."""
        if not self._config.resolve_services:
            return text
        namespace = self.pod["metadata"]["namespace"]
        for service in self._store.all("services", namespace):
            name = re.escape(service["metadata"]["name"])
            pattern = rf"\b([a-z0-9-]+\.)?{name}(\.{namespace}(\.svc(\.cluster\.local)?)?)\b"
            text = re.sub(pattern, ADDRESS, text)
            text = re.sub(rf"(?<![\w./-])[a-z0-9-]+\.{name}(?![\w./-])", ADDRESS, text)
        return text

    # Volumes.

    async def _mount_all(self) -> None:
        """Make the pod's volumes; what can't be made is tried again."""
        for volume in self.pod["spec"].get("volumes") or []:
            while True:
                try:
                    self._volumes[volume["name"]] = self._volume(volume)
                    break
                except ConfigError as error:
                    message = f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}'
                    self._event("FailedMount", message, True)
                    await self._pause(self._config.retry_s)

    def _volume(self, volume: Object) -> Path:
        metadata = self.pod["metadata"]
        if claim := volume.get("persistentVolumeClaim"):
            return claim_folder(self._config, metadata["namespace"], claim["claimName"])
        if "emptyDir" in volume:
            folder = self._folder / "volumes" / volume["name"]
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        if path := volume.get("hostPath"):
            if not Path(path["path"]).exists():
                raise ConfigError(f"hostPath type check failed: {path['path']} is not there")
            return Path(path["path"])
        files: dict[str, bytes] = {}
        sources = (volume.get("projected") or {}).get("sources") or [volume]
        for source in sources:
            for plural, name in (("configmaps", "configMap"), ("secrets", "secret")):
                if reference := source.get(name):
                    files |= self._files(plural, reference)
        if not any(name in source for source in sources for name in ("configMap", "secret")):
            raise ConfigError("a kind of volume that the tests' cluster lacks")
        # The same content is the same folder, so that pods may have it at the same place.
        digest = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()[:16]
        folder = Path(self._config.root) / "files" / f"{volume['name']}-{digest}"
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder

    def _files(self, plural: str, reference: Object) -> dict[str, bytes]:
        name = reference.get("name") or reference.get("secretName")
        data = self._data(plural, {**reference, "name": name})
        if not reference.get("items"):
            return data
        for item in reference["items"]:
            if item["key"] not in data:
                raise ConfigError(f"references non-existent config key: {item['key']}")
        return {item["path"]: data[item["key"]] for item in reference["items"]}

    def _mount(self, mount: Object, env: Mapping[str, str]) -> None:
        """Have a volume at its mount path: it is there already, or a link is made.

        Raises:
            ConfigError: Something else is there, or it is where no link may be made.
        """
        volume = self._volumes[mount["name"]]
        assert volume is not None
        inner = mount.get("subPath") or expand(mount.get("subPathExpr") or "", env)
        source = volume / inner
        if inner and not source.exists():
            source.mkdir(parents=True)
        target = Path(mount["mountPath"])
        uid = self.pod["metadata"]["uid"]
        if target in self._kubelet.links and target.resolve() == source.resolve():
            self._kubelet.links[target].add(uid)
            return
        if target.exists():
            scratch = "volumes" in volume.parts and target in OWN_SCRATCH
            if scratch or target.samefile(source):
                return
            raise ConfigError(
                f"mountPath {target} is there and is not {source}; the tests' cluster has no mount "
                "namespaces: mount a claim at its own folder, or where nothing is"
            )
        root = Path(self._config.mounts or self._config.root).resolve()
        if not target.resolve().is_relative_to(root):
            raise ConfigError(
                f"mountPath {target} is not below {root}, where the tests' cluster may make it"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)
        self._kubelet.links[target] = {uid}

    def _unlink(self) -> None:
        """Take away mount points that no pod has any more."""
        links = self._kubelet.links
        for target, users in list(links.items()):
            users.discard(self.pod["metadata"]["uid"])
            if not users:
                target.unlink(missing_ok=True)
                del links[target]


def waiting_status(spec: Object) -> Object:
    return {
        "name": spec["name"],
        "state": {"waiting": {"reason": "ContainerCreating"}},
        "lastState": {},
        "ready": False,
        "started": False,
        "restartCount": 0,
        "image": spec["image"],
        "imageID": "",
    }


def expand(text: str, env: Mapping[str, str]) -> str:
    """``$(NAME)`` becomes the variable's value, ``$$`` one ``$``; unknown names stay."""

    def value(match: "re.Match[str]") -> str:
        return "$" if match[1] == "$" else env.get(match[2], match[0])

    return REFERENCE.sub(value, text)


def claims_of(spec: Object) -> list[str]:
    volumes = spec.get("volumes") or []
    return [
        volume["persistentVolumeClaim"]["claimName"]
        for volume in volumes
        if volume.get("persistentVolumeClaim")
    ]


def claim_folder(config: Config, namespace: str, claim: str) -> Path:
    """The folder that a claim is."""
    folder = config.claims.get(f"{namespace}/{claim}") or config.claims.get(claim)
    path = Path(folder) if folder else Path(config.root) / "claims" / namespace / claim
    path.mkdir(parents=True, exist_ok=True)
    return path


def requested(spec: Object) -> dict[str, float]:
    """What a pod asks for, by resource."""
    total: dict[str, float] = {"pods": 1.0}
    for container in spec["containers"]:
        for resource, amount in (container["resources"].get("requests") or {}).items():
            total[resource] = total.get(resource, 0.0) + quantity(amount)
    for container in spec.get("initContainers") or []:
        for resource, amount in (container["resources"].get("requests") or {}).items():
            total[resource] = max(total.get(resource, 0.0), quantity(amount))
    return total


def tolerates(toleration: Object, taint: Mapping[str, str]) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    same_key = toleration.get("key") == taint["key"]
    return same_key and (toleration.get("value") or "") == taint.get("value", "")


def fits_affinity(spec: Object, labels: Mapping[str, str]) -> bool:
    """Whether the node is one that the pod's required node affinity allows."""
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    tests: dict[str, Callable[[str | None, list[str]], bool]] = {
        "In": lambda value, values: value in values,
        "NotIn": lambda value, values: value not in values,
        "Exists": lambda value, _: value is not None,
        "DoesNotExist": lambda value, _: value is None,
        "Gt": lambda value, values: value is not None and int(value) > int(values[0]),
        "Lt": lambda value, values: value is not None and int(value) < int(values[0]),
    }
    return any(
        all(
            tests[each["operator"]](labels.get(each["key"]), each.get("values") or [])
            for each in term.get("matchExpressions") or []
        )
        for term in required["nodeSelectorTerms"]
    )
