"""Authentication of agents by TokenReview, rate-limited for peers that present invalid tokens."""

import asyncio
import hashlib
import time
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from maleo_kube.client import Client
from maleo_kube.errors import ApiError
from maleo_kube.resources import TOKEN_REVIEWS

_CLAIM_PREFIX: Final = "authentication.kubernetes.io/"
_REQUIRED_CLAIMS: Final = ("node-name", "pod-name", "pod-uid")
_CACHE_S: Final = 60.0
_NEGATIVE_CACHE_S: Final = 10.0
_MAX_CACHED: Final = 4096
_MAX_TOKEN_LENGTH: Final = 16 * 1024
_MAX_REJECTIONS: Final = 10  # reviews with a negative result per minute and peer
_MINUTE_S: Final = 60.0
_MAX_CONCURRENT: Final = 8
_MAX_WAITING: Final = 256


class Denied(Exception):
    """The peer is rejected; `status` is the HTTP status of the response."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class _CachedReview:
    node: str  # empty: rejected
    until: float


@dataclass(slots=True)
class _Rejections:
    count: int
    until: float


class TokenAuthenticator:
    """Authenticator for tokens of `account` (`system:serviceaccount:<namespace>:<name>`) bound to a pod on a node.

    A token whose own claims rule it out is rejected without a review; claims alone never accept a token. Expiry is left
    to the API server, whose clock is authoritative.
    """

    def __init__(self, client: Client, *, audience: str, account: str) -> None:
        self._client = client
        self._audience = audience
        self._account = account
        self._cache: dict[str, _CachedReview] = {}
        self._rejections: dict[str, _Rejections] = {}
        self._waiting = 0
        self._concurrent_reviews = asyncio.Semaphore(_MAX_CONCURRENT)

    async def node_of(self, token: str, *, peer: str) -> str:
        """Return the node of the token's pod. Raise Denied if it is not an agent's token or cannot be reviewed."""
        if not self._claims_match(token):
            raise _unauthorized()
        cached = self._cached_node(token)
        node = cached if cached is not None else await self._review_limited(token, peer)
        if not node:
            raise _unauthorized()
        return node

    async def is_still_valid(self, token: str, node: str) -> bool:
        """Review the token of an open stream again. Return True also if the API server does not answer."""
        try:
            return await self._review(token) == node
        except ApiError:
            return True

    def _claims_match(self, token: str) -> bool:
        """Return True if the unverified claims are those of an agent."""
        claims = _read_claims(token)
        audiences = claims.get("aud")
        has_audience = self._audience in (audiences if isinstance(audiences, list) else [audiences])
        bound = claims.get("kubernetes.io")
        return (
            has_audience
            and claims.get("sub") == self._account
            and isinstance(bound, dict)
            and {"pod", "node"} <= set(bound)
        )

    async def _review_limited(self, token: str, peer: str) -> str:
        if self._waiting >= _MAX_WAITING:
            raise Denied(503, "too many tokens are waiting for review: try again")
        self._waiting += 1
        try:
            async with self._concurrent_reviews:
                cached = self._cached_node(token)  # another connection may have reviewed the same token meanwhile
                return cached if cached is not None else await self._review_for_peer(token, peer)
        finally:
            self._waiting -= 1

    async def _review_for_peer(self, token: str, peer: str) -> str:
        now = time.monotonic()
        rejections = self._rejections.get(peer)
        if rejections is not None and rejections.until <= now:
            del self._rejections[peer]
        elif rejections is not None and rejections.count >= _MAX_REJECTIONS:
            raise Denied(429, "too many tokens of this peer were rejected: try again in a minute")
        try:
            node = await self._review(token)
        except ApiError as error:
            raise Denied(503, "the API server did not review the token: try again") from error
        if not node:
            _evict_oldest(self._rejections)
            self._rejections.setdefault(peer, _Rejections(count=0, until=now + _MINUTE_S)).count += 1
        return node

    async def _review(self, token: str) -> str:
        """Return the node of a valid token, empty if it is invalid. Raise ApiError without an answer."""
        body = {
            "apiVersion": TOKEN_REVIEWS.api_version,
            "kind": TOKEN_REVIEWS.kind,
            "metadata": {},
            "spec": {"token": token, "audiences": [self._audience]},
        }
        node = self._node_in((await self._client.create(TOKEN_REVIEWS, body))["status"])
        _evict_oldest(self._cache)
        ttl_s = _CACHE_S if node else _NEGATIVE_CACHE_S
        self._cache[_digest(token)] = _CachedReview(node=node, until=time.monotonic() + ttl_s)
        return node

    def _node_in(self, status: Mapping[str, Any]) -> str:
        user = status.get("user", {})
        if not status.get("authenticated") or self._audience not in status.get("audiences", []):
            return ""
        claims = [user.get("extra", {}).get(f"{_CLAIM_PREFIX}{name}", []) for name in _REQUIRED_CLAIMS]
        if user.get("username") != self._account or any(len(values) != 1 for values in claims):
            return ""
        return str(claims[0][0])

    def _cached_node(self, token: str) -> str | None:
        """Return the cached result of the last review, None if it has expired or there is none."""
        cached = self._cache.get(_digest(token))
        return cached.node if cached is not None and cached.until > time.monotonic() else None


def _read_claims(token: str) -> dict[str, Any]:
    """Return the unverified payload of a JSON Web Token, empty if it is malformed."""
    parts = token.split(".")
    if not token.isascii() or len(token) > _MAX_TOKEN_LENGTH or len(parts) != 3:  # noqa: PLR2004 - header, payload, signature
        return {}
    try:
        return msgspec.json.decode(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)), type=dict[str, Any])
    except (ValueError, RecursionError):
        return {}


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _unauthorized() -> Denied:
    return Denied(401, "a token of the agent's ServiceAccount that is bound to its pod is required")


def _evict_oldest(memory: dict[str, Any]) -> None:
    """Evict the oldest entry if the memory is full."""
    if len(memory) >= _MAX_CACHED:
        del memory[next(iter(memory))]
