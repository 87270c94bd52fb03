"""An OpenAI-compatible judge that scores answers by what stands in them; see ``stub``.

``quality=7`` in an answer is its score; ``mumble`` makes the reply unreadable, ``stutter`` only the
first time. Of several turns the last is scored alone, and all of them in a pair, where the answer
shown first is scored two points higher if both say ``sway``.
"""

import re
from typing import Any

from stub import Stub, completion, serve

QUALITY = re.compile(r"quality=(\d+)")
MUMBLED = "Both are what they are."


class VerdictJudge(Stub):
    def answer(self, body: dict[str, Any]) -> Any:
        system, prompt = (body["messages"][place]["content"] for place in (0, -1))
        return completion(body, reply(prompt, system))


def reply(prompt: str, system: str) -> str:
    """What the judge says."""
    if "mumble" in prompt or ("stutter" in prompt and "could not be used" not in prompt):
        return MUMBLED
    qualities = [int(each) for each in QUALITY.findall(prompt)]
    if "two scores" not in system:
        return f"{qualities[-1]}\nAs one can see."
    half = len(qualities) // 2
    first, second = (round(sum(part) / half) for part in (qualities[:half], qualities[half:]))
    if prompt.count("sway") >= 2:
        first = min(10, first + 2)
    return f"{first} {second}\nAs one can see."


if __name__ == "__main__":
    serve(VerdictJudge)
