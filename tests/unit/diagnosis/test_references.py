"""The field that names an object is found in whatever part of a spec, and by its kind."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_operator.diagnosis.references import Referenced, field_naming

SPEC: dict[str, Any] = {
    "model": {"source": "pvc://models/llama", "tokenSecret": {"name": "same", "key": "token"}},
    "auth": {"keys": [{"name": "team-key", "key": "token"}]},
    "engine": {
        "env": [
            {"name": "SECRET_NAME", "value": "plain"},
            {"name": "AWS", "valueFrom": {"secretKeyRef": {"name": "cloud", "key": "id"}}},
            {"name": "LEVEL", "valueFrom": {"configMapKeyRef": {"name": "same", "key": "level"}}},
        ]
    },
    "pod": {
        "imagePullSecrets": [{"name": "registry"}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        "patch": {"spec": {"volumes": [{"name": "ca", "projected": {"sources": [{"secret": {"name": "ca"}}]}}]}},
    },
    "storage": {"cache": {"existingClaim": "cache"}},
}


@pytest.mark.parametrize(
    ("kind", "name", "field"),
    [
        ("Secret", "same", "spec.model.tokenSecret"),
        ("ConfigMap", "same", "spec.engine.env[LEVEL].valueFrom.configMapKeyRef"),
        ("Secret", "cloud", "spec.engine.env[AWS].valueFrom.secretKeyRef"),
        ("Secret", "team-key", "spec.auth.keys[team-key]"),
        ("Secret", "registry", "spec.pod.imagePullSecrets[registry]"),
        ("Secret", "ca", "spec.pod.patch.spec.volumes[ca].projected.sources[0].secret"),
        ("PersistentVolumeClaim", "models", "spec.model.source"),
        ("PersistentVolumeClaim", "cache", "spec.storage.cache.existingClaim"),
        ("PersistentVolumeClaim", "data", "spec.pod.volumes[data].persistentVolumeClaim"),
        ("Secret", "plain", ""),
        ("Secret", "models", ""),
        ("PersistentVolumeClaim", "model", ""),
    ],
)
def test_the_field_that_names_an_object_is_found(kind: Referenced, name: str, field: str) -> None:
    assert field_naming(SPEC, kind, name) == field


def test_a_spec_that_is_deeper_than_any_stack_is_read() -> None:
    deep: dict[str, Any] = {"secretName": "hub"}
    for _ in range(5000):
        deep = {"a": deep}
    assert field_naming(deep, "Secret", "hub").endswith(".a")
