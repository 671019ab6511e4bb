"""Letters of a deleted account: that one was written, and when, stays; to whom and about what does not."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Select, and_, or_, select, update
from sqlalchemy.orm import Session

from clawhaven.core.secrets import KeyRing
from clawhaven.notices.alerts import KIND
from clawhaven.notices.models import Notice
from clawhaven.notices.outbox import PURPOSE


def erase(
    db: Session,
    keys: KeyRing,
    account_id: str,
    email: str | None,
    instance_ids: Collection[str],
    booked_ids: Collection[str],
    theirs_before: datetime | None,
) -> int:
    """Empty an account's letters, and those to or about it; returns how many there were.

    A letter is about it whose key names the account, one of its assistants, or one of `booked_ids` (its checkouts,
    agreements, receipts). Letters of no account that were written to or about the address before `theirs_before` are
    taken for its own too; None: nobody had proved it. Those of other accounts stay, of a later one with the same
    address too.

    A letter that waits is not sent any more. The operator's alerts go on, with the account's id in the address's place:
    there may be something left to do. Keys stay, as they keep a letter from being written twice; those that hold the
    address are replaced.
    """
    own = {account_id, *instance_ids, *booked_ids}
    spoken = re.compile(_AS_A_WORD.format(re.escape(email)), re.IGNORECASE) if email is not None else None
    count = 0
    for row in db.scalars(_candidates(account_id, email, instance_ids)).all():
        parts = set(row.key.split(":"))
        names = email is not None and email in parts
        is_own = row.account_id == account_id or not own.isdisjoint(parts)
        if not is_own and (theirs_before is None or row.created_at >= theirs_before):
            continue
        if row.kind == KIND:
            if not is_own and not names and (spoken is None or not spoken.search(row.subject)):
                continue
            if spoken is not None:
                _rename(row, keys, spoken, account_id)
        elif is_own or names or row.recipient == email:
            row.recipient, row.subject, row.sealed_text, row.last_error = "", "", "", None
            db.execute(update(Notice).where(Notice.id == row.id, Notice.state == "pending").values(state="failed"))
        else:
            continue
        row.key = row.id if names else row.key
        count += 1
    db.flush()
    return count


_AS_A_WORD = r"(?<![\w.!#$%&'*+/=?^`{{|}}~@-]){}(?![\w@-]|\.\w)"
"""An address where it is not a part of a longer one."""


def _candidates(account_id: str, email: str | None, instance_ids: Collection[str]) -> Select[Notice]:
    """What may be meant: letters of no account are looked through for these words."""
    said = [Notice.key.contains(word, autoescape=True) for word in (account_id, *instance_ids)]
    if email is not None:
        said += [column.contains(email, autoescape=True) for column in (Notice.key, Notice.subject)]
        said.append(Notice.recipient == email)
    return select(Notice).where(or_(Notice.account_id == account_id, and_(Notice.account_id.is_(None), or_(*said))))


def _rename(row: Notice, keys: KeyRing, spoken: re.Pattern[str], account_id: str) -> None:
    row.subject = spoken.sub(account_id, row.subject)
    if row.state != "pending":
        row.sealed_text = ""
    else:
        row.sealed_text = keys.seal(spoken.sub(account_id, keys.open(row.sealed_text, PURPOSE)), PURPOSE)
