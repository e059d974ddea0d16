"""One web application on one port of many loopback addresses that come and go."""

from __future__ import annotations

from aiohttp import web


class Sites:
    """Listens on addresses; the application tells by the address that was asked who asks."""

    def __init__(self, application: web.Application, port: int) -> None:
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        self._port = port
        self._sites: dict[str, web.TCPSite] = {}

    async def start(self) -> None:
        """Make the application ready; no address is open yet."""
        await self._runner.setup()

    async def stop(self) -> None:
        """Close every address."""
        await self._runner.cleanup()
        self._sites.clear()

    @property
    def addresses(self) -> set[str]:
        """Addresses that are open."""
        return set(self._sites)

    async def open(self, address: str) -> None:
        """Listen on `address`; open already is fine. Raises OSError where it cannot be bound."""
        if address in self._sites:
            return
        site = web.TCPSite(self._runner, address, self._port)
        self._sites[address] = site
        try:
            await site.start()
        except OSError:
            del self._sites[address]
            raise

    async def close(self, address: str) -> None:
        """Listen on `address` no longer."""
        site = self._sites.pop(address, None)
        if site is not None:
            await site.stop()


def asked_address(request: web.Request) -> str:
    """The address that a request was sent to; empty once its client has gone."""
    name = request.get_extra_info("sockname")
    return str(name[0]) if name else ""
