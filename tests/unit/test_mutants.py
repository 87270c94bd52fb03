"""The tool that tries small faults: which ones it makes, and that it tells who notices them."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants import python_faults, sql_faults
from tests.mutants.fault import Fault, sample
from tests.mutants.methods import ROOT, methods

CODE = '''"""Rows that are kept, 3 at most."""

from dataclasses import dataclass

LIMIT: int | None = 3


@dataclass(frozen=True)
class Row:
    length: int | None = None


def kept(rows: list[int], *, most: int | None = LIMIT) -> list[int]:
    if not rows:
        raise ValueError(f"{len(rows) + 1} rows")
    return sorted(row for row in rows if row > 0 and row < most)
'''
SQL = """select max(score) as best -- min of 2
from {{ ref('min') }}
where
    judged >= 1
    and note <> 'and 3'
"""


def changes(faults: list[Fault]) -> set[str]:
    return {fault.description.split("  ", 1)[1] for fault in faults if fault.changed}


def test_faults_of_python_are_in_what_decides_and_not_in_types_messages_and_docstrings():
    line = "return sorted(row for row in rows if row > 0 and row < most)"
    assert changes(python_faults.faults("kept.py", CODE)) == {
        "LIMIT: int | None = 3  ->  LIMIT: int | None = 4",
        "LIMIT: int | None = 3  ->  LIMIT: int | None = 2",
        "if not rows:  ->  if  rows:",
        "if not rows:  ->  if False:",
        *(
            f"{line}  ->  {line.replace(*change)}"
            for change in [
                (" > 0", " >= 0"),
                (" > 0", " > 1"),
                (" > 0", " > -1"),
                (" < ", " <= "),
                (" and ", " or "),
                (" and row < most", ""),
                ("row > 0 and ", ""),
            ]
        ),
    }


@pytest.mark.parametrize(
    ("code", "changed"),
    [
        ("max(x, 0)", "(x)"),
        ("frame.clip(0).sum()", "frame.sum()"),
        ('frame.sort(["place", "choice"])', 'frame.sort(["choice", "place",])'),
        ('frame.sort("place", "choice")', 'frame.sort("choice")'),
        ("sorted(x, key=lambda row: (row.a, row.b))", "sorted(x, key=lambda row: (row.b,))"),
        ("1 if x else 2", "2"),
        ("x in y", "x not in y"),
        ('a.join(b, how="left")', 'a.join(b, how="inner")'),
        ("0.5", "0.55"),
        ("~x & y", "x & y"),
    ],
)
def test_a_fault_of_each_kind_of_our_own(code: str, changed: str):
    assert f"{code}  ->  {changed}" in changes(python_faults.faults("line.py", f"{code}\n"))


def test_faults_of_sql_leave_jinja_comments_and_texts_alone():
    faults = sql_faults.faults("best.sql", SQL)
    assert [fault.line for fault in faults] == [1, 4, 4, 4, 5, 5, 5]
    assert changes(faults) >= {
        "and note <> 'and 3'  ->  or note <> 'and 3'",
        "and note <> 'and 3'  ->  and note = 'and 3'",
        "judged >= 1  ->  judged > 1",
        "judged >= 1  ->  judged >= 0",
    }


def test_the_sample_is_the_same_for_the_same_seed_and_has_every_kind():
    faults = python_faults.faults("kept.py", CODE)
    assert sample(faults, 6, seed=1) == sample(faults, 6, seed=1)
    assert sample(faults, 6, seed=1) != sample(faults, 6, seed=2)
    assert {fault.kind for fault in sample(faults, 6, seed=1)} == {fault.kind for fault in faults}
    assert len(sample(faults, 100, seed=1)) == len([fault for fault in faults if fault.changed])


def test_every_method_has_its_tests():
    named = [ROOT / name for method in methods() for name in (method.path, *method.tests)]
    assert [path for path in named if not path.exists()] == []


TRIED = """
import sys
from pathlib import Path
from tests.mutants import trial
from tests.mutants.fault import Fault

trial.ROOT = Path(sys.argv[1])
copies = [trial.Copy.of_project(Path(sys.argv[2]) / name) for name in "ab"]
code = "def double(x):\\n    return 2 * x\\n"
faults = [
    Fault("resources.py", name, (2, 2, n), code, lambda change=change: code.replace(*change))
    for name, change in [
        ("none", ("2 *", "2  *")),
        ("wrong", ("2 *", "3 *")),
        ("endless", ("2 *", "double(x) if 1 else")),
        ("ends", ("def", "import os\\nos._exit(0)\\ndef")),
    ]
    for n in range(2)
]
seconds = trial.clean_seconds(copies[0], ("test_it.py",))
survived, late = trial.survivors(copies, ("test_it.py",), faults, limit=60.0)
print(*[fault.kind for fault in survived], late)
assert (copies[0].folder / "resources.py").read_text() == code
"""


def test_a_change_of_nothing_survives_and_one_of_a_result_does_not(tmp_path: Path):
    project, copies = tmp_path / "project", tmp_path / "copies"
    project.mkdir()
    (project / "resources.py").write_text("def double(x):\n    return 2 * x\n")
    (project / "test_it.py").write_text(
        "import subprocess, sys\nimport resources\n\n"
        "def test_double():\n    assert resources.double(2) == 4\n\n"
        "def test_process():\n"
        "    said = subprocess.check_output([sys.executable, '-c', 'import resources as r\\n"
        "print(r.double(3))'])\n    assert int(said) == 6\n"
    )
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    tried = subprocess.run(
        [sys.executable, "-c", TRIED, str(project), str(copies)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert tried.returncode == 0, tried.stderr
    assert tried.stdout.split() == ["none", "none", "0"]
