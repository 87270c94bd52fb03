"""Hard kills at random moments: the same command goes on, to the end of an undisturbed run.

Each round kills one process with SIGKILL, starts the same command again where it did not go on by
itself, and looks how long that took, which calls were paid for twice, whether the ledger knows of
them, and whether every table and checkpoint is what it would have been. A round's kill is decided
by its seed, so that ``-k round07`` repeats it. The session ends with a table of the rounds.
"""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from resources.llm.embedded import read_info
from tests.e2e.killing import ledger
from tests.e2e.killing.endings import LEFT_OUT, LEFT_OUT_EMBEDDED, differences, endings
from tests.e2e.killing.model import repeats
from tests.e2e.killing.processes import (
    Command,
    ended_after,
    is_alive,
    kill,
    processes_of,
    wait_until,
)
from tests.e2e.killing.rounds import PROPERTY, ROUNDS, Outcome, Round, as_property
from tests.e2e.killing.ui import (
    JOB,
    Ui,
    daemon_of,
    run_process,
    steps_begun,
    webserver_of,
)
from tests.e2e.killing.workshop import COMMAND_S, LATENCY_S, WORDS, Workshop, open_instance

pytestmark = [pytest.mark.e2e, pytest.mark.llm, pytest.mark.train]
GOES_ON_S = 30
# A command whose child was killed says so and ends; `opencs ui` first ends what is left of it.
ENDS_S = 90
POOLS = (
    {"open_tags", "contrastive_scores", "single_scores", "single_verdicts", "pairwise_verdicts"},
    {"checkpoint", "model_answers"},
)
# Of the process that works on a stage, where it is not the run's own.
WORKERS = {"warehouse": ("dbt.cli.main", " build"), "train": ("opencs_assets.checkpoints.train",)}


@pytest.mark.soak(sample=3)
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("each", ROUNDS, ids=lambda each: each.name)
def test_a_kill_leaves_nothing_behind(each: Round, workshop: Workshop, record_property):
    outcome = Outcome(each.number, each.target)
    try:
        play = _UiRound if each.stage in ("dataset", "landing") else _CommandRound
        play(each, workshop, outcome).play()
    finally:
        record_property(PROPERTY, as_property(outcome))


class _RoundOfKills:
    """What all rounds share: the home, and what is looked at after the kill."""

    def __init__(self, each: Round, workshop: Workshop, outcome: Outcome) -> None:
        self.round = each
        self.workshop = workshop
        self.model = workshop.model
        self.outcome = outcome
        self.random = each.random()
        # Made first: the model's count is then this round's alone.
        self.undisturbed = workshop.undisturbed(each.stage)
        self.home = workshop.copy(each.stage)
        # Moments at which a process was killed that may have called the model.
        self.deaths: list[float] = []
        # Calls of the embedded server are counted by nobody.
        self.is_counted = each.stage != "tag"
        self.kept_before = len(ledger.kept_replies(self.home))

    def play(self) -> None:
        """Kill, go on, and compare."""
        self.model.reset(LATENCY_S)
        with ended_after(self.home):
            self.work()
        self.compare()

    def work(self) -> None:
        """Kill and go on to the end."""
        raise NotImplementedError

    def compare(self) -> None:
        """Compare the end with the undisturbed run's, the calls and the ledger."""
        left_out = LEFT_OUT if self.is_counted else {**LEFT_OUT, **LEFT_OUT_EMBEDDED}
        expected = endings(self.undisturbed.home, left_out)
        actual = endings(self.home, left_out)
        equal = sum(actual.get(name) == value for name, value in expected.items())
        self.outcome.tables = f"{equal} of {len(expected)}"
        made = repeats(self.model.calls(), self.deaths)
        if self.is_counted:
            self.outcome.repeated = made.repeated.total()
        apart = differences(self.undisturbed.home, self.home, left_out)
        assert expected == actual, "\n".join(apart)
        made.assert_only_in_flight()
        if self.is_counted:
            ledger.assert_booked(self.home, self.outcome.in_flight or 0, made.repeated.total())

    def died(self, at: float) -> None:
        """Note that a process is gone that may have called, and the calls that were in flight."""
        self.deaths.append(at)
        if self.is_counted:
            # What was asked and is not kept; what an earlier death had in flight is among it.
            kept = len(ledger.kept_replies(self.home)) - self.kept_before
            self.outcome.in_flight = max(self.outcome.in_flight or 0, self.model.count() - kept)

    def call(self, stop: Callable[[], bool], report: Callable[[], str]) -> str:
        """Wait for a random call of the model, and a moment longer."""
        number = self.random.randint(1, self.undisturbed.calls - 1)
        wait_until(lambda: self.model.count() >= number or stop(), COMMAND_S, report)
        assert not stop(), f"the kill came too late: {report()}"
        time.sleep(self.random.uniform(0, LATENCY_S))
        return f"call {number} of {self.undisturbed.calls}"


def got_what_it_held(killed: str | None, begun: list[str]) -> bool:
    """Whether a step in the pool of the killed one was begun, or any where that had no pool."""
    pool = next((pool for pool in POOLS if killed in pool), None)
    return any(step in pool for step in begun) if pool else bool(begun)


class _CommandRound(_RoundOfKills):
    """A round in which ``opencs materialize``, or a process that it started, is killed."""

    def work(self) -> None:
        words = WORDS[self.round.stage]
        command = self.workshop.command(self.home, words)
        moment = self.moment(command)
        stage = command.stage()
        pid = self.target(command)
        assert not command.ended(), f"the kill came too late: {command.report()}"
        server = read_info(self.home / "llm" / "server")
        self.outcome.where = f"{stage or 'between stages'}, {moment}"
        self.died(kill(pid))
        kept = ledger.kept_replies(self.home)
        if self.round.target == "embedded_server":
            self.restarted_server(command, server.pid if server else 0)
        self.go_on(command, words, stage)
        now = ledger.kept_replies(self.home)
        assert {key: now.get(key) for key in kept} == kept, "kept replies were asked for again"

    def go_on(self, command: Command, words: tuple[str, ...], stage: str | None) -> None:
        """Start the same command again, unless it came to its good end by itself."""
        if command.wait(COMMAND_S if self.outcome.went_on_s is not None else ENDS_S) == 0:
            return
        begun = time.monotonic()
        again = self.workshop.command(self.home, words)
        again.until(
            lambda: again.ended() or self.is_at_it(again, stage),
            GOES_ON_S,
            f"{stage or 'the first stage'} did not go on",
        )
        self.outcome.went_on_s = time.monotonic() - begun
        assert again.wait(COMMAND_S) == 0, again.report()

    def moment(self, command: Command) -> str:
        """Wait for the moment of the kill, and say which it was."""
        stage, target = self.round.stage, self.round.target
        if target == "embedded_server":
            self.worker(command)
            return self.wait_a_share(self.undisturbed.seconds("open_tags"))
        if stage == "warehouse":
            self.worker(command)
            return self.wait_a_share(self.undisturbed.seconds("llm_usage"))
        if stage == "train":
            self.worker(command)
            if self.random.random() < 0.5:
                return self.kept_state(command)
            return self.wait_a_share(self.undisturbed.seconds("checkpoint"))
        if self.random.random() < 0.6:
            return self.call(command.ended, command.report)
        return self.step(command)

    def step(self, command: Command) -> str:
        """Wait for a random step's begin, and up to a second longer."""
        number = self.random.randint(1, self.undisturbed.steps - 1)
        command.until(
            lambda: self.begun(command) >= number or command.ended(), COMMAND_S, f"step {number}"
        )
        time.sleep(self.random.uniform(0, 1))
        return f"step {number} of {self.undisturbed.steps}"

    def kept_state(self, command: Command) -> str:
        """Wait for a random state that the training keeps."""
        number = self.random.randint(1, 3)
        seen: set[Path] = set()

        def kept() -> bool:
            seen.update((self.home / "checkpoints").rglob("states/checkpoint-*"))
            return len(seen) >= number or command.ended()

        command.until(kept, COMMAND_S, f"state {number}")
        return f"state {number}"

    def wait_a_share(self, seconds: float) -> str:
        """Sleep for a random share of what the work takes; the start of its process is before."""
        share = self.random.uniform(0, 0.7)
        time.sleep(share * seconds)
        return f"{share:.0%} of {seconds:.1f} s"

    def target(self, command: Command) -> int:
        """The process that is killed."""
        if self.round.target in ("run", "warehouse_run", "training_run"):
            return command.pid
        return self.worker(command)

    def worker(self, command: Command) -> int:
        """The process that works for the command, once it is there."""

        def look() -> int | None:
            assert not command.ended(), f"the kill came too late: {command.report()}"
            if self.round.target == "embedded_server":
                server = read_info(self.home / "llm" / "server")
                return server.pid if server and is_alive(server.pid) else None
            return self.working()

        pid = command.until(look, COMMAND_S, f"the process of {self.round.stage}")
        assert pid
        return pid

    def working(self, *besides: int) -> int | None:
        """The process that works on the stage, other than those that are known."""
        words = WORKERS[self.round.stage]
        for process in processes_of(self.home):
            if all(word in process.command for word in words) and process.pid not in besides:
                return process.pid
        return None

    def restarted_server(self, command: Command, killed: int) -> None:
        """Wait until the run has a server again."""

        def again() -> bool:
            server = read_info(self.home / "llm" / "server")
            return command.ended() or bool(server and server.pid != killed)

        command.until(again, GOES_ON_S, "no embedded server again")
        self.outcome.went_on_s = time.monotonic() - self.deaths[0]

    def begun(self, command: Command) -> int:
        """Steps that a command has begun."""
        return sum(line.startswith("▸ ") for line in command.lines)

    def is_at_it(self, command: Command, stage: str | None) -> bool:
        """Whether a command works where the killed one did: it got what that one held."""
        if self.round.stage in WORKERS:
            children = [each for each in processes_of(self.home) if each.parent == command.pid]
            words = WORKERS[self.round.stage]
            at_work = any(all(word in each.command for word in words) for each in children)
            return at_work or any(line.startswith("✓ checkpoint") for line in command.lines)
        return got_what_it_held(
            stage, [line.removeprefix("▸ ") for line in command.lines if line.startswith("▸ ")]
        )


class _UiRound(_RoundOfKills):
    """A round in which a process of ``opencs ui`` is killed, or all of them."""

    def work(self) -> None:
        ui = self.workshop.ui(self.home)
        ui.wait()
        with open_instance(self.home) as self.instance:
            if self.round.stage == "landing":
                self.workshop.land(self.home)
            else:
                ui.launch("small")
            moment = self.moment(ui)
            pids = self.targets(ui)
            steps = self.steps()
            stage = steps[-1][1] if steps else None
            self.outcome.where = f"{stage or 'before the first step'}, {moment}"
            self.died(kill(*pids))
            self.steps_before, self.calls_before = set(self.steps()), self.model.count()
            self.go_on(self.again(ui, pids), stage)

    def moment(self, ui: Ui) -> str:
        """Wait for the moment of the kill, and say which it was."""
        if self.round.target != "run_worker" and self.random.random() < 0.25:
            share = self.random.uniform(0, 10)
            time.sleep(share)
            return f"{share:.1f} s after its start"
        return self.call(lambda: self.succeeded(), ui.command.report)

    def targets(self, ui: Ui) -> list[int]:
        """The processes that are killed."""
        if self.round.target == "ui":
            return [process.pid for process in processes_of(self.home)]
        if self.round.target == "run_worker":
            return self.workers()
        process = {"daemon": daemon_of, "webserver": webserver_of}[self.round.target](self.home)
        assert process, ui.command.report()
        return [process.pid]

    def again(self, ui: Ui, killed: list[int]) -> Ui:
        """The same ``opencs ui``, which goes on or is started again where it ended."""
        if self.round.target == "run_worker":
            return ui
        workers = [pid for pid in self.workers() if is_alive(pid)]

        def is_settled() -> bool:
            # A run may be ended with the UI, later than what was killed.
            for pid in [each for each in workers if not is_alive(each)]:
                workers.remove(pid)
                self.died(time.monotonic())
            return ui.command.ended() or self.is_whole(ui, killed)

        ui.command.until(is_settled, ENDS_S, "it neither ended nor mended itself")
        if ui.command.ended():
            ui = self.workshop.ui(self.home, int(ui.url.rsplit(":", 1)[1]))
            ui.wait()
        return ui

    def is_whole(self, ui: Ui, killed: list[int]) -> bool:
        """Whether a UI has put others in the place of what was killed."""
        services = [daemon_of(self.home), webserver_of(self.home)]
        if any(service is None or service.pid in killed for service in services):
            return False
        return ui.answers()

    def go_on(self, ui: Ui, stage: str | None) -> None:
        """Wait for progress, and for the run's good end; start a run that failed once more."""
        up_at = time.monotonic()
        self.launched = False

        def is_at_it() -> bool:
            self.launch_what_failed(ui)
            begun = [step for run, step in self.steps() if (run, step) not in self.steps_before]
            called = self.model.count() > self.calls_before
            return called or got_what_it_held(stage, begun) or self.succeeded()

        ui.command.until(is_at_it, GOES_ON_S, f"no run went on: {ui.runs()}")
        self.outcome.went_on_s = time.monotonic() - up_at

        def is_done() -> bool:
            self.launch_what_failed(ui)
            return self.succeeded()

        ui.command.until(is_done, COMMAND_S, f"no run came to its end: {ui.runs()}")

    def launch_what_failed(self, ui: Ui) -> None:
        """Start the run again, as a person does who sees that it failed."""
        runs = [run for run in ui.runs() if run["jobName"] == JOB]
        ended = [run for run in runs if run["status"] in ("FAILURE", "CANCELED")]
        if ended and len(ended) == len(runs):
            assert not self.launched, f"the run failed again: {runs}"
            self.launched = True
            ui.launch("small")

    def workers(self) -> list[int]:
        """Processes that the job's runs are in, or were."""
        processes = [run_process(self.instance, run) for run in self.runs()]
        return [pid for pid in processes if pid]

    def runs(self) -> list[str]:
        """Ids of the job's runs, newest first."""
        return [run.run_id for run in self.instance.get_runs() if run.job_name == JOB]

    def steps(self) -> list[tuple[str, str]]:
        """Steps that the job's runs have begun, each with its run, the oldest run first."""
        runs = reversed(self.runs())
        return [(run, step) for run in runs for step in steps_begun(self.instance, run)]

    def succeeded(self) -> bool:
        """Whether a run of the job came to its good end."""
        return any(run.is_success for run in self.instance.get_runs() if run.job_name == JOB)


def test_the_rounds_are_spread_over_all_targets():
    assert len(ROUNDS) == 50
    assert [each.number for each in ROUNDS] == list(range(1, 51))
    assert len({each.seed for each in ROUNDS}) == 50
    assert len({each.target for each in ROUNDS}) == 10
