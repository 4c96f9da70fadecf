"""Load generator of the demo and of the tests on real nodes: what it records of each response of a fake entry."""

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
from aiohttp import web

from maleo_demo.load import Case, LoadGenerator

_CORRECT = [1.0, 2.0]


class Entry:
    """Fake entry that returns the answers in order and repeats the last one; None stands for an error."""

    def __init__(self, answers: list[tuple[list[float], dict[str, Any]] | None]) -> None:
        self._answers = self._each(answers)

    @staticmethod
    def _each(answers: list[tuple[list[float], dict[str, Any]] | None]) -> Iterator[Any]:
        yield from answers
        while True:
            yield answers[-1]

    async def infer(self, _request: web.Request) -> web.Response:
        answer = next(self._answers)
        if answer is None:
            return web.json_response({"error": "nothing serves this mission here now"}, status=503)
        data, parameters = answer
        outputs = [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": data}]
        return web.json_response({"model_name": "net", "outputs": outputs, "parameters": parameters})


async def test_load__records_who_answered_and_distinguishes_failed_from_wrong_responses() -> None:
    facts = {"variant": "fp32", "revision": 3}
    answers = [
        (_CORRECT, facts | {"served_by": "gate-1>edge-1"}),
        (_CORRECT, facts | {"served_by": "fallback"}),
        ([1.0, 2.5], facts | {"served_by": "gate-1"}),
        None,
    ]
    app = web.Application()
    app.router.add_post("/v2/models/net/infer", Entry(answers).infer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    expected = np.array([_CORRECT], dtype=np.float32)
    load = LoadGenerator(
        address=site.name.removeprefix("http://"),
        model="net",
        rate=50,
        input_name="x",
        output_name="y",
        cases=[Case(data=np.zeros((1, 2), dtype=np.float32), answers={"fp32": expected})],
    )
    running = asyncio.create_task(load.run())
    await load.until(4)
    load.stop()
    await running
    await runner.cleanup()
    first = sorted(load.samples, key=lambda sample: sample.sent_at)[:4]
    assert [(s.revision, s.served_by) for s in first] == [(3, "gate-1>edge-1"), (3, "fallback"), (3, "gate-1"), (0, "")]
    assert [bool(s.wrong) for s in first] == [False, False, True, False]
    assert [bool(s.error) for s in first] == [False, False, False, True]
    assert "differs by 0.5 from the unpartitioned fp32" in first[2].wrong
