"""What the image, compose.yaml and the Kubernetes manifest promise holds for this version of the service."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from fairpos_service.settings import Settings
from tests.test_extras import NAMED

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
MANIFEST = list(yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / "fairpos.yaml").read_text(encoding="utf-8")))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DEPLOYMENT = next(each for each in MANIFEST if each["kind"] == "Deployment")
POD = DEPLOYMENT["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
# Not in the service: what frameworks bring themselves, files of the command line, data frames, another server.
ELSEWHERE = {"langchain", "llama-index", "haystack", "inspect-ai", "lm-eval", "inspect", "frames", "mcp", "ray"}


def extras_with(name: str) -> set[str]:
    """An extra and those that it takes in."""
    inner = [re.match(r"fairpos\[(.*)\]", line) for line in PROJECT["optional-dependencies"][name]]
    return {name}.union(*(extras_with(part) for match in inner if match for part in match[1].split(",")))


def test_the_image_has_every_extra_that_the_service_can_need():
    (listed,) = re.findall(r"'\.\[([\w,-]+)\]'", DOCKERFILE)
    installed = set().union(*(extras_with(name) for name in listed.split(",")))
    assert {extra for _, extra in NAMED} - ELSEWHERE <= installed


def test_images_have_tags_that_stay():
    images = re.findall(r"^FROM (\S+)", DOCKERFILE, re.M)
    images += [service["image"] for service in COMPOSE.values()] + [CONTAINER["image"]]
    for image in images:
        assert re.search(r":v?\d+\.\d+\.\d+", image), f"{image} changes under its name"
    assert COMPOSE["fairpos"]["image"] == CONTAINER["image"] == f"fairpos:{PROJECT['version']}"


def test_what_others_wait_for_tells_its_health():
    for name, service in COMPOSE.items():
        for other, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}, name
            assert "healthcheck" in COMPOSE[other]
    assert "HEALTHCHECK" in DOCKERFILE


@pytest.mark.parametrize("text", [DOCKERFILE, str(COMPOSE), str(MANIFEST)], ids=["image", "compose", "kubernetes"])
def test_every_setting_is_one(text):
    named = set(re.findall(r"\bFAIRPOS_([A-Z_]+)\b", text)) - {"CACHE", "PROFILES"}  # of the library
    named.discard("PORT")  # named in a comment: what Kubernetes would write
    assert {name.lower() for name in named} <= set(Settings.model_fields)


def test_probes_ask_what_the_service_answers(service):
    import httpx2

    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        get = CONTAINER[probe]["httpGet"]
        assert httpx2.get(service.url + get["path"]).status_code == 200
        assert get["port"] in [port["name"] for port in CONTAINER["ports"]]


def test_the_pod_outlives_its_drain():
    given = {entry["name"]: entry.get("value") for entry in CONTAINER["env"]}
    assert float(given["FAIRPOS_DRAIN_S"]) + 2 < POD["terminationGracePeriodSeconds"]
    assert (
        float(given["FAIRPOS_DRAIN_S"])
        > float(given["FAIRPOS_DRAIN_NOTICE_S"])
        > CONTAINER["readinessProbe"]["periodSeconds"]
    )
    assert int(COMPOSE["fairpos"]["stop_grace_period"].rstrip("s")) > Settings.model_fields["drain_s"].default + 2


def test_the_pod_runs_as_the_images_user_and_writes_where_it_may():
    (user,) = re.findall(r"^USER (\d+)$", DOCKERFILE, re.M)
    assert POD["securityContext"]["runAsUser"] == POD["securityContext"]["fsGroup"] == int(user)
    assert CONTAINER["securityContext"]["readOnlyRootFilesystem"]
    written = {Path(path).parts[1] for path in re.findall(r"FAIRPOS_(?:CACHE|PROFILES)=(\S+)", DOCKERFILE)}
    assert {f"/{folder}" for folder in written} | {"/tmp"} == {
        mount["mountPath"] for mount in CONTAINER["volumeMounts"]
    }
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == {volume["name"] for volume in POD["volumes"]}


def test_kubernetes_finds_what_belongs_together():
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    for each in MANIFEST:
        selector = each["spec"]["selector"]
        assert selector.get("matchLabels", selector).items() <= labels.items(), each["kind"]
    assert POD["enableServiceLinks"] is False  # or FAIRPOS_PORT would be an address
