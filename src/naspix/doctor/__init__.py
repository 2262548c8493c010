"""The doctor: what a network is made of, and which saliency methods serve it, by trying.

Classifier -> ``Diagnosis``, a table for a terminal, a notebook or JSON. Asked for by
``naspix.check(model)`` or ``naspix check MODEL``.
"""

from naspix.doctor.diagnosis import Diagnosis, Finding, check
from naspix.doctor.methods import MethodDiagnosis

__all__ = ["Diagnosis", "Finding", "MethodDiagnosis", "check"]
