"""`python -m cluster.validate FILE ...`: what is wrong with a cluster's files, offline, one line a fault.

Reads `ray up` cluster files, Kubernetes objects (KubeRay's among them) and Dockerfiles. A cluster file goes through
Ray's own check first (https://docs.ray.io/en/latest/cluster/vms/references/ray-cluster-configuration.html), with Ray's
defaults filled in, because those open the dashboard and install whatever is newest. Ours then look for what Ray lets
through: numbers that contradict each other, versions that move, open doors, secrets, and costs without an end.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cluster.ray_private import complete_cluster_file
from cluster.secrets import PASSWORD
from sr_models.command import EXIT_DONE, EXIT_FAILED, Parser, run_command, tell
from sr_models.errors import InputError
from sr_models.yaml_text import read_text

PROG = "python -m cluster.validate"

COMMANDS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)
WANTED_AT_START = {  # what each `ray start` of a cluster file must be given -> what happens without it
    "RAY_AUTH_MODE=token": "requests without the token are let in",
    "RAY_USAGE_STATS_ENABLED=0": "Ray reports usage to its makers",
    "RAY_ROTATION_MAX_BYTES=": "logs grow until the disk is full",
    "--object-spilling-directory": "objects spill into /tmp",
}
LOOPBACK = ("127.0.0.1", "localhost", "::1")
VALUE_OPTIONS = {"-c", "--constraint", "-r", "--requirement", "-t", "--target", "--find-links", "--index-url", "-i"}
_SECRET_NAMES = "(?:RAY_AUTH_TOKEN|PGPASSWORD|POSTGRES_PASSWORD|AWS_SECRET_ACCESS_KEY)"
SECRETS = (
    re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
    re.compile(r"BEGIN [A-Z ]*PRIVATE KEY"),
    re.compile(rf"\b{_SECRET_NAMES}['\"]?\s*[=:]\s*['\"]?[\w+/]", re.I),
    re.compile(rf"name:\s*{_SECRET_NAMES}\s*,\s*value:", re.I),
)


def faults(path: Path) -> list[str]:
    """Everything wrong with one file, one line each, without the file's name; an empty list if nothing is.

    Raises:
        InputError: a file that cannot be read, is not YAML, or is none of the three kinds.
    """
    try:
        text = read_text(path)
        documents = [] if path.name.startswith("Dockerfile") else [d for d in yaml.safe_load_all(text) if d is not None]
    except yaml.YAMLError as error:
        raise InputError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    found = list(_secrets(text))
    if path.name.startswith("Dockerfile"):
        return found + list(_dockerfile(text))
    if not documents or not all(isinstance(document, dict) for document in documents):
        raise InputError(f"{path}: expected a YAML mapping or several, got {text[:40]!r}")
    if "provider" in documents[0]:
        return found + list(_cluster_file(documents[0]))
    if not all("kind" in document for document in documents):
        raise InputError(f"{path}: neither a cluster file (provider:), Kubernetes objects (kind:) nor a Dockerfile")
    for document in documents:
        try:
            where = f"{document['kind']} {(document.get('metadata') or {}).get('name')}"
            found += [f"{where}: {fault}" for fault in _kubernetes(document)]
        except (AttributeError, TypeError) as error:  # a list where a mapping belongs, and the like
            raise InputError(f"{path}: {document['kind']}: not of Kubernetes' shape: {error}") from None
    return found


def _secrets(text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), start=1):
        written = any("$" not in login[0] for login in PASSWORD.finditer(line))  # $NAME only says where it stands
        if written or any(pattern.search(line) for pattern in SECRETS):
            yield f"line {number}: holds a secret; mount it from a file or a Kubernetes Secret"


# ---- `ray up` ----


def _cluster_file(raw: dict[str, Any]) -> Iterator[str]:
    from jsonschema import ValidationError  # type: ignore[import-untyped]

    try:
        config = complete_cluster_file(copy.deepcopy(raw))
    except ValidationError as error:
        yield f"Ray's schema: {'.'.join(map(str, error.absolute_path)) or 'top level'}: {error.message.splitlines()[0]}"
        return
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError, NotImplementedError) as error:
        # what Ray's own reading raises of a file that its schema lets through: a finding about the file, which is said
        yield f"Ray's check: {type(error).__name__}: {' '.join(str(error).split())}"
        return
    if raw.get("cluster_name", "default") == "default":
        yield "cluster_name: not given; two clusters of one name end each other's nodes"
    if not 0 < raw.get("idle_timeout_minutes", 0) <= 60:
        yield f"idle_timeout_minutes: {raw.get('idle_timeout_minutes')}; 0 < minutes <= 60, idle workers cost so long"
    yield from _worker_counts(config)
    for name, node_type in config["available_node_types"].items():
        yield from _machine(f"available_node_types.{name}", node_type, config["provider"]["type"])
    for rule in config["provider"].get("security_group", {}).get("IpPermissions", []):
        yield from _ingress(rule)
    head = config["head_node_type"]
    workers = [node_type for name, node_type in config["available_node_types"].items() if name != head]
    told = re.search(r"\bSR_MAY_ADD=(\S+)", "\n".join(config["head_start_ray_commands"]))
    shapes = [(t["max_workers"], t["resources"].get("CPU", 0), t["resources"].get("GPU", 0)) for t in workers]
    yield from _growth(shapes, told.group(1) if told else None)
    yield from _token(config)
    once = {command: key for key in reversed(COMMANDS) for command in config[key]}  # Ray copies setup_commands to both
    for command, key in once.items():
        yield from (f"{key}: {fault}" for fault in _command(command))
    for key in ("image", "head_image", "worker_image"):
        yield from _image(f"docker.{key}", config.get("docker", {}).get(key))


def _worker_counts(config: Mapping[str, Any]) -> Iterator[str]:
    total = config["max_workers"]
    types = {name: (t["min_workers"], t["max_workers"]) for name, t in config["available_node_types"].items()}
    for name, (least, most) in types.items():
        if least > most:
            yield f"available_node_types.{name}: min_workers {least} > max_workers {most}"
        if most > total:
            yield f"available_node_types.{name}: max_workers {most} > {total}, the whole cluster's"
    if total > (reachable := sum(most for _, most in types.values())):
        yield f"max_workers: {total}, but its node types allow {reachable} in all"


def _growth(shapes: Sequence[tuple[int, Any, Any]], said: str | None) -> Iterator[str]:
    """What the head tells sweeps may still come (`cluster.ray_runtime.parse_growth`), against what really may.

    Args:
        shapes: (most nodes, CPUs, GPUs) of each kind of worker.
    """
    may = ",".join(
        f"{most}x{int(cpus)}" + (f"+{int(gpus)}" if int(gpus) else "") for most, cpus, gpus in shapes if most
    )
    if may and said != may:
        yield f"SR_MAY_ADD={said or ''} on the head, but its workers are {may}; a sweep would plan for other nodes"


def _machine(where: str, node_type: Mapping[str, Any], provider: str) -> Iterator[str]:
    """One node type: its image's pin and, on AWS, the metadata service's version."""
    yield from _image(f"{where}.docker.worker_image", node_type.get("docker", {}).get("worker_image"))
    for command in [*node_type.get("initialization_commands", []), *node_type.get("worker_setup_commands", [])]:
        yield from (f"{where}: {fault}" for fault in _command(command))
    if provider != "aws":
        return
    machine = node_type["node_config"]
    image = str(machine.get("ImageId"))
    if not re.fullmatch(r"ami-[0-9a-f]{8,17}|resolve:ssm:/[\w./-]+:\d+", image):
        yield f"{where}.node_config.ImageId: {image} is not pinned; ami-<hex> or resolve:ssm:/<parameter>:<version>"
    if (machine.get("MetadataOptions") or {}).get("HttpTokens") != "required":
        yield f"{where}.node_config.MetadataOptions: HttpTokens is not required (IMDSv2); credentials may leak"


def _ingress(rule: Mapping[str, Any]) -> Iterator[str]:
    """Addresses may reach port 22; everything else is for members of the group, through UserIdGroupPairs."""
    ports = (rule.get("FromPort"), rule.get("ToPort"))
    sources = [r.get("CidrIp") for r in rule.get("IpRanges", [])]
    sources += [r.get("CidrIpv6") for r in rule.get("Ipv6Ranges", [])]
    if sources and (rule.get("IpProtocol"), *ports) != ("tcp", 22, 22):
        opened = "every port" if rule.get("IpProtocol") == "-1" else f"ports {ports[0]} to {ports[1]}"
        yield f"provider.security_group: opens {opened} to {', '.join(map(str, sources))}; only tcp 22 may be, use SSH"


def _token(config: Mapping[str, Any]) -> Iterator[str]:
    """Each `ray start` must demand a token, from a file that is mounted."""
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        starts = [command for command in config[key] if re.search(r"\bray start\b", command)]
        if not starts:
            yield f"{key}: no `ray start`"
        for command in starts:
            for wanted, otherwise in WANTED_AT_START.items():
                if wanted not in command:
                    yield f"{key}: `ray start` without {wanted}: {otherwise}"
            at = re.search(r"RAY_AUTH_TOKEN_PATH=(\S+)", command)
            if (at.group(1) if at else "~/.ray/auth_token") not in config["file_mounts"]:
                yield f"{key}: no token: {at.group(1) if at else '~/.ray/auth_token'} is not among file_mounts"


def _command(command: str) -> Iterator[str]:
    """One shell command: versions that move, services that listen to everybody."""
    yield from _pip(command)
    for host in re.findall(r"--(?:dashboard-)?host[= ](\S+)", command):
        if host not in LOOPBACK:
            yield f"listens on {host}; bind it to 127.0.0.1 and come through SSH"
    if re.search(r"listen_addresses\s*=\s*\W*(\*|0\.0\.0\.0|::)", command):
        yield "PostgreSQL listens on every interface; listen_addresses = '' leaves its socket"
    if re.search(r"\bmlflow server\b", command) and "--allowed-hosts" not in command:
        yield "mlflow server without --allowed-hosts: a web page can reach it under a borrowed name"
    if "--disable-security-middleware" in command:
        yield "mlflow server without its security middleware"


def _pip(command: str) -> Iterator[str]:
    """Requirements that neither `==` nor a constraints file pins; `pip install` options are looked through, not run."""
    for arguments in re.findall(r"\bpip3? install\s+([^&|;\n]+)", command.replace("\\\n", " ")):
        words = [word.strip("'\"") for word in arguments.split()]
        options = [word for word in words if word.startswith("-")]
        if any(option.split("=")[0] in ("-c", "--constraint") for option in options):
            continue
        valued = {place + 1 for place, word in enumerate(words) if word in VALUE_OPTIONS}
        named = [word for place, word in enumerate(words) if not word.startswith("-") and place not in valued]
        for name in named:
            if not re.fullmatch(r"[\w.\-]+(\[[\w,\-]+\])?==[\w.+!]+", name):
                yield f"pip install {name}: not pinned; name==version, or -c constraints.txt"
        for place in sorted(valued):
            if words[place - 1] in ("-r", "--requirement"):
                yield f"pip install -r {words[place]}: not pinned without -c constraints.txt"


def _image(where: str, image: str | None) -> Iterator[str]:
    """A container image by digest, or by a tag that is a version."""
    if image is None or re.search(r"@sha256:[0-9a-f]{64}$", image):
        return
    _, _, tag = image.rpartition("/")[2].partition(":")
    if not re.match(r"v?\d+\.\d+", tag):
        yield f"{where}: {image} is not pinned; a tag such as :1.2.3, or @sha256:<digest>"


# ---- Kubernetes ----


def _kubernetes(document: Mapping[str, Any]) -> Iterator[str]:
    kind, spec = document["kind"], document.get("spec") or {}
    if not (document.get("metadata") or {}).get("name"):
        yield "metadata.name: not given"
    if kind == "Secret":
        yield "a Secret in a file that is committed; make it with kubectl create secret"
    elif kind == "Ingress":
        yield "opens a door to the outside; use kubectl port-forward"
    elif kind == "Service" and spec.get("type", "ClusterIP") != "ClusterIP":
        yield f"type {spec['type']} opens a port to the outside; ClusterIP and kubectl port-forward"
    elif kind == "RayCluster":
        yield from _ray_cluster(spec)
    elif kind == "RayJob":
        yield from _ray_job(spec)
    elif kind in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
        yield from _pod(kind.lower(), (spec.get("template") or {}).get("spec") or {})


def _ray_job(spec: Mapping[str, Any]) -> Iterator[str]:
    if spec.get("shutdownAfterJobFinishes") is not True:
        yield "shutdownAfterJobFinishes: not true; the cluster would cost on after its job"
    if not spec.get("activeDeadlineSeconds"):
        yield "activeDeadlineSeconds: not given; a job that hangs would cost for ever"
    line = str(spec.get("entrypoint"))
    if spec.get("backoffLimit") and "orchestrator.sweep" in line and "--as-job" not in line.split():
        yield "entrypoint: without --as-job; a job that ended for wrong input would be sent again, to end the same"
    if "submitterPodTemplate" in spec:
        yield from _pod("submitter", spec["submitterPodTemplate"].get("spec") or {})
    yield from _ray_cluster(spec.get("rayClusterSpec") or {})


def _ray_cluster(spec: Mapping[str, Any]) -> Iterator[str]:
    if not re.fullmatch(r"\d+\.\d+\.\d+", str(spec.get("rayVersion"))):
        yield f"rayVersion: {spec.get('rayVersion')}; the image's Ray, such as 2.60.0"
    if (spec.get("authOptions") or {}).get("mode") != "token":
        yield "authOptions.mode: not token; whoever reaches the head may run code"
    if spec.get("enableInTreeAutoscaling") is not True:
        yield "enableInTreeAutoscaling: not true; workers would neither come nor go"
    if not 0 < (spec.get("autoscalerOptions") or {}).get("idleTimeoutSeconds", 0) <= 3600:
        yield "autoscalerOptions.idleTimeoutSeconds: 0 < seconds <= 3600, idle workers cost until then"
    head, workers = spec.get("headGroupSpec") or {}, spec.get("workerGroupSpecs") or []
    service = head.get("serviceType") or (head.get("headService") or {}).get("spec", {}).get("type") or "ClusterIP"
    if service != "ClusterIP" or head.get("enableIngress"):
        yield f"headGroupSpec: type {service} or its Ingress opens the head to the outside; ClusterIP and no Ingress"
    for where, group in [("head", head), *((f"worker group {group.get('groupName')}", group) for group in workers)]:
        yield from _pod(where, (group.get("template") or {}).get("spec") or {})
    containers = [_containers(group)[0] for group in (head, *workers) if _containers(group)]
    if len(containers) == 1 + len(workers):
        told = {variable.get("name"): variable.get("value") for variable in containers[0].get("env", [])}
        limits = [(container.get("resources") or {}).get("limits") or {} for container in containers[1:]]
        counts = [group.get("maxReplicas") or 0 for group in workers]
        shapes = [(n, has.get("cpu", 0), has.get("nvidia.com/gpu", 0)) for n, has in zip(counts, limits, strict=True)]
        if min(counts, default=0) >= 0:
            yield from _growth(shapes, told.get("SR_MAY_ADD"))
    for group in workers:
        least, most = group.get("minReplicas", 0), group.get("maxReplicas")
        if most is None or not least <= group.get("replicas", least) <= most:
            yield f"worker group {group.get('groupName')}: not minReplicas {least} <= replicas <= maxReplicas {most}"


def _containers(group: Mapping[str, Any]) -> list[Any]:
    return ((group.get("template") or {}).get("spec") or {}).get("containers") or []


def _pod(where: str, pod: Mapping[str, Any]) -> Iterator[str]:
    """Pinned images, bounded resources, no root, nothing of the node's own."""
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield f"{where}: {key} hands the pod its node's"
    containers = [*pod.get("initContainers", []), *pod.get("containers", [])]
    if not containers:
        yield f"{where}: no containers"
    for container in containers:
        name = f"{where}, container {container.get('name')}"
        yield from _image(name, str(container.get("image")))
        resources = container.get("resources") or {}
        for what in ("requests", "limits"):
            if missing := {"cpu", "memory"} - set(resources.get(what) or {}):
                yield f"{name}: resources.{what} without {' and '.join(sorted(missing))}"
        own, pods = container.get("securityContext") or {}, pod.get("securityContext") or {}
        if not own.get("runAsNonRoot", pods.get("runAsNonRoot")):
            yield f"{name}: may run as root; securityContext.runAsNonRoot: true"
        if own.get("privileged") or own.get("allowPrivilegeEscalation") is not False:
            yield f"{name}: may become root; securityContext.allowPrivilegeEscalation: false"
        if any(port.get("hostPort") for port in container.get("ports", [])):
            yield f"{name}: hostPort opens a port of the node"


# ---- Docker ----


def _dockerfile(text: str) -> Iterator[str]:
    joined = re.sub(r"\\\n", " ", text)
    lines = [line.strip() for line in joined.splitlines() if line.strip() and not line.strip().startswith("#")]
    stages: list[str] = []
    for line in lines:
        word, _, rest = line.partition(" ")
        if word.upper() == "FROM":
            image, *alias = rest.split()
            yield from () if image in stages else _image("FROM", image)
            stages += alias[1:2]
        elif word.upper() == "RUN":
            yield from (f"RUN: {fault}" for fault in _pip(rest))
        elif word.upper() == "ADD" and "://" in rest:
            yield f"ADD {rest.split()[0]}: fetched without a check of what came"
    users = [line.split()[1].split(":")[0] for line in lines if line.upper().startswith("USER ")]
    if not users or users[-1] in ("root", "0"):
        yield "USER: runs as root"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the faults of each file; 0 if there are none, 1 if there are, 2 for a file that cannot be judged."""
    return run_command(PROG, _run, argv)


def _run(argv: Sequence[str]) -> int:
    parser = Parser(prog=PROG, description="Check what a cluster is deployed from, offline.")
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="`ray up` file, Kubernetes YAML, Dockerfile"
    )
    code = EXIT_DONE
    for path in parser.parse_args(argv).files:
        found = faults(path)
        tell("\n".join(f"{path}: {fault}" for fault in found) if found else f"{path}: ok")
        code = EXIT_FAILED if found else code
    return code


if __name__ == "__main__":
    raise SystemExit(main())
