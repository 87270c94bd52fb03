"""A process that has imported what trainings import, and forks a child for each command.

A training that starts cold spends seven seconds of processor time on imports. Here an executable
stands in for the interpreter: ``<it> -m <one of MODULES> …`` runs in a fork, with the caller's
arguments, environment, folder, stdin, stdout and stderr, its signals and its exit status. Any other
command goes to the real interpreter, where ``sys.executable`` is this executable again, so that a
training is forked too that the command starts. Of the project nothing is imported before the fork.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

MODULES = (
    "opencs_assets.checkpoints.train",
    "opencs_assets.checkpoints.worker",
    "opencs_assets.answers.generate",
)
# None of them starts a thread that a child would miss.
LIBRARIES = """
deepspeed.ops fsspec.implementations.local peft pydantic_settings safetensors.torch
torch.distributed.tensor transformers.models.auto.modeling_auto
transformers.models.auto.tokenization_auto transformers.models.llama.modeling_llama
trl.trainer.sft_config trl.trainer.sft_trainer
"""
SIZE = 4
CLIENT = """#!{python} -IS
import json, os, signal, socket, sys

arguments = sys.argv[1:]
if arguments[:1] != ["-m"] or arguments[1] not in {modules}:
    # Python takes its own path from its first argument and hands it to processes that it starts.
    os.execv({python!r}, [{own!r}, *arguments])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
request = json.dumps([os.getpid(), arguments[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(request).to_bytes({size}, "big")], [0, 1, 2])
server.sendall(request)
child = int.from_bytes(server.recv({size}, socket.MSG_WAITALL), "big")


def forward(number, _):
    try:
        os.kill(child, number)
    except ProcessLookupError:
        pass


for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, forward)
ended = server.recv({size}, socket.MSG_WAITALL)
status = int.from_bytes(ended, "big", signed=True) if ended else -signal.SIGKILL
if status < 0:
    signal.signal(-status, signal.SIG_DFL) if status != -signal.SIGKILL else None
    os.kill(os.getpid(), -status)
os._exit(status)
"""


class Preloaded:
    """The running process.

    Attributes:
        python: The executable that stands in for the interpreter.
    """

    def __init__(self, folder: Path) -> None:
        self.python = folder / "bin" / "python"
        self._folder = folder

    def child(self, process: "subprocess.Popen[Any]") -> int:
        """Process id of the fork that runs the command of ``process``.

        Killed by it, the command is gone when ``process`` has ended.
        """
        file = self._folder / str(process.pid)
        return int(file.read_text()) if file.exists() else process.pid


@contextmanager
def preloaded() -> Iterator[Preloaded]:
    """Start the process, and end it with all its children."""
    with tempfile.TemporaryDirectory(prefix="opencs-python-") as name:
        folder = Path(name)
        address = str(folder / "socket")
        server = subprocess.Popen(
            [sys.executable, __file__, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert server.stdin
        assert server.stdout
        assert server.stdout.readline() == b"ready\n"
        made = Preloaded(folder)
        _stand_in(made.python, address)
        try:
            yield made
        finally:
            server.stdin.close()
            server.wait()
            server.stdout.close()


def _stand_in(python: Path, address: str) -> None:
    """Write the executable, in a virtual environment with the packages of this one."""
    python.parent.mkdir()
    (python.parents[1] / "lib").symlink_to(Path(sys.prefix) / "lib")
    settings, own = Path(sys.prefix) / "pyvenv.cfg", sys.executable
    if settings.exists():
        (python.parents[1] / settings.name).symlink_to(settings)
        own = str(python)
    python.write_text(
        CLIENT.format(python=sys.executable, own=own, modules=MODULES, address=address, size=SIZE)
    )
    python.chmod(0o755)


def _import_libraries() -> None:
    """Import as ``prepare_models`` and ``prepare_process`` would have it, without computing."""
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", DS_ACCELERATOR="cpu")
    for name in LIBRARIES.split():
        importlib.import_module(name)


def _serve(address: str) -> None:
    """Fork a child for each connection until stdin is closed."""
    _import_libraries()
    gc.collect()
    gc.freeze()
    wakened, wakes = socket.socketpair()
    for end in (wakened, wakes):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes.fileno())
    clients: dict[int, socket.socket] = {}
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as selector:
        listener.bind(address)
        listener.listen(64)
        for source in (0, listener, wakened):
            selector.register(source, selectors.EVENT_READ)
        os.write(1, b"ready\n")
        while True:
            sources = [key.fileobj for key, _ in selector.select()]
            if 0 in sources:
                signal.set_wakeup_fd(-1)
                for pid in clients:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                return
            for source in sources:
                if source is listener:
                    client, _ = listener.accept()
                    pid = _start(client, Path(address).parent, listener, *clients.values())
                    clients[pid] = client
                    selector.register(client, selectors.EVENT_READ, pid)
                elif source is not wakened:
                    # The client was killed.
                    selector.unregister(source)
                    for pid, client in clients.items():
                        if client is source:
                            os.kill(pid, signal.SIGKILL)
            if wakened in sources:
                wakened.recv(1024)
                _tell_ended(clients, selector)


def _tell_ended(clients: dict[int, socket.socket], selector: selectors.BaseSelector) -> None:
    """Report the status of each child that has ended to its client."""
    for pid in list(clients):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            client = clients.pop(pid)
            with suppress(KeyError):
                selector.unregister(client)
            with suppress(OSError):
                client.sendall(os.waitstatus_to_exitcode(status).to_bytes(SIZE, "big", signed=True))
            client.close()


def _start(client: socket.socket, folder: Path, *others: socket.socket) -> int:
    """Fork the child that does what the client asks for, and tell the client its process id."""
    size, streams, _, _ = socket.recv_fds(client, SIZE, 3)
    request = client.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)
    caller, words, directory, environment = json.loads(request)
    pid = os.fork()
    if not pid:
        for each in (client, *others):
            each.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        # Processes that the child starts are forked, too.
        sys.executable = str(folder / "bin" / "python")
        _run(words, directory, environment)
    for stream in streams:
        os.close(stream)
    (folder / str(caller)).write_text(str(pid))
    client.sendall(pid.to_bytes(SIZE, "big"))
    return pid


def _run(words: Sequence[str], directory: str, environment: Mapping[str, str]) -> NoReturn:
    """Do what ``python -m`` does with these words, and end."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [directory, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = list(words)
    status: object = 0
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


if __name__ == "__main__":
    _serve(sys.argv[1])
