"""An estimate sends nothing, not even to see what an endpoint can do."""

import json
from pathlib import Path

from tests.e2e.conftest import SAMPLE, opencs
from tests.integration.llm.conftest import TestServer


def test_an_estimate_asks_no_endpoint(server: TestServer, tmp_path: Path):
    home = tmp_path / "home"
    home.mkdir()
    role = f'base_url = "{server.url}/v1"\nmodel = "gpt-4o-mini"\nreading = "logprobs"\n'
    (home / "settings.toml").write_text(f"[roles.tagger]\n{role}[roles.scorer]\n{role}")
    file = tmp_path / "few.jsonl"
    file.write_text("\n".join(SAMPLE.read_text().splitlines()[:5]))
    assert opencs(home, "add", str(file)).returncode == 0
    ran = opencs(home, "estimate", "few", "--json")
    assert ran.returncode == 0, ran.stderr
    assert [row["stored"] for row in json.loads(ran.stdout)] == [0, 0, 0, 0]
    assert server.stats()["requests"] == 0
