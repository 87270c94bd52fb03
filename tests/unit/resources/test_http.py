"""Busy servers: what they ask for is read, waited for within limits, and given up in the end."""

import threading
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import time

import httpx
import pytest

from resources.http import MOST_ASKED_S, BusyError, ask, pause_s, retry_after


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "0"}, 0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after": "86400"}, MOST_ASKED_S),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-3"}, None),
    ],
)
def test_what_a_server_asks_for_is_seconds_or_a_date(headers, seconds):
    assert retry_after(headers) == seconds


def test_a_date_to_come_is_waited_for():
    asked = retry_after(httpx.Headers({"Retry-After": formatdate(time() + 60, usegmt=True)}))
    assert asked is not None
    assert 50 < asked <= 60


def test_a_pause_is_what_is_asked_for_else_twice_as_long_each_time_and_spread():
    assert pause_s(3, 2.0) == 2.0
    assert pause_s(1, 90.0, longest_s=20.0) == 20.0
    for tries in (1, 2, 3, 40):
        most = min(0.5 * 2 ** (tries - 1), 30.0)
        pauses = {pause_s(tries, 0.0) for _ in range(20)}
        assert len(pauses) > 1
        assert all(most / 2 <= pause <= most for pause in pauses)


@pytest.fixture
def server() -> Iterator[tuple[str, list[int]]]:
    """A URL, and the statuses that it answers with next; then 200."""
    statuses: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            status = statuses.pop(0) if statuses else 200
            if status == 0:
                self.connection.close()
                return
            self.send_response(status)
            self.send_header("Content-Length", "4")
            if status == 429:
                self.send_header("Retry-After", "7")
            self.end_headers()
            self.wfile.write(b"wait")

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}", statuses
        serving.shutdown()


def asked(
    url: str, *, last: bool = False, first_s: float = 0.5, longest_s: float = 5.0
) -> tuple[httpx.Response, list[tuple[float, str]]]:
    waits: list[tuple[float, str]] = []

    def wait(pause: float, reason: str) -> bool:
        waits.append((pause, reason))
        return last

    def send() -> httpx.Response:
        return httpx.get(url, trust_env=False)

    return ask(send, wait, tries=4, first_s=first_s, longest_s=longest_s), waits


def test_busy_answers_and_broken_connections_are_tried_again(server):
    url, statuses = server
    statuses[:] = [429, 0, 503]
    answer, waits = asked(url)
    assert answer.status_code == 200
    assert waits[0] == (5.0, "HTTP 429: wait")
    assert [reason.split(":")[0] for _, reason in waits[1:]] == ["RemoteProtocolError", "HTTP 503"]


def test_a_server_that_always_asks_for_a_moment_does_not_use_up_the_tries_in_moments(server):
    url, statuses = server
    statuses[:] = [429] * 3
    _, waits = asked(url, first_s=4.0, longest_s=100.0)
    assert [pause for pause, _ in waits[:1]] == [7.0]
    assert 8.0 <= waits[2][0] <= 16.0


def test_a_refusal_is_an_answer_and_a_busy_server_is_given_up(server):
    url, statuses = server
    statuses[:] = [404]
    assert asked(url)[0].status_code == 404
    statuses[:] = [503] * 4
    with pytest.raises(BusyError, match=r"HTTP 503: wait \(4 tries\)"):
        asked(url)
    statuses[:] = [503]
    with pytest.raises(BusyError, match=r"\(1 tries\)"):
        asked(url, last=True)
    with pytest.raises(httpx.UnsupportedProtocol):
        asked("ftp://127.0.0.1/x")
