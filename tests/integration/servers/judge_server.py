"""An OpenAI-compatible server that scores and refines as it is told to; see ``stub``.

A sample's quality stands in its response (``quality=73``). Its configuration is ``mode``:
``honest``, ``first`` (the one shown first is always better), ``equal``, ``refuse``, ``foreign``
(another language, no scores), or ``blind`` (comparisons cannot be read where the sample shown first
has an odd quality).
"""

import re
from typing import Any

from stub import Stub, completion, serve

QUALITY = re.compile(r"quality=(\d+)")
REFUSAL = "I'm sorry, but I can't help with that."
FOREIGN = "两个样本都很好，我无法给出分数。"
# Words that a refined text takes.
NEEDED_TOKENS = 150


class JudgeServer(Stub):
    first = {"mode": "honest"}

    def answer(self, body: dict[str, Any]) -> Any:
        system, prompt = (body["messages"][place]["content"] for place in (0, -1))
        if "<better>" in system:
            return completion(body, *refined(system, prompt, body))
        return completion(body, scores(prompt, self.config["mode"]))


def scores(prompt: str, mode: str) -> str:
    qualities = [int(each) for each in QUALITY.findall(prompt)]
    if mode == "refuse":
        return REFUSAL
    if mode == "foreign":
        return FOREIGN
    if len(qualities) == 1:
        return f"{qualities[0] / 20:.1f}\nIt is what it is."
    first, second = qualities
    if mode == "blind" and first % 2:
        return "Both are fine."
    first, second = {"first": (90, 20), "equal": (50, 50)}.get(mode, (first, second))
    return f"{first} {second}\nAs one can see."


def refined(system: str, prompt: str, body: dict[str, Any]) -> tuple[str, str]:
    """The better text, and why it ends."""
    if "never=refine" in prompt:
        return REFUSAL, "stop"
    room = body.get("max_tokens") or body.get("max_completion_tokens")
    if "long=yes" in prompt and room < NEEDED_TOKENS:
        return "<better>This was cut in the mid", "length"
    part = "response" if "Improve the response" in system else "instruction"
    # The second question shows the first one's answer as its response, so the order can be checked.
    shown = prompt.split("[Response]\n", 1)[1].split("\n\n(The last reply")[0]
    return f"<better>better {part}, having seen: {shown}</better>", "stop"


if __name__ == "__main__":
    serve(JudgeServer)
