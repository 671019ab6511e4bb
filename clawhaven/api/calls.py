"""The wire form of a model call."""

from __future__ import annotations

from typing import Any

from clawhaven.core.money import format_usd
from clawhaven.metering.models import UsageRow


def call_json(call: UsageRow) -> dict[str, Any]:
    """The wire form of one model call; money in micro-dollars."""
    return {
        "id": call.id,
        "instance_id": call.instance_id,
        "model": call.model,
        "state": call.state,
        "source": call.source,
        "input_tokens": call.input_tokens,
        "output_tokens": call.output_tokens,
        "cache_read_tokens": call.cache_read_tokens,
        "cache_write_tokens": call.cache_write_5m_tokens + call.cache_write_1h_tokens,
        "reasoning_tokens": call.reasoning_tokens,
        "is_estimated": call.is_estimated,
        "price_micros": call.price_micros,
        "price": format_usd(call.price_micros),
        "price_id": call.price_id,
        "started_at": call.started_at.isoformat(),
        "ended_at": call.ended_at.isoformat() if call.ended_at else None,
    }
