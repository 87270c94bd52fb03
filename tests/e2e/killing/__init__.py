"""What the tests of hard kills share: homes, processes that are killed, and the comparing after.

Here is no test; what only one test needs stands beside it.
"""
