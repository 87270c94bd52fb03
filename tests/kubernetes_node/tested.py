"""Whether this package's own tests have passed as it is.

``python -m tests.kubernetes_node.tested`` runs them, and where they pass notes the hash of all that
they are about in ``tested.txt``, which is committed with the change. Where the hash is another they
run with all other tests, and note nothing.
"""

import hashlib
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

PACKAGE = Path(__file__).parent
NOTE = PACKAGE / "tested.txt"
# What else decides what the cluster does.
STARTER = PACKAGE.parent / "integration" / "servers" / "started.py"
LIBRARIES = ("aiohttp", "kubernetes", "kubernetes-validate")


def package_hash() -> str:
    """Hash of the sources, the tests, and the versions of the libraries."""
    digest = hashlib.sha256()
    for path in [STARTER, *sorted(PACKAGE.rglob("*.py"))]:
        digest.update(f"{path.relative_to(PACKAGE.parent).as_posix()}\0".encode())
        digest.update(path.read_bytes() + b"\0")
    for library in LIBRARIES:
        digest.update(f"{library} {version(library)}\0".encode())
    return digest.hexdigest()


def is_tested() -> bool:
    """Whether the own tests have passed with these very files."""
    return NOTE.is_file() and NOTE.read_text().strip() == package_hash()


def main() -> int:
    """Run the own tests; note the hash where they pass."""
    tested = package_hash()
    command = [sys.executable, "-m", "pytest", "-q", str(PACKAGE / "own_tests"), *sys.argv[1:]]
    status = subprocess.run(command).returncode
    if status == 0 and len(sys.argv) == 1:
        NOTE.write_text(f"{tested}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
