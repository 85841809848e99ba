"""The same ledger and registry against a real MLflow server, and what it lets nobody do."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from medslm.tracking import registry
from tests.code_deps import ROOT
from tests.tracking.project import MLFLOW_WARNING, MODEL, Project
from tests.tracking.servers import Server

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(MLFLOW_WARNING)]


def test_a_server_holds_the_same_ledger_and_registry(
    project: Project, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)

    with project.store() as store:
        first, second = project.track(store), project.track(store)
        version = project.register(store, first)
        again = project.register(store, second)
        package = registry.fetch(store, version, tmp_path / "fetched")
        registry.move_aliases(store, MODEL, champion=version.version, previous=None, why="promote")
        champion = registry.alias(store, MODEL, "champion")
        run = store.client.get_run(first["new"].run_id)
        [output] = run.outputs.model_outputs
        model = store.client.get_logged_model(output.model_id)

    assert [t.run_id for t in first.values()] == [t.run_id for t in second.values()]
    assert (version.version, again.version, champion) == ("1", "1", "1")
    assert run.data.metrics["dev.macro_f1"] == 0.6
    assert {i.dataset.name for i in run.inputs.dataset_inputs} == {"mix-new", "dev", "test"}
    assert {m.key: m.value for m in model.metrics}["dev.macro_f1"] == 0.6
    assert (package / "fold0-seed0/adapter_config.json").exists()
    assert not (project.root / "mlruns").exists()


def asked(uri: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
    """Return status and body of an answer."""
    request = urllib.request.Request(uri + path, data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status), answer.read().decode()
    except urllib.error.HTTPError as exc:
        return exc.code, exc.read().decode()


def test_e13_a_server_started_as_documented_answers_only_this_machines_own_pages(
    server: Server,
) -> None:
    search = "/api/2.0/mlflow/experiments/search?max_results=1"
    body, job = b'{"name": "x"}', b'{"job_name": "invoke_genai_evaluate", "params": {}}'
    kind = {"Content-Type": "application/json"}
    create = "/api/2.0/mlflow/experiments/create"

    code, said = asked(server.uri, "/ajax-api/3.0/jobs/", job, **kind)

    assert asked(server.uri, search)[0] == 200
    assert asked(server.uri, search, Host="evil.example")[0] == 403
    assert asked(server.uri, search, Host="10.0.0.5")[0] == 403
    assert asked(server.uri, create, body, Origin="http://evil.example", **kind)[0] == 403
    assert code >= 400
    assert "MLFLOW_SERVER_ENABLE_JOB_EXECUTION" in said
    assert listening_on(int(server.uri.rpartition(":")[2])) == {"127.0.0.1"}
    page = (ROOT / "docs/tracking.md").read_text(encoding="utf-8")
    for word in ("--host 127.0.0.1", "--allowed-hosts", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false"):
        assert word in page


def listening_on(port: int) -> set[str]:
    """Return the addresses on which this machine listens at a port, from the kernel."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        path = Path(table)
        for line in path.read_text(encoding="ascii").splitlines()[1:] if path.exists() else []:
            local, state = line.split()[1], line.split()[3]
            address, _, number = local.partition(":")
            if state == "0A" and int(number, 16) == port:
                raw = bytes.fromhex(address)
                found.add(socket.inet_ntoa(raw[::-1]) if len(raw) == 4 else "any (IPv6)")
    return found


def test_the_compose_file_publishes_on_this_machine_only_and_has_the_tested_mlflow() -> None:
    body = yaml.safe_load((ROOT / "docs/compose.yaml").read_text(encoding="utf-8"))
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    [mlflow] = [pin for pin in pins if pin.startswith("mlflow==")]

    ports = [port for service in body["services"].values() for port in service.get("ports", [])]

    assert ports == ["127.0.0.1:5000:5000"]
    assert mlflow in body["services"]["mlflow"]["build"]["dockerfile_inline"]
    assert (
        body["services"]["mlflow"]["environment"]["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    )
