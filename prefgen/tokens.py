"""How many tokens a call will take, learnt from the calls before it."""

from __future__ import annotations

from prefgen.completion import CompletionRequest, Reply
from prefgen.pace import Size

_CHARACTERS_PER_TOKEN = 4.0
"""Until a reply tells; of English prose."""


class TokenEstimate:
    """For one model. Input tokens go by the characters of the messages, output tokens by the share of the
    token limit that answers took; both are means over all replies that say how many there were."""

    def __init__(self) -> None:
        self._characters, self._input = 1e-9 * _CHARACTERS_PER_TOKEN, 1e-9
        self._allowed, self._output = 1e-9, 1e-9

    def expect(self, request: CompletionRequest) -> Size:
        """Of one call with all its draws. Until a reply tells, the whole token limit counts as output."""
        characters = sum([len(message.content) for message in request.messages])
        allowed = request.sampling.max_tokens * len(request.samples)
        return Size(
            characters * self._input / self._characters, allowed * self._output / self._allowed, characters
        )

    def learn(self, request: CompletionRequest, expected: Size, reply: Reply) -> Size:
        """What the reply says; what it does not say is as expected."""
        told = [item.input_tokens for item in reply.completions]
        written = [item.output_tokens for item in reply.completions]
        counted_in, counted_out = expected.input_tokens, expected.output_tokens
        if None not in told:
            counted_in = sum(filter(None, told))
            self._characters += expected.characters
            self._input += counted_in
        if None not in written:
            counted_out = sum(filter(None, written))
            self._allowed += request.sampling.max_tokens * len(request.samples)
            self._output += counted_out
        return Size(counted_in, counted_out, expected.characters)
