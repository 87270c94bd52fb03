"""A checkpoint that answers in this process."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from opencs_assets.answers.asking import Answered, AnswerPrompt, GeneratedReply, Renderer
from resources.cores import cores
from resources.launcher.job import JobError


class LocalModel:
    """A checkpoint's weights, loaded here.

    Raises:
        JobError: The model keeps a state that is no attention cache.
    """

    def __init__(self, folder: Path, batch_size: int) -> None:
        self._renderer = Renderer(folder)
        # These imports are heavy, so they come after all checks that are cheap.
        import torch
        from transformers import AutoModelForCausalLM

        from opencs_assets.answers.decoding import Decoder

        torch.set_num_threads(cores())
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32 if device == "cpu" else "auto"
        ).to(device)
        model.eval()
        if getattr(model, "_is_stateful", False):
            raise JobError(
                f"{folder}: a {model.config.model_type} keeps another state than attention, which "
                "is not generated from here; serve it with vLLM and name it under `endpoints` of "
                "experiments.yaml"
            )
        tokenizer = self._renderer.tokenizer
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        # Only the end of an answer is taken from the checkpoint's generation config, which may also
        # hold penalties and cut-offs that nobody declared.
        stops = self._renderer.stops(model.generation_config.eos_token_id)
        self._decoder = Decoder(model, stops, pad, batch_size)
        self.context = int(model.config.max_position_embeddings)

    def tokens(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The conversation as tokens, by the checkpoint's chat template."""
        return self._renderer.tokens(messages)

    def answer(
        self, prompts: Sequence[AnswerPrompt], max_new_tokens: int, note: Callable[[str], None]
    ) -> Iterator[Answered]:
        """Answer prompts, the longest first; each answer is what it would be alone."""
        from opencs_assets.answers.decoding import Sampler

        ordered = sorted(prompts, key=lambda prompt: (-len(prompt.ids), prompt.row["question_id"]))
        sampler = Sampler(
            [prompt.row["temperature"] for prompt in ordered],
            [prompt.row["seed"] for prompt in ordered],
        )
        batches = self._decoder.decode(
            [prompt.ids for prompt in ordered],
            sampler,
            max_new_tokens,
            lambda rows: note(f"{rows} at once"),
        )
        for batch in batches:
            yield [
                (
                    ordered[ended.place],
                    GeneratedReply(
                        self._renderer.text(ended.tokens),
                        len(ended.tokens),
                        "length" if ended.cut else "stop",
                    ),
                )
                for ended in batch
            ]
