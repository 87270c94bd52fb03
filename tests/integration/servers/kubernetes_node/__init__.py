"""The parts of the one-node cluster: what it stores, its API, its Job controller and its kubelet.

What the cluster can do, and where it is simpler than Kubernetes, stands in
``kubernetes_server.py``, which starts it.
"""
