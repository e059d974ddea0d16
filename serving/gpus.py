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
    return mean_of_rows(await _utilization_rows(TIMEOUT_S))


async def utilization(timeout_s: float) -> dict[int, float]:
    """Of each visible GPU, in percent, by its index.

    Raises:
        NvidiaSmiError: see there.
    """
    return _by_gpu(await _utilization_rows(timeout_s))


def mean_of_rows(rows: list[str]) -> float:
    """Mean of the second column of nvidia-smi's CSV.

    Raises:
        NvidiaSmiError: no rows, or one that is no `index, percent` (as `[N/A]` of a GPU that has an error).
    """
    values = _by_gpu(rows).values()
    if not values:
        raise NvidiaSmiError("nvidia-smi sees no GPU")
    return sum(values) / len(values)


def _by_gpu(rows: list[str]) -> dict[int, float]:
    try:
        return {int(index): float(percent) for index, percent in (row.split(",") for row in rows)}
    except ValueError as error:
        raise NvidiaSmiError(f"nvidia-smi says {rows}") from error


async def _utilization_rows(timeout_s: float) -> list[str]:
    query = "--query-gpu=index,utilization.gpu"
    return await _nvidia_smi(query, "--format=csv,noheader,nounits", timeout_s=timeout_s)


async def _nvidia_smi(*arguments: str, timeout_s: float = TIMEOUT_S) -> list[str]:
    try:
        process = await asyncio.create_subprocess_exec(
            "nvidia-smi", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
    except OSError as error:
        raise NvidiaSmiError(f"nvidia-smi: {error.strerror}") from error
    try:
        async with asyncio.timeout(timeout_s):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise NvidiaSmiError(f"nvidia-smi did not answer within {timeout_s:.0f} s") from None
    text = output.decode(errors="replace").strip()
    if process.returncode:
        raise NvidiaSmiError(f"nvidia-smi failed with {process.returncode}: {text}")
    return [line.strip() for line in text.splitlines()]
