"""What `python -m serving` says of arguments that it cannot use."""

from __future__ import annotations

from pathlib import Path

import pytest

import contract
from serving import __main__ as command_line


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["serving", *arguments])
    monkeypatch.setattr("serving.log.set_up", lambda _: None)
    return command_line.main()


@pytest.mark.parametrize(
    ("port", "said"),
    [
        ("0", "'0' is no port: 1 to 65535"),
        ("99999", "'99999' is no port: 1 to 65535"),
        ("http", "'http' is no port: 1 to 65535"),
        (str(contract.METRICS_PORT), "8889 is the port of the same VM's metrics: name another"),
        (str(contract.TRITON_GRPC_PORT), "8001 is the port of the same VM's Triton (gRPC): name another"),
    ],
)
def test_a_port_that_cannot_be_had_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], port: str, said: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "--artifact", "somewhere", "--port", port)
    assert ended.value.code == 2
    assert f"argument --port: {said}\n" in capsys.readouterr().err


def test_a_file_is_no_artifact(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "model.pb"
    file.touch()
    assert run(monkeypatch, "--artifact", str(file)) == 1
    said = f"error: {file} is a file; name the folder that holds the artifact's manifest.json\n"
    assert said in capsys.readouterr().err
