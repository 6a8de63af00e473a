"""Weights on disk: reading, writing, naming layouts, converting, merging adapters. Knows no training."""
