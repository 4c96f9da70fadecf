"""PURE: from a frozen world to a plan, or to the reasons why there is none."""
