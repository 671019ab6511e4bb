"""Letters about accounts at other vendors that assistants may read."""

from __future__ import annotations

from clawhaven.core.languages import Phrase as _
from clawhaven.notices.kinds import Letter, signed


def lapsed(brand: str, vendor: str, address: str, url: str) -> Letter:
    """The vendor takes our permission no more; only the customer can give it anew."""
    return signed(
        "integration_lapsed",
        _("%(vendor)s is no longer connected to your assistant", vendor=vendor),
        brand,
        _(
            "%(vendor)s does not accept the permission for %(address)s any more. That happens when it was withdrawn"
            " there, when the password was changed, or after a long time without use. Your assistant works as before,"
            " but it cannot read what is there until you connect it again:",
            vendor=vendor,
            address=address,
        ),
        url,
    )
