"""What a price is: rates per token, from one day on.

Rates are micro-dollars per million tokens, that is millionths of a micro-dollar per token: whole numbers for every
price that vendors publish (0.0625 dollars per million tokens are 62,500), where nano-dollars would not be.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Rates:
    """Micro-dollars per million tokens. Audio rates of None: spoken tokens cost what written ones do."""

    input: int
    output: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int
    audio_input: int | None = None
    audio_output: int | None = None

    @property
    def dearest_input(self) -> int:
        """The most a token of the prompt can cost, whatever is made of it."""
        return max(self.input, self.cache_read, self.cache_write_5m, self.cache_write_1h, self.audio_input or 0)

    @property
    def dearest_output(self) -> int:
        """The most a token of the answer can cost."""
        return max(self.output, self.audio_output or 0)


@dataclass(frozen=True, slots=True)
class Price:
    """The list price of one model from one day on. `long_rates` apply to the whole request above `long_over_tokens`.

    `is_own`: it stands in the operator's file. `is_offered` False: from that day on the model is not sold.
    """

    id: str
    model: str
    upstream: str
    effective_from: datetime
    rates: Rates
    context_window: int
    max_output_tokens: int
    long_over_tokens: int | None = None
    long_rates: Rates | None = None
    aliases: tuple[str, ...] = ()
    is_offered: bool = True
    is_own: bool = False

    def rates_for(self, prompt_tokens: int) -> Rates:
        """The tariff for a request whose prompt, cache included, has so many tokens."""
        if self.long_rates and self.long_over_tokens is not None and prompt_tokens > self.long_over_tokens:
            return self.long_rates
        return self.rates
