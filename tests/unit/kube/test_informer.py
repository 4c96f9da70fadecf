"""State of an informer when lists, watches and responses to writes arrive out of order."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from maleo_kube.answers import Listing, Object
from maleo_kube.client import Client
from maleo_kube.errors import ApiError, Forbidden, NotFound, Unreachable
from maleo_kube.informer import Informer
from maleo_kube.resources import MISSIONS, Kind


class _Server:
    """Server whose lists show the state at the request, and arrive when `answer` is set."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()
        self.listing = Listing(items=[], resource_version="1")

    async def list(self, *_: Any, **__: Any) -> Listing:
        listing, answer = self.listing, self.answer
        self.asked.set()
        await answer.wait()
        return listing


def _item(version: int, name: str = "watch", uid: str = "a") -> Object:
    return {"metadata": {"namespace": "default", "name": name, "uid": uid, "resourceVersion": str(version)}}


class _World:
    """Informer that knows the objects `known`, with lists that arrive later."""

    def __init__(self, *known: Object) -> None:
        self.server = _Server()
        self.changes: list[tuple[str, str | None]] = []
        self.informer = Informer(cast("Client", self.server), MISSIONS, on_change=self._on_change)
        for item in known:
            self.informer.record(item)
        self.changes.clear()

    async def ask(self, version: int, *listed: Object) -> Callable[[], Awaitable[None]]:
        """Request a list of `listed` at `version`; return a function that lets it arrive."""
        self.server.listing = Listing(items=list(listed), resource_version=str(version))
        self.server.asked.clear()
        answer = self.server.answer = asyncio.Event()
        task = asyncio.create_task(self.informer.relist())
        await self.server.asked.wait()

        async def arrive() -> None:
            answer.set()
            await task

        return arrive

    async def list(self, version: int, *listed: Object) -> None:
        await (await self.ask(version, *listed))()

    def versions(self) -> dict[str, int]:
        return {key: int(item["metadata"]["resourceVersion"]) for key, item in self.informer.items()}

    def _on_change(self, key: str, _old: Object | None, new: Object | None) -> None:
        self.changes.append((key, new["metadata"]["resourceVersion"] if new else None))


async def test_list__reports_new_changed_and_deleted_objects() -> None:
    world = _World(_item(1, "same"), _item(2, "changed"), _item(3, "gone"))
    await world.list(9, _item(1, "same"), _item(8, "changed"), _item(9, "new"))
    assert world.versions() == {"default/same": 1, "default/changed": 8, "default/new": 9}
    assert sorted(world.changes) == [("default/changed", "8"), ("default/gone", None), ("default/new", "9")]


async def test_list__keeps_changes_that_arrived_while_it_was_pending() -> None:
    world = _World(_item(2, "written"), _item(3, "observed"), _item(4, "deleted"))
    arrive = await world.ask(10, _item(2, "written"), _item(3, "observed"), _item(4, "deleted"))
    world.informer.record(_item(11, "written"))
    world.informer.observe(_item(12, "observed"), deleted=False)
    world.informer.observe(_item(13, "deleted"), deleted=True)
    world.informer.record(_item(14, "created"))
    world.changes.clear()
    await arrive()
    assert world.versions() == {"default/written": 11, "default/observed": 12, "default/created": 14}
    assert world.changes == []


async def test_lists_that_arrive_out_of_order__give_the_newest_state() -> None:
    world = _World(_item(2))
    older = await world.ask(10, _item(2), _item(9, "gone"))
    newer = await world.ask(20, _item(15))
    await newer()
    await older()
    assert world.versions() == {"default/watch": 15}


async def test_delete__of_an_older_object_keeps_the_new_one_of_the_same_name() -> None:
    world = _World(_item(5, uid="old"))
    world.informer.record(_item(8, uid="new"))
    world.informer.observe(_item(7, uid="old"), deleted=True)
    assert world.versions() == {"default/watch": 8}


async def test_delete__is_not_undone_by_an_older_answer() -> None:
    world = _World(_item(5))
    world.informer.observe(_item(7), deleted=True)
    world.informer.record(_item(6))
    assert world.versions() == {}
    world.informer.record(_item(8, uid="new"))
    assert world.versions() == {"default/watch": 8}


async def test_older_answer__for_an_object_that_a_newer_list_lacks_is_ignored() -> None:
    world = _World(_item(5))
    await world.list(9)
    world.informer.record(_item(6))
    assert world.versions() == {}


async def test_older_change__is_ignored() -> None:
    world = _World(_item(8))
    world.informer.observe(_item(7), deleted=False)
    assert world.versions() == {"default/watch": 8}


async def test_server_restored_to_an_older_state__is_followed() -> None:
    world = _World()
    await world.list(100, _item(90), _item(95, "later"))
    await world.list(40, _item(30))
    assert world.versions() == {"default/watch": 30}
    world.informer.record(_item(41))
    assert world.versions() == {"default/watch": 41}


class _Namespace:
    """Fake client for one namespace. listing, itself: result or error of a list, and of a get of the namespace."""

    def __init__(self) -> None:
        self.listing: Listing | ApiError = Listing(items=[_item(4)], resource_version="5")
        self.itself: Object | ApiError = {}

    async def list(self, _kind: Kind, *, namespace: str, **_: Any) -> Listing:
        assert namespace == "default"
        if isinstance(self.listing, ApiError):
            raise self.listing
        return self.listing

    async def get(self, _kind: Kind, name: str) -> Object:
        assert name == "default"
        if isinstance(self.itself, ApiError):
            raise self.itself
        return self.itself


_DENIED = Forbidden("missions is forbidden", status=403)
_UNKNOWN = Forbidden("the token has expired", status=401)
_DOWN = Unreachable("no answer")


@pytest.mark.parametrize(
    ("listing", "itself", "is_kept", "is_denied"),
    [
        (_DENIED, {}, True, True),  # the permission was withdrawn, perhaps only briefly
        (_DENIED, NotFound("namespaces default not found", status=404), False, True),
        (_DENIED, _DENIED, True, True),
        (_DENIED, _DOWN, True, True),
        (_UNKNOWN, {}, True, False),
        (_DOWN, {}, True, False),
    ],
)
async def test_denied_list__drops_known_objects_only_if_the_namespace_is_gone(
    listing: ApiError, itself: Object | ApiError, is_kept: bool, is_denied: bool
) -> None:
    server, changes = _Namespace(), list[tuple[str, bool]]()
    informer = Informer(
        cast("Client", server),
        MISSIONS,
        on_change=lambda key, _old, new: changes.append((key, new is not None)),
        namespace="default",
    )
    await informer.relist()
    server.listing, server.itself = listing, itself
    with pytest.raises(type(listing)):
        await informer.relist()
    assert list(informer.store) == (["default/watch"] if is_kept else [])
    assert changes == [("default/watch", True), *([] if is_kept else [("default/watch", False)])]
    assert informer.denied is is_denied
    server.listing = Listing(items=[_item(9, "again")], resource_version="9")
    await informer.relist()
    assert not informer.denied
    assert list(informer.store) == ["default/again"]
