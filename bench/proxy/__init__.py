"""The model proxy beside no gateway, nginx and its peers: speed, CPU, memory, streams, a flood; and its books.

Load, the vendor and what is measured share one machine; so every figure is read beside `direct` of the same run.
"""

from __future__ import annotations


def main(arguments: list[str]) -> int:
    """Measure; see bench/proxy/run.py."""
    from bench.proxy import run  # here, so that the vendor's process does not load it

    return run.main(arguments)
