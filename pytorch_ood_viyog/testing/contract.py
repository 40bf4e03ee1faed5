"""
The contract: all checks together, and the count of those that ran.
"""

from .expect import checks_of, expect
from .fitting import FittingChecks
from .forms import FormChecks
from .manners import MannerChecks
from .scoring import ScoreChecks
from .tuning import TuningChecks

__all__ = ["DetectorContract"]


# pytest runs the checks of base classes from the last to the first
class DetectorContract(TuningChecks, FormChecks, MannerChecks, ScoreChecks, FittingChecks):
    """
    What every pytorch-ood detector has to do, as a class of tests for pytest. A subclass whose
    name starts with ``Test`` gives two fixtures:

    - ``detector``: a new, unfitted detector with a small model of its own, for each check
    - ``loader``: yields at least two batches ``(x, y)`` of ID samples; also a list

    and declares what the checks cannot know, see the attributes and methods of
    :class:`~pytorch_ood_viyog.testing.declarations.Declarations`; at least ``anomaly(x)``.

    .. code-block:: python

        class TestMyDetector(DetectorContract):
            @pytest.fixture
            def detector(self):
                return MyDetector(small_model())

            @pytest.fixture
            def loader(self):
                return DataLoader(small_dataset(), batch_size=16)

            def anomaly(self, x):
                return 3 * torch.randn_like(x)

    A check that fails for a known reason is listed in ``expected_failures``, by name and with the
    reason. There is no skipping: each check runs for each detector, and ``test_every_check_ran``
    fails if one did not. All tests of a subclass must run together and in order in one process
    (with pytest-xdist: ``--dist loadscope``).
    """

    def test_every_check_ran(self) -> None:
        """All checks ran, none was skipped, deselected or taken out."""
        checks = checks_of(type(self))
        missing = [name for name in checks if name not in type(self).executed]
        expect(
            not missing,
            f"{len(missing)} of {len(checks)} checks did not run: {missing}. "
            f"Run the whole class; list known failures in expected_failures instead of skipping.",
        )
