"""The schema of every table in the lake, a file a stage, declared once.

A table is written only in its schema, shown in the UI as its column schema, and exists from the
start as a zero-row file, so that the warehouse can always read it. Columns that name the partition
(``dataset``, ``selector``, ``experiment``, ``matchup``) are not in the files: they are the folders,
and readers add them. How a table is filled does not belong here.
"""
