"""The conversation between a VM's commands and its init: one JSON object a packet, over a Unix socket."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sandbox.machine.refusal import Refusal

_PACKET_BYTES = 128 * 1024
_DESCRIPTORS = 2

Message = dict[str, Any]


class NoInitError(Refusal):
    """The VM's init does not answer: the machine is going down."""


def bind(path: Path) -> socket.socket:
    """Listen at `path`, which may be longer than a socket address: it is reached through its folder's descriptor."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        path.unlink(missing_ok=True)
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
    listener.listen()
    listener.setblocking(False)
    return listener


def connect(path: Path) -> socket.socket:
    """Reach the init that listens at `path`; raises NoInitError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            connection.connect(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)
    except OSError as error:
        connection.close()
        raise NoInitError(f"init does not answer at {path}: {error.strerror}") from error
    return connection


def send(connection: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Send one message, and open files with it."""
    socket.send_fds(connection, [json.dumps(message).encode()], list(descriptors))


def receive(connection: socket.socket) -> tuple[Message, list[int]] | None:
    """The next message and the open files that came with it; None once the other side is gone."""
    packet, descriptors, _, _ = socket.recv_fds(connection, _PACKET_BYTES, _DESCRIPTORS)
    return (json.loads(packet), list(descriptors)) if packet else None


def ask(path: Path, message: Message) -> Message:
    """One question, one answer."""
    with connect(path) as connection:
        send(connection, message)
        answer = receive(connection)
    if answer is None:
        raise NoInitError(f"init at {path} closed the connection")
    return answer[0]
