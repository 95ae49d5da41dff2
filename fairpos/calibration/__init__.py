"""Measuring what each slot of a list is worth to a model, with the segments' contents cancelled out.

samples     questions with segments, shown in every cyclic shift
attention   slots by the attention that the question pays to what stands there (a local model)
black_box   slots by how well an answer that stands there is found (any backend)
"""

from fairpos.calibration.attention import attention_profile
from fairpos.calibration.black_box import black_box_profile
from fairpos.calibration.samples import samples_of

__all__ = ["attention_profile", "black_box_profile", "samples_of"]
