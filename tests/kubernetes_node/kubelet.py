"""The node: decides whether a pod fits, and runs its containers as local processes."""

import asyncio
import json
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.kubernetes_node.admission import quantity
from tests.kubernetes_node.config import Config
from tests.kubernetes_node.containers import ADDRESS, ConfigError, Maker
from tests.kubernetes_node.faults import Faults
from tests.kubernetes_node.pods import Pods
from tests.kubernetes_node.store import Object, Store, condition, ended, now, set_condition

NODE = "node-1"
SHIM = Path(__file__).with_name("shim.py")
POLL_S = 0.02


class StoppedError(Exception):
    """The pod is to end."""


class Log:
    """What a container wrote: lines with the time at which each was whole."""

    def __init__(self) -> None:
        self.lines: list[tuple[float, bytes]] = []
        self.closed = False
        self.changed = asyncio.Event()
        self._part = b""

    def write(self, data: bytes) -> None:
        *whole, self._part = (self._part + data).split(b"\n")
        self._add([line + b"\n" for line in whole])

    def close(self) -> None:
        self.closed = True
        self._add([self._part] if self._part else [])
        self._part = b""

    def _add(self, lines: list[bytes]) -> None:
        self.lines += [(time.time(), line) for line in lines]
        self.changed.set()
        self.changed = asyncio.Event()

    def tail(self) -> str:
        """What becomes a container's message by ``FallbackToLogsOnError``."""
        text = b"".join(line for _, line in self.lines[-80:])[-2048:]
        return text.decode("utf-8", "replace")


@dataclass
class Container:
    """A container of a pod that is being run."""

    spec: Object
    status: Object
    log: Log = field(default_factory=Log)
    process: asyncio.subprocess.Process | None = None
    killed_for: str | None = None  # the reason that its end will have

    def signal(self, number: int) -> None:
        if self.process is not None and self.process.returncode is None:
            assert self.process.stdin is not None
            self.process.stdin.write(b"%d\n" % number)


class Kubelet:
    """Schedules pods to the one node and runs them there."""

    def __init__(self, store: Store, pods: Pods, config: Config, faults: Faults) -> None:
        self.store, self.pods, self.config, self.faults = store, pods, config, faults
        self.maker = Maker(store, config)
        self.runners: dict[str, Runner] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def sync(self) -> None:
        """Schedule what waits and start what is scheduled."""
        for pod in self.store.all("pods"):
            uid = pod["metadata"]["uid"]
            if ended(pod) or uid in self.runners or "deletionTimestamp" in pod["metadata"]:
                continue
            why = self._why_not(pod)
            if why is None:
                self._assign(pod)
                self.runners[uid] = runner = Runner(self, pod)
                task = asyncio.ensure_future(runner.run())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            elif (condition(pod, "PodScheduled") or {}).get("message") != why:
                set_condition(pod, "PodScheduled", False, "Unschedulable", why)
                self.store.touch(pod)
                self.store.event(pod, "FailedScheduling", why, True, by="default-scheduler")

    def _assign(self, pod: Object) -> None:
        pod["spec"]["nodeName"] = NODE
        set_condition(pod, "PodScheduled")
        self.store.touch(pod)
        metadata = pod["metadata"]
        message = f"Successfully assigned {metadata['namespace']}/{metadata['name']} to {NODE}"
        self.store.event(pod, "Scheduled", message, by="default-scheduler")

    def _why_not(self, pod: Object) -> str | None:
        """Why a pod does not fit the node; None where it does."""
        spec, metadata = pod["spec"], pod["metadata"]
        for volume in spec.get("volumes") or []:
            claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            if claim and not self.store.find(
                "persistentvolumeclaims", metadata["namespace"], claim
            ):
                return f'0/1 nodes are available: persistentvolumeclaim "{claim}" not found.'
        others = [
            each["spec"]
            for each in self.store.all("pods")
            if each["spec"].get("nodeName") and not ended(each)
        ]
        for resource, amount in sorted(requested(spec).items()):
            used = sum(requested(each).get(resource, 0.0) for each in others)
            if amount > quantity(self.config.allocatable.get(resource, "0")) - used:
                return f"0/1 nodes are available: 1 Insufficient {resource}."
        return None

    def terminate(self, pod: Object, grace_s: float) -> None:
        runner = self.runners.get(pod["metadata"]["uid"])
        if runner is not None:
            runner.terminate(grace_s)

    async def close(self) -> None:
        """Kill all containers and wait for their end."""
        for runner in self.runners.values():
            runner.terminate(0.0)
        if self._tasks:
            await asyncio.wait(self._tasks)
        self.maker.close()


def requested(spec: Object) -> dict[str, float]:
    """What a pod asks for, by resource."""
    total: dict[str, float] = {"pods": 1.0}
    for container in spec["containers"]:
        for resource, amount in (container["resources"].get("requests") or {}).items():
            total[resource] = total.get(resource, 0.0) + quantity(amount)
    return total


class Runner:
    """Runs one pod, from its first container's creation to its last one's end."""

    def __init__(self, kubelet: Kubelet, pod: Object) -> None:
        self._kubelet, self.pod = kubelet, pod
        self._store, self._config = kubelet.store, kubelet.config
        self.lost = False  # the node is gone: nobody reports any more
        self._stop = asyncio.Event()
        self._kill_at = float("inf")
        self.containers = {
            each["name"]: Container(each, waiting_status(each))
            for each in pod["spec"]["containers"]
        }
        self._made = kubelet.maker.pod(pod)

    def terminate(self, grace_s: float) -> None:
        """End the pod: SIGTERM now, SIGKILL after the grace."""
        self._kill_at = min(self._kill_at, time.monotonic() + grace_s)
        self._stop.set()

    async def run(self) -> None:
        """Run the pod to its end."""
        containers = list(self.containers.values())
        self.pod["status"].update(
            hostIP=ADDRESS,
            podIP=ADDRESS,
            podIPs=[{"ip": ADDRESS}],
            startTime=now(),
            phase="Pending",
            containerStatuses=[each.status for each in containers],
        )
        set_condition(self.pod, "Initialized")
        self._show_ready()
        try:
            await self._mount_all()
            await asyncio.gather(*(self._run_container(each) for each in containers))
        except StoppedError:
            pass
        finally:
            self._finish()

    def _finish(self) -> None:
        for each in self.containers.values():
            each.log.close()
        self._made.remove()
        if self.lost:
            return
        ends = [each.status["state"].get("terminated") for each in self.containers.values()]
        succeeded = all(end and end["exitCode"] == 0 for end in ends)
        succeeded = succeeded and not self.pod["status"].get("reason")
        self.pod["status"]["phase"] = "Succeeded" if succeeded else "Failed"
        self._show_ready("PodCompleted" if succeeded else "PodFailed")
        self._kubelet.pods.collect(self.pod)

    def _touch(self) -> None:
        if not self.lost:
            self._store.touch(self.pod)

    def _show_ready(self, reason: str = "ContainersNotReady") -> None:
        ready = all(each.status["ready"] for each in self.containers.values())
        for kind in ("Ready", "ContainersReady"):
            set_condition(self.pod, kind, ready, "" if ready else reason)
        self._touch()

    async def _pause(self, seconds: float) -> None:
        """Wait; a ``StoppedError`` where the pod is to end meanwhile."""
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return
        raise StoppedError

    async def _wait_for(self, container: Container, reason: str, message: str) -> None:
        """Say why a container waits, and wait until it is worth another try."""
        state = {"waiting": {"reason": reason, "message": message}}
        if container.status["state"] != state:
            container.status["state"] = state
            self._touch()
        await self._pause(self._config.retry_s)

    def _event(self, reason: str, message: str, warning: bool = False) -> None:
        if not self.lost:
            self._store.event(self.pod, reason, message, warning)

    async def _mount_all(self) -> None:
        """Make the pod's volumes; what can't be made is tried again."""
        for volume in self.pod["spec"].get("volumes") or []:
            while True:
                try:
                    self._made.add_volume(volume)
                    break
                except ConfigError as error:
                    message = f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}'
                    self._event("FailedMount", message, True)
                    await self._pause(self._config.retry_s)

    async def _run_container(self, container: Container) -> None:
        if self._stop.is_set():
            raise StoppedError
        await self._pull(container)
        name = container.spec["name"]
        while True:
            fault = self._kubelet.faults.of_pod("create_error", self.pod)
            try:
                if fault is None:
                    told = self._made.command(container.spec)
                    break
                reason, message = "CreateContainerError", fault.message
            except ConfigError as error:
                reason, message = "CreateContainerConfigError", str(error)
            self._event("Failed", f"Error: {message}", True)
            await self._wait_for(container, reason, message)
        self._event("Created", f"Created container: {name}")
        await self._execute(container, told)

    async def _pull(self, container: Container) -> None:
        image = container.spec["image"]
        while True:
            fault = self._kubelet.faults.of_pod("pull_error", self.pod)
            if image in self._config.images and fault is None:
                self._event("Pulled", f'Container image "{image}" already present on machine')
                return
            message = (
                f'rpc error: code = NotFound desc = failed to pull and unpack image "{image}": '
                f'failed to resolve reference "{image}": {image}: not found'
            )
            self._event("Pulling", f'Pulling image "{image}"')
            self._event("Failed", f'Failed to pull image "{image}": {message}', True)
            self._event("Failed", "Error: ErrImagePull", True)
            await self._wait_for(container, "ErrImagePull", message)
            back_off = f'Back-off pulling image "{image}"'
            self._event("BackOff", back_off)
            self._event("Failed", "Error: ImagePullBackOff", True)
            shown = f"{back_off}: ErrImagePull: {message}"
            await self._wait_for(container, "ImagePullBackOff", shown)

    async def _execute(self, container: Container, told: Object) -> None:
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
        process.stdin.write(json.dumps(told).encode() + b"\n")
        container_id = f"local://{process.pid}"
        running = {"running": {"startedAt": started}}
        container.status.update(state=running, ready=True, started=True, containerID=container_id)
        self.pod["status"]["phase"] = "Running"
        self._event("Started", f"Started container {container.spec['name']}")
        self._show_ready()
        stopper = asyncio.ensure_future(self._stop_in_time(container))
        while data := await process.stdout.read(65536):
            container.log.write(data)
        code = await process.wait()
        stopper.cancel()
        container.log.close()
        end = {
            "exitCode": code,
            "reason": container.killed_for or ("Error" if code else "Completed"),
            "startedAt": started,
            "finishedAt": now(),
            "containerID": container_id,
        }
        if code and container.spec["terminationMessagePolicy"] == "FallbackToLogsOnError":
            end["message"] = container.log.tail()
        container.status.update(ready=False, started=False, state={"terminated": end})
        self._show_ready()

    async def _stop_in_time(self, container: Container) -> None:
        await self._stop.wait()
        if self._kill_at > time.monotonic():
            self._event("Killing", f"Stopping container {container.spec['name']}")
            container.signal(signal.SIGTERM)
        while time.monotonic() < self._kill_at:
            await asyncio.sleep(POLL_S)
        container.signal(signal.SIGKILL)


def waiting_status(spec: Object) -> Object:
    return {
        "name": spec["name"],
        "state": {"waiting": {"reason": "ContainerCreating"}},
        "lastState": {},
        "ready": False,
        "started": False,
        "restartCount": 0,
        "image": spec["image"],
        "imageID": f"docker.io/{spec['image']}",
    }
