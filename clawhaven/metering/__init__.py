"""ROOM: prices, usage, limits; a call is opened before it is forwarded and closed before it is acknowledged."""

from clawhaven.metering.batches import (
    CALL_LIFETIME,
    NO_OWN_KEY,
    Ask,
    ClosedCall,
    Closing,
    OpenCall,
    Opening,
    Outcome,
    run_batch,
)
from clawhaven.metering.calls import close_call, held_by_calls, open_call, sweep
from clawhaven.metering.grants import (
    OWN_KEY_PURPOSE,
    GrantTerms,
    activate,
    deactivate,
    find_grant,
    grant_of,
    put_grant,
    revoke,
    rotate_key,
    set_own_key,
)
from clawhaven.metering.models import Grant, PlanMode, Source, UsageRow
from clawhaven.metering.offers import find_price, offered_prices
from clawhaven.metering.pricefile import read_prices
from clawhaven.metering.prices import Price, PriceTable, builtin_prices, cost, worst_case_micros
from clawhaven.metering.usage import Sum, Summary, UsagePage, calls_between, list_usage, usage_summary

__all__ = [
    "CALL_LIFETIME",
    "NO_OWN_KEY",
    "OWN_KEY_PURPOSE",
    "Ask",
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
    "find_grant",
    "find_price",
    "grant_of",
    "held_by_calls",
    "list_usage",
    "offered_prices",
    "open_call",
    "put_grant",
    "read_prices",
    "revoke",
    "rotate_key",
    "run_batch",
    "set_own_key",
    "sweep",
    "usage_summary",
    "worst_case_micros",
]
