"""``opencs ui`` as a person uses it: started, asked, and told to start a run."""

import json
import socket
import urllib.request
from pathlib import Path
from typing import Any

import dagster as dg

from tests.e2e.killing.processes import Command, HomeProcess, processes_of

UP_S = 180
JOB = "dataset_job"
_REPOSITORY = """{ repositoriesOrError { ... on RepositoryConnection
{ nodes { name location { name } } } } }"""
_LAUNCH = """mutation($job: String!, $repository: String!, $location: String!, $partition: String!)
{ launchRun(executionParams: {
  selector: {pipelineName: $job, repositoryName: $repository, repositoryLocationName: $location},
  executionMetadata: {tags: [{key: "dagster/partition", value: $partition}]}
}) { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
_RUNS = """{ runsOrError(limit: 100) { ... on Runs
{ results { runId status jobName tags { key value } } } } }"""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Ui:
    """A running ``opencs ui``.

    Args:
        home: Its home.
        log: File that gets what it prints.
        port: Its port.
    """

    def __init__(self, home: Path, log: Path, port: int) -> None:
        self.home = home
        self.url = f"http://127.0.0.1:{port}"
        self.command = Command(home, ("ui", "--port", str(port)), log)

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """Ask by GraphQL.

        Raises:
            OSError: It does not answer.
        """
        request = urllib.request.Request(
            f"{self.url}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as reply:
            answer: dict[str, Any] = json.load(reply)
        assert "data" in answer, answer
        return answer["data"]

    def is_up(self) -> bool:
        """Whether it answers; fails where it has ended instead."""
        assert not self.command.ended(), self.command.report()
        return self.answers()

    def answers(self) -> bool:
        """Whether it answers and has loaded the definitions."""
        try:
            return bool(self.ask(_REPOSITORY)["repositoriesOrError"]["nodes"])
        except (OSError, KeyError):
            return False

    def wait(self) -> None:
        """Wait until it is up."""
        self.command.until(self.is_up, UP_S, "the UI")

    def launch(self, partition: str, job: str = JOB) -> str:
        """Start a run of a job, as the button does; returns its id."""
        (repository,) = self.ask(_REPOSITORY)["repositoriesOrError"]["nodes"]
        launched = self.ask(
            _LAUNCH,
            job=job,
            repository=repository["name"],
            location=repository["location"]["name"],
            partition=partition,
        )["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return str(launched["run"]["runId"])

    def runs(self) -> list[dict[str, Any]]:
        """The newest runs, newest first, with status, job and tags."""
        runs: list[dict[str, Any]] = self.ask(_RUNS)["runsOrError"]["results"]
        return runs


def webserver_of(home: Path) -> HomeProcess | None:
    """The webserver of a home's UI."""
    return _by_module(home, "dagster_webserver")


def daemon_of(home: Path) -> HomeProcess | None:
    """The daemon of a home's UI."""
    return _by_module(home, "dagster._daemon")


def _by_module(home: Path, module: str) -> HomeProcess | None:
    words = f"-m {module} "
    return next((each for each in processes_of(home) if words in each.command), None)


def run_process(instance: dg.DagsterInstance, run_id: str) -> int | None:
    """The process that a run is in, as the run says when it starts."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        event = entry.dagster_event
        if event is None or not (event.message or "").startswith("Started process for run"):
            continue
        pid = event.engine_event_data.metadata.get("pid")
        if pid is not None:
            return int(pid.value)
    return None


def steps_begun(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """Steps that a run has begun, in their order."""
    entries = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_START)
    return [entry.dagster_event.step_key for entry in entries if entry.dagster_event]
