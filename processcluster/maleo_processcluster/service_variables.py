"""Variables of Services in the environment of containers. Pure."""

from collections.abc import Mapping

from maleo_kube.answers import Object


def find_variables(services: Mapping[str, Object], namespace: str) -> dict[str, str]:
    """Return the variables of the Services of a namespace, as a kubelet sets them.

    services: `namespace/name` -> Service.
    """
    found: dict[str, str] = {}
    for key, service in services.items():
        address = service["spec"].get("clusterIP", "")
        if key.partition("/")[0] == namespace and address not in {"", "None"}:
            prefix = key.partition("/")[2].upper().replace("-", "_")
            found[f"{prefix}_SERVICE_HOST"] = address
            found[f"{prefix}_SERVICE_PORT"] = str(service["spec"]["ports"][0]["port"])
    return found
