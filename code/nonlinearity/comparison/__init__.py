"""A fair comparison of activations, with any model and data.

Each activation is trained at several learning rates from several seeds. Runs of one seed are paired: whatever
the activation, they start from the same weights and see the same batches. The learning rate of an activation
is the one with the best mean on the validation data; only then, and only its runs, meet the test data.
"""

from nonlinearity.comparison.protocol import compare
from nonlinearity.comparison.report import Comparison
from nonlinearity.comparison.saved import read, save

__all__ = ["Comparison", "compare", "read", "save"]
