"""A one-node Kubernetes cluster of the tests' own, over real HTTP, that can be told to fail.

The real ``kubernetes`` client, dagster-k8s and the launchers talk to it. It has the part of
Kubernetes that these use: pods, Jobs, services, secrets, claims, events and service
accounts are made, read, listed by label and field, and deleted with what belongs to them; pods are
given to the one node, which runs their containers as local processes that have only the pod's own
environment; logs are streamed; Jobs run to their end, with pod failure policies, indexed
completions, deadlines and times to live. Objects are checked against Kubernetes' own schemas.
Whatever is not built here is refused, so that no test passes because of something left out.

**Entry.** ``with client.started(folder, ...) as cluster`` runs the server
(``python -m tests.kubernetes_node config.json``, whose first line is its URL) and gives a handle on
it. The server ends, and with it all processes that it started, when it is told to (SIGTERM, SIGINT)
or its stdin ends.

**Where things are.** ``api`` answers requests and ``_test/`` ones; ``admission`` says what is
refused and what a new object gets; ``store`` keeps objects; ``jobs`` is the Job controller;
``pods`` deletes and disrupts pods; ``kubelet`` schedules pods and runs them; ``containers`` makes
environment and volumes of a container; ``shim`` is the process around a container's command;
``faults`` are what tests tell, ``config`` what a cluster is started with.

**Told to fail**, by ``POST /_test/...`` with JSON (the handle has a method for each):

- ``faults/api`` (``faults.ApiFault``): requests by verb and path get a status, a reset connection
  before or after their effect, or no answer.
- ``faults/logs`` (``faults.LogFault``): log streams break, end early, or fall silent.
- ``faults/pods`` (``faults.PodFault``): containers can't be created, images can't be pulled.
- ``pods/<namespace>/<name>/<what>``: ``oom``; ``evict`` (``by``: ``kubelet`` or ``api``;
  ``grace_s``), ``preempt``, ``lose`` (the node, and with it the pod).
- ``faults/clear`` ends all faults; ``configure`` changes the configuration; ``GET requests`` is
  all that was asked, ``requests/clear`` forgets it.

A pod asks in vain, without a fault, for more than the node has, for an unknown image, a missing
secret or a missing claim.

**Simpler than Kubernetes:**

- Containers share the machine's file system, users, network and process ids. An image is the
  environment that it brings (``PATH`` and so on); it has no entry point. Security contexts, probes,
  selectors of nodes, tolerations and, but for scheduling, limits are not looked at.
- A volume is a local folder. Its mount path must be that folder, or a path below ``mounts`` at
  which nothing is: a symbolic link is made there while a pod has it. An ``emptyDir`` may be mounted
  at ``/tmp`` and ``/dev/shm`` and is then the machine's own.
- All pods have the address 127.0.0.1. There are no names: those of headless services' pods become
  that address in arguments and environment.
- The API is not found from within: a test gives ``KUBECONFIG`` to the image or the pod.
- As the first process of a container, one that has no handler for SIGTERM is not ended by it, only
  by SIGKILL after its grace. Backoffs are ``backoff_s``, doubled up to ``longest_backoff_s``.
  Deadlines, graces and times to live are in real seconds.
- A lost node is lost for one pod only. Its pod is evicted and removed soon (``node_loss_s``).
- Everyone may do everything, except bearers of a token in ``tokens``, who may do what its rules
  say.

**Its own tests** (``own_tests/``) take a minute and have nothing to say unless the package changed:
``conftest.py`` there leaves them out as long as the hash of all its files is the one in
``tested.txt``, which ``python -m tests.kubernetes_node.tested`` writes when they have passed. They
also run where they are named on the command line, and in ``make soak``.
"""
