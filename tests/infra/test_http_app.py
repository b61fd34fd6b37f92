"""What every route of the API has in common: problems, limits, health, and how the server ends."""

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx2
import pytest
import pytest_asyncio
from fastapi import APIRouter, FastAPI, Request
from pydantic import BaseModel

from infra.http.app import create_app
from infra.http.health import health_router
from infra.http.server import listen, serve, url_of
from schemas.errors import (
    AppendError,
    ConfigurationError,
    NotFoundError,
    RecordTooLargeError,
    RefusedError,
    UnavailableError,
)
from tests.infra.served import raw_request, served

LIMIT = 100_000
SLOW_S = 0.4
SECRET = "hush-hush-hush"

ERRORS = {
    "down": (UnavailableError(f"Kafka at {SECRET} does not answer"), 503, "unavailable"),
    "missing": (NotFoundError("there is no agent 'x'"), 404, "not-found"),
    "refused": (RefusedError("it is not active", reason="nothing_to_do"), 409, "nothing-to-do"),
    "large": (RecordTooLargeError("too large"), 413, "too-large"),
    "other": (AppendError(SECRET), 500, "internal"),
}


class Thing(BaseModel):
    count: int
    password: str


def make_app(gate: asyncio.Event | None = None) -> FastAPI:
    router = APIRouter()

    @router.post("/things")
    async def things(thing: Thing) -> dict[str, int]:
        return {"count": thing.count}

    @router.post("/bytes")
    async def count(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    @router.get("/errors/{name}")
    async def error(name: str) -> None:
        raise ERRORS[name][0]

    @router.get("/wait")
    async def wait() -> dict[str, str]:
        assert gate is not None
        started.set()
        await gate.wait()
        return {"status": "done"}

    started = asyncio.Event()
    app = create_app([router, health_router({})], body_bytes=LIMIT, body_s=SLOW_S, at_once=2)
    app.state.started = started
    return app


@pytest_asyncio.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with served(make_app()) as client:
        yield client


def problem(answer: httpx2.Response, status: int, word: str) -> str:
    """The sentence of a problem, which is what it should be."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert (told["status"], told["type"]) == (status, f"urn:dramac:problem:{word}")
    assert told["title"]
    assert SECRET not in answer.text
    return str(told["detail"])


@pytest.mark.parametrize("path", ["/", "/nothing", "/things/", "/hooks", "/docs", "/%00", "/..%2f..%2fetc/passwd"])
async def test_what_is_not_there_is_a_problem(client: httpx2.AsyncClient, path: str) -> None:
    assert problem(await client.get(path), 404, "not-found") == "there is nothing at this address"


async def test_a_method_that_is_not_there_is_a_problem_that_names_the_others(client: httpx2.AsyncClient) -> None:
    answer = await client.delete("/things")
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "POST"


async def test_what_does_not_validate_is_a_problem_that_names_the_field_and_not_its_content(
    client: httpx2.AsyncClient,
) -> None:
    detail = problem(await client.post("/things", json={"count": SECRET, "password": [SECRET]}), 422, "invalid-request")
    assert "body.count" in detail
    assert "body.password" in detail
    wrong = {"content-type": "application/json"}
    problem(await client.post("/things", content=b'{"count": hush-hush-hush', headers=wrong), 422, "invalid-request")
    problem(await client.post("/things", content=b"\xff\xfe", headers=wrong), 422, "invalid-request")


@pytest.mark.parametrize("name", ERRORS)
async def test_our_errors_are_problems(client: httpx2.AsyncClient, name: str) -> None:
    _, status, word = ERRORS[name]
    answer = await client.get(f"/errors/{name}")
    problem(answer, status, word)
    assert ("retry-after" in answer.headers) == (status == 503)


async def test_a_bug_is_a_problem_that_tells_nothing(client: httpx2.AsyncClient) -> None:
    assert "not with what you sent" in problem(await client.get("/errors/KeyError"), 500, "internal")


@pytest.mark.parametrize("path", ["/bytes", "/things"])
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_over_the_limit_is_refused_and_its_sender_hears_it(
    client: httpx2.AsyncClient, path: str, is_chunked: bool
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 100_000

    content = chunks() if is_chunked else b"x" * 10_000_000
    answer = await client.post(path, content=content, headers={"content-type": "application/json"})
    assert problem(answer, 413, "too-large") == f"a body may have {LIMIT} bytes"
    assert (await client.post("/bytes", content=b"x" * LIMIT)).json() == {"bytes": LIMIT}
    problem(await client.post("/bytes", content=b"x" * (LIMIT + 1)), 413, "too-large")


async def test_who_asks_first_or_announces_a_flood_is_refused_before_it_sends(client: httpx2.AsyncClient) -> None:
    for headers in (b"Content-Length: 200000\r\nExpect: 100-continue\r\n", b"Content-Length: 99999999999\r\n"):
        answer = await raw_request(client, b"POST /bytes HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"application/problem+json" in answer


async def test_a_body_that_does_not_come_is_not_waited_for(client: httpx2.AsyncClient) -> None:
    head = b"POST /bytes HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
    assert (await raw_request(client, head)).startswith(b"HTTP/1.1 408 ")
    # Byte after byte, each in good time, all of them not.
    assert (await raw_request(client, head, *[b"x"] * 8, pause_s=SLOW_S / 5)).startswith(b"HTTP/1.1 408 ")
    assert (await client.post("/bytes", content=b"x")).status_code == 200


async def test_more_requests_than_can_be_served_are_told_to_come_again() -> None:
    gate = asyncio.Event()
    async with served(make_app(gate)) as client:
        async with asyncio.TaskGroup() as group:
            served_ones = [group.create_task(client.get("/wait")) for _ in range(2)]
            async with asyncio.timeout(10):
                while (answer := await client.get("/health/live")).status_code == 200:  # until both are there
                    pass
            problem(answer, 503, "busy")
            assert answer.headers["retry-after"] == "1"
            gate.set()
        assert [task.result().status_code for task in served_ones] == [200, 200]
        assert (await client.get("/health/live")).json() == {"status": "ok"}


@pytest.mark.parametrize(
    "said", [b"", b"POST /bytes HTTP/1.1\r\nHost: a\r\n", b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\nG"]
)
async def test_who_never_ends_a_request_is_not_listened_to_for_ever(said: bytes) -> None:
    async with served(make_app(), silent_s=0.2) as client:
        await raw_request(client, said, *[b"X-More: x\r\n"] * 200, pause_s=0.05)  # it ends when the connection does


async def test_a_request_that_takes_long_is_no_silence() -> None:
    gate = asyncio.Event()
    async with served(make_app(gate), silent_s=0.05) as client:
        waiting = asyncio.create_task(client.get("/wait"))
        done, _ = await asyncio.wait([waiting], timeout=0.5)
        gate.set()
        assert not done
        assert (await waiting).json() == {"status": "done"}


async def test_a_request_under_way_ends_before_the_server_does() -> None:
    gate = asyncio.Event()
    app = make_app(gate)
    listening = listen("127.0.0.1", 0)
    url = url_of(listening)
    serving = asyncio.create_task(serve(app, listening))
    async with httpx2.AsyncClient(trust_env=False) as client:
        waiting = asyncio.create_task(client.get(url + "/wait"))
        await app.state.started.wait()
        serving.cancel()
        loop = asyncio.get_running_loop()
        loop.call_later(0.3, gate.set)
        assert (await waiting).json() == {"status": "done"}
        with pytest.raises(asyncio.CancelledError):
            await serving
        with pytest.raises(httpx2.ConnectError):
            await client.get(url + "/health/live")


def test_a_port_that_is_taken_is_one_clear_line() -> None:
    said = r"can't listen at 127\.0\.0\.1:\d+ \(.*\): set DRAMAC_API_HOST"
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigurationError, match=said):
        listen("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(ConfigurationError, match="set DRAMAC_API_HOST"):
        listen("no.such.host.invalid", 0)


async def test_ready_is_who_has_all_its_parts() -> None:
    hanging = asyncio.Event()
    broken: set[str] = set()

    async def check(name: str) -> None:
        if name in broken:
            raise UnavailableError(SECRET)

    checks = {"kafka": lambda: check("kafka"), "postgres": lambda: check("postgres")}
    async with served(create_app([health_router(checks)])) as client:
        answer = await client.get("/health/ready")
        assert (answer.status_code, answer.json()["status"]) == (200, "ok")
        assert {part["status"] for part in answer.json()["parts"].values()} == {"ok"}
        broken.add("kafka")
        answer = await client.get("/health/ready")
        assert answer.status_code == 503
        assert answer.json()["parts"]["kafka"] == {"status": "unavailable"}
        assert answer.json()["parts"]["postgres"]["status"] == "ok"
        assert (await client.get("/health/live")).status_code == 200
    async with served(create_app([health_router({"kafka": hanging.wait})])) as client:
        assert (await client.get("/health/ready")).status_code == 503


async def test_the_api_describes_itself_and_shows_no_secret(client: httpx2.AsyncClient) -> None:
    assert "/things" in (await client.get("/openapi.json")).json()["paths"]
