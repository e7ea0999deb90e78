"""What can be said of deploy/ without a cluster: linters, schemas, and the real command line."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from command_lines import DEPLOY, ROOT, check_dask, check_line, check_tomoseg, page_lines

KUBERNETES = "1.37"
SLURM = DEPLOY / "slurm"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
PAGES = [DEPLOY / "README.md", *sorted(DEPLOY.glob("*/README.md"))]
SCRIPTS = sorted(
    path
    for path in DEPLOY.rglob("*")
    if path.is_file() and not path.is_symlink() and path.read_text().startswith("#!")
)
JOBQUEUE_KEYS = {
    "partition": str, "account": str, "walltime": str, "cores": int, "memory": str, "gpus": int,
    "interface": str, "prologue": list, "sbatch": list,
}  # fmt: skip


def tool(name: str, *arguments: str | Path, text: str | None = None) -> None:
    """Run a linter that the dev extra brings; its complaints are the failure."""
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    found = shutil.which(name, path=beside)
    assert found, f"{name} is not installed; it comes with the dev extra"
    result = subprocess.run([found, *arguments], input=text, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shell_scripts_are_clean(script: Path) -> None:
    assert "set -euo pipefail" in script.read_text()
    tool("shellcheck", script)


def test_batch_scripts_stop_in_time_and_name_no_site() -> None:
    for script in SLURM.glob("*.sbatch"):
        text = script.read_text()
        assert "#SBATCH --signal=B:TERM@300" in text
        assert "\n##SBATCH --partition=NAME" in text
        assert not re.search(r"module load|conda activate", text)


def test_the_image_is_clean_and_runs_as_nobody_in_particular() -> None:
    dockerfile = DEPLOY / "docker" / "Dockerfile"
    tool("hadolint", dockerfile)
    text = dockerfile.read_text()
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", text, re.MULTILINE)
    assert "latest" not in text
    allowed = set(re.findall(r"^!(\S+)$", Path(f"{dockerfile}.dockerignore").read_text(), re.M))
    sources = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.M)
    copied = {name for line in sources for name in line.split()}
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_the_definition_file_builds_from_what_is_there() -> None:
    text = (DEPLOY / "apptainer" / "tomoseg.def").read_text()
    sections = dict(re.findall(r"^%(\w+)\n(.*?)(?=^%|\Z)", text, re.M | re.S))
    assert all((ROOT / line.split()[0]).exists() for line in sections["files"].splitlines() if line)
    for name in ("post", "environment", "runscript", "test"):
        tool("shellcheck", "--shell=sh", "-", text=sections[name].replace("{{ TORCH }}", "cpu"))
    for name in ("tomoseg", "dask", "python"):
        assert (DEPLOY / "apptainer" / "bin" / name).readlink() == Path("in-container")


def test_jobqueue_toml_has_every_key_and_no_other() -> None:
    text = (SLURM / "jobqueue.toml").read_text()
    assert set(re.findall(r"^(?:# )?(\w+) = ", text, re.M)) == set(JOBQUEUE_KEYS)
    for key, value in tomllib.loads(text).items():
        assert isinstance(value, JOBQUEUE_KEYS[key])


# Kubernetes


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


NATIVE = [
    document
    for path in MANIFESTS
    if path.name not in ("kustomization.yaml", "daskjob.yaml")
    for document in documents(path)
]


def dask_job() -> dict[str, Any]:
    (job,) = documents(DEPLOY / "kubernetes" / "daskjob.yaml")
    return job


def pods() -> dict[str, dict[str, Any]]:
    """Return the three specs of pods in the DaskJob."""
    spec = dask_job()["spec"]
    cluster = spec["cluster"]["spec"]
    parts = {"job-runner": spec["job"], **{k: cluster[k] for k in ("scheduler", "worker")}}
    return {name: part["spec"] for name, part in parts.items()}


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def validate(kind: str, spec: dict[str, Any]) -> None:
    document = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "name"}, "spec": spec}
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


def dask_job_schema() -> dict[str, Any]:
    """Return the schema in the operator's own definition of a DaskJob."""
    try:
        files = metadata.files("dask-kubernetes") or []
    except metadata.PackageNotFoundError:
        pytest.fail("the operator's schemas are missing: pip install --no-deps dask-kubernetes")
    (found,) = (file for file in files if str(file).endswith("crds/daskjob.yaml"))
    definition = yaml.load(found.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (version,) = definition["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


def unknown_fields(value: Any, schema: dict[str, Any], path: str = "") -> list[str]:
    """Return the fields that a schema does not have: the API server drops them in silence."""
    if isinstance(value, list):
        items = schema.get("items", {})
        return [f for n, v in enumerate(value) for f in unknown_fields(v, items, f"{path}[{n}]")]
    known = schema.get("properties")
    if not isinstance(value, dict) or known is None:
        return []
    found = [f"{path}.{name}" for name in value if name not in known]
    for name in value.keys() & known.keys():
        found += unknown_fields(value[name], known[name], f"{path}.{name}")
    return found


@pytest.mark.parametrize("document", NATIVE, ids=lambda d: f"{d['kind']}-{d['metadata']['name']}")
def test_manifests_are_valid(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_the_dask_job_is_what_the_operator_knows() -> None:
    job, schema = dask_job(), dask_job_schema()
    jsonschema.validate(job, schema)
    assert unknown_fields(job["spec"], schema["properties"]["spec"]) == []
    assert unknown_fields({"spec": {"job": {"spce": {}}}}, schema) == [".spec.job.spce"]


def test_its_pods_and_service_are_what_kubernetes_knows() -> None:
    for pod in pods().values():
        validate("Pod", pod)
    validate("Service", dask_job()["spec"]["cluster"]["spec"]["scheduler"]["service"])


def test_kustomization_names_every_manifest() -> None:
    (kustomization,) = documents(DEPLOY / "kubernetes" / "kustomization.yaml")
    others = {path.name for path in MANIFESTS} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == others


@pytest.mark.parametrize("name", ["job-runner", "scheduler", "worker"])
def test_pods_have_no_more_rights_than_they_need(name: str) -> None:
    pod = pods()[name]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(pod):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        assert mounts["/certificates"]["readOnly"] is True
        environment = {item["name"]: item["value"] for item in container["env"]}
        assert environment["DASK_CONFIG"] == "/certificates"
        assert environment["DASK_SCHEDULER_ADDRESS"].startswith("tls://")


def test_only_the_clusters_pods_reach_the_scheduler() -> None:
    name = dask_job()["metadata"]["name"]
    policies = {d["metadata"]["name"]: d["spec"] for d in NATIVE if d["kind"] == "NetworkPolicy"}
    assert policies["deny-all"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    of_cluster = {"dask.org/cluster-name": name}
    for policy in policies.values():
        for rule in policy.get("ingress", []):
            assert [set(peer) for peer in rule["from"]] == [{"podSelector"}]
            assert rule["from"][0]["podSelector"]["matchLabels"] == of_cluster
    selected = policies["scheduler"]["podSelector"]["matchLabels"]
    assert selected == {**of_cluster, "dask.org/component": "scheduler"}


def test_every_worker_has_a_gpu_and_every_address_the_schedulers_name() -> None:
    (worker,) = pods()["worker"]["containers"]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    text = (DEPLOY / "kubernetes" / "daskjob.yaml").read_text()
    name = dask_job()["metadata"]["name"]
    assert set(re.findall(r"\w+://[\w.-]+:8786", text)) == {f"tls://{name}-scheduler:8786"}


# The commands in manifests and pages; tests of the scripts are in test_slurm_scripts.py


@pytest.mark.parametrize("name", ["job-runner", "scheduler", "worker"])
def test_commands_of_pods_exist(name: str) -> None:
    (container,) = pods()[name]["containers"]
    program, *arguments = container["command"]
    {"tomoseg": check_tomoseg, "dask": check_dask}[program](arguments)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.parent.name)
def test_commands_on_pages_exist(page: Path) -> None:
    failures = []
    checked = 0
    for words in page_lines(page):
        try:
            checked += check_line(words)
        except Exception as error:
            failures.append(f"{' '.join(words)}: {error}")
    assert not failures, "\n".join(failures)
    assert checked


def test_every_folder_has_a_page_that_the_index_names() -> None:
    index = (DEPLOY / "README.md").read_text()
    for folder in (path for path in DEPLOY.iterdir() if path.is_dir()):
        assert (folder / "README.md").is_file()
        assert f"({folder.name}/README.md)" in index
