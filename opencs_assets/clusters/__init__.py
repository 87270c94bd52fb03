"""Clusters: groups of samples by the clusters that their normalized tags fall into.

Here belong embeddings of samples and tags, k-means, the number of clusters and their names,
membership and representatives. Comparing the samples of a cluster belongs in ``scores``.
"""
