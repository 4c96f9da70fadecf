"""Rollout of a new revision, and the desired state of every slot."""
