"""HTTP server of a slot: the Open Inference Protocol for clients at the entry, and by version for other slots."""

import asyncio
import hmac
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Any, Final, TypeVar

from aiohttp import web

from maleo_runtime import metadata
from maleo_runtime.admission import Admission, Busy
from maleo_runtime.metadata import Statistics
from maleo_runtime.peer_client import TIMEOUT_HEADER, PeerLost
from maleo_runtime.protocol import HEADER_LENGTH, BadRequest, Request, body_limit, parse_request, write_response
from maleo_runtime.request_body import WORKER, BodyTimeout, TooLarge, UnsupportedEncoding, receive, transfer_timeout
from maleo_runtime.revision_store import RevisionStore
from maleo_runtime.service import InferenceResult, NotServing, NotWarm, Service
from maleo_runtime.stage import InputMismatch, StageFailed
from maleo_wire.messages import SlotDesired, TensorSpec

_Result = TypeVar("_Result")
_MAX_VERSION_DIGITS: Final = 17
_RETRY_AFTER_S: Final = "1"
_MAX_INLINE_BYTES: Final = 16 * 1024  # bytes of JSON that are processed faster than they are handed to another thread
_log = logging.getLogger(__name__)


class NotFound(Exception):
    """The model or version is not served here. HTTP 404."""


_STATUS: Final[tuple[tuple[type[Exception], int], ...]] = (
    (BadRequest, 400),
    (InputMismatch, 400),
    (NotFound, 404),
    (BodyTimeout, 408),
    (NotWarm, 409),
    (TooLarge, 413),
    (UnsupportedEncoding, 415),
    (Busy, 429),
    (StageFailed, 500),
    (PeerLost, 502),
    (NotServing, 503),
)


class Server:
    """HTTP front end. While `draining`, readiness fails; requests are answered, and each closes its connection."""

    def __init__(self, store: RevisionStore, service: Service, *, identity: str) -> None:
        self.draining = False
        self.idle = asyncio.Event()
        self.idle.set()
        self._in_flight = 0
        self._store = store
        self._service = service
        self._admission = Admission()
        self._statistics = Statistics()
        self._authorization = f"Bearer {identity}".encode()

    def make_app(self) -> web.Application:
        """Return the application with all routes of the protocol."""
        app = web.Application(middlewares=[self._answer_errors])
        app.router.add_get("/v2", self._describe_server)
        app.router.add_get("/v2/health/live", self._live)
        app.router.add_get("/v2/health/ready", self._ready)
        app.router.add_get("/v2/models", self._list_models)
        app.router.add_post("/v2/repository/index", self._list_models)
        for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            app.router.add_get(path, self._describe_model)
            app.router.add_get(f"{path}/ready", self._model_ready)
            app.router.add_get(f"{path}/config", self._describe_config)
            app.router.add_get(f"{path}/stats", self._describe_statistics)
            app.router.add_post(f"{path}/infer", self._infer, expect_handler=_handle_expect)
        return app

    # ------------------------------------------------------------------------------------------------ handlers

    async def _live(self, _request: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def _ready(self, _request: web.Request) -> web.Response:
        """Report ready once a desired state is known: an entry must be reachable before a revision is active."""
        ready = self._store.desired is not None and not self.draining
        return web.json_response({"ready": ready}, status=200 if ready else 503)

    async def _describe_server(self, _request: web.Request) -> web.Response:
        extensions = ["binary_tensor_data", "model_configuration", "statistics"]
        return web.json_response({"name": "maleo-slot", "version": "1", "extensions": extensions})

    async def _list_models(self, _request: web.Request) -> web.Response:
        """Return the repository index in Triton's form: the model of this mission."""
        desired, active = self._store.desired, self._store.active
        if desired is None or not desired.entry:
            return web.json_response([])
        state = {"state": "READY", "reason": ""} if active is not None else {"state": "LOADING", "reason": ""}
        version = {"version": str(active)} if active is not None else {}
        return web.json_response([{"name": desired.model, **version, **state}])

    async def _model_ready(self, request: web.Request) -> web.Response:
        self._find_model(request)
        ready = self._store.active is not None and not self.draining
        return web.json_response({"name": request.match_info["model"], "ready": ready}, status=200 if ready else 503)

    async def _describe_model(self, request: web.Request) -> web.Response:
        return web.json_response(metadata.describe(self._find_model(request), self._store.active))

    async def _describe_config(self, request: web.Request) -> web.Response:
        return web.json_response(metadata.describe_config(self._find_model(request)))

    async def _describe_statistics(self, request: web.Request) -> web.Response:
        desired = self._find_model(request)
        return web.json_response(self._statistics.describe(desired.model, self._store.active))

    async def _infer(self, request: web.Request) -> web.StreamResponse:
        is_peer, version = self._is_peer(request), _version(request)
        if is_peer and version is not None:  # slots name the revision: the mission's model may be changing meanwhile
            return await self._serve(request, self._store.request_tensors(version), version)
        desired = self._find_model(request)
        start = time.perf_counter()
        try:
            response = await self._serve(request, desired.inputs, None)
        except Exception:
            self._statistics.record(self._store.active, success=False, seconds=time.perf_counter() - start)
            raise
        self._statistics.record(self._store.active, success=True, seconds=time.perf_counter() - start)
        return response

    # ------------------------------------------------------------------------------------------------ inside

    async def _serve(
        self, request: web.Request, inputs: tuple[TensorSpec, ...] | None, revision: int | None
    ) -> web.StreamResponse:
        """Receive, compute and answer one request. `revision`: set if another slot calls, None for a client."""
        desired, header_length = self._store.desired, request.headers.get(HEADER_LENGTH)
        if desired is None or inputs is None:
            raise NotWarm(f"revision {revision} is not warm; warm revisions: {list(self._store.warm)}")
        limit = body_limit(inputs, binary=header_length is not None, max_bytes=desired.policy.max_body_bytes)
        with self._admission.reserve(limit) as reservation:
            body = await receive(request, limit, reservation)
            with self._admission.count_request():
                parsed = await _off_loop(len(body), header_length, parse_request, body, header_length)
                del body
                reservation.resize(sum(array.nbytes for array in parsed.tensors.values()))
                result = await self._compute(request, parsed, revision)
                binary = all(parsed.binary.get(name, parsed.default_binary) for name in result.outputs)
                size = sum(array.nbytes for array in result.outputs.values())
                write = partial(
                    write_response,
                    parsed,
                    result.outputs,
                    model=desired.model,
                    version=result.revision,
                    parameters=_parameters(result),
                )
                written = await _off_loop(size, "" if binary else None, write)
        return web.Response(body=written.data, headers=written.headers)

    async def _compute(self, request: web.Request, parsed: Request, revision: int | None) -> InferenceResult:
        if revision is None:
            return await self._service.serve_entry(parsed.tensors)
        return await self._service.serve_part(
            revision, parsed.tensors, allowed_s=_seconds(request.headers.get(TIMEOUT_HEADER))
        )

    def _is_peer(self, request: web.Request) -> bool:
        return hmac.compare_digest(request.headers.get("Authorization", "").encode(), self._authorization)

    def _find_model(self, request: web.Request) -> SlotDesired:
        """Return the desired state that serves the path's model and version.

        Raise NotFound, or NotServing before the slot has a desired state.
        """
        desired, version, model = self._store.desired, _version(request), request.match_info["model"]
        if desired is None:
            raise NotServing("no model is being served yet")
        if not desired.entry:
            raise NotFound("this slot serves a partition only: send the request to the entry slot of the mission")
        if model != desired.model:
            raise NotFound(f"unknown model {model[:100]!r}: this slot serves {desired.model!r}")
        if version is not None and version != self._store.active:
            raise NotFound(f"unknown version {version}: the active version is {self._store.active}; omit the version")
        return desired

    def _describe_endpoints(self) -> str:
        desired = self._store.desired
        if desired is None or not desired.entry:
            return "this slot serves /v2 and /v2/health/{live,ready}"
        model = f"/v2/models/{desired.model}"
        return f"this slot serves /v2, /v2/health/{{live,ready}}, /v2/models and {model}[/{{ready,infer,config,stats}}]"

    @web.middleware
    async def _answer_errors(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self._in_flight += 1
        self.idle.clear()
        try:
            response = await self._handle(request, handler)
            if self.draining:
                response.force_close()
            await _send(request, response)
        finally:
            self._in_flight -= 1
            if self._in_flight == 0:
                self.idle.set()
        return response

    async def _handle(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            message = f"{request.method} {request.path[:200]}: {error.reason}; {self._describe_endpoints()}"
            response = _error_response(error.status, message)
            response.headers.update({name: error.headers[name] for name in ("Allow",) if name in error.headers})
            return response
        except Exception as error:  # noqa: BLE001 - the client gets the protocol's error object for every failure
            return _error_response(*_describe_error(error))


def _version(request: web.Request) -> int | None:
    version = request.match_info.get("version")
    if version is not None and not (version.isascii() and version.isdigit() and len(version) <= _MAX_VERSION_DIGITS):
        raise NotFound(f"unknown version {version[:40]!r}: versions are revision numbers")
    return int(version) if version is not None else None


def _seconds(text: str | None) -> float | None:
    """Return the seconds that the calling slot waits, None if the header is missing or invalid."""
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if 0 < seconds < math.inf else None


async def _off_loop(size: int, header_length: str | None, work: Callable[..., _Result], *args: Any) -> _Result:
    """Run `work`, in the body thread for large JSON; binary data is only viewed, not copied, and runs inline."""
    if size <= _MAX_INLINE_BYTES or header_length is not None:
        return work(*args)
    return await asyncio.get_running_loop().run_in_executor(WORKER, work, *args)


async def _handle_expect(request: web.Request) -> None:
    if request.headers.get("Expect", "").lower() != "100-continue":
        raise web.HTTPExpectationFailed(
            text=json.dumps({"error": "Expect: only 100-continue is supported"}), content_type="application/json"
        )
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")


async def _send(request: web.Request, response: web.StreamResponse) -> None:
    """Send the answer; abort the connection of a client that does not receive it in time."""
    try:
        async with asyncio.timeout(transfer_timeout(response.content_length or 0)):
            await response.prepare(request)
            await response.write_eof()
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()


def _parameters(result: InferenceResult) -> dict[str, Any]:
    return {
        "variant": result.variant,
        "revision": result.revision,
        "served_by": result.served_by,
        "inside_s": result.inside_s,
    }


def _error_response(status: int, message: str) -> web.Response:
    headers = {"Retry-After": _RETRY_AFTER_S} if status == HTTPStatus.TOO_MANY_REQUESTS else None
    return web.json_response({"error": message}, status=status, headers=headers)


def _describe_error(error: Exception) -> tuple[int, str]:
    status = next((status for error_class, status in _STATUS if isinstance(error, error_class)), None)
    if status is not None:
        return status, str(error)
    _log.error("a request failed because of an internal error", exc_info=error)
    return 500, f"internal error: {type(error).__name__}"
