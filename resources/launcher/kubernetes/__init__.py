"""Work as a Job on Kubernetes.

dagster-k8s' ``PipesK8sClient`` makes bare pods, to which neither a Job's backoff nor its pod
failure policy applies; so this is a Pipes client of our own. The Job belongs to what it makes and
not to the run that asked: its name comes from partition and provenance, so a run that finds it
takes it over.
"""
