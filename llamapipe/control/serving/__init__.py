"""Model-less serving as a state machine: step(event, now_s) -> actions."""

from llamapipe.control.serving.plan import Host, ServingPlan, StaticPlan
from llamapipe.control.serving.serving import ReplicaStatus, ServingController

__all__ = ["Host", "ReplicaStatus", "ServingController", "ServingPlan", "StaticPlan"]
