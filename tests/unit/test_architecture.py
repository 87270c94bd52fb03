"""The architecture page names the packages that there are, floor by floor as the contracts do."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def contract_floors() -> list[set[str]]:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = [each["layers"] for each in config["contracts"] if each["type"] == "layers"]
    return [{name.rsplit(".", 1)[-1] for name in re.findall(r"[\w.]+", each)} for each in layers]


def page_floors() -> list[set[str]]:
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = [line.split("|")[2] for line in page.splitlines() if line.startswith("| ")]
    return [names for row in rows if (names := set(re.findall(r"`(\w+)`", row)))]


def test_the_page_has_the_floors_of_the_contracts():
    assert page_floors() == contract_floors()


def test_every_package_stands_on_a_floor_and_the_root_holds_nothing_else():
    here = {path.name for path in (ROOT / "opencs_assets").iterdir() if path.name != "__pycache__"}
    assert here == set().union(*contract_floors()) - {"resources"} | {"__init__.py"}


def test_no_two_public_classes_share_a_name():
    places: dict[str, list[str]] = {}
    for package in ("opencs_assets", "resources"):
        for path in (ROOT / package).rglob("*.py"):
            for name in re.findall(r"^class ([A-Z]\w*)", path.read_text(), flags=re.MULTILINE):
                places.setdefault(name, []).append(str(path.relative_to(ROOT)))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}
