"""ROOM: double-entry books, balances and reservations. Append-only; integer micro-dollars."""
