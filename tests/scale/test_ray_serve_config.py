"""The configuration of docs/guides/ray.md for `serve deploy` and KubeRay."""

import os
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from ray.serve._private.api import call_user_app_builder_with_args_if_necessary
from ray.serve.schema import ServeDeploySchema

import bertrt.ray
from bertrt.errors import InputError
from bertrt.ray.application import Arguments

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/guides/ray.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
EMBEDDER = Path(os.environ["ARTIFACTS"]) / "embedder"


def built(arguments: dict[str, Any]) -> Any:
    """Return the deployment that Ray would build of a configuration's arguments."""
    app = call_user_app_builder_with_args_if_necessary(bertrt.ray.build, arguments)
    return app._bound_deployment


def serve_configs() -> list[dict[str, Any]]:
    """Return the guide's configurations of Serve, also those within a RayService."""
    found = []
    for block in BLOCKS:
        document = yaml.safe_load(block)
        if document.get("kind") == "RayService":
            document = yaml.safe_load(document["spec"]["serveConfigV2"])
        if "applications" in document:
            found.append(document)
    return found


def test_the_guide_has_both() -> None:
    assert len(serve_configs()) == 2


@pytest.mark.parametrize("document", serve_configs())
def test_ray_accepts_the_guide_s_configurations(document: dict[str, Any]) -> None:
    schema = ServeDeploySchema.model_validate(document)
    for application in schema.applications:
        module, name = application.import_path.split(":")
        assert (module, name) == ("bertrt.ray", "build")
        deployment = built(application.args)
        # Options apply to a deployment by its name.
        assert [one.name for one in application.deployments] == [deployment.name]


def test_a_ray_service_has_what_kuberay_needs() -> None:
    [service] = [
        document for document in map(yaml.safe_load, BLOCKS) if document.get("kind") == "RayService"
    ]
    assert service["apiVersion"] == "ray.io/v1"
    cluster = service["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        [container] = group["template"]["spec"]["containers"]
        assert {"name", "image", "resources"} <= container.keys()


def test_arguments_may_be_text() -> None:
    # As `serve run bertrt.ray:build models=DIR num_cpus=2` gives them.
    deployment = built({"models": "/models/minilm", "num_cpus": "2", "max_inputs": "5"})
    assert deployment.ray_actor_options["num_cpus"] == 2
    assert deployment.init_args == ({"minilm": "/models/minilm"},)
    assert deployment.init_kwargs["max_inputs"] == 5


def test_arguments_are_those_of_app() -> None:
    arguments = fields(Arguments.model_fields["root"].annotation)
    assert {one.name for one in arguments} == {"models", *bertrt.ray.Settings.names()}


@pytest.mark.parametrize(
    "arguments",
    [{}, {"models": 7}, {"models": "/m", "replicas": 2}, {"models": "/m", "max_inputs": "many"}],
)
def test_wrong_arguments(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        built(arguments)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"autoscaling": {"max_replica": 8}}, "autoscaling has no field 'max_replica': there are"),
        ({"autoscaling": {"max_replicas": 0}}, "Ray refuses autoscaling_config.max_replicas"),
        ({"autoscaling": {"max_replicas": "x"}}, "Ray refuses autoscaling_config.max_replicas"),
        (
            {"autoscaling": {"min_replicas": 5, "max_replicas": 2}},
            "Ray refuses autoscaling_config .*max_replicas .2. must be greater",
        ),
        ({"name": "a#b"}, "Ray refuses the settings .*: correct them"),
    ],
)
def test_settings_that_ray_refuses(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem) as raised:
        bertrt.ray.app("/m", **settings)
    assert "\n" not in str(raised.value)
    with pytest.raises(InputError, match=problem):
        built({"models": "/m", **settings})


def test_wrong_values() -> None:
    with pytest.raises((InputError, ValidationError), match="max_inputs is 0"):
        built({"models": "/m", "max_inputs": 0})
    with pytest.raises(InputError, match="there is no setting 'replicas'"):
        bertrt.ray.app("/m", replicas=2)
