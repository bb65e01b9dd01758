"""What each layer of a denoiser costs in few bits, and which layers a budget of bits is best spent on."""

from harness.sensitivity.gauges import PICTURES, PROBE, STEPS
from harness.sensitivity.judging import Judged, judged
from harness.sensitivity.measuring import Gauging, Measured, measured
from harness.sensitivity.recipe import BudgetError, Choice, LayerOptions, chosen, drawn, mixed_of, uniform
from harness.sensitivity.subject import Subject, SubjectError, subject_of

__all__ = ["PICTURES", "PROBE", "STEPS", "BudgetError", "Choice", "Gauging", "Judged", "LayerOptions", "Measured", "Subject",
           "SubjectError", "chosen", "drawn", "judged", "measured", "mixed_of", "subject_of", "uniform"]
