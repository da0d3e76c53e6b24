"""The process around the application: listen, load the models, serve, drain, stop.

uvicorn reads and writes HTTP here. Its own `Server` closes the listening socket as soon as a signal
comes, loads nothing after it has bound, and ends with the signal; so this is a life cycle of our
own, around uvicorn's protocol.
"""

import asyncio
import os
import signal
import ssl
from collections.abc import Callable, Sequence
from email.utils import formatdate

from bertrt.serving.context import Context
from bertrt.serving.listener import Listener
from bertrt.serving.models import Model, Models

__all__ = ["Server", "run"]

# Seconds. While it drains, the server goes on for at least a moment, for connections that wait to
# be accepted; idle connections are kept for a while, since a request may be on its way; and what is
# cut has some time to say so.
_MOMENT, _IDLE_GRACE, _CUT_GRACE = 0.02, 0.5, 1.0


class Server:
    """A server of one application; runs once."""

    def __init__(
        self,
        context: Context,
        listener: Listener,
        loaders: Sequence[Callable[[], Model]],
        *,
        metrics: Listener | None = None,
        drain_delay: float = 0.0,
        drain_timeout: float = 30.0,
        tls: ssl.SSLContext | None = None,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        """Serve an application whose context is not ready yet.

        Args:
            context: the application's.
            listener: the application, and where it answers.
            loaders: each opens one model; they run one after the other, in a thread.
            metrics: what answers probes and shows the metrics at an endpoint of its own, until the
                end.
            drain_delay: seconds for which the server goes on after `stop`, so that balancers see
                that it is not ready any more.
            drain_timeout: seconds that accepted requests have to be answered after that.
            tls: for HTTPS.
            on_ready: called when all models are loaded.
        """
        self._context = context
        self._listener = listener
        self._listeners = [listener, *filter(None, [metrics])]
        self._loaders = loaders
        self._drain_delay, self._drain_timeout = drain_delay, drain_timeout
        self._tls = tls
        self._on_ready = on_ready
        self._stopped = asyncio.Event()

    async def run(self) -> bool:
        """Serve until `stop` is called; return whether a request was cut then.

        Raises what a loader raises; nothing was ready then.
        """
        dates = asyncio.get_running_loop().create_task(self._keep_date())
        try:
            for listener in self._listeners:
                await listener.open(self._tls)
            if not await self._load():
                return False
            self._on_ready()
            await self._stopped.wait()
            return await self._drain()
        finally:
            dates.cancel()
            for listener in self._listeners:
                listener.abort()
            await asyncio.to_thread(self._context.models.close)

    def stop(self) -> None:
        """Begin to drain, and then return from `run`; call it in the event loop's thread."""
        self._stopped.set()

    async def _load(self) -> bool:
        """Open all models; return False if the server was stopped meanwhile."""
        models: list[Model] = []
        try:
            for load in self._loaders:
                models.append(await asyncio.to_thread(load))
                if self._stopped.is_set():
                    return False
            self._context.start(Models(models))
        finally:
            if not self._context.is_ready:
                await asyncio.to_thread(Models(models).close)
        return True

    async def _drain(self) -> bool:
        """Finish what was accepted; return whether something was cut."""
        self._context.is_ready, self._context.is_draining = False, True
        await asyncio.sleep(max(self._drain_delay, _MOMENT))
        await self._listener.stop_accepting()
        # Requests that are on their way over idle connections are still answered.
        await self._listener.wait(min(_IDLE_GRACE, self._drain_timeout))
        self._listener.close_when_done()
        await self._listener.wait(self._drain_timeout)
        cut = self._listener.is_busy
        if cut:
            self._listener.cancel()
            await self._listener.wait(_CUT_GRACE)
        return cut

    async def _keep_date(self) -> None:
        """Keep the answers' Date header."""
        while True:
            for listener in self._listeners:
                listener.set_date(formatdate(usegmt=True).encode())
            await asyncio.sleep(1)


def run(server: Server) -> int:
    """Run a server in an event loop of its own; return the exit status.

    The first SIGTERM or SIGINT stops the server, the second one ends the process at once, with
    status 1. That is also the status if a request was cut.
    """
    signals: list[int] = []

    def on_signal(number: int) -> None:
        if signals:
            os._exit(1)
        signals.append(number)
        server.stop()

    async def main() -> bool:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                loop.add_signal_handler(number, on_signal, number)
            except NotImplementedError:  # on Windows
                signal.signal(number, lambda one, _: loop.call_soon_threadsafe(on_signal, one))
        return await server.run()

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return int(runner.run(main()))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes uvloop's event loops, where there is one."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
