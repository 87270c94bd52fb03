"""A server of checkpoints and chat models that tells what it was asked; see ``stub``.

``/v1/models`` and ``/v1/completions`` are those of vLLM: prompts are tokens, the answer tells the
prompt's length, temperature and seed. ``/v1/chat/completions`` answers with the number of messages,
and where there is a system message as a judge: the conversation shown first is better.

Its configuration: ``model``, ``root``, ``context`` (as in ``/v1/models``), ``extra`` (tokens that
it adds to prompts), ``reason`` and ``text`` of each answer, and ``faults`` (statuses of the next
answers; 0 cuts the connection).
"""

from typing import Any

from stub import RefusedError, Stub, completion, serve


class AnswerServer(Stub):
    first = {
        "model": "d/e",
        "root": None,
        "context": 512,
        "extra": 0,
        "reason": "stop",
        "text": None,
        "faults": [],
    }

    def page(self) -> Any:
        if self.path != "/v1/models":
            return super().page()
        context, root = self.config["context"], self.config["root"]
        card = {"id": self.config["model"], "object": "model", "max_model_len": context}
        return {"object": "list", "data": [{**card, **({"root": root} if root else {})}]}

    def answer(self, body: dict[str, Any]) -> Any:
        with self.lock:
            fault = self.config["faults"].pop(0) if self.config["faults"] else 200
        if fault != 200:
            raise RefusedError(fault, message=f"told to say {fault}", code=fault)
        return self.chat(body) if "messages" in body else self.completed(body)

    def completed(self, body: dict[str, Any]) -> Any:
        length = len(body["prompt"])
        text, reason = self.config["text"], self.config["reason"]
        if text is None:
            text = f" {length} at {body['temperature']} by {body['seed']}"
        return {
            "object": "text_completion",
            "choices": [{"index": 0, "text": text, "finish_reason": reason, "logprobs": None}],
            "usage": completion(body, text, reason, length + self.config["extra"], 4)["usage"],
        }

    def chat(self, body: dict[str, Any]) -> Any:
        messages = body["messages"]
        if messages[0]["role"] == "system":
            return completion(body, "9 2\nThe first is better.", "stop", 10, 4)
        text = self.config["text"]
        text = f"message {len(messages)}" if text is None else text
        return completion(body, text, self.config["reason"], 10, 4)


if __name__ == "__main__":
    serve(AnswerServer)
