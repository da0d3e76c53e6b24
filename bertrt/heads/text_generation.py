"""`text-generation` (BertLMHeadModel): a prompt continued, or the likely next tokens.

The contract is that of transformers' pipeline: the same options with the same defaults, which
sample. Like it, a prompt is encoded with [CLS] and [SEP] unless `add_special_tokens=False`, and
nothing treats them otherwise than text. Generation stops at an end-of-sequence token, if the
model has one, or where its positions end. A checkpoint whose config does not say `is_decoder`
looks both ways and has no cache, so that each step reads the whole text; this is what
transformers gives with `use_cache=False`. An artifact for a GPU has no cache either.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertrt.checks import check_flag, check_number, check_whole
from bertrt.errors import InputError, shorten
from bertrt.heads import sampling
from bertrt.heads.base import Options, Prepared, TextHead, TextPair
from bertrt.heads.decoding import Choose, generate
from bertrt.heads.fill_mask import largest
from bertrt.heads.request import Answer, GraphRunner, HeadRequest, SampleOutputs
from bertrt.heads.scores import softmax
from bertrt.heads.truncation import check_tokenizer_kwargs, truncation_of

__all__ = ["TextGeneration", "TextGenerationOptions"]

# What the pipeline generates when nobody says how much.
_NEW_TOKENS = 256
# Prompts that are continued together: the logits of a prompt's tokens and the cache are large.
_ROWS, _TOKENS = 16, 2048


@dataclass(frozen=True, kw_only=True)
class TextGenerationOptions(Options):
    """How much is generated, how tokens are chosen, and what the answer holds.

    `max_new_tokens` left out is 256, or what `max_length` or the model's positions leave room
    for; `max_length` counts the prompt too. `do_sample` draws tokens, after `temperature`,
    `top_k` (0: all) and `top_p`; without it the best one is taken. `seed` makes draws repeatable:
    a prompt then gets the same answer alone and in a list. `eos_token_id` replaces the config's.
    `next_tokens=n` asks for the n likeliest next tokens and their probabilities instead.
    """

    max_new_tokens: int | None = None
    min_new_tokens: int = 0
    do_sample: bool = True
    temperature: float = 0.7
    top_k: int = 50
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    num_return_sequences: int = 1
    eos_token_id: int | Sequence[int] | None = None
    seed: int | None = None
    return_full_text: bool = True
    add_special_tokens: bool = True
    skip_special_tokens: bool = True
    next_tokens: int | None = None
    tokenizer_encode_kwargs: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name, least in (("min_new_tokens", 0), ("top_k", 0), ("num_return_sequences", 1)):
            check_whole(name, getattr(self, name), least=least)
        for name, least in (("max_new_tokens", 1), ("next_tokens", 1), ("seed", 0)):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), least=least)
        for name in ("do_sample", "return_full_text", "add_special_tokens", "skip_special_tokens"):
            check_flag(name, getattr(self, name))
        # Scores are divided by these: a number nearer to 0 would make them overflow.
        check_number("temperature", self.temperature, least=1e-6, most=1e6)
        check_number("top_p", self.top_p, least=0, most=1)
        check_number("repetition_penalty", self.repetition_penalty, least=1e-6, most=1e6)
        check_tokenizer_kwargs("tokenizer_encode_kwargs", self.tokenizer_encode_kwargs)
        if isinstance(self.eos_token_id, (list, tuple)):
            for token in self.eos_token_id:
                check_whole("eos_token_id", token, least=0)
        elif self.eos_token_id is not None:
            check_whole("eos_token_id", self.eos_token_id, least=0)
        if self.num_return_sequences > 1 and not self.do_sample:
            raise InputError(
                f"num_return_sequences is {self.num_return_sequences}, and without sampling all "
                "of them would be the same: pass do_sample=True"
            )


@dataclass(frozen=True)
class _Sequence:
    """One text to generate: whose prompt it continues, which of that one's it is, and its ids."""

    owner: int
    number: int
    prompt: Sequence[int]


class TextGeneration(TextHead):
    """Answers `[{"generated_text"}, …]`, or with `next_tokens` `[{"score", "token", …}, …]`."""

    task = "text-generation"
    options = TextGenerationOptions

    def prepare(self, input: TextPair, options: TextGenerationOptions) -> Prepared:
        """Encode a prompt."""
        if input.pair is not None:
            raise InputError("text-generation continues one text, and a pair was given")
        encoding = self.tokenizer.encode(
            input.text,
            special_tokens=options.add_special_tokens,
            **truncation_of(options, options.tokenizer_encode_kwargs),
        )
        if not encoding.ids:
            raise InputError(
                f"the prompt has no tokens: {shorten(input.text)}; give a text, or leave "
                "add_special_tokens on"
            )
        return Prepared([encoding], input.text)

    def build_request(
        self, input: TextPair, runner: GraphRunner, options: TextGenerationOptions
    ) -> HeadRequest:
        """A prompt asks for one row when its next tokens are wanted; else it is continued alone."""
        request = super().build_request(input, runner, options)
        if options.next_tokens is not None:
            return request
        self._steps(len(request.encodings[0].ids), options)  # raises what is wrong with them
        return HeadRequest((), lambda samples: self.answer([input], runner, options)[0])

    def answer(
        self, inputs: Sequence[TextPair], runner: GraphRunner, options: TextGenerationOptions
    ) -> list[Answer]:
        """Continue prompts, those of one length together."""
        if options.next_tokens is not None:
            return super().answer(inputs, runner, options)
        prompts = [self.prepare(one, options) for one in inputs]
        by_length: dict[int, list[_Sequence]] = defaultdict(list)
        for owner, prompt in enumerate(prompts):
            ids = prompt.encodings[0].ids
            by_length[len(ids)] += [
                _Sequence(owner, number, ids) for number in range(options.num_return_sequences)
            ]
        steps = {length: self._steps(length, options) for length in by_length}
        answers: list[list[dict[str, str]]] = [[] for _ in prompts]
        for length, sequences in by_length.items():
            size = min(_ROWS, max(1, _TOKENS // length))
            for start in range(0, len(sequences), size):
                batch = sequences[start : start + size]
                continuations = generate(
                    runner.run,
                    np.array([one.prompt for one in batch], dtype=np.int64),
                    steps=steps[length],
                    stop=self._stop(options),
                    choose=self._chooser(batch, options),
                )
                for one, tokens in zip(batch, continuations, strict=True):
                    text = self.tokenizer.decode(
                        tokens, skip_special_tokens=options.skip_special_tokens
                    )
                    before = prompts[one.owner].context if options.return_full_text else ""
                    answers[one.owner].append({"generated_text": before + text})
        return answers

    def finish(
        self, prepared: Prepared, samples: Sequence[SampleOutputs], options: TextGenerationOptions
    ) -> Answer:
        """The most likely next tokens, best first, as fill-mask answers a mask."""
        probabilities = softmax(samples[0]["logits"][-1])
        return [
            {
                "score": float(probabilities[token]),
                "token": int(token),
                "token_str": self.tokenizer.decode([int(token)]),
            }
            for token in largest(probabilities, options.next_tokens or 1)
        ]

    def _steps(self, length: int, options: TextGenerationOptions) -> int:
        """How many tokens to generate at most after a prompt of `length` tokens."""
        # The last token is never read back, so it needs no position.
        room = self.config.max_position_embeddings + 1 - length
        if options.max_new_tokens is not None:
            steps = options.max_new_tokens
        elif options.max_length is not None:
            steps = options.max_length - length
            if steps < 1:
                raise InputError(
                    f"the prompt has {length} tokens and max_length is {options.max_length}, which "
                    "leaves no room for new ones: raise it, or use max_new_tokens"
                )
        else:
            steps = min(_NEW_TOKENS, room)
        if steps > room:
            raise InputError(
                f"max_new_tokens is {steps}, and after a prompt of {length} tokens this model has "
                f"room for {room}: lower it, or leave it out to use what there is"
            )
        if options.min_new_tokens > steps:
            raise InputError(
                f"min_new_tokens is {options.min_new_tokens}, and at most {steps} new tokens are "
                "generated here: lower it"
            )
        return steps

    def _stop(self, options: TextGenerationOptions) -> tuple[int, ...]:
        """The tokens that end a text."""
        if options.eos_token_id is None:
            return self.config.eos_token_ids
        if isinstance(options.eos_token_id, int):
            return (options.eos_token_id,)
        return tuple(options.eos_token_id)

    def _chooser(self, batch: Sequence[_Sequence], options: TextGenerationOptions) -> Choose:
        """How the next tokens of these sequences are chosen."""
        stop = self._stop(options)
        generators = [
            np.random.default_rng(None if options.seed is None else (options.seed, one.number))
            for one in batch
        ]

        def choose(scores: np.ndarray, ids: np.ndarray, rows: Sequence[int]) -> np.ndarray:
            if options.repetition_penalty != 1:
                scores = sampling.penalize_repetition(scores, ids, options.repetition_penalty)
            if ids.shape[1] - len(batch[0].prompt) < options.min_new_tokens:
                scores = sampling.forbid(scores, stop)
            if not options.do_sample:
                best: np.ndarray = scores.argmax(axis=1)
                return best
            scores = sampling.scale(scores, options.temperature)
            if options.top_k:
                scores = sampling.keep_top_k(scores, options.top_k)
            if options.top_p < 1:
                scores = sampling.keep_top_p(scores, options.top_p)
            return sampling.draw(scores, [generators[row] for row in rows])

        return choose
