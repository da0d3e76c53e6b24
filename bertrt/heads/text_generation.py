"""`text-generation` (BertLMHeadModel): continue a prompt, or return the most likely next tokens.

Follows transformers' TextGenerationPipeline: the options have the same defaults, which sample. As
there, a prompt is encoded with [CLS] and [SEP] unless `add_special_tokens=False`, and generation
continues after the [SEP]. It stops at an end-of-sequence token, if the model has one, or where
the model's positions end.

A checkpoint without `is_decoder` in its config has bidirectional attention and no key/value cache:
each step runs the whole text, which gives what transformers gives with `use_cache=False`. An
artifact for a GPU has no cache either.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bertrt.checks import check_flag, check_number, check_whole
from bertrt.errors import InputError, shorten
from bertrt.heads import sampling
from bertrt.heads.base import Options, Prepared, TextHead, TextPair
from bertrt.heads.decoding import ChooseTokens, generate
from bertrt.heads.request import Answer, GraphRunner, HeadRequest, SampleOutputs
from bertrt.heads.scores import softmax, top_k
from bertrt.heads.truncation import check_tokenizer_kwargs, truncation_kwargs

__all__ = ["TextGeneration", "TextGenerationOptions"]

# The pipeline's default of max_new_tokens.
_DEFAULT_NEW_TOKENS = 256
# Limits of a batch: the logits of a prompt's tokens and the cache are large.
_MAX_BATCH_SEQUENCES, _MAX_BATCH_TOKENS = 16, 2048


@dataclass(frozen=True, kw_only=True)
class TextGenerationOptions(Options):
    """Options of text-generation.

    Attributes:
        max_new_tokens: the maximum number of new tokens; when None what `max_length` leaves room
            for, or without it 256, or what the model's positions leave room for if that is less.
            `max_length` includes the prompt.
        min_new_tokens: the minimum number of new tokens before an end-of-sequence token.
        do_sample: sample tokens, after `temperature`, `top_k` and `top_p`; False always takes the
            most likely token.
        temperature: above 1 makes unlikely tokens more likely, below 1 less likely.
        top_k: sample from this many most likely tokens; 0 for all.
        top_p: sample from the fewest most likely tokens whose probabilities add up to this.
        repetition_penalty: above 1 makes tokens that are already in the text less likely.
        num_return_sequences: how many texts to return; more than one needs `do_sample`.
        eos_token_id: the token or tokens that end a text; the config's when None.
        seed: makes sampling repeatable: a prompt then gets the same answer alone and in a list.
        return_full_text: whether the text starts with the prompt.
        add_special_tokens: whether to encode the prompt with [CLS] and [SEP].
        skip_special_tokens: whether to leave special tokens out of the text.
        next_tokens: return this many most likely next tokens instead of a text.
        tokenizer_encode_kwargs: `truncation` and `max_length` in a dict, as transformers takes
            them.
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
        # Scores are divided by the temperature and the penalty: a smaller one could overflow.
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
                f"num_return_sequences is {self.num_return_sequences}, but without sampling all "
                "of them would be the same: pass",
                do_sample=True,
            )


@dataclass(frozen=True)
class _Sequence:
    """A text to generate: its prompt's index and ids, and its number among that prompt's texts."""

    prompt_index: int
    prompt_ids: Sequence[int]
    number: int


class TextGeneration(TextHead):
    """Continues a prompt.

    Input: a text.
    Answer: `[{"generated_text"}, …]`, or with `next_tokens` `[{"score", "token", "token_str"},
    …]`, best first.
    """

    task = "text-generation"
    options_class = TextGenerationOptions

    def prepare(self, input: TextPair, options: TextGenerationOptions) -> Prepared:
        """Encode a prompt."""
        if input.pair is not None:
            raise InputError("text-generation takes one text, but got a pair: give one text")
        encoding = self.tokenizer.encode(
            input.text,
            special_tokens=options.add_special_tokens,
            **truncation_kwargs(options, options.tokenizer_encode_kwargs),
        )
        if not encoding.ids:
            raise InputError(
                f"the prompt {shorten(input.text)} has no tokens: give a text, or pass",
                add_special_tokens=True,
            )
        return Prepared([encoding], input.text)

    def build_request(
        self, input: TextPair, runner: GraphRunner, options: TextGenerationOptions
    ) -> HeadRequest:
        """Build a request that runs the prompt once for `next_tokens`, or else generates a text.

        Generation runs in the request's `finish`, for one prompt alone.
        """
        request = super().build_request(input, runner, options)
        if options.next_tokens is not None:
            return request
        self._max_new_tokens(len(request.encodings[0].ids), options)  # raises InputError now
        return replace(
            request,
            finish=lambda samples: self.answer([input], runner, options)[0],
            runs_itself=True,
        )

    def answer(
        self, inputs: Sequence[TextPair], runner: GraphRunner, options: TextGenerationOptions
    ) -> list[Answer]:
        """Continue prompts; those of equal length run together."""
        if options.next_tokens is not None:
            return super().answer(inputs, runner, options)
        prompts = [self.prepare(input, options) for input in inputs]
        by_length: dict[int, list[_Sequence]] = defaultdict(list)
        for index, prompt in enumerate(prompts):
            ids = prompt.encodings[0].ids
            by_length[len(ids)] += [
                _Sequence(index, ids, number) for number in range(options.num_return_sequences)
            ]
        # Raises InputError before anything runs.
        max_new_tokens = {length: self._max_new_tokens(length, options) for length in by_length}
        answers: list[list[dict[str, str]]] = [[] for _ in prompts]
        for length, sequences in by_length.items():
            size = min(_MAX_BATCH_SEQUENCES, max(1, _MAX_BATCH_TOKENS // length))
            for start in range(0, len(sequences), size):
                batch = sequences[start : start + size]
                continuations = generate(
                    runner.run,
                    np.array([sequence.prompt_ids for sequence in batch], dtype=np.int64),
                    max_new_tokens=max_new_tokens[length],
                    stop_tokens=self._stop_tokens(options),
                    choose=self._token_chooser(batch, options),
                    uncounted_token=self.config.uncounted_token_id,
                )
                for sequence, tokens in zip(batch, continuations, strict=True):
                    index = sequence.prompt_index
                    prefix = prompts[index].context if options.return_full_text else ""
                    text = self.tokenizer.decode(
                        tokens, skip_special_tokens=options.skip_special_tokens
                    )
                    answers[index].append({"generated_text": prefix + text})
        return answers

    def finish(
        self, prepared: Prepared, samples: Sequence[SampleOutputs], options: TextGenerationOptions
    ) -> Answer:
        """Return the most likely next tokens, best first."""
        probabilities = softmax(samples[0]["logits"][-1])
        return [
            {
                "score": float(probabilities[token]),
                "token": int(token),
                "token_str": self.tokenizer.decode([int(token)]),
            }
            for token in top_k(probabilities, options.next_tokens)
        ]

    def _max_new_tokens(self, length: int, options: TextGenerationOptions) -> int:
        """Return the maximum number of new tokens after a prompt of `length` tokens.

        Raises InputError if the model has no room for as many as the options say.
        """
        # The last token is not fed to the model again, so it needs no position.
        room = self.config.max_position_embeddings + 1 - length
        if options.max_new_tokens is not None:
            count = options.max_new_tokens
        elif options.max_length is not None:
            count = options.max_length - length
            if count < 1:
                raise InputError(
                    f"the prompt has {length} tokens and max_length is {options.max_length}, which "
                    "leaves no room for new tokens: raise it, or use max_new_tokens"
                )
        else:
            count = min(_DEFAULT_NEW_TOKENS, room)
        if count > room:
            raise InputError(
                f"max_new_tokens is {count}, but after a prompt of {length} tokens this model has "
                f"room for {room}: lower it, or omit it to use all the room"
            )
        if options.min_new_tokens > count:
            raise InputError(
                f"min_new_tokens is {options.min_new_tokens}, but at most {count} new tokens can "
                "be generated here: lower it"
            )
        return count

    def _stop_tokens(self, options: TextGenerationOptions) -> tuple[int, ...]:
        """Return the tokens that end a text."""
        if options.eos_token_id is None:
            return self.config.eos_token_ids
        if isinstance(options.eos_token_id, int):
            return (options.eos_token_id,)
        return tuple(options.eos_token_id)

    def _token_chooser(
        self, batch: Sequence[_Sequence], options: TextGenerationOptions
    ) -> ChooseTokens:
        """Return a function that chooses the next tokens of these sequences."""
        stop_tokens = self._stop_tokens(options)
        generators = [
            np.random.default_rng(None if options.seed is None else (options.seed, sequence.number))
            for sequence in batch
        ]

        def choose(scores: np.ndarray, ids: np.ndarray, active: Sequence[int]) -> np.ndarray:
            if options.repetition_penalty != 1:
                scores = sampling.penalize_repetition(scores, ids, options.repetition_penalty)
            if ids.shape[1] - len(batch[0].prompt_ids) < options.min_new_tokens:
                scores = sampling.suppress_tokens(scores, stop_tokens)
            if not options.do_sample:
                best: np.ndarray = scores.argmax(axis=1)
                return best
            scores = sampling.apply_temperature(scores, options.temperature)
            if options.top_k:
                scores = sampling.keep_top_k(scores, options.top_k)
            if options.top_p < 1:
                scores = sampling.keep_top_p(scores, options.top_p)
            return sampling.sample(scores, [generators[index] for index in active])

        return choose
