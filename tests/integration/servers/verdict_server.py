"""An OpenAI-compatible judge of answers that tells what it was asked; see ``stub``.

An answer's worth stands in it (``worth=7``); of several turns the last one counts. A prompt with
two assistants gets two scores, or ``[[A]]``, ``[[B]]`` or ``[[C]]`` where it names these; one with
a single answer gets its score. Its configuration: ``mode`` (``honest``, ``first``: the one shown
first is better, ``echo``: the prompt and nothing else, ``mute``: no verdict), ``delay`` in seconds
and ``without`` (parameters that get a 400).
"""

import re
import time
from typing import Any

from stub import RefusedError, Stub, completion, serve


class VerdictServer(Stub):
    first = {"mode": "honest", "delay": 0.0, "without": []}

    def answer(self, body: dict[str, Any]) -> Any:
        time.sleep(self.config["delay"])
        refused = next((name for name in self.config["without"] if name in body), None)
        if refused:
            message = f"Unsupported parameter: '{refused}' is not supported with this model."
            raise RefusedError(400, message=message, param=refused)
        prompt = "\n".join(message["content"] for message in body["messages"])
        return completion(body, verdict(prompt, self.config["mode"]))


def verdict(prompt: str, mode: str) -> str:
    if mode == "echo":
        return prompt
    if mode == "mute":
        return "Both have their merits."
    worths = [float(each) for each in re.findall(r"worth=([\d.]+)", prompt)]
    if not worths:
        # Not about answers: the platform looks what this endpoint can do.
        return "Zebra."
    chooses = "[[A]]" in prompt
    if not chooses and "two scores" not in prompt:
        return f"Rating: [[{worths[-1]:g}]]"
    # Each assistant's last answer: both have as many.
    first, second = worths[len(worths) // 2 - 1], worths[-1]
    if mode == "first":
        first, second = 9, 2
    if not chooses:
        return f"{first:g} {second:g}\nAs one sees."
    label = "C" if first == second else "A" if first > second else "B"
    return f"As one sees.\n[[{label}]]"


if __name__ == "__main__":
    serve(VerdictServer)
