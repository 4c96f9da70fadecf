"""`host:port`, as URLs spell it."""


def join(host: str, port: int | str) -> str:
    """With the brackets that an IPv6 address needs."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def mend(url: str) -> str:
    """`http://$(HOST_IP):9808` as Kubernetes expands it: the brackets are missing where the address is IPv6."""
    scheme, _, rest = url.partition("://")
    host, _, port = rest.rpartition(":")
    return f"{scheme}://{join(host, port)}"
