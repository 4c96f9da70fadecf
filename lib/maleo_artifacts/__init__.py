"""Artifacts by digest: OCI registries and HTTP servers, protected against server-side request forgery."""
