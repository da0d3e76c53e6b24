"""Schemas of the custom resources in deploy/, by hand: KServe's and KEDA's fields that are used.

No package has them offline. The names and types are those of KServe's and KEDA's Go types; a field
that is not here fails, so that a misspelled one is found. What is Kubernetes' own is `ANY`.
"""

from typing import Any

__all__ = ["SCHEMAS"]

STRING, WHOLE, BOOLEAN = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
STRINGS = {"type": "object", "additionalProperties": STRING}


def fields(required: str = "", **properties: Any) -> dict[str, Any]:
    """Return the schema of an object with these fields and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def several(schema: Any) -> dict[str, Any]:
    return {"type": "array", "items": schema, "minItems": 1}


def resource(api: str, kind: str, spec: Any) -> dict[str, Any]:
    return fields(
        "apiVersion kind metadata spec",
        apiVersion={"const": api},
        kind={"const": kind},
        metadata=fields("name", name=STRING, labels=STRINGS, annotations=STRINGS),
        spec=spec,
    )


# Checked as parts of a Deployment: see test_deploy.py.
ANY: dict[str, Any] = {}

SERVING_RUNTIME = resource(
    "serving.kserve.io/v1alpha1",
    "ServingRuntime",
    fields(
        "supportedModelFormats containers",
        supportedModelFormats=several(
            fields("name", name=STRING, version=STRING, autoSelect=BOOLEAN, priority=WHOLE)
        ),
        protocolVersions=several({"enum": ["v1", "v2", "grpc-v1", "grpc-v2"]}),
        multiModel=BOOLEAN,
        annotations=STRINGS,
        labels=STRINGS,
        containers=several(ANY),
    ),
)
INFERENCE_SERVICE = resource(
    "serving.kserve.io/v1beta1",
    "InferenceService",
    fields(
        "predictor",
        predictor=fields(
            "model",
            minReplicas=WHOLE,
            maxReplicas=WHOLE,
            terminationGracePeriodSeconds=WHOLE,
            model=fields(
                "modelFormat",
                modelFormat=fields("name", name=STRING, version=STRING),
                runtime=STRING,
                protocolVersion=STRING,
                storageUri={"type": "string", "pattern": "^(pvc|s3|gs|hf|https|oci)://"},
            ),
            autoScaling=fields(
                metrics=several(
                    fields(
                        "type external",
                        type={"const": "External"},
                        external=fields(
                            "metric target",
                            metric=fields(
                                "backend",
                                backend={"enum": ["prometheus", "graphite"]},
                                serverAddress=STRING,
                                query=STRING,
                                namespace=STRING,
                            ),
                            target=fields(
                                "type",
                                type={"enum": ["Utilization", "Value", "AverageValue"]},
                                value=STRING,
                                averageValue=STRING,
                            ),
                        ),
                    )
                )
            ),
        ),
    ),
)
SCALED_OBJECT = resource(
    "keda.sh/v1alpha1",
    "ScaledObject",
    fields(
        "scaleTargetRef triggers",
        scaleTargetRef=fields("name", name=STRING, apiVersion=STRING, kind=STRING),
        minReplicaCount=WHOLE,
        maxReplicaCount=WHOLE,
        pollingInterval=WHOLE,
        cooldownPeriod=WHOLE,
        advanced=fields(horizontalPodAutoscalerConfig=fields(behavior=ANY)),
        fallback=fields("failureThreshold replicas", failureThreshold=WHOLE, replicas=WHOLE),
        triggers=several(
            fields(
                "type metadata",
                type={"const": "prometheus"},
                metricType={"enum": ["AverageValue", "Value"]},
                metadata=fields(
                    "serverAddress query threshold",
                    # KEDA reads all of them as strings.
                    serverAddress=STRING,
                    query=STRING,
                    threshold=STRING,
                    activationThreshold=STRING,
                ),
            )
        ),
    ),
)
KUSTOMIZATION = fields(
    "apiVersion kind resources",
    apiVersion={"const": "kustomize.config.k8s.io/v1beta1"},
    kind={"const": "Kustomization"},
    resources=several(STRING),
)

SCHEMAS = {
    "ServingRuntime": SERVING_RUNTIME,
    "InferenceService": INFERENCE_SERVICE,
    "ScaledObject": SCALED_OBJECT,
    "Kustomization": KUSTOMIZATION,
}
