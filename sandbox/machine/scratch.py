"""Where one VM keeps its things. Stand-in commands find the folder by the markers in their environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sandbox.machine.markers import MACHINE_MARKER, STATE_MARKER


@dataclass(frozen=True, slots=True)
class Scratch:
    """Folders and files of one VM: `<state>/machines/<zone>/<name>`."""

    root: Path

    @classmethod
    def of(cls, state: Path, key: str) -> Scratch:
        """Of the VM `key` (`<zone>/<name>`) in the sandbox whose state folder is `state`."""
        return cls(state / "machines" / key)

    @classmethod
    def here(cls) -> Scratch:
        """Of the VM that this process runs in."""
        return cls.of(Path(os.environ[STATE_MARKER]), os.environ[MACHINE_MARKER])

    @property
    def disk(self) -> Path:
        """STATE_DIRECTORY: what scripts write; survives a stop."""
        return self.root / "disk"

    @property
    def home(self) -> Path:
        """HOME."""
        return self.root / "home"

    @property
    def installed(self) -> Path:
        """What package managers and Docker put on the disk; survives a stop."""
        return self.root / "installed"

    @property
    def run(self) -> Path:
        """What lives from boot to shutdown."""
        return self.root / "run"

    @property
    def temporary(self) -> Path:
        """TMPDIR, from boot to shutdown."""
        return self.root / "tmp"

    @property
    def commands(self) -> Path:
        """First entry of PATH: stand-ins."""
        return self.root / "bin"

    @property
    def tools(self) -> Path:
        """Second entry of PATH: the image's harmless tools."""
        return self.root / "tools"

    @property
    def container_gpu_commands(self) -> Path:
        """What the NVIDIA runtime mounts into a container that asked for GPUs."""
        return self.root / "gpu-bin"

    @property
    def packages(self) -> Path:
        """Installed packages, a JSON list."""
        return self.installed / "packages.json"

    @property
    def docker_daemon(self) -> Path:
        """What the container daemon knew when it was started, JSON."""
        return self.installed / "docker-daemon.json"

    @property
    def docker_configuration(self) -> Path:
        """/etc/docker/daemon.json."""
        return self.on_disk(Path("/etc/docker/daemon.json"))

    @property
    def images(self) -> Path:
        """Container images on the disk, JSON."""
        return self.installed / "images.json"

    def on_disk(self, path: Path) -> Path:
        """Where a stand-in keeps a system file (`/etc/...`): never on the machine that runs the sandbox."""
        own = (self.root, Path("/dev"), Path("/proc"))
        if not path.is_absolute() or any(path.is_relative_to(folder) for folder in own):
            return path
        return self.installed / "root" / path.relative_to("/")

    @property
    def serial_log(self) -> Path:
        """The serial console."""
        return self.root / "serial.log"

    @property
    def control_socket(self) -> Path:
        """Where init listens."""
        return self.run / "init.sock"

    @property
    def powered_off(self) -> Path:
        """Written by init when it has shut the machine down in order."""
        return self.run / "powered-off"

    @property
    def isolated(self) -> Path:
        """There while the VM cannot reach the internet."""
        return self.run / "isolated"

    @property
    def gpus(self) -> Path:
        """What nvidia-smi tells, written by the simulated GPU."""
        return self.run / "gpus.json"
