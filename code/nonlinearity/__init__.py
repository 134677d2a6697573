"""Helpers of the course *Where Neurons Get Their Nonlinearity*: one module a topic."""

from nonlinearity.notebook import setup

__all__ = ["setup"]
