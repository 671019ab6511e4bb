"""ROOM: customers' accounts at other vendors, whose data their assistants may read: connected, attached, forgotten."""
