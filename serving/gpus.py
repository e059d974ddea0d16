"""The machine's GPUs, as nvidia-smi tells of them."""

from __future__ import annotations

import asyncio
from typing import Final

TIMEOUT_S: Final = 10.0


class NvidiaSmiError(Exception):
    """nvidia-smi is not there, failed, or says nothing that can be understood."""


async def count() -> int:
    """GPUs that are visible now.

    Raises:
        NvidiaSmiError: see there.
    """
    return sum(line.startswith("GPU ") for line in await _nvidia_smi("-L"))


async def compute_capability() -> str:
    """Of the first GPU (all of a VM's are of one type), as `7.5`.

    Raises:
        NvidiaSmiError: see there.
    """
    rows = await _nvidia_smi("--query-gpu=compute_cap", "--format=csv,noheader")
    if not rows:
        raise NvidiaSmiError("nvidia-smi sees no GPU")
    return rows[0]


async def mean_utilization() -> float:
    """Mean over the visible GPUs, in percent.

    Raises:
        NvidiaSmiError: see there.
    """
    rows = await _nvidia_smi("--query-gpu=index,utilization.gpu", "--format=csv,noheader,nounits")
    return mean_of_rows(rows)


def mean_of_rows(rows: list[str]) -> float:
    """Mean of the second column of nvidia-smi's CSV.

    Raises:
        NvidiaSmiError: no rows, or one that is no `index, percent` (as `[N/A]` of a GPU that has an error).
    """
    try:
        values = [float(utilization) for _, utilization in (row.split(",") for row in rows)]
    except ValueError as error:
        raise NvidiaSmiError(f"nvidia-smi says {rows}") from error
    if not values:
        raise NvidiaSmiError("nvidia-smi sees no GPU")
    return sum(values) / len(values)


async def _nvidia_smi(*arguments: str) -> list[str]:
    try:
        process = await asyncio.create_subprocess_exec(
            "nvidia-smi", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
    except OSError as error:
        raise NvidiaSmiError(f"nvidia-smi: {error.strerror}") from error
    try:
        async with asyncio.timeout(TIMEOUT_S):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        raise NvidiaSmiError(f"nvidia-smi did not answer within {TIMEOUT_S:.0f} s") from None
    text = output.decode(errors="replace").strip()
    if process.returncode:
        raise NvidiaSmiError(f"nvidia-smi failed with {process.returncode}: {text}")
    return [line.strip() for line in text.splitlines()]
