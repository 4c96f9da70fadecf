"""What every kind shares: names of the group, object metadata, conditions, bases of figures."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

GROUP: Final = "maleo.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"


@dataclass(frozen=True, slots=True)
class Form:
    """What a text with a pattern is called and looks like: people are told by this, not by the pattern."""

    name: str
    example: str


Name = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$", max_length=63),
    Form("name", "edge-1 (lower case letters, digits, - and ., at most 63)"),
]
Text = Annotated[str, StringConstraints(max_length=1024)]
Digest = Annotated[
    str,
    StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$", max_length=71),
    Form("digest", "sha256: and 64 hexadecimal digits"),
]


class Basis(StrEnum):
    """Where a figure comes from, strongest first; Unknown satisfies no Hard limit and never beats a known figure."""

    MEASURED = "Measured"
    CALIBRATED = "Calibrated"
    MODELLED = "Modelled"
    DATASHEET = "Datasheet"
    CLAIMED = "Claimed"
    SIMULATED = "Simulated"
    DECLARED = "Declared"
    UNKNOWN = "Unknown"


class Tier(StrEnum):
    DEVICE = "Device"
    EDGE = "Edge"
    CLOUD = "Cloud"


class Schema(BaseModel):
    """Base of all API models: camelCase outside, unknown fields ignored, values frozen."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True, use_enum_values=False
    )

    def to_api(self) -> dict[str, Any]:
        """The JSON form that is written to the API server: camelCase, unset fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Condition(Schema):
    """A standard Kubernetes condition; lists of them are maps by `type`."""

    type: Annotated[str, StringConstraints(max_length=64)]
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Za-z0-9]*$", max_length=64)]
    message: Annotated[str, StringConstraints(max_length=1024)] = ""
    observed_generation: int = 0
    last_transition_time: Annotated[str, StringConstraints(max_length=32)] = ""


class Metadata(Schema):
    """The part of ObjectMeta that Maleo reads."""

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
    """Base of the kinds. Subclasses add `spec` and, where there is one, `status`."""

    api_version: str = API_VERSION
    kind: str
    metadata: Metadata

    @property
    def key(self) -> str:
        """`namespace/name`, or `name` for cluster-scoped kinds."""
        return f"{self.metadata.namespace}/{self.metadata.name}" if self.metadata.namespace else self.metadata.name
