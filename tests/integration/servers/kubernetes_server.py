"""A one-node Kubernetes cluster of the tests' own, over real HTTP, that can be told to fail.

The real ``kubernetes`` client, dagster-k8s and the launchers talk to it. It keeps pods, Jobs,
services, config maps, secrets, claims, events and service accounts; lists and watches them by label
and field; schedules pods to its one node; runs their containers as local processes that have only
the pod's own environment; streams their logs; and runs Jobs to their end, pod failure policies,
indexed completions, deadlines and deletion with their dependents included. Objects are checked
against Kubernetes' own schemas, and unknown fields are refused.

Run: ``python kubernetes_server.py config.json``; the first line on stdout is the URL. It ends, and
with it all processes that it started, when it is told to (SIGTERM, SIGINT) or its stdin ends. The
configuration is ``kubernetes_node.config.Config`` as JSON.

**Told to fail**, by ``POST /_test/...`` with JSON (the tests' ``Cluster`` has a method for each):

- ``faults/api`` (``faults.ApiFault``): requests by verb and path get a status, a reset connection
  before or after their effect, a slow answer, or none.
- ``faults/logs`` (``faults.LogFault``): log streams break, end early, or fall silent.
- ``faults/pods`` (``faults.PodFault``): pods are unschedulable, their containers can't be created,
  or their image can't be pulled.
- ``pods/<namespace>/<name>/oom``, ``/kill`` (``signal``), ``/evict`` (``by``: ``kubelet`` or
  ``api``; ``grace_s``), ``/preempt`` (``grace_s``), ``/lose`` (the node, and with it the pod).
- ``faults/clear`` ends all faults; ``configure`` changes the configuration; ``GET requests`` is
  all that was asked, ``requests/clear`` forgets it.

A pod asks in vain, without a fault, for more than the node has, for labels that it lacks, over a
taint that it does not tolerate, for an unknown image, a missing secret or a missing claim.

**Simpler than Kubernetes:**

- Containers share the machine's file system, users, network and process ids. An image is the
  environment that it brings (``PATH`` and so on); it has no entry point. Security contexts, probes,
  hooks and, but for scheduling, limits are not looked at; init containers that stay are refused.
- A volume is a local folder. Its mount path must be that folder, or a path below ``mounts`` at
  which nothing is: a symbolic link is made there while a pod has it, and two pods with different
  content there at a time are refused. An ``emptyDir`` may be mounted at ``/tmp`` and ``/dev/shm``
  and is then the machine's own. Anything else waits with ``CreateContainerConfigError``.
- All pods have the address 127.0.0.1. There are no names: those of headless services' pods become
  that address in arguments and environment (``resolve_services``), and ``env`` sets variables such
  as ports that two pods can't share.
- The API is not found from within: no service account's token is mounted, and no
  ``KUBERNETES_SERVICE_HOST`` is set. A test gives ``KUBECONFIG`` to the image or the pod.
- As the first process of a container, one that has no handler for SIGTERM is not ended by it, only
  by SIGKILL after its grace. ``grace_scale`` shortens the grace; backoffs are ``backoff_s``,
  doubled up to ``longest_backoff_s``. Deadlines and times to live are in real seconds.
- A lost node is lost for one pod only. Its pod is evicted and removed soon (``node_loss_s``).
- A merge patch replaces lists; a strategic one would merge some. Updates check nothing but that a
  Job's template, selector and completions stay. Jobs that are suspended, managed by others, or have
  a success policy or a backoff limit per index are refused, as are custom resources.
- Everyone may do everything, except bearers of a token in ``tokens``, who may do what its rules
  say.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
from pathlib import Path

from aiohttp import web
from kubernetes_node.api import Cluster, Server
from kubernetes_node.config import Config


async def serve(config: Config) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)

    def watch_stdin() -> None:
        while os.read(0, 4096):
            pass
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=watch_stdin, daemon=True).start()
    cluster = Cluster(config)
    runner = web.AppRunner(
        Server(cluster).application(),
        access_log=None,
        shutdown_timeout=0.1,
        handler_cancellation=True,
    )
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    control = asyncio.create_task(cluster.control())
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    waiting = asyncio.create_task(ended.wait())
    await asyncio.wait([waiting, control], return_when=asyncio.FIRST_COMPLETED)
    control.cancel()
    await cluster.kubelet.close()
    with contextlib.suppress(asyncio.CancelledError):
        await control
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve(Config(**json.loads(Path(sys.argv[1]).read_text()))))
