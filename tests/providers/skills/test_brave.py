"""Keys of Brave Search: taken, refused, not to be asked about; and what the gateway is told of them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from clawhaven.core.settings import Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.providers.skills.brave import Brave
from clawhaven.providers.skills.elevenlabs import ElevenLabs
from tests.fakes.skill_vendors import BRAVE_KEY, MUTE_KEY, SHY_KEY, VOICE_KEY, SkillVendors


@pytest.fixture
def vendors() -> Iterator[SkillVendors]:
    with SkillVendors() as running:
        yield running


def brave(url: str) -> Brave:
    return Brave(Brave.Options(brave_api_url=url), Settings())


def voice(url: str) -> ElevenLabs:
    return ElevenLabs(ElevenLabs.Options(elevenlabs_api_url=url), Settings())


def test_good_keys_are_taken_by_one_question(vendors: SkillVendors) -> None:
    brave(vendors.url).check_key(BRAVE_KEY)
    voice(vendors.url).check_key(VOICE_KEY)
    voice(vendors.url).check_key(SHY_KEY)  # it may speak, and that is what it is for
    assert vendors.asked == [("/res/v1/web/search", BRAVE_KEY), ("/v1/user", VOICE_KEY), ("/v1/user", SHY_KEY)]


@pytest.mark.parametrize(
    ("key", "code"), [("BSAunknownunknown12", "invalid_api_key"), ("BSA\nx-other: 1", "invalid_api_key")]
)
def test_a_key_that_brave_does_not_know_is_refused_for_good(vendors: SkillVendors, key: str, code: str) -> None:
    with pytest.raises(ProviderError) as refused:
        brave(vendors.url).check_key(key)
    assert (refused.value.permanent, refused.value.code) == (True, code)
    assert key not in repr(refused.value)


@pytest.mark.parametrize(("key", "code"), [("sk_nobodysnobodys", "invalid_api_key"), (MUTE_KEY, "restricted_api_key")])
def test_a_key_that_may_not_speak_is_refused_for_good(vendors: SkillVendors, key: str, code: str) -> None:
    with pytest.raises(ProviderError) as refused:
        voice(vendors.url).check_key(key)
    assert (refused.value.permanent, refused.value.code) == (True, code)


@pytest.mark.parametrize("make", [brave, voice])
def test_a_vendor_that_is_down_says_nothing_about_a_key(vendors: SkillVendors, make: type[Brave]) -> None:
    vendors.is_down = True
    for url in (vendors.url, "http://127.0.0.1:9"):
        with pytest.raises(ProviderError) as silent:
            make(url).check_key(BRAVE_KEY)  # type: ignore[arg-type,call-arg]
        assert not silent.value.permanent


@pytest.mark.parametrize("wrong", ["api.search.brave.com", "ftp://x", "https://x/?a=1"])
def test_an_address_that_is_none_is_refused_at_the_start(wrong: str) -> None:
    with pytest.raises(ValueError, match="BRAVE_API_URL"):
        Brave.Options(brave_api_url=wrong)
    with pytest.raises(ValueError, match="ELEVENLABS_API_URL"):
        ElevenLabs.Options(elevenlabs_api_url=wrong)


@pytest.mark.parametrize("make", [brave, voice])
def test_the_gateway_is_told_where_the_key_lies_and_not_the_key(make: type[Brave]) -> None:
    built = make("https://vendor.example/").config("the-secret-itself", "cell")  # type: ignore[arg-type,call-arg]
    text = json.dumps(built.config)
    ((pointer, value),) = built.secrets.items()
    assert value == "the-secret-itself"
    assert "the-secret-itself" not in text
    assert f'{{"source": "file", "provider": "cell", "id": "{pointer}"}}' in text
    assert '"baseUrl": "https://vendor.example"' in text


def test_the_vendors_own_addresses_are_left_to_the_gateway() -> None:
    for vendor in (Brave(Brave.Options(), Settings()), ElevenLabs(ElevenLabs.Options(), Settings())):
        assert "baseUrl" not in json.dumps(vendor.config("k", "cell").config)
