"""The slot's HTTP server: the Open Inference Protocol for clients at the entry, the same by version for other slots."""

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from maleo_runtime.hop import PartnerLost
from maleo_runtime.host import Host
from maleo_runtime.protocol import HEADER_LENGTH, BadRequest, Body, parse_request, write_response
from maleo_runtime.service import Answer, NotServing, NotWarm, Service
from maleo_runtime.stage import Unfit
from maleo_wire.messages import TensorSpec

_MOST_HEADER: Final = 64 * 1024 * 1024
_CHUNK: Final = 1 << 20
_MOST_DIGITS: Final = 18


class TooLarge(Exception):
    """HTTP 413."""


class Unknown(Exception):
    """No such model or version here. HTTP 404."""


_STATUS: Final[dict[type[Exception], int]] = {
    BadRequest: 400,
    Unfit: 400,
    Unknown: 404,
    NotWarm: 409,
    TooLarge: 413,
    PartnerLost: 502,
    NotServing: 503,
}


class Server:
    """`draining`: readiness fails, requests are still answered, and connections close after them."""

    def __init__(self, host: Host, service: Service, *, identity: str) -> None:
        self.draining = False
        self.idle = asyncio.Event()
        self.idle.set()
        self._in_flight = 0
        self._host = host
        self._service = service
        self._authorization = f"Bearer {identity}".encode()

    def make_app(self) -> web.Application:
        app = web.Application(middlewares=[self._answer_errors], client_max_size=_MOST_HEADER)
        app.router.add_get("/v2", self._describe_server)
        app.router.add_get("/v2/health/live", self._live)
        app.router.add_get("/v2/health/ready", self._ready)
        for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            app.router.add_get(path, self._describe_model)
            app.router.add_get(f"{path}/ready", self._model_ready)
            app.router.add_post(f"{path}/infer", self._infer)
        return app

    # ------------------------------------------------------------------------------------------------ handlers

    async def _live(self, _request: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def _ready(self, _request: web.Request) -> web.Response:
        """Ready is who has been told what to be: an entry must be reachable before its first revision is active."""
        ready = self._host.desired is not None and not self.draining
        return web.json_response({"ready": ready}, status=200 if ready else 503)

    async def _describe_server(self, _request: web.Request) -> web.Response:
        return web.json_response({"name": "maleo-slot", "version": "1", "extensions": ["binary_tensor_data"]})

    async def _model_ready(self, request: web.Request) -> web.Response:
        self._check_model(request)
        ready = self._host.active is not None and not self.draining
        return web.json_response({"name": request.match_info["model"], "ready": ready}, status=200 if ready else 503)

    async def _describe_model(self, request: web.Request) -> web.Response:
        self._check_model(request)
        desired = self._host.desired
        assert desired is not None
        return web.json_response(
            {
                "name": desired.model,
                "versions": [str(revision) for revision in self._host.warm],
                "platform": "maleo_onnx",
                "inputs": [_describe(spec) for spec in desired.inputs],
                "outputs": [_describe(spec) for spec in desired.outputs],
            }
        )

    async def _infer(self, request: web.Request) -> web.Response:
        desired, version = self._host.desired, _version(request)
        partner = hmac.compare_digest(request.headers.get("Authorization", "").encode(), self._authorization)
        if not (partner and version is not None):
            self._check_model(request)  # partners name the revision: a mission may be changing its model just now
        if desired is None or not (partner or desired.entry):
            raise Unknown("this slot holds a part of a mission: ask the mission's entry")
        body = await _read(request, desired.policy.max_body_bytes)
        parsed = parse_request(body, request.headers.get(HEADER_LENGTH))
        if partner and version is not None:
            answer = await self._service.serve_part(version, parsed.tensors)
        else:
            self._check_version(version)
            answer = await self._service.serve_entry(parsed.tensors)
        written = write_response(
            parsed, answer.outputs, model=desired.model, version=answer.revision, parameters=_parameters(answer)
        )
        return _respond(written)

    # ------------------------------------------------------------------------------------------------ inside

    def _check_model(self, request: web.Request) -> None:
        _version(request)
        served = self._host.desired.model if self._host.desired else ""
        if request.match_info["model"] != served:
            raise Unknown(f"model {request.match_info['model']!r} is not served here; {served!r} is")

    def _check_version(self, version: int | None) -> None:
        if version is not None and version != self._host.active:
            raise Unknown(f"version {version} is not served here; {self._host.active} is, ask without a version")

    @web.middleware
    async def _answer_errors(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self._in_flight += 1
        self.idle.clear()
        try:
            response = await handler(request)
        except tuple(_STATUS) as error:
            response = _refuse(_STATUS[type(error)], str(error))
        except web.HTTPException as error:
            response = _refuse(error.status, error.reason)
        finally:
            self._in_flight -= 1
            if self._in_flight == 0:
                self.idle.set()
        if self.draining:
            response.force_close()
        return response


def _version(request: web.Request) -> int | None:
    version = request.match_info.get("version")
    if version is not None and not (version.isascii() and version.isdigit() and len(version) < _MOST_DIGITS):
        raise Unknown(f"version {version!r} is not served here; versions are revision numbers")
    return int(version) if version is not None else None


async def _read(request: web.Request, most: int) -> bytes:
    """The body, never more than `most` bytes of it."""
    if (request.content_length or 0) > most:
        raise TooLarge(f"the body has {request.content_length} bytes, at most {most} are taken")
    chunks, size = [], 0
    async for chunk in request.content.iter_chunked(_CHUNK):
        size += len(chunk)
        if size > most:
            raise TooLarge(f"the body has more than {most} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _parameters(answer: Answer) -> dict[str, Any]:
    return {
        "variant": answer.variant,
        "revision": answer.revision,
        "served_by": answer.served_by,
        "inside_s": answer.inside_s,
    }


def _respond(body: Body) -> web.Response:
    return web.Response(body=body.data, headers=body.headers)


def _refuse(status: int, message: str) -> web.Response:
    return web.Response(status=status, text=json.dumps({"error": message}), content_type="application/json")


def _describe(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
