"""Discount codes at Creem, one for each checkout."""

from __future__ import annotations

import pytest

from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import Discount
from clawhaven.providers.payments import creem_discounts
from clawhaven.providers.payments.creem_calls import Calls
from tests.fakes.creem_books import PERSONAL
from tests.fakes.creem_server import KEY, CreemServer


def test_a_checkout_has_one_code_however_often_it_is_asked_for() -> None:
    with CreemServer() as vendor:
        calls = Calls(vendor.url, KEY)
        once = creem_discounts.code_for(calls, "chk_1", Discount("HALF", percent_off=50), PERSONAL)
        assert creem_discounts.code_for(calls, "chk_1", Discount("HALF", percent_off=50), PERSONAL) == once
        other = creem_discounts.code_for(calls, "chk_2", Discount("HALF", percent_off=50, months=None), PERSONAL)
        assert list(vendor.discounts) == [once, other]
        assert [one["duration"] for one in vendor.discounts.values()] == ["once", "forever"]


def test_a_fixed_amount_and_a_refused_code_are_errors_for_good() -> None:
    with CreemServer() as vendor:
        calls = Calls(vendor.url, KEY)
        with pytest.raises(ProviderError) as caught:
            creem_discounts.code_for(calls, "chk_1", Discount("FIVE", amount_off_micros=5_000_000), PERSONAL)
        assert (caught.value.permanent, caught.value.code) == (True, "not_offered")
        vendor.fail(400, b'{"message": ["percentage must be positive"]}')
        with pytest.raises(ProviderError) as caught:
            creem_discounts.code_for(calls, "chk_1", Discount("HALF", percent_off=50), PERSONAL)
        assert (caught.value.permanent, caught.value.code) == (True, "creem_refused")
        assert vendor.discounts == {}
