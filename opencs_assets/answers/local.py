"""A checkpoint that answers in this process."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from opencs_assets.answers.asking import Answered, AnswerPrompt, GeneratedReply, Renderer
from resources.cores import cores
from resources.launcher.job import JobError


class LocalModel:
    """A checkpoint's weights, loaded here.

    Args:
        folder: The checkpoint's folder.
        batch_size: Most prompts at once.

    Raises:
        JobError: The model keeps a state that is no attention cache.
    """

    def __init__(self, folder: Path, batch_size: int) -> None:
        self._renderer = Renderer(folder)
        # Heavy, and only after everything cheap was checked.
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
        # The checkpoint's generation config says only where an answer ends: it may hold penalties
        # and cut-offs that nobody declared.
        stops = self._renderer.stops(model.generation_config.eos_token_id)
        self._decoder = Decoder(model, stops, pad, batch_size)
        self.context = int(model.config.max_position_embeddings)

    def tokens(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The conversation as tokens, by the checkpoint's chat template."""
        return self._renderer.tokens(messages)

    def answer(
        self, prompts: Sequence[AnswerPrompt], max_new_tokens: int, note: Callable[[str], None]
    ) -> Iterator[Answered]:
        """Answer prompts, the longest first; each answer is what it would be alone.

        Args:
            prompts: The prompts, with temperature and seed of each.
            max_new_tokens: Most tokens of an answer.
            note: Told how the work stands.

        Yields:
            Prompts and their answers, as they end.
        """
        from opencs_assets.answers.decoding import Sampler

        ordered = sorted(prompts, key=lambda each: (-len(each.ids), each.row["question_id"]))
        sampler = Sampler(
            [each.row["temperature"] for each in ordered], [each.row["seed"] for each in ordered]
        )
        ended = self._decoder.decode(
            [each.ids for each in ordered],
            sampler,
            max_new_tokens,
            lambda rows: note(f"{rows} at once"),
        )
        for some in ended:
            yield [
                (
                    ordered[each.place],
                    GeneratedReply(
                        self._renderer.text(each.tokens),
                        len(each.tokens),
                        "length" if each.cut else "stop",
                    ),
                )
                for each in some
            ]
