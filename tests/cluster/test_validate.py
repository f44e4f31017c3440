"""What is shipped passes; every single thing spoilt in it is refused, alone and by its own line."""

import re
from pathlib import Path

import pytest
import yaml

from cluster.validate import faults, main
from sr_models.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
CLOUD, CLUSTER, JOB, STORES, IMAGE = (
    ROOT / "cluster" / name
    for name in ("autoscale.yaml", "kuberay/cluster.yaml", "kuberay/job.yaml", "kuberay/stores.yaml", "Dockerfile")
)
SHIPPED = (CLOUD, CLUSTER, JOB, STORES, IMAGE)
TOKEN_PATH = "RAY_AUTH_TOKEN_PATH=~/.ray/auth_token RAY_USAGE"

SPOILT = [  # file, what stands there, what is put there (first place only), what the one new line says
    (CLOUD, "cluster_name: sr-sweep\n", "", "cluster_name: not given"),
    (CLOUD, "max_workers: 8", "max_workers: 9", "allow 8 in all"),
    (CLOUD, "max_workers: 8", "max_workers: 4", "8 > 4, the whole cluster's"),
    (CLOUD, "min_workers: 0\n        max_workers: 0", "min_workers: 1\n        max_workers: 0", "min_workers 1 > max_"),
    (CLOUD, "idle_timeout_minutes: 5\n", "", "idle_timeout_minutes: None"),
    (CLOUD, "idle_timeout_minutes: 5", "idle_timeout_minutes: 600", "0 < minutes <= 60"),
    (CLOUD, "upscaling_speed: 1.0", "upscaling_speed: fast", "Ray's schema: upscaling_speed"),
    (CLOUD, "upscaling_speed: 1.0", "upscale: 1.0", "Ray's schema: top level"),
    (CLOUD, "head_node_type: head", "head_node_type: hed", "head_node_type` must be one of"),
    (CLOUD, "IpPermissions: []", "IpPermissions: [{IpProtocol: tcp, FromPort: 8265, ToPort: 8265, IpRanges: "
     "[{CidrIp: 0.0.0.0/0}]}]", "opens ports 8265 to 8265 to 0.0.0.0/0"),
    (CLOUD, "IpPermissions: []", 'IpPermissions: [{IpProtocol: "-1", IpRanges: [{CidrIp: 10.0.0.0/8}]}]', "every port"),
    (CLOUD, "IpPermissions: []", "IpPermissions: [{IpProtocol: tcp, FromPort: 22, ToPort: 10001, Ipv6Ranges: "
     "[{CidrIpv6: '::/0'}]}]", "opens ports 22 to 10001 to ::/0"),
    (CLOUD, "--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0", "listens on 0.0.0.0"),
    (CLOUD, "--host 127.0.0.1", "--host 0.0.0.0", "listens on 0.0.0.0"),
    (CLOUD, "--allowed-hosts localhost:5000,127.0.0.1:5000 --artif", "--artif", "without --allowed-hosts"),
    (CLOUD, "--workers 1", "--workers 1 --disable-security-middleware", "without its security middleware"),
    (CLOUD, "listen_addresses = ''", "listen_addresses = '*'", "PostgreSQL listens on every interface"),
    (CLOUD, '    "~/.ray/auth_token": "~/.ray/sr-sweep.token"\n', "", "no token: ~/.ray/auth_token is not among"),
    (CLOUD, f"=token {TOKEN_PATH}", f"=disabled {TOKEN_PATH}", "let in"),
    (CLOUD, "RAY_USAGE_STATS_ENABLED=0\n", "\n", "reports usage"),
    (CLOUD, "RAY_ROTATION_MAX_BYTES=100000000", "", "logs grow"),
    (CLOUD, " --object-spilling-directory=$HOME/ray-spill", "", "spill into /tmp"),
    (CLOUD, "boto3==1.44.5", "boto3", "pip install boto3: not pinned"),
    (CLOUD, "boto3==1.44.5", "'boto3>=1.4.8'", "pip install boto3>=1.4.8: not pinned"),
    (CLOUD, "-c constraints.txt -r", "-r", "-r requirements.txt: not pinned"),
    (CLOUD, "HttpTokens: required", "HttpTokens: optional", "IMDSv2"),
    (CLOUD, "resolve:ssm:/sr-sweep/image:1", "resolve:ssm:/aws/latest/ami-id", "latest/ami-id is not pinned"),
    (CLOUD, "auth:\n", "docker: {image: ray:latest, container_name: ray}\nauth:\n", "docker.image: ray:latest is not"),
    (CLOUD, "export RAY_AUTH_MODE", "export RAY_AUTH_TOKEN=0123abcd RAY_AUTH_MODE", "holds a secret"),
    (CLOUD, "psycopg:///mlflow?", "psycopg://u:hunter2@db/mlflow?", "holds a secret"),
    (CLOUD, "SR_MAY_ADD=8x8+1", "", "SR_MAY_ADD= on the head, but its workers are 8x8+1"),
    (CLOUD, 'resources: {"CPU": 8, "GPU": 1}', 'resources: {"CPU": 16, "GPU": 1}', "its workers are 8x16+1"),
    (CLUSTER, '"8x8+1"', '"4x8+1"', "SR_MAY_ADD=4x8+1 on the head, but its workers are 8x8+1"),
    (CLUSTER, "mode: token", "mode: disabled", "authOptions.mode: not token"),
    (CLUSTER, "enableInTreeAutoscaling: true", "enableInTreeAutoscaling: false", "enableInTreeAutoscaling: not true"),
    (CLUSTER, "idleTimeoutSeconds: 300", "idleTimeoutSeconds: 0", "idleTimeoutSeconds"),
    (CLUSTER, "serviceType: ClusterIP", "serviceType: LoadBalancer", "headGroupSpec: type LoadBalancer"),
    (CLUSTER, "serviceType: ClusterIP", "enableIngress: true", "no Ingress"),
    (CLUSTER, "rayVersion: 2.60.0", "rayVersion: latest", "rayVersion: latest"),
    (CLUSTER, "image: sr-sweep:0.1.0", "image: sr-sweep:latest", "ray-head: sr-sweep:latest is not pinned"),
    (CLUSTER, "image: sr-sweep:0.1.0", "image: host:5000/sr-sweep", "ray-head: host:5000/sr-sweep is not pinned"),
    (CLUSTER, 'limits: {cpu: "4", memory: 16Gi}', 'limits: {cpu: "4"}', "resources.limits without memory"),
    (CLUSTER, "maxReplicas: 8", "maxReplicas: -1", "not minReplicas 0 <= replicas <= maxReplicas -1"),
    (CLUSTER, "automountServiceAccountToken: false", "hostNetwork: true", "hostNetwork"),
    (CLUSTER, "{name: SR_CACHE, value: /home/sr/cache}", "{name: PGPASSWORD, value: x}", "holds a secret"),
    (JOB, "shutdownAfterJobFinishes: true", "shutdownAfterJobFinishes: false", "cost on after its job"),
    (JOB, "    activeDeadlineSeconds: 259200\n", "", "activeDeadlineSeconds: not given"),
    (JOB, "mode: token", "mode: disabled", "RayJob sr-sweep: authOptions.mode: not token"),
    (JOB, "        --as-job\n", "", "without --as-job"),
    (STORES, "type: ClusterIP", "type: NodePort", "Service sr-sweep-postgres: type NodePort"),
    (STORES, "kind: ConfigMap", "kind: Secret", "kubectl create secret"),
    (STORES, "postgres:16.10-bookworm", "postgres:latest", "postgres:latest is not pinned"),
    (STORES, "{runAsNonRoot: true, runAsUser: 999,", "{runAsUser: 0,", "may run as root"),
    (STORES, "{allowPrivilegeEscalation: false, ", "{privileged: true, ", "may become root"),
    (IMAGE, "python:3.11.14-slim-bookworm", "python", "FROM: python is not pinned"),
    (IMAGE, "USER 1000:1000\n", "", "USER: runs as root"),
    (IMAGE, "'psycopg[binary]==3.3.9'", "psycopg", "RUN: pip install psycopg: not pinned"),
]  # fmt: skip


def spoil(path: Path, old: str, new: str, folder: Path) -> Path:
    text = path.read_text(encoding="utf-8")
    assert old in text, "the shipped file has changed; change this table too"
    copy = folder / path.name
    copy.write_text(text.replace(old, new, 1), encoding="utf-8")
    return copy


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_what_is_shipped_passes(path: Path) -> None:
    assert faults(path) == []


@pytest.mark.parametrize(("path", "old", "new", "said"), SPOILT, ids=[f"{s[0].name}: {s[3]}" for s in SPOILT])
def test_one_thing_spoilt_is_one_line(path: Path, old: str, new: str, said: str, tmp_path: Path) -> None:
    found = faults(spoil(path, old, new, tmp_path))
    shared = {"IMDSv2", "latest/ami-id is not pinned", "no token: ~/.ray/auth_token is not among"}  # by head and worker
    assert len(found) == (2 if said in shared else 1), found
    assert all(said in fault and "\n" not in fault for fault in found), found


def test_rays_own_defaults_are_judged_too(tmp_path: Path) -> None:
    """A file that leaves a list out gets Ray's: an open dashboard, and whatever Ray is newest."""
    raw = yaml.safe_load(CLOUD.read_text(encoding="utf-8"))
    del raw["head_start_ray_commands"], raw["setup_commands"]
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    found = faults(tmp_path / "short.yaml")
    assert any("head_start_ray_commands: listens on 0.0.0.0" in fault for fault in found)
    assert any("setup_commands: pip install ray[default]: not pinned" in fault for fault in found)
    assert any("without RAY_AUTH_MODE=token" in fault for fault in found)


def test_one_version_of_ray_and_of_each_store_package() -> None:
    pins = dict(re.findall(r"^([\w.\-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M))
    for path in (CLUSTER, JOB):
        assert re.findall(r"rayVersion: (\S+)", path.read_text(encoding="utf-8")) == [pins["ray"]]
    psycopg = {
        re.search(r"psycopg\[binary\]==([\d.]+)", p.read_text(encoding="utf-8")).group(1) for p in (CLOUD, IMAGE)
    }  # type: ignore[union-attr]
    assert len(psycopg) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1", "cannot be read"),
        ("", "expected a YAML mapping"),
        ("- 1", "expected a YAML mapping"),
        ("a: 1", "neither a cluster file"),
        ("kind: RayCluster\nspec: [1]", "not of Kubernetes' shape"),
    ],
)
def test_what_cannot_be_judged_ends_with_2(text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        faults(path)
    assert main([str(CLOUD), str(path)]) == 2
    assert said in capsys.readouterr().err
    assert main([str(tmp_path / "absent.yaml")]) == 2


def test_the_command_prints_a_line_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([str(path) for path in SHIPPED]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{path}: ok" for path in SHIPPED]
    bad = spoil(IMAGE, "USER 1000:1000\n", "USER root\n", tmp_path)
    assert main([str(bad), str(JOB)]) == 1
    assert capsys.readouterr().out.splitlines() == [f"{bad}: USER: runs as root", f"{JOB}: ok"]
