"""What the manifests say of each other: who is selected, what a rollout and a drained node leave, what pods may do."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from kustomize import MANIFESTS, TOGETHER, Kustomize, Manifest, Rendered, documents, found, of_kind
from manifests import DEPLOYED, EVERYTHING


def deployments(manifests: list[Manifest]) -> list[Any]:
    return of_kind("Deployment", manifests)


def selected(labels: dict[str, str], manifests: list[Manifest]) -> list[str]:
    """The deployments whose pods have these labels."""
    return [
        each["metadata"]["name"]
        for each in deployments(manifests)
        if labels.items() <= each["spec"]["template"]["metadata"]["labels"].items()
    ]


def selectors(manifests: list[Manifest]) -> dict[str, dict[str, str]]:
    """By kind and name: which pods it is about."""
    of_services = {
        f"Service/{each['metadata']['name']}": each["spec"]["selector"] for each in of_kind("Service", manifests)
    }
    others = [*of_kind("PodDisruptionBudget", manifests), *deployments(manifests)]
    policies = of_kind("NetworkPolicy", manifests)
    return (
        of_services
        | {f"{each['kind']}/{each['metadata']['name']}": each["spec"]["selector"]["matchLabels"] for each in others}
        | {f"NetworkPolicy/{each['metadata']['name']}": each["spec"]["podSelector"]["matchLabels"] for each in policies}
    )


# -- who is selected ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DEPLOYED)
def test_everything_is_about_the_pods_of_one_deployment(rendered: Rendered, name: str) -> None:
    chosen = {each: selected(labels, rendered(name)) for each, labels in selectors(rendered(name)).items()}
    assert {each for each, names in chosen.items() if len(names) != 1} == set()
    for deployment in deployments(rendered(name)):
        own = deployment["metadata"]["name"]
        about = {each.split("/")[0] for each, names in chosen.items() if names == [own]}
        assert about >= {"Service", "PodDisruptionBudget", "Deployment"}
        spread = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert all(selected(each["labelSelector"]["matchLabels"], rendered(name)) == [own] for each in spread)


@pytest.mark.parametrize("name", ["autoscale", TOGETHER])
def test_the_monitor_finds_all_pods_by_labels_that_they_have(rendered: Rendered, name: str) -> None:
    (monitor,) = of_kind("PodMonitor", rendered(name))
    assert len(selected(monitor["spec"]["selector"]["matchLabels"], rendered(name))) == len(deployments(rendered(name)))
    labels = deployments(rendered(name))[0]["spec"]["template"]["metadata"]["labels"]
    assert {monitor["spec"]["jobLabel"], *monitor["spec"]["podTargetLabels"]} <= set(labels)


@pytest.mark.parametrize("name", [name for name in DEPLOYED if name != "base"])
def test_no_label_of_an_overlay_is_looked_for_on_other_peoples_pods(rendered: Rendered, name: str) -> None:
    """`includeSelectors` writes its labels into every podSelector, that of a peer too."""
    peers = [
        peer
        for policy in of_kind("NetworkPolicy", rendered(name))
        for rule in (*policy["spec"].get("ingress", []), *policy["spec"]["egress"])
        for peer in (*rule.get("from", []), *rule.get("to", []))
    ]
    assert peers
    assert [peer for peer in peers if "podSelector" in peer] == []


@pytest.mark.parametrize("name", EVERYTHING)
def test_everything_is_called_and_labelled_as_kubernetes_recommends(rendered: Rendered, name: str) -> None:
    generated = ("ConfigMap", "Secret")
    for manifest in (each for each in rendered(name) if each["kind"] not in generated):
        assert manifest["metadata"]["labels"]["app.kubernetes.io/name"] == "ortolan"
        assert "namespace" not in manifest["metadata"]


@pytest.mark.parametrize("name", DEPLOYED)
def test_pods_name_claims_accounts_and_secrets_that_are_there(rendered: Rendered, name: str) -> None:
    def names(kind: str) -> set[str]:
        return {each["metadata"]["name"] for each in of_kind(kind, rendered(name))}

    # That of the certificate is somebody else's: cert-manager's, say.
    secrets = names("Secret") | {"ortolan-tls"}
    for pod in (each["spec"]["template"]["spec"] for each in deployments(rendered(name))):
        assert pod["serviceAccountName"] in names("ServiceAccount")
        assert {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume} <= secrets
        claims = {
            volume["persistentVolumeClaim"]["claimName"]
            for volume in pod["volumes"]
            if "persistentVolumeClaim" in volume
        }
        assert claims <= names("PersistentVolumeClaim")


# -- settings, and what they become ------------------------------------------------------------------------------------


def test_another_setting_is_a_rollout(tmp_path: Path, rendered: Rendered) -> None:
    program = found()
    assert isinstance(program, Kustomize)
    (before,) = of_kind("ConfigMap", rendered("base"))
    shutil.copytree(MANIFESTS / "base", tmp_path / "base")
    with open(tmp_path / "base" / "settings.env", "a") as settings:
        settings.write("ORTOLAN_LOG_VERBOSE=1\n")
    changed = program.rendered(tmp_path / "base")
    (after,) = of_kind("ConfigMap", changed)
    assert after["metadata"]["name"] != before["metadata"]["name"]
    (deployment,) = deployments(changed)
    (source,) = deployment["spec"]["template"]["spec"]["containers"][0]["envFrom"]
    assert source["configMapRef"]["name"] == after["metadata"]["name"]


def test_components_add_their_settings_to_those_of_the_base(rendered: Rendered) -> None:
    (base,) = of_kind("ConfigMap", rendered("base"))
    (whole,) = of_kind("ConfigMap", rendered(TOGETHER))
    added = {"ORTOLAN_API_KEYS_FILE", "ORTOLAN_MODEL_REPOSITORY", "ORTOLAN_TLS_CERTIFICATE", "ORTOLAN_TLS_KEY"}
    assert base["data"].items() < whole["data"].items()
    assert set(whole["data"]) - set(base["data"]) == added


def test_there_is_no_key_in_the_tree_and_none_in_a_variable(rendered: Rendered) -> None:
    lines = (MANIFESTS / "components/api-keys/keys.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == []
    for deployment in deployments(rendered(TOGETHER)):
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert "secretKeyRef" not in yaml.safe_dump(container)
        assert "secretRef" not in yaml.safe_dump(container)
        # A file that is mounted by subPath stays as it was.
        assert "subPath" not in yaml.safe_dump(container)


# -- what is left ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in DEPLOYED if name != "base"])
def test_a_rollout_and_a_drained_node_leave_replicas(rendered: Rendered, name: str) -> None:
    scaled = {each["spec"]["scaleTargetRef"]["name"]: each["spec"] for each in _autoscalers(rendered(name))}
    for deployment in deployments(rendered(name)):
        limits = scaled.get(deployment["metadata"]["name"], {})
        fewest = limits.get("minReplicas") or limits.get("minReplicaCount") or deployment["spec"]["replicas"]
        assert fewest >= 2
        update = deployment["spec"]["strategy"]["rollingUpdate"]
        assert (update["maxSurge"], update["maxUnavailable"]) == (1, 0)
        for budget in of_kind("PodDisruptionBudget", rendered(name)):
            assert fewest - budget["spec"]["maxUnavailable"] >= 1


@pytest.mark.parametrize("name", DEPLOYED)
def test_a_new_pod_does_not_wait_for_a_volume_that_an_old_one_has(rendered: Rendered, name: str) -> None:
    claims = {each["metadata"]["name"]: each for each in of_kind("PersistentVolumeClaim", rendered(name))}
    for deployment in deployments(rendered(name)):
        for volume in deployment["spec"]["template"]["spec"]["volumes"]:
            if "persistentVolumeClaim" in volume:
                claim = claims[volume["persistentVolumeClaim"]["claimName"]]
                alone = claim["spec"]["accessModes"] == ["ReadWriteOnce"]
                assert alone == (deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0)


@pytest.mark.parametrize("name", ["autoscale", "keda"])
def test_a_deployment_that_is_scaled_does_not_say_how_many(rendered: Rendered, name: str) -> None:
    (scaler,) = _autoscalers(rendered(name))
    (deployment,) = deployments(rendered(name))
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"]


def _autoscalers(manifests: list[Manifest]) -> list[Manifest]:
    return [*of_kind("HorizontalPodAutoscaler", manifests), *of_kind("ScaledObject", manifests)]


def test_the_parts_of_a_sharded_deployment_load_what_the_routes_send_them(rendered: Rendered) -> None:
    maps = {
        each["metadata"]["labels"]["app.kubernetes.io/instance"]: each
        for each in of_kind("ConfigMap", rendered("sharded"))
    }
    loaded = {name: each["data"]["ORTOLAN_LOAD_MODEL"].split(",") for name, each in maps.items()}
    (route,) = of_kind("HTTPRoute", rendered("sharded"))
    sent = {
        rule["backendRefs"][0]["name"]: [match["path"]["value"].rpartition("/")[2] for match in rule["matches"]]
        for rule in route["spec"]["rules"]
    }
    assert sent == loaded
    assert {model for models in loaded.values() for model in models} <= {path.name for path in REPOSITORY.iterdir()}


REPOSITORY = MANIFESTS.parent / "model_repo"


# -- what pods may do --------------------------------------------------------------------------------------------------


def restricted_faults(pod: Any, container: Any) -> list[str]:
    """What Kubernetes' Pod Security Standard "restricted" has against it, by the table of its documentation."""
    whole, own = pod.get("securityContext", {}), container.get("securityContext", {})
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    rules = {
        "volumes": all((set(volume) - {"name"}) <= allowed for volume in pod.get("volumes", [])),
        "no host": not any(pod.get(each) for each in ("hostNetwork", "hostPID", "hostIPC")),
        "no host ports": not any("hostPort" in port for port in container.get("ports", [])),
        "no escalation": own.get("allowPrivilegeEscalation") is False,
        "not root": own.get("runAsNonRoot", whole.get("runAsNonRoot")) is True and whole.get("runAsUser", 1) != 0,
        "seccomp": own.get("seccompProfile", whole.get("seccompProfile")) == {"type": "RuntimeDefault"},
        "capabilities": own.get("capabilities") == {"drop": ["ALL"]},
        # Beyond the standard:
        "read-only root": own.get("readOnlyRootFilesystem") is True,
    }
    return [rule for rule, kept in rules.items() if not kept]


@pytest.mark.parametrize("name", DEPLOYED)
def test_pods_keep_to_the_restricted_standard_and_get_no_token(rendered: Rendered, name: str) -> None:
    for deployment in deployments(rendered(name)):
        pod = deployment["spec"]["template"]["spec"]
        assert [restricted_faults(pod, container) for container in pod["containers"]] == [[]]
        assert pod["automountServiceAccountToken"] is False
    for account in of_kind("ServiceAccount", rendered(name)):
        assert account["automountServiceAccountToken"] is False


def test_the_pod_that_loads_models_and_the_serving_runtime_keep_to_it_too(rendered: Rendered) -> None:
    (loader,) = documents((MANIFESTS / "load-models.yaml").read_text())
    (runtime,) = of_kind("ClusterServingRuntime", rendered("kserve"))
    for pod in (loader["spec"], runtime["spec"]):
        assert [restricted_faults(pod, container) for container in pod["containers"]] == [[]]
    assert loader["spec"]["automountServiceAccountToken"] is False


@pytest.mark.parametrize("change", [{"hostNetwork": True}, {"volumes": [{"name": "x", "hostPath": {"path": "/"}}]}])
def test_a_pod_that_does_not_keep_to_it_is_found(rendered: Rendered, change: dict[str, Any]) -> None:
    (deployment,) = deployments(rendered("base"))
    pod = deployment["spec"]["template"]["spec"] | change
    assert restricted_faults(pod, pod["containers"][0])
