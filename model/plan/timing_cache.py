"""What TensorRT measured of tactics, kept between builds: the next plan on the same GPU is built in a fraction."""

from __future__ import annotations

import os
from pathlib import Path

from model.plan.target import PlanTarget
from model.plan.tensorrt_api import Config


class TimingCacheFile:
    """One file for one GPU type and TensorRT version."""

    def __init__(self, folder: Path, target: PlanTarget) -> None:
        self.path = folder / f"{Path(target.folder).name}.timing-cache"

    def load_into(self, config: Config) -> str:
        """Have `config` use what the file holds; what to tell of it. A cache that does not fit is left unused."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            content = b""
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            return f"timing cache: {len(content)} bytes from {self.path}" if content else "timing cache: empty"
        fresh = config.create_timing_cache(b"")
        if fresh is not None:
            config.set_timing_cache(fresh, ignore_mismatch=False)
        return f"timing cache: {self.path} was made on another GPU or by another TensorRT, and is not used"

    def save_from(self, config: Config) -> None:
        """Replace the file by what `config` has learnt."""
        cache = config.get_timing_cache()
        if cache is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        fresh.write_bytes(bytes(cache.serialize()))
        fresh.replace(self.path)
