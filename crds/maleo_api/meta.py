"""Parts that all kinds share: API group, object metadata, conditions, the basis of figures."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

GROUP: Final = "maleo.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"


@dataclass(frozen=True, slots=True)
class TextFormat:
    """Name and example of a string format. Error messages show them instead of the regular expression."""

    name: str
    example: str


Name = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$", max_length=63),
    TextFormat("name", "edge-1 (lowercase letters, digits, - and ., at most 63 characters)"),
]
Text = Annotated[str, StringConstraints(max_length=1024)]
Digest = Annotated[
    str,
    StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$", max_length=71),
    TextFormat("digest", "sha256: followed by 64 hexadecimal digits"),
]


class Basis(StrEnum):
    """Origin of a figure, strongest first. Of conflicting figures the strongest is used."""

    MEASURED = "Measured"
    CALIBRATED = "Calibrated"  # a prediction, corrected by measurements
    MODELLED = "Modelled"  # computed from other figures
    DATASHEET = "Datasheet"
    CLAIMED = "Claimed"  # by a vendor or third party, unverified
    SIMULATED = "Simulated"
    DECLARED = "Declared"  # estimated or set by a person
    UNKNOWN = "Unknown"


class Tier(StrEnum):
    """Position of a node between the data source and the data center, as set by the node label `maleo.dev/tier`."""

    DEVICE = "Device"
    EDGE = "Edge"
    CLOUD = "Cloud"


class Schema(BaseModel):
    """Base of all API models: immutable, camelCase in the API, unknown fields ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True, use_enum_values=False
    )

    def to_api(self) -> dict[str, Any]:
        """Return the JSON object for the API server: camelCase keys, without fields that are None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Condition(Schema):
    """A standard Kubernetes condition. A list holds at most one condition of each type."""

    type: Annotated[str, StringConstraints(max_length=64)]
    """What the condition is about, such as `Ready`."""
    status: Literal["True", "False", "Unknown"]
    """Whether the condition holds: `True`, `False` or `Unknown`."""
    reason: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Za-z0-9]*$", max_length=64)]
    """Cause of the status as one CamelCase word, for programs."""
    message: Annotated[str, StringConstraints(max_length=1024)] = ""
    """Details of the status, for display."""
    observed_generation: int = 0
    """Generation of the object that the condition was set for. A lower one than metadata.generation: the condition may
    be out of date."""
    last_transition_time: Annotated[str, StringConstraints(max_length=32)] = ""
    """When the status last changed, in UTC as in RFC 3339: `2026-11-24T01:40:00Z`."""


class Metadata(Schema):
    """The fields of ObjectMeta that Maleo reads. The API server defines and describes them."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    deletion_timestamp: str | None = None
    creation_timestamp: str | None = None


class Resource(Schema):
    """Base of all kinds. Subclasses add `spec` and, if the kind has one, `status`."""

    api_version: str = API_VERSION
    kind: str
    metadata: Metadata

    @property
    def key(self) -> str:
        """Return `namespace/name`, or `name` for cluster-scoped kinds."""
        return f"{self.metadata.namespace}/{self.metadata.name}" if self.metadata.namespace else self.metadata.name
