"""The plain form of the step, and what measures the fast form against it."""
