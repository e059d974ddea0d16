"""Structured logs: one JSON object a line on stdout, in the field names that Cloud Logging understands."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import sys
from typing import Any, Final

VM_VARIABLE: Final = "SERVING_VM"
"""Environment variable by which the supervisor tells itself and its child processes the VM's name."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON; keyword fields come from `extra=`."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """The line, without a line end."""
        event: dict[str, Any] = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "severity": record.levelname,
            "message": record.getMessage(),
            "vm": os.environ.get(VM_VARIABLE, ""),
            "process": self._process,
        }
        event |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return json.dumps(event, default=str)


def set_up(process: str) -> None:
    """Send everything that this process logs to stdout as JSON."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter(process))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
