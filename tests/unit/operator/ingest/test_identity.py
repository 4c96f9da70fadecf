"""Which tokens are reviewed, and how often, by a fake API server that counts reviews."""

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest

from maleo_kube.client import Client
from maleo_kube.errors import Unreachable
from maleo_operator.ingest.identity import Denied, TokenAuthenticator

ACCOUNT = "system:serviceaccount:maleo-system:maleo-agent"
AUDIENCE = "maleo-operator"
BOUND = {"node": {"name": "drone-1"}, "pod": {"name": "agent-x", "uid": "u"}}
EXTRA = {
    "authentication.kubernetes.io/node-name": ["drone-1"],
    "authentication.kubernetes.io/pod-name": ["agent-x"],
    "authentication.kubernetes.io/pod-uid": ["u"],
}


def _token(signature: str = "good", **changes: Any) -> str:
    claims = {"aud": [AUDIENCE], "sub": ACCOUNT, "kubernetes.io": BOUND} | changes
    payload = urlsafe_b64encode(msgspec.json.encode(claims)).decode().rstrip("=")
    return f"e30.{payload}.{signature}"


class ApiServer:
    """Fake API server: tokens with the signature `good` belong to `user`, all others are invalid."""

    def __init__(self) -> None:
        self.reviews = 0
        self.user: dict[str, Any] = {"username": ACCOUNT, "extra": EXTRA}
        self.before_review: Callable[[], None] = lambda: None
        self.authenticator = TokenAuthenticator(cast("Client", self), audience=AUDIENCE, account=ACCOUNT)

    async def create(self, _kind: object, body: dict[str, Any]) -> dict[str, Any]:
        self.reviews += 1
        self.before_review()
        await asyncio.sleep(0)
        if not body["spec"]["token"].endswith(".good"):
            return {"status": {"error": "invalid bearer token"}}
        return {"status": {"authenticated": True, "audiences": body["spec"]["audiences"], "user": self.user}}

    async def authenticate(self, token: str, peer: str = "10.0.0.1") -> str | int:
        try:
            return await self.authenticator.node_of(token, peer=peer)
        except Denied as denied:
            return denied.status


async def test_agent_token__identifies_its_node_and_is_reviewed_once() -> None:
    api = ApiServer()
    assert [await api.authenticate(_token()) for _ in range(3)] == ["drone-1"] * 3
    assert api.reviews == 1


@pytest.mark.parametrize(
    "user",
    [
        {"username": "system:serviceaccount:tenant:maleo-agent", "extra": EXTRA},
        {"username": "system:serviceaccount:maleo-system:default", "extra": EXTRA},
        {"username": ACCOUNT},
        *({"username": ACCOUNT, "extra": {k: v for k, v in EXTRA.items() if k != left_out}} for left_out in EXTRA),
        {"username": ACCOUNT, "extra": EXTRA | {"authentication.kubernetes.io/node-name": ["drone-1", "drone-2"]}},
    ],
)
async def test_review__decides_whatever_the_claims_say(user: dict[str, Any]) -> None:
    api = ApiServer()
    api.user = user
    assert await api.authenticate(_token()) == 401


@pytest.mark.parametrize(
    "token",
    [
        "", "a.b", "a.b.c", "e30.e30.good", "e30.W10.good", f"e30.{'W1tb' * 2500}.good", "e30.\udc80.good",
        _token(aud=["another"]), _token(aud="another"), _token(aud=None), _token(sub="system:serviceaccount:a:default"),
        _token(**{"kubernetes.io": {"node": {"name": "drone-1"}}}), _token(**{"kubernetes.io": None}),
        _token(padding="x" * 20_000),
    ],
)  # fmt: skip
async def test_token_that_cannot_be_an_agents__is_rejected_without_a_review(token: str) -> None:
    api = ApiServer()
    assert await api.authenticate(token) == 401
    assert api.reviews == 0


async def test_forged_tokens_of_one_peer__cost_few_reviews_and_others_are_served() -> None:
    api = ApiServer()
    answers = await asyncio.gather(*(api.authenticate(_token(f"forged{i}"), peer="10.0.0.66") for i in range(200)))
    assert set(answers) == {401, 429}
    assert api.reviews <= 20
    assert await api.authenticate(_token(), peer="10.0.0.1") == "drone-1"


async def test_rejected_token__is_not_reviewed_again() -> None:
    api = ApiServer()
    assert [await api.authenticate(_token("forged")) for _ in range(50)] == [401] * 50
    assert api.reviews == 1


async def test_valid_tokens_from_one_address__are_all_reviewed() -> None:
    """Many nodes may share one address: valid tokens do not count towards its limit."""
    api = ApiServer()
    answers = await asyncio.gather(*(api.authenticate(_token(jti=str(i))) for i in range(100)))
    assert answers == ["drone-1"] * 100


async def test_too_many_concurrent_reviews__are_answered_with_503() -> None:
    api = ApiServer()
    answers = await asyncio.gather(*(api.authenticate(_token(jti=str(i))) for i in range(300)))
    assert answers.count(503) == 300 - 256


async def test_unreachable_api_server__rejects_temporarily_and_keeps_open_streams() -> None:
    api = ApiServer()

    def fail() -> None:
        raise Unreachable("no answer")

    api.before_review = fail
    assert await api.authenticate(_token()) == 503
    assert await api.authenticator.is_still_valid(_token(), "drone-1")
    api.before_review = lambda: None
    assert await api.authenticate(_token()) == "drone-1"


async def test_token_of_an_open_stream__is_reviewed_again() -> None:
    api = ApiServer()
    assert await api.authenticate(_token()) == "drone-1"
    api.user = {"username": ""}
    assert not await api.authenticator.is_still_valid(_token(), "drone-1")
    assert await api.authenticate(_token()) == 401, "its cached review is gone"
