"""Taking an endpoint out of rotation for a while because it keeps failing, and letting it back in.

A breaker refuses calls; ejection only stops choosing an endpoint, and some must stay, so it may act at the first clear
sign. What counts is in `fault`, when it is too much in `detection` (the settings) and `rates` (the arithmetic), what
follows in `detector`, and what its models do differently there in `reading`.
"""

from __future__ import annotations

from svcmesh.policy.outlier.detection import OutlierDetection
from svcmesh.policy.outlier.detector import OutlierDetector
from svcmesh.policy.outlier.ejection import Ejection

__all__ = ["Ejection", "OutlierDetection", "OutlierDetector"]
