"""Reasons of the conditions that the operator and the node agents set."""

from enum import StrEnum
from typing import Self


class ConditionReason(StrEnum):
    """Reason of a condition of a Mission, a Placement or a Device; `description` says when it is set.

    Condition Placed of a Mission also has the code of the first blocker of an infeasible plan, which the planner
    defines.
    """

    description: str

    def __new__(cls, value: str, description: str) -> Self:
        """Create a member from its value in the API and its description."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.description = description
        return member

    # condition Placed of a Mission

    PLACED = "Placed", "The plan in force meets every Hard limit."
    STARTING = "Starting", "The revision is being loaded, or its entry does not serve it yet."
    MOVING = "Moving", "A revision serves while the next one is being loaded."
    SUSPENDED = "Suspended", "spec.suspend is true: the plan or the pending revision is not applied."
    NOT_PLANNED = "NotPlanned", "The mission has not been planned yet."
    CHILD_REFUSED = "ChildRefused", "The API server rejects an object of the mission, by a quota or a policy."
    CACHE_FULL = "CacheFull", "The artifacts in use leave no space for another one in the cache of a node."
    ARTIFACT_INVALID = "ArtifactInvalid", "The content of an artifact does not match its digest."
    LOAD_FAILED = "LoadFailed", "A slot cannot download or load its partition."
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded", "A slot was not warm within spec.switch.progressDeadline."

    # condition Ready of a Mission

    SERVING = "Serving", "The active revision answers requests."
    NO_INPUT = "NoInput", "The input node is lost or does not exist."
    ENTRY_NOT_READY = "EntryNotReady", "The pod of the entry slot is missing or not Ready."
    EGRESS_FORBIDDEN = "EgressForbidden", "An egress rule does not allow a node of the plan to receive data."
    PARTNER_LOST = "PartnerLost", "Another node of the plan is lost or does not exist."
    SLOT_MISSING = "SlotMissing", "A slot of the plan has no pod."
    SLOT_PENDING = "SlotPending", "The pod of a slot has no IP address yet."
    SLOT_NOT_READY = "SlotNotReady", "The pod of a slot runs and is not Ready, or its partition is not loaded."
    SLOT_FAILED = "SlotFailed", "The pod of a slot failed, or its container keeps crashing."
    PREEMPTED = "Preempted", "kube-scheduler preempted the pod of a slot for a pod of higher priority."

    # condition Degraded of a Mission

    NOT_SERVING = "NotServing", "No revision answers requests."
    AS_PLANNED = "AsPlanned", "The mission serves as planned."
    FALLBACK_SERVING = "FallbackServing", "The fallback answers requests, because another slot does not respond."
    SPEC_NOT_SERVED = "SpecNotServed", "The serving revision does not match the spec or the Model."
    ACCURACY_MISSED = (
        "AccuracyMissed",
        "The accuracy objective is violated; if it is Hard, Degraded is True.",
    )
    LATENCY_MISSED = "LatencyMissed", "The latency objective is violated; if it is Hard, Degraded is True."
    ENERGY_MISSED = "EnergyMissed", "The energy objective is violated; if it is Hard, Degraded is True."

    # conditions AccuracyMet, LatencyMet and EnergyMet of a Mission

    DECLARED_FIGURE = "DeclaredFigure", "The declared accuracy reaches the floor."
    BELOW_FLOOR = "BelowFloor", "The declared accuracy is below the floor."
    NO_FIGURE = "NoFigure", "The serving variant or the reference has no accuracy figure for the metric and dataset."
    WITHIN_LIMIT = "WithinLimit", "Latency or energy is within the limit."
    LIMIT_EXCEEDED = "LimitExceeded", "Latency or energy exceeds the limit."
    NO_TELEMETRY = "NoTelemetry", "The entry slot sends no telemetry."
    TOO_FEW_SAMPLES = "TooFewSamples", "The last window has fewer requests than minSamples."
    OBSERVING = "Observing", "The first windows disagree about the limit."
    NO_READING = "NoReading", "No energy reading has a known basis."

    # conditions of a Placement

    LOADED = "Loaded", "Every slot has loaded and warmed up its partition."
    LOADING = "Loading", "A slot has not loaded and warmed up its partition yet."
    ACTIVE = "Active", "status.active of the Mission names this revision."
    NOT_ACTIVE = "NotActive", "status.active of the Mission names another revision, or none."
    OVERTAKEN = "Overtaken", "A newer revision replaced this one before it served."
    REPLACED = "Replaced", "A newer revision serves."
    MODEL_CHANGED = "ModelChanged", "The Model no longer has the artifact of this revision."

    # conditions of a Device

    AGENT_REPORTS = "AgentReports", "The node is Ready and its agent reports."
    NO_NODE = "NoNode", "The node does not exist, or has no label maleo.dev/tier."
    UNKNOWN_TIER = "UnknownTier", "The value of the label maleo.dev/tier is not a tier."
    NODE_NOT_READY = "NodeNotReady", "The node is not Ready."
    AGENT_LOST = "AgentLost", "The agent has no stream to the operator, and its Lease has expired."
    NO_INVENTORY = "NoInventory", "The agent has not reported the hardware of the node yet."
    UNKNOWN_PROFILE = "UnknownProfile", "The hardware names a DeviceProfile that does not exist."
    REPORTING = "Reporting", "Telemetry of the node is arriving."
    DISCONNECTED = "Disconnected", "The agent has no stream to the operator."
    STALE = "Stale", "The agent is connected and sends no telemetry."
    THROTTLED = "Throttled", "A compute unit runs below its normal speed."
    NOT_THROTTLED = "NotThrottled", "No compute unit runs below its normal speed."
    BATTERY_LOW = "BatteryLow", "The battery charge is below the threshold."
    BATTERY_FINE = "BatteryFine", "The battery charge is sufficient."
