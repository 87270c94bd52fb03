"""An OpenAI-compatible model that remembers its calls; see ``stub``.

Replies follow from the prompt alone: tags, one score or two scores, in the form that the prompt
asks for. Its configuration is ``latency`` in seconds. ``GET /asked`` lists the calls in the order
of their coming: ``prompt`` (hash of model and messages), ``began`` and ``answered`` in seconds of
the machine's monotonic clock; ``answered`` is null where the asker was gone or still waits.
"""

import hashlib
import json
import select
import socket
import time
from typing import Any

from stub import RefusedError, Stub, completion, serve

TAGS = ("arithmetic", "biology", "cooking", "debugging", "history", "poetry writing")


class CountingModel(Stub):
    first = {"latency": 0.1}

    def question(self, body: dict[str, Any]) -> Any:
        asked = json.dumps([body["model"], body["messages"]], sort_keys=True)
        digest = hashlib.sha256(asked.encode()).hexdigest()
        call = {"prompt": digest, "began": time.monotonic(), "answered": None}
        with self.lock:
            self.asked.append(call)
        time.sleep(self.config["latency"])
        if self.asker_is_gone():
            raise RefusedError(0)
        # Counted before it is sent: whoever got a reply finds it counted.
        call["answered"] = time.monotonic()
        return completion(body, reply_text(body["messages"][0]["content"], digest))

    def asker_is_gone(self) -> bool:
        """Whether the other side closed the connection, as the system does for a killed process."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        try:
            return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True


def reply_text(system: str, digest: str) -> str:
    """What the model says: by the prompt's words in form, by its hash in content."""
    numbers = bytes.fromhex(digest)
    if "JSON list" in system:
        first, second = numbers[0] % len(TAGS), numbers[1] % (len(TAGS) - 1)
        others = [tag for place, tag in enumerate(TAGS) if place != first]
        return json.dumps([TAGS[first], others[second]])
    if "two scores" in system or "two numbers" in system:
        high = 100 if "100" in system else 10
        return f"{1 + numbers[0] % high} {1 + numbers[1] % high}\nAs one can see."
    # Within every scale that a stage asks for.
    return f"{1 + numbers[0] % 5}\nAs one can see."


if __name__ == "__main__":
    serve(CountingModel)
