"""Jobs on Kubernetes: what they are made of, the calls of its API, and what their pods say.

dagster-k8s' ``PipesK8sClient`` makes bare pods, to which neither a Job's backoff nor its pod
failure policy applies. What is true of jobs anywhere does not belong here, but in
``resources.launcher``.
"""
