"""ROOM: prices, usage, limits; a call is opened before it is forwarded and closed before it is acknowledged."""

from clawhaven.metering.batches import CALL_LIFETIME, NO_OWN_KEY, new_call_id, run_batch
from clawhaven.metering.calls import close_call, held_by_calls, open_call, sweep
from clawhaven.metering.grants import (
    OWN_KEY_PURPOSE,
    GrantTerms,
    activate,
    deactivate,
    drop_replaced_key,
    grant_of,
    put_grant,
    replace_key,
    revoke,
    set_own_key,
)
from clawhaven.metering.jobs import Ask, ClosedCall, Closing, OpenCall, Opening, Outcome, most_input, most_output
from clawhaven.metering.models import Grant, PlanMode, Source, UsageRow
from clawhaven.metering.offers import find_price, offered_prices
from clawhaven.metering.pricefile import read_prices
from clawhaven.metering.prices import Price, PriceTable, builtin_prices, cost, worst_case_micros
from clawhaven.metering.programs import Bearer, find_bearer
from clawhaven.metering.usage import Sum, Summary, UsagePage, calls_between, list_usage, usage_summary

__all__ = [
    "CALL_LIFETIME",
    "NO_OWN_KEY",
    "OWN_KEY_PURPOSE",
    "Ask",
    "Bearer",
    "ClosedCall",
    "Closing",
    "Grant",
    "GrantTerms",
    "OpenCall",
    "Opening",
    "Outcome",
    "PlanMode",
    "Price",
    "PriceTable",
    "Source",
    "Sum",
    "Summary",
    "UsagePage",
    "UsageRow",
    "activate",
    "builtin_prices",
    "calls_between",
    "close_call",
    "cost",
    "deactivate",
    "drop_replaced_key",
    "find_bearer",
    "find_price",
    "grant_of",
    "held_by_calls",
    "list_usage",
    "most_input",
    "most_output",
    "new_call_id",
    "offered_prices",
    "open_call",
    "put_grant",
    "read_prices",
    "replace_key",
    "revoke",
    "run_batch",
    "set_own_key",
    "sweep",
    "usage_summary",
    "worst_case_micros",
]
