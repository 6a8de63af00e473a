"""Reinforcement: answers are sampled, scored by evaluation's metrics, and made more or less likely (GRPO)."""
