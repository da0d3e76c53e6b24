"""deploy/kubernetes and deploy/kserve: valid by their schemas, and true of `bertrt serve`."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest

from bertrt.serving.app import ROUTES
from bertrt.serving.keys import ENVIRONMENT
from bertrt.serving.metrics import Metrics
from bertrt.serving.models import Models

DEPLOY = Path(__file__).parents[2] / "deploy"
# Values of a Helm chart have no schema of Kubernetes.
VALUES = "kubernetes/prometheus-adapter-values.yaml"
FILES = sorted(
    path
    for path in (str(file.relative_to(DEPLOY)) for file in DEPLOY.rglob("*.yaml"))
    if path != VALUES
)
VERSIONS = ("1.29", "1.37")
DEPLOYMENT = "kubernetes/deployment.yaml"
RUNTIME = "kserve/serving-runtime.yaml"
SERVICE = "kserve/inference-service.yaml"

Read = Callable[[str], Any]


def check(document: Any) -> None:
    """Validate an object in an old and the newest version of Kubernetes; no field is unknown."""
    for version in VERSIONS:
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("path", FILES)
def test_schemas(path: str, read: Read, custom_schemas: dict[str, Any]) -> None:
    document = read(path)
    if document["kind"] in custom_schemas:
        jsonschema.validate(document, custom_schemas[document["kind"]])
    else:
        check(document)


def test_misspelled_fields_are_found(read: Read, custom_schemas: dict[str, Any]) -> None:
    document = read(DEPLOYMENT)
    document["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        check(document)
    document = read(SERVICE)
    document["spec"]["predictor"]["minReplica"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, custom_schemas["InferenceService"])


def test_parts_of_custom_resources(read: Read) -> None:
    """KServe's container and KEDA's behavior are those of Kubernetes."""
    document = read(DEPLOYMENT)
    document["spec"]["template"]["spec"]["containers"] = read(RUNTIME)["spec"]["containers"]
    document["spec"]["template"]["spec"]["volumes"] = []
    check(document)
    document = read("kubernetes/autoscaler-hpa.yaml")
    config = read("kubernetes/autoscaler-keda.yaml")["spec"]["advanced"]
    document["spec"]["behavior"] = config["horizontalPodAutoscalerConfig"]["behavior"]
    check(document)


def containers(read: Read) -> list[tuple[dict[str, Any], int]]:
    """Return each container that runs bertrt, with the seconds that its pod has to end."""
    pod = read(DEPLOYMENT)["spec"]["template"]["spec"]
    predictor = read(SERVICE)["spec"]["predictor"]
    return [
        (pod["containers"][0], pod["terminationGracePeriodSeconds"]),
        (read(RUNTIME)["spec"]["containers"][0], predictor["terminationGracePeriodSeconds"]),
    ]


@pytest.mark.parametrize("index", [0, 1])
def test_command_lines(index: int, read: Read, parse_serve: Callable[[list[str]], Any]) -> None:
    container, seconds = containers(read)[index]
    arguments = parse_serve([one.replace("{{.Name}}", "minilm") for one in container["args"]])
    ((name, path),) = arguments.models
    assert name == "minilm"
    assert arguments.host == "0.0.0.0"
    assert arguments.drain_delay + arguments.drain_timeout + 5 <= seconds
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert arguments.port in ports.values()
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container[kind]["httpGet"]
        assert ROUTES["GET", asked["path"]].is_open
        port = ports.get(asked["port"], asked["port"])
        assert port in (arguments.port, arguments.metrics_port)
        assert ("live" in asked["path"]) is (kind == "livenessProbe")
    # The server notices that it has to end before balancers stop asking.
    ready = container["readinessProbe"]
    assert ready["periodSeconds"] * ready["failureThreshold"] <= arguments.drain_delay
    resources = container["resources"]
    assert resources["requests"] == resources["limits"]
    assert resources["limits"]["cpu"].isdigit()
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"]
    assert security["allowPrivilegeEscalation"] is False
    mounts = [one["mountPath"] for one in container.get("volumeMounts", [])] or ["/mnt/models"]
    assert any(path.is_relative_to(mount) for mount in mounts)


def test_objects_refer_to_each_other(read: Read) -> None:
    deployment = read(DEPLOYMENT)
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    name = deployment["metadata"]["name"]
    pod = deployment["spec"]["template"]["spec"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    service = read("kubernetes/service.yaml")
    assert service["spec"]["selector"] == labels
    ports = {one["name"]: one["containerPort"] for one in pod["containers"][0]["ports"]}
    assert service["spec"]["ports"][0]["targetPort"] in ports
    assert read("kubernetes/disruption-budget.yaml")["spec"]["selector"]["matchLabels"] == labels
    scaled = read("kubernetes/autoscaler-hpa.yaml")["spec"]["scaleTargetRef"]
    assert (scaled["kind"], scaled["name"]) == (deployment["kind"], name)
    assert read("kubernetes/autoscaler-keda.yaml")["spec"]["scaleTargetRef"]["name"] == name
    volumes = {one["name"] for one in pod["volumes"]}
    assert {one["name"] for one in pod["containers"][0]["volumeMounts"]} == volumes
    (variable,) = pod["containers"][0]["env"]
    assert variable["name"] == ENVIRONMENT
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(ports["metrics"])
    assert ("GET", annotations["prometheus.io/path"]) in ROUTES
    runtime, predictor = read(RUNTIME), read(SERVICE)["spec"]["predictor"]
    assert predictor["model"]["runtime"] == runtime["metadata"]["name"]
    (known,) = runtime["spec"]["supportedModelFormats"]
    assert predictor["model"]["modelFormat"] == {key: known[key] for key in ("name", "version")}
    assert predictor["model"]["protocolVersion"] in runtime["spec"]["protocolVersions"]


def test_what_is_applied_together(read: Read) -> None:
    """One autoscaler of two, so neither is in the kustomization."""
    listed = set(read("kubernetes/kustomization.yaml")["resources"])
    files = {path.name for path in (DEPLOY / "kubernetes").glob("*.yaml")}
    assert listed <= files
    others = {"kustomization.yaml", "prometheus-adapter-values.yaml"}
    assert files - listed - others == {"autoscaler-hpa.yaml", "autoscaler-keda.yaml"}


def test_metrics_are_those_of_the_server(read: Read) -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in DEPLOY.rglob("*.yaml"))
    named = set(re.findall(r"\bbertrt_\w+", text))
    assert "bertrt_queue_tokens" in named
    rendered = Metrics().text(Models([]), True)
    known = set(re.findall(r"^# TYPE (\w+) ", rendered, re.MULTILINE))
    assert named <= known
    (rule,) = read(VALUES)["rules"]["custom"]
    (metric,) = read("kubernetes/autoscaler-hpa.yaml")["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    assert metric["pods"]["target"]["type"] == "AverageValue"


@pytest.mark.parametrize("page", ["kubernetes.md", "triton.md"])
def test_files_that_the_guides_name_exist(page: str) -> None:
    text = (DEPLOY.parent / "docs" / "guides" / page).read_text(encoding="utf-8")
    named = set(re.findall(r"\bdeploy/[\w./-]+", text))
    assert (len(named) > 5) is (page == "kubernetes.md")
    for path in named:
        assert (DEPLOY.parent / path).exists(), path
