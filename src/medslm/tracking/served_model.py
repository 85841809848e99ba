"""The code file inside every registered model: MLflow runs it to get the model object, nothing imports it.

It stays this small so that an old version serves with the medslm that is installed, which refuses
what it cannot read.
"""

from medslm.tracking.serving import register

register()
