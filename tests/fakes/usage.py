"""Model calls that were made, as the proxy leaves them: the call itself and its part of the hour's sums."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from clawhaven.core.ids import new_id
from clawhaven.metering.hours import add_to_hours
from clawhaven.metering.models import CallState, UsageRow
from clawhaven.metering.prices import Cost
from clawhaven.ports.upstream import Usage

_USUAL: dict[str, Any] = {
    "plan_mode": "metered",
    "model": "sandbox-1",
    "upstream": "sandbox",
    "dialect": "anthropic-messages",
    "price_id": "p",
    "markup_percent": 150,
    "state": "closed",
    "source": "person",
    "cache_read_tokens": 0,
    "price_micros": 0,
    "provider_cost_micros": 0,
}


def add_call(db: Session, **values: Any) -> UsageRow:
    """A call with these columns; needed are `instance_id`, `account_id`, `started_at` and the tokens."""
    row = UsageRow(**{"id": new_id("use"), "expires_at": values["started_at"]} | _USUAL | values)
    db.add(row)
    if row.state == CallState.CLOSED:
        used = Usage(row.input_tokens, row.output_tokens, row.cache_read_tokens)
        add_to_hours(db, [(row, used, Cost(row.provider_cost_micros, row.price_micros))])
    return row
