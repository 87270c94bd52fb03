"""Cores to compute with: what the machine has, what is asked for, and what is shared."""

import os

import pytest

from resources.cores import cores

THERE = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.mark.parametrize(
    ("asked", "expected"), [(None, THERE), ("", THERE), ("0", THERE), ("1", 1), ("many", THERE)]
)
def test_fewer_where_asked_for(asked, expected, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert cores() == expected


def test_never_more_than_there_are(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4096")
    assert cores() == THERE


def test_processes_of_one_work_share_whatever_their_launcher_set(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert cores(2) == max(1, THERE // 2)
    assert cores(4096) == 1
