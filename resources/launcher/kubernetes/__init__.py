"""Jobs on Kubernetes: their manifests, the calls of its API, and what their pods say.

dagster-k8s' ``PipesK8sClient`` makes bare pods, to which neither a Job's backoff nor its pod
failure policy applies. What is true of jobs anywhere belongs to ``resources.launcher``.
"""
