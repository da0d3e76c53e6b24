"""What a server has to survive: floods, slow and broken clients, and its own end.

Runs in the worker, whose model is a `benchmarks.contenders.http_servers.HttpServer`. Each function
returns plain numbers. Everything is bounded in count and time, and goes to the worker's own server.
"""

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing
from typing import Any

import numpy as np

from benchmarks.harness.http_client import HttpClient
from benchmarks.harness.load_generator import poisson_arrivals

__all__ = [
    "health_under_load",
    "memory_growth",
    "refusals",
    "terminated_under_load",
    "with_malformed_requests",
    "with_slow_clients",
]

# What is compared with a load alone takes turns with it.
_TURNS = 4
# In which slow clients connect, one after the other.
_RAMP_SECONDS = 2.0


def health_under_load(loaded: Any, texts: Sequence[str], requests: int) -> dict[str, float]:
    """Ask for /health every 10 ms while requests for all texts run, one after the other.

    Returns {"p50", "p99", "most": seconds, "n": how often}.
    """

    async def main() -> dict[str, float]:
        body = loaded.body(texts)
        latencies = []
        with closing(HttpClient(*loaded.address)) as client:

            async def ask() -> None:
                for _ in range(requests):
                    await _expect(client.post(loaded.path, body), 200)

            asking = asyncio.create_task(ask())
            while not asking.done():
                start = time.perf_counter()
                await _expect(client.get("/health"), 200)
                latencies.append(time.perf_counter() - start)
                await asyncio.sleep(0.01)
            await asking
        return _percentiles(latencies)

    return asyncio.run(main())


def refusals(loaded: Any, texts: Sequence[str], count: int) -> dict[str, float]:
    """Fill the queue with requests for all texts, and time the refusals of further ones.

    Returns {"p50", "p99", "most": seconds of the answers 429, "n": how many}.
    """

    async def main() -> dict[str, float]:
        body = loaded.body(texts)
        latencies = []
        accepted: set[asyncio.Task[None]] = set()

        async def ask() -> None:
            start = time.perf_counter()
            status, _ = await client.post(loaded.path, body)
            if status == 429:
                latencies.append(time.perf_counter() - start)
            elif status != 200:
                raise RuntimeError(f"the server answered {status}")

        with closing(HttpClient(*loaded.address)) as client:
            while len(latencies) < count:
                accepted.add(asyncio.create_task(ask()))
                await asyncio.sleep(0.02)
                done = {task for task in accepted if task.done()}
                await asyncio.gather(*done)
                accepted -= done
            await asyncio.gather(*accepted)
        return _percentiles(latencies)

    return asyncio.run(main())


def memory_growth(loaded: Any, texts: Sequence[str], first: int, count: int) -> dict[str, float]:
    """Send `count` requests, 64 at a time; return the growth of memory after the `first` of them.

    Returns {"first", "last": bytes in memory, "n": requests answered}.
    """

    async def main() -> dict[str, float]:
        answered, memory = 0, {}

        async def client() -> None:
            nonlocal answered
            while answered < count:
                answered += 1
                if answered == first:
                    memory["first"] = loaded.memory_bytes()
                await loaded.live_answer(texts[answered % len(texts)])

        try:
            await asyncio.gather(*(client() for _ in range(64)))
        finally:
            loaded.live_close()
        return {**memory, "last": loaded.memory_bytes(), "n": answered}

    return asyncio.run(main())


def terminated_under_load(
    loaded: Any, texts: Sequence[str], rate: float, seconds: float
) -> dict[str, float]:
    """Offer a load, and ask the server to end when half of the time has passed.

    A request is accepted when its connection was, and lost when it has no answer then. One that
    finds the server's port closed is neither.

    Returns {"answered", "lost", "refused": requests, "status": the exit status, "seconds": from the
    signal to the end}.
    """

    async def main() -> dict[str, float]:
        found: Counter[str] = Counter()
        terminated = 0.0

        async def request(i: int) -> None:
            try:
                status, _ = await client.post(loaded.path, loaded.body([texts[i % len(texts)]]))
                found["answered" if status == 200 else "lost"] += 1
            except ConnectionRefusedError:
                found["refused"] += 1
            except OSError:
                found["lost"] += 1

        tasks = []
        client = HttpClient(*loaded.address)
        start = time.perf_counter()
        for i, arrival in enumerate(poisson_arrivals(rate, round(rate * seconds), seed=0)):
            await asyncio.sleep(max(0.0, arrival - (time.perf_counter() - start)))
            if not terminated and arrival > seconds / 2:
                loaded.terminate()
                terminated = time.perf_counter()
            tasks.append(asyncio.create_task(request(i)))
        await asyncio.gather(*tasks)
        client.close()
        status = await asyncio.to_thread(loaded.wait, 60)
        return {
            **{name: found[name] for name in ("answered", "lost", "refused")},
            "status": status,
            "seconds": time.perf_counter() - terminated,
        }

    return asyncio.run(main())


def with_slow_clients(
    loaded: Any, texts: Sequence[str], rate: float, seconds: float, sockets: int
) -> dict[str, float]:
    """Offer a load alone, and again while sockets send a byte of a request's head each second.

    Both are offered in turns, and with the same arrivals.

    Returns {"p99_alone", "p99": seconds of the answers, "n", "failed": requests}.
    """

    async def main() -> dict[str, float]:
        alone, beside = _Offered(), _Offered()
        for turn in range(_TURNS):
            await _offer(loaded, texts, rate, seconds / _TURNS, turn, alone)
            async with _slow_clients(loaded.address, sockets):
                await _offer(loaded, texts, rate, seconds / _TURNS, turn, beside)
        return _compared(alone, beside)

    return asyncio.run(main())


def with_malformed_requests(
    loaded: Any, texts: Sequence[str], rate: float, count: int, per_second: float
) -> dict[str, float]:
    """Offer a load alone, and again while malformed requests come, each on a new connection.

    Both are offered in turns, and with the same arrivals. The malformed requests are seeded
    mutations of a request: bytes changed, cut out, repeated or inserted, in its head or in its
    JSON, which is never valid: the model has no part in this.

    Returns {"p99_alone", "p99": seconds of the answers to the load, "n", "failed": requests of it,
    "malformed": how many were sent, "answered", "faults": how many got a status, and how many 500,
    "per_second": how fast they were sent}.
    """

    async def main() -> dict[str, float]:
        alone, beside = _Offered(), _Offered()
        mutate = _mutations(loaded, texts[0])
        statuses: Counter[int] = Counter()
        passed = 0.0

        async def send(request: bytes) -> None:
            statuses[await _send_raw(loaded.address, request)] += 1

        share = count // _TURNS
        for turn in range(_TURNS):
            seconds = share / per_second
            await _offer(loaded, texts, rate, seconds, turn, alone)
            loading = asyncio.create_task(_offer(loaded, texts, rate, seconds, turn, beside))
            start = time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for number in range(share):
                    early = start + number / per_second - time.perf_counter()
                    await asyncio.sleep(max(0.0, early))
                    group.create_task(send(mutate()))
            passed += time.perf_counter() - start
            await loading
        sent = statuses.total()
        return {
            **_compared(alone, beside),
            "malformed": sent,
            "answered": sent - statuses[0],
            "faults": statuses[500],
            "per_second": sent / passed,
        }

    return asyncio.run(main())


class _Offered:
    """The answers to a load that was offered in turns."""

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.failed = 0


def _compared(alone: _Offered, beside: _Offered) -> dict[str, float]:
    return {
        "p99_alone": float(np.percentile(alone.latencies, 99)),
        "p99": float(np.percentile(beside.latencies, 99)),
        "n": len(beside.latencies),
        "failed": alone.failed + beside.failed,
    }


async def _offer(
    loaded: Any, texts: Sequence[str], rate: float, seconds: float, seed: int, offered: _Offered
) -> None:
    """Offer a load, and add the seconds from each scheduled arrival to its answer."""
    client = HttpClient(*loaded.address)
    start = time.perf_counter()

    async def request(i: int, arrival: float) -> None:
        try:
            await _expect(client.post(loaded.path, loaded.body([texts[i % len(texts)]])), 200)
            offered.latencies.append(time.perf_counter() - start - arrival)
        except (OSError, RuntimeError):
            offered.failed += 1

    tasks = []
    count = max(1, round(rate * seconds))
    for i, arrival in enumerate(poisson_arrivals(rate, count, seed=seed)):
        await asyncio.sleep(max(0.0, arrival - (time.perf_counter() - start)))
        tasks.append(asyncio.create_task(request(i, float(arrival))))
    await asyncio.gather(*tasks)
    client.close()


@asynccontextmanager
async def _slow_clients(address: tuple[str, int], count: int) -> AsyncIterator[None]:
    """Keep so many sockets that send a byte each second; those that are closed come back."""

    async def drip(phase: float) -> None:
        # Independent clients are not in step; in step, they would stall this process instead.
        await asyncio.sleep(phase)
        head = f"POST / HTTP/1.1\r\nhost: {address[0]}\r\nx: {'y' * 1000}".encode()
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(*address)
                try:
                    for byte in head:
                        writer.write(bytes([byte]))
                        await writer.drain()
                        await asyncio.sleep(1)
                finally:
                    writer.close()
            await asyncio.sleep(1)

    tasks = [asyncio.create_task(drip(_RAMP_SECONDS * i / count)) for i in range(count)]
    await asyncio.sleep(_RAMP_SECONDS)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _send_raw(address: tuple[str, int], request: bytes) -> int:
    """Send bytes; return the status of the answer, and 0 for none within a second.

    The stream's end is not sent: servers take it for a client that has gone, and answer nothing.
    """
    try:
        reader, writer = await asyncio.open_connection(*address)
        try:
            writer.write(request)
            async with asyncio.timeout(1):
                line = await reader.readline()
        finally:
            writer.close()
        parts = line.split()
        return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0
    except (OSError, TimeoutError):
        return 0


def _mutations(loaded: Any, text: str) -> Callable[[], bytes]:
    """Return a function that makes malformed requests, the same ones each time it is made."""
    rng = random.Random(0)
    body = loaded.body([text])

    def head(length: int) -> bytes:
        return (
            f"POST {loaded.path} HTTP/1.1\r\nhost: {loaded.address[0]}\r\n"
            f"content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        ).encode()

    def mutated(data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(changed) or 1)
            kind = rng.randrange(4)
            if kind == 0:
                changed[at : at + 1] = bytes([rng.randrange(256)])
            elif kind == 1:
                del changed[at : at + rng.randint(1, 20)]
            elif kind == 2:
                changed[at:at] = changed[at : at + rng.randint(1, 20)]
            else:
                changed[at:at] = rng.choice(
                    [b"\r\n", b"\0", b"\xff", b'"', b"{", b"[" * 50, b"1e999"]
                )
        return bytes(changed)

    def make() -> bytes:
        if rng.random() < 0.5:
            broken = body[:-1]  # whatever the head says, there is no answer
            return mutated(head(len(broken))) + broken
        while _is_json(broken := mutated(body)):
            pass
        return head(len(broken)) + broken

    return make


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


async def _expect(answer: Awaitable[tuple[int, bytes]], status: int) -> None:
    found, body = await answer
    if found != status:
        raise RuntimeError(f"the server answered {found}: {body[:200]!r}")


def _percentiles(latencies: Sequence[float]) -> dict[str, float]:
    p50, p99 = np.percentile(latencies, (50, 99))
    return {"p50": float(p50), "p99": float(p99), "most": max(latencies), "n": len(latencies)}
