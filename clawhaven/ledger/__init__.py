"""ROOM: double-entry books, balances and reservations. Append-only; integer micro-dollars.

Kinds of customer accounts: `wallet` (prepaid, with a floor) and `included` (plans where the platform pays: no floor,
its balance is minus the value of the usage included in the plan). Platform accounts: `payments` (money that came in),
`usage_revenue`, `included_usage`, `credits` … one per word, made at first use.
"""

from clawhaven.ledger.balance import (
    Balance,
    Line,
    Page,
    account_of,
    amount_of,
    balance,
    balances,
    check_books,
    list_entries,
    sum_moved,
)
from clawhaven.ledger.entries import (
    Posted,
    Posting,
    credit,
    debit,
    debit_at_most,
    open_account,
    platform_account,
    post,
    set_floor,
    set_floors,
)
from clawhaven.ledger.purses import Charge, Purse, take_purses, write_purses
from clawhaven.ledger.reservations import (
    Held,
    Settlement,
    expire,
    held_under,
    hold,
    keep_held,
    overdue,
    release,
    settle,
)

__all__ = [
    "Balance",
    "Charge",
    "Held",
    "Line",
    "Page",
    "Posted",
    "Posting",
    "Purse",
    "Settlement",
    "account_of",
    "amount_of",
    "balance",
    "balances",
    "check_books",
    "credit",
    "debit",
    "debit_at_most",
    "expire",
    "held_under",
    "hold",
    "keep_held",
    "list_entries",
    "open_account",
    "overdue",
    "platform_account",
    "post",
    "release",
    "set_floor",
    "set_floors",
    "settle",
    "sum_moved",
    "take_purses",
    "write_purses",
]
