"""ROOM: prices, usage, limits; a call is opened before it is forwarded and closed before it is acknowledged."""

from clawhaven.metering.calls import (
    CALL_LIFETIME,
    Ask,
    ClosedCall,
    OpenCall,
    close_call,
    find_price,
    offered_prices,
    open_call,
    sweep,
)
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
)
from clawhaven.metering.models import Grant, PlanMode, Source, UsageRow
from clawhaven.metering.prices import Price, PriceTable, builtin_prices, cost, read_prices, worst_case_micros
from clawhaven.metering.usage import Sum, Summary, UsagePage, calls_between, list_usage, usage_summary

__all__ = [
    "CALL_LIFETIME",
    "OWN_KEY_PURPOSE",
    "Ask",
    "ClosedCall",
    "Grant",
    "GrantTerms",
    "OpenCall",
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
    "list_usage",
    "offered_prices",
    "open_call",
    "put_grant",
    "read_prices",
    "revoke",
    "rotate_key",
    "sweep",
    "usage_summary",
    "worst_case_micros",
]
