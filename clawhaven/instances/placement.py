"""Ports and boot slots: taken by primary key, so two instances can never get the same one."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from clawhaven.core.db import lock
from clawhaven.core.errors import AtCapacity
from clawhaven.instances.models import BootSlot, Port


def take_port(db: Session, host: str, instance_id: str, first: int, last: int) -> int:
    """This instance's port on `host`: the one it has, or the lowest free one. Raises AtCapacity when none is left."""
    lock(db, f"ports:{host}")
    mine = db.scalars(select(Port.port).where(Port.host == host, Port.instance_id == instance_id)).one_or_none()
    if mine is not None and first <= mine <= last:
        return mine
    release_port(db, instance_id)  # one outside the range, or on a host it has left
    taken = set(db.scalars(select(Port.port).where(Port.host == host)))
    for port in range(first, last + 1):
        if port not in taken:
            db.add(Port(host=host, port=port, instance_id=instance_id))
            db.flush()
            return port
    raise AtCapacity(f"No free port is left between {first} and {last} on {host}.")


def block_port(db: Session, host: str, port: int, now: datetime) -> None:
    """Something else listens there: give it up and leave it alone for an hour."""
    db.execute(update(Port).where(Port.host == host, Port.port == port).values(instance_id=None, blocked_at=now))


def release_port(db: Session, instance_id: str) -> None:
    """Give this instance's port back; none taken is success."""
    db.execute(delete(Port).where(Port.instance_id == instance_id))


def unblock_ports(db: Session, now: datetime) -> None:
    """Try ports again that were found in use an hour ago."""
    db.execute(delete(Port).where(Port.instance_id.is_(None), Port.blocked_at < now - timedelta(hours=1)))


def take_boot_slot(db: Session, host: str, instance_id: str, slots: int, now: datetime, life: timedelta) -> bool:
    """True when this instance may boot now. A slot older than `life` was left by a crash and is free again."""
    lock(db, f"boots:{host}")
    db.execute(delete(BootSlot).where(BootSlot.host == host, BootSlot.taken_at < now - life))
    held = list(db.scalars(select(BootSlot).where(BootSlot.host == host)))
    if any(slot.instance_id == instance_id for slot in held):
        return True
    free = sorted(set(range(slots)) - {slot.slot for slot in held})
    if len(held) >= slots or not free:
        return False
    try:
        with db.begin_nested():
            db.add(BootSlot(host=host, slot=free[0], instance_id=instance_id, taken_at=now))
            db.flush()
    except IntegrityError:
        return False
    return True


def release_boot_slot(db: Session, instance_id: str) -> None:
    """Let the next gateway boot."""
    db.execute(delete(BootSlot).where(BootSlot.instance_id == instance_id))
