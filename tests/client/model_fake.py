"""A fleet's HTTP API on loopback: two VMs in turn, three classes, every answer adjustable."""

from __future__ import annotations

import base64
import itertools
import json

from aiohttp import web

LABELS = ("tench", "goldfish", "great white shark")


class ModelFake:
    """Answers `probabilities`; `status` other than 200 answers `error` with it."""

    def __init__(self) -> None:
        self.url = ""
        self.probabilities: list[float] = [0.1, 0.7, 0.2]
        self.predictions: list[object] | None = None
        """Answered instead of classes and probabilities."""
        self.labels: tuple[str, ...] | None = LABELS
        self.signatures: dict[str, str] | None = {"serving_default": "DT_STRING", "tensor": "DT_FLOAT"}
        """Type of each signature's input; None: a server that says nothing of them."""
        self.signature_names: list[str] = []
        """Of the requests."""
        self.status = 200
        self.error: object = {"error": "no reason"}
        self.headers: dict[str, str] = {}
        self.images: list[bytes] = []
        self.requests = 0
        self._vms = itertools.cycle(("vm-a", "vm-b"))

    def application(self) -> web.Application:
        """Routes of the default model."""
        application = web.Application(client_max_size=1 << 26)
        application.add_routes(
            [
                web.post("/v1/models/default:predict", self._predict),
                web.get("/v1/models/default/labels", self._labels),
                web.get("/v1/models/default/metadata", self._metadata),
            ]
        )
        return application

    async def _predict(self, request: web.Request) -> web.Response:
        self.requests += 1
        if self.status != 200:
            text = self.error if isinstance(self.error, str) else json.dumps(self.error)
            return web.Response(status=self.status, text=text, headers=self.headers)
        # Any content type, as TensorFlow Serving takes it.
        asked = json.loads(await request.read())
        instances = asked["instances"]
        self.signature_names.append(asked.get("signature_name", ""))
        self.images += [base64.b64decode(one["b64"], validate=True) for one in instances]
        best = self.probabilities.index(max(self.probabilities)) if self.probabilities else 0
        one = {"classes": best, "probabilities": self.probabilities}
        predictions = self.predictions if self.predictions is not None else [one] * len(instances)
        headers = {"x-served-by": next(self._vms), "x-model-key": "0123456789abcdef0123"}
        return web.json_response({"predictions": predictions}, headers=headers)

    async def _metadata(self, _: web.Request) -> web.Response:
        if self.signatures is None:
            return web.json_response({"error": "no metadata"}, status=404)
        defs = {name: {"inputs": {"x": {"dtype": kind}}} for name, kind in self.signatures.items()}
        return web.json_response({"metadata": {"signature_def": {"signature_def": defs}}})

    async def _labels(self, _: web.Request) -> web.Response:
        if self.labels is None:
            return web.json_response({"error": "the model has no labels"}, status=404)
        return web.Response(text="".join(f"{label}\n" for label in self.labels))
