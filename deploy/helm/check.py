"""Lints and renders the chart by Helm itself for each file of values in ci/, and holds what comes out to the schemas of
Kubernetes, to the types of the Prometheus operator's CRDs, and to promtool. It is no part of the chart; `cargo xtask chart` runs it.

`check.py CHART MANIFEST PROMTOOL` checks, and that MANIFEST is what the chart makes; with --write it writes MANIFEST."""

import base64
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import helm_python
import kubernetes_validate
import yaml
from cloudcoil.models.prometheus_operator import v1, v1alpha1

# The oldest and newest that the validator knows, and the two between which AppArmor's field came.
VERSIONS = {"old.yaml": ["1.25", "1.29"], None: ["1.30", "1.37"]}
OPERATOR = {"PodMonitor": v1.PodMonitor, "PrometheusRule": v1.PrometheusRule, "AlertmanagerConfig": v1alpha1.AlertmanagerConfig, "Alertmanager": v1.Alertmanager}
HEADER = "# Made from deploy/helm/parachute by `cargo xtask chart --write`.\n"
NAMESPACE = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "metadata": {"name": "parachute", "labels": {"pod-security.kubernetes.io/enforce": "privileged"}},
}

# YAML 1.1 has a type of its own for a lone `=`, which PyYAML cannot make; Kubernetes' reader takes it for text.
yaml.SafeLoader.add_constructor("tag:yaml.org,2002:value", yaml.SafeLoader.construct_yaml_str)


def load(path):
    return yaml.safe_load(path.read_text()) or {}


def render(chart, values):
    """Each template's text, by its file, without those that came out empty."""
    texts = chart.render(values, name="parachute", namespace="parachute")
    named = {pathlib.Path(path).name: text for path, text in texts.items()}
    return {name: text for name, text in sorted(named.items()) if name.endswith(".yaml") and text.strip()}


def unknown(given, known, at=""):
    """Paths in `given` that are not in `known`, which has been through a model that drops what it does not know."""
    if isinstance(given, dict) and isinstance(known, dict):
        for key, value in given.items():
            if key not in known:
                yield f"{at}.{key}"
            else:
                yield from unknown(value, known[key], f"{at}.{key}")
    elif isinstance(given, list) and isinstance(known, list):
        for index, (one, other) in enumerate(zip(given, known)):
            yield from unknown(one, other, f"{at}[{index}]")


def check_resource(resource, versions):
    model = OPERATOR.get(resource["kind"])
    if model is None:
        for version in versions:
            kubernetes_validate.validate(resource, version, strict=True)
        return
    read = model.model_validate(resource).model_dump(mode="json", by_alias=True, exclude_unset=True)
    wrong = list(unknown(resource["spec"], read["spec"]))
    if wrong:
        raise ValueError(f"no such fields in {resource['kind']}: {', '.join(wrong)}")


def check_rules(resource, promtool):
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        yaml.safe_dump({"groups": resource["spec"]["groups"]}, file)
        file.flush()
        done = subprocess.run([promtool, "check", "rules", file.name], capture_output=True, text=True)
    if done.returncode != 0 or "0 rules found" in done.stdout:
        raise ValueError(f"promtool check rules: {done.stdout}{done.stderr}")


def mounted(pod):
    """Each path of a projected volume, with the Secret and the key that it comes from."""
    for source in next(volume for volume in pod["volumes"] if volume["name"] == "config")["projected"]["sources"]:
        for item in source.get("secret", {}).get("items", []):
            yield f"/etc/parachute/{item['path']}", (source["secret"]["name"], item["key"])


def check_peers(values, resources):
    """What the agents are told of their peers is there: the name, its port, the token and its role, the way through the network."""
    by_kind = {}
    for one in resources:
        by_kind.setdefault(one["kind"], []).append(one)
    files = next(one["data"] for one in by_kind["ConfigMap"] if "web.yml" in one["data"])
    web, told = yaml.safe_load(files["web.yml"]), yaml.safe_load(files["parachute.yml"]).get("peers")
    template = by_kind["DaemonSet"][0]["spec"]["template"]
    paths = dict(mounted(template["spec"]))
    headless = [one for one in by_kind.get("Service", []) if one["spec"].get("clusterIP") == "None"]
    if not values.get("peers", {}).get("enabled", True):
        if headless or "peers" in web["bearer_tokens"] or "/etc/parachute/tokens/peers" in paths:
            raise ValueError("there is something of peers, which are off")
        return
    host, port = told["service"].rsplit(":", 1)
    assert host.endswith("."), f"{host} may be looked for in other domains than the cluster's"
    name, namespace, kind, _ = host.split(".", 3)
    service = next(one for one in headless if one["metadata"]["name"] == name)
    pod_port = template["spec"]["containers"][0]["ports"][0]
    assert (namespace, kind) == ("parachute", "svc") and service["spec"]["publishNotReadyAddresses"], told
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items(), "the name's addresses are not the agents'"
    # There is nothing between that could translate the port.
    assert int(port) == service["spec"]["ports"][0]["port"] == pod_port["containerPort"], f"{port} is not the pods' port"
    token = web["bearer_tokens"]["peers"]
    assert token["roles"] == ["trigger"] and "/etc/parachute/" + token["file"] == told["token_file"], token
    secret, key = paths[told["token_file"]]
    made = [one for one in by_kind.get("Secret", []) if one["metadata"]["name"] == secret]
    if not values.get("peers", {}).get("existingSecret"):
        assert len(base64.b64decode(made[0]["data"][key])) >= 32, "the token is too short"
    tls = "tls_server_config" in web
    assert told["scheme"] == ("https" if tls else "http") and ("ca_file" in told) == tls, told
    assert not tls or told["ca_file"] in paths, f"{told['ca_file']} is not mounted"
    for policy in by_kind.get("NetworkPolicy", []):
        own = {"podSelector": {"matchLabels": service["spec"]["selector"]}}
        spec = policy["spec"]
        assert any(own in rule.get("from", [own]) for rule in spec["ingress"]), "peers may not connect to the agent"
        ports = {rule["ports"][0]["port"] for rule in spec["egress"] if own in rule.get("to", [own])}
        assert pod_port["containerPort"] in ports, "the agent may not connect to its peers"
        assert any({"protocol": "UDP", "port": 53} in rule["ports"] for rule in spec["egress"]), "names cannot be looked up"


def check_realtime(values, resources):
    """Who asks for real-time priority gives the right to it as well, and nobody else does."""
    pod = next(one for one in resources if one["kind"] == "DaemonSet")["spec"]["template"]["spec"]
    agent = pod["containers"][0]
    asked, given = "--realtime" in agent["args"], "SYS_NICE" in agent["securityContext"]["capabilities"]["add"]
    assert asked == given == values.get("realtime", False), f"--realtime: {asked}, SYS_NICE: {given}"


def check_refusals(chart):
    """The values' schema is looked at, and refuses what is wrong; so does what the chart writes into the configuration."""
    for wrong, says in (
        ({"proberoot": "image"}, "proberoot"),
        ({"probeRoot": "guest"}, "probeRoot"),
        ({"web": {"port": "10068"}}, "port"),
        ({"runtimeFolders": []}, "runtimeFolders"),
        ({"realtime": "yes"}, "realtime"),
        ({"securityContext": {"capabilities": ["CAP_BPF"]}}, "capabilities"),
        ({"image": {"digest": "latest"}}, "digest"),
        ({"peers": {"settings": {"max_peers": 5000}}}, "max_peers"),
        ({"peers": {"settings": {"service": "agents:1"}}}, "service"),
        ({"peers": {"clusterDomain": "cluster.local:53"}}, "clusterDomain"),
        ({"config": 'probes: {}\n"peers": { service: "agents:1" }\n'}, "has a section `peers`"),
        ({"config": "{ probes: {}, peers: {} }"}, "has a section `peers`"),
        ({"config": "probes: {}\npeers : {}\ntriggers: [\n"}, "has a section `peers`"),
        ({"config": "{ probes: {} }\n"}, "cannot be added"),
        ({"config": "---\nprobes: {}\n"}, "cannot be added"),
        ({"config": "  probes: {}\n  triggers: {}\n"}, "cannot be added"),
    ):
        try:
            chart.render(wrong, name="parachute", namespace="parachute")
        except helm_python.HelmError as error:
            if says in str(error):
                continue
            raise ValueError(f"these values are refused, but not for {says}: {wrong}: {error}") from error
        raise ValueError(f"these values were taken: {wrong}")


def blocks(page, mark):
    """The blocks of a page of docs/ with this mark before them."""
    return re.findall(rf"<!-- {mark} -->\n```\w+\n(.*?)```", page.read_text(), re.DOTALL)


def check_pages(chart, docs):
    """What the pages tell people to install is what the chart and the operator take."""
    helm = re.search(r"\$ (helm install .*?)\n\$", (docs / "kubernetes.md").read_text(), re.DOTALL)[1]
    pairs = [pair.split("=") for pair in re.findall(r"--set (\S+)", helm)]
    values = {}
    for path, value in pairs:
        *parents, last = path.split(".")
        inner = values
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = yaml.safe_load(value)
    recipes = docs / "alert-recipes.md"
    renders = [values, *map(yaml.safe_load, blocks(recipes, "values"))]
    objects = [yaml.safe_load(text) for text in blocks(recipes, "object")]
    if not pairs or len(renders) != 2 or len(objects) != 2:
        raise ValueError(f"docs: {len(pairs)} --set, {len(renders)} values and {len(objects)} objects were found")
    for values in renders:
        made = "\n---\n".join(render(chart, values).values())
        objects += filter(None, yaml.safe_load_all(made))
    for resource in objects:
        try:
            check_resource(resource, VERSIONS[None])
        except Exception as error:
            raise ValueError(f"docs: {resource['kind']}: {error}") from error
    print(f"docs: {' '.join(resource['kind'] for resource in objects)}")


def main():
    write = "--write" in sys.argv
    folder, manifest, promtool = [arg for arg in sys.argv[1:] if arg != "--write"]
    folder, manifest = pathlib.Path(folder), pathlib.Path(manifest)
    chart = helm_python.Chart.load(folder)
    count = 0
    for path in sorted(folder.glob("ci/*.yaml")):
        values = load(path)
        findings = helm_python.lint(folder, values, strict=True, namespace="parachute")
        told = [one for one in findings["messages"] if "icon is recommended" not in json.dumps(one)]
        if told:
            raise ValueError(f"{path.name}: helm lint: {told}")
        kinds, resources = [], []
        for name, text in render(chart, values).items():
            for resource in filter(None, yaml.safe_load_all(text)):
                try:
                    check_resource(resource, VERSIONS.get(path.name, VERSIONS[None]))
                    if resource["kind"] == "PrometheusRule":
                        check_rules(resource, promtool)
                except Exception as error:
                    raise ValueError(f"{path.name}: {name}: {error}") from error
                kinds.append(resource["kind"])
                resources.append(resource)
                count += 1
        for check in (check_peers, check_realtime):
            try:
                check(values, resources)
            except Exception as error:
                raise ValueError(f"{path.name}: {check.__name__}: {error!r}") from error
        print(f"{path.name}: {' '.join(kinds)}")
    check_refusals(chart)
    check_pages(chart, pathlib.Path("docs"))
    made = render(chart, load(folder / "ci/manifest.yaml"))
    # Helm's own labels say nothing where there is no Helm.
    texts = [re.sub(r"\n *(helm\.sh/chart|app\.kubernetes\.io/managed-by): .*", "", text).strip() for text in made.values()]
    whole = HEADER + "\n---\n".join([yaml.safe_dump(NAMESPACE, sort_keys=False).strip(), *(text.removeprefix("---\n") for text in texts)]) + "\n"
    if write:
        manifest.parent.mkdir(parents=True, exist_ok=True)
        manifest.write_text(whole)
    elif not manifest.exists() or manifest.read_text() != whole:
        raise ValueError(f"{manifest} is not what the chart makes: cargo xtask chart --write")
    print(f"{count} objects are right, and {manifest.name} is what the chart makes")


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        sys.exit(f"chart: {error}")
