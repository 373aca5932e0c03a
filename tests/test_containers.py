"""Containerfile and compose.yaml: what they name is there, and their commands run outside a container."""

import os
import re
import shlex
import subprocess
import sys
import time
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, SMALL
from mlflow_server import answers
from postgres import PASSWORD as POSTGRES_PASSWORD
from postgres import free_port

LINES = (ROOT / "Containerfile").read_text().replace("\\\n", " ").splitlines()
STEPS = [tuple(line.split(maxsplit=1)) for line in LINES if line and not line.startswith("#")]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
MLFLOW_PASSWORD = "adm1n: of @ll"


def steps(kind):
    return [words for name, words in STEPS if name == kind]


def test_every_step_is_one_that_a_builder_knows():
    known = {"FROM", "ENV", "RUN", "WORKDIR", "COPY", "USER", "VOLUME", "ENTRYPOINT", "CMD"}
    assert {name for name, _ in STEPS} <= known


def test_what_the_image_copies_is_there_and_is_sent_to_the_builder():
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for words in steps("COPY"):
        *sources, _ = (word for word in words.split() if not word.startswith("--"))
        for source in sources:
            assert (ROOT / source).exists(), source
            assert any(fnmatch(source, pattern) for pattern in kept), source


def test_the_image_installs_from_the_lock_with_hashes_for_a_python_that_pneumo_takes():
    (base,) = steps("FROM")
    lowest = re.search(r'requires-python = ">=([\d.]+)', (ROOT / "pyproject.toml").read_text())[1]
    assert base == f"python:{lowest}-slim"
    installs = [words for words in steps("RUN") if "pip install" in words]
    assert installs == [
        "pip install --require-hashes -r requirements.lock",
        "pip install --no-deps --no-build-isolation .",
    ]


def test_the_image_runs_as_a_plain_user():
    last = [name for name, _ in STEPS].index("USER")
    assert steps("USER") == ["pneumo"]
    assert {name for name, _ in STEPS[last:]} <= {"USER", "WORKDIR", "VOLUME", "ENTRYPOINT", "CMD"}


def test_of_the_machine_s_ports_only_loopback_is_listened_on_and_no_service_is_privileged():
    for name, service in SERVICES.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert not service.keys() & {"privileged", "network_mode", "cap_add", "pid", "user"}, name


def test_secrets_are_in_files_that_git_ignores_and_every_service_has_those_that_it_reads():
    for secret in COMPOSE["secrets"].values():
        ignored = subprocess.run(["git", "check-ignore", "-q", secret["file"]], cwd=ROOT)
        assert ignored.returncode == 0
    for service in SERVICES.values():
        for name, value in service["environment"].items():
            if "PASSWORD" in name:
                assert name.endswith("_FILE")
                assert value.removeprefix("/run/secrets/") in service["secrets"]
        assert set(service["secrets"]) <= COMPOSE["secrets"].keys()


def test_volumes_and_services_that_are_named_are_declared():
    for service in SERVICES.values():
        for volume in service["volumes"]:
            source = volume.rsplit(":/", 1)[0] if volume.startswith("$") else volume.split(":")[0]
            assert source in COMPOSE["volumes"] or source.startswith("${")
        assert service.get("depends_on", {}).keys() <= SERVICES.keys()


def test_the_entry_sets_secrets_from_files_and_becomes_the_command(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("a 'b' $c\n")
    environment = {"PATH": os.environ["PATH"], "PGPASSWORD_FILE": str(secret)}
    done = entered(["sh", "-c", 'printf %s "$PGPASSWORD"; exit 3'], environment)
    assert (done.stdout, done.returncode) == ("a 'b' $c", 3)
    assert entered(["true"], {"PATH": os.environ["PATH"], "PGPASSWORD_FILE": "nowhere"}).returncode != 0


def test_the_image_s_own_command_runs():
    (command,) = steps("CMD")
    done = entered(yaml.safe_load(command), of_this_python())
    assert done.returncode == 0
    assert "Train pneumothorax detectors" in done.stdout


def entered(command, environment, **options):
    entry = ROOT / "container-entry.sh"
    return subprocess.run([entry, *command], env=environment, capture_output=True, text=True, **options)


def of_this_python():
    """The environment in which the commands of the packages are found, as they are in the image."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture
def outside(postgres, tmp_path, workdir):
    """Service -> its command and environment, with this machine's addresses, secrets and folders."""
    postgres.create("outside_mlflow")
    postgres.create("outside_study")
    port = free_port()
    for name, password in (("postgres_password", POSTGRES_PASSWORD), ("mlflow_password", MLFLOW_PASSWORD)):
        (tmp_path / name).write_text(password)
    here = {
        "@postgres/": f"@127.0.0.1:{postgres.port}/outside_",
        "/run/secrets/": f"{tmp_path}/",
        "=/mlflow/": f"={tmp_path}/",
        "--host=0.0.0.0": "--host=127.0.0.1",
        "mlflow:5000": f"127.0.0.1:{port}",
        "=5000": f"={port}",
        "$$": "$",
    }

    def moved(text):
        for there, replacement in here.items():
            text = text.replace(there, replacement)
        return text

    def service(name, **given):
        made = SERVICES[name]
        settings = {key: moved(value) for key, value in made["environment"].items()}
        return [moved(word) for word in made["command"]], {**of_this_python(), **settings, **given}

    return port, service


def test_the_commands_of_server_and_worker_run_a_study_outside_a_container(outside, tmp_path):
    port, service = outside
    command, environment = service("mlflow", MLFLOW_FLASK_SERVER_SECRET_KEY="text")
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(
            [ROOT / "container-entry.sh", *command], env=environment, stdout=log, stderr=log, cwd=tmp_path
        )
    try:
        until = time.monotonic() + 300  # a busy machine is no failure
        while not answers(port):
            assert server.poll() is None, (tmp_path / "server.log").read_text()
            assert time.monotonic() < until
            time.sleep(0.2)
        sweep = shlex.join([*SMALL, "model.width=4", "fit.epochs=1"]).replace("'", "")
        command, environment = service("worker", SWEEP=f"study=s n_trials=1 search=quick {sweep}")
        done = entered(command, environment, cwd=tmp_path, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "1 complete" in done.stdout
        assert (tmp_path / "files").is_dir()
        for secret in (POSTGRES_PASSWORD, MLFLOW_PASSWORD):
            assert secret not in done.stdout + done.stderr + (tmp_path / "server.log").read_text()
    finally:
        server.terminate()
        server.wait()
