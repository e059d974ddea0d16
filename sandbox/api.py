"""The sandbox's REST APIs on the operator's address, where Google's custom endpoint variables point."""

from __future__ import annotations

from aiohttp import web

from sandbox.compute.rest import ComputeApi
from sandbox.iam.policy import Policy
from sandbox.iam.tokens import Tokens
from sandbox.monitoring.rest import MonitoringApi
from sandbox.rest import Access, google_errors
from sandbox.settings import API_PORT, SandboxSettings
from sandbox.store import Store

_DRAIN_S = 1.0


class ApiServer:
    """Serves Compute v1 under `/compute/v1` and Monitoring v3 under `/v3`; every caller needs an access token."""

    def __init__(self, settings: SandboxSettings, store: Store, tokens: Tokens, policy: Policy) -> None:
        self._settings = settings
        access = Access(settings, tokens, policy)
        self._app = web.Application(middlewares=[google_errors])
        self._app.add_subapp("/compute/v1", ComputeApi(settings, store, access).app())
        self._app.add_subapp("/v3", MonitoringApi(settings, store, access).app())
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on `settings.api_url`. Raises OSError where another process does."""
        self._runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=_DRAIN_S)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._settings.operator_address, API_PORT, reuse_address=True).start()

    async def stop(self) -> None:
        """Stop listening, with calls under way given a second."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
