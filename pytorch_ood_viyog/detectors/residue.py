"""
ViyogResidue: the noise floor in directions that natural images leave empty.
"""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from pytorch_ood.api import DetectorInfo, Task
from torch import Tensor
from torch.nn import Module

from ..fitting.checked import Checked
from ..fitting.fitted import Statistics
from ..images.ways import Through, checked_through, require_ways
from ..layer.checks import check_count, check_number, check_range, check_strengths
from ..layer.layer_call import LayerCall
from ..layer.linear.flat_axes import without_flat_axes
from ..layer.linear.plain_convolution import exact_maps
from ..layer.precision import without_autocast
from ..residue.conclusion import SHAPES, conclude
from ..residue.evidence import Settings, score
from ..residue.intent.behind import Behind, check_takes_ways
from ..residue.intent.conclusion import INTENT_SHAPES, Shaping, checked_shaping, conclude_intent
from ..residue.intent.evidence import intent_score, joined
from ..residue.intent.layer_gradient import LayerGradient
from ..residue.intent.sample import measure_inputs, merge_inputs
from ..residue.reader import Reading
from ..residue.statistics import convolution_of, measure, merge
from .base import PAPER
from .verification import VerifiedReadings

__all__ = ["ViyogResidue"]


class ViyogResidue(VerifiedReadings):
    """
    The detector to recommend: the noise floor of an image, read in directions of the first
    convolution's maps that natural images leave nearly empty.

    A gradient attack adds a perturbation :math:`\\delta` to the image. The first convolution is
    linear, so it adds exactly :math:`W * \\delta` to the raw maps :math:`a`. Natural images, ID or
    OOD, leave some directions of channel space nearly empty (fine detail and differences between
    colours); a perturbation fills them everywhere, flat regions included.

    1. *Directions*, quietest first, by :math:`\\Sigma u = \\lambda N u` with the ID covariance
       :math:`\\Sigma` of the maps and their response :math:`N = W W^\\top` to white noise: once
       among the channels at a position, once in the window of three positions along each axis
       around it. Responses :math:`z = u^\\top (a - \\mathbb{E}_{ID}\\, a)` are in units of the
       input's dynamic range.
    2. *Features* per direction: logarithms of the 10 % quantile, the median and the mean of
       :math:`z^2` over space; and of the 5 %, 25 % and 50 % quantiles of bands, means of
       :math:`z^2` over four directions next to each other, which find the flattest places of an
       image.
    3. *Residues*. For ID samples also the features of :math:`a + W * \\delta` with
       :math:`\\delta = \\epsilon \\cdot` random signs; exact, without any attack or OOD data.
    4. *Hypotheses* :math:`H` about the features :math:`f`, Gaussian with one shrunk covariance
       :math:`S`: **ID** with mean :math:`\\mu_0`; **ADV**, the residues' means; **OOD**, anything
       else: the same means with covariance :math:`\\kappa S`, and residues beyond the budget (4,
       8 and 16 times the largest :math:`\\epsilon`), which is what noise images look like.

    .. math::
        s(x) = \\frac{\\mathrm{arsinh}\\, o(f) - m}{d}, \\qquad
        o(f) = \\ln p(f | ADV) - \\ln [p(f | ID) + p(f | OOD)]

    with the mean :math:`m` and standard deviation :math:`d` over ID, each eighth of the ID sample
    judged by hypotheses that were fitted to the others.

    **Sign.** Larger scores speak for ADV; what looks like ID, or like neither ID nor ID with a
    bounded residue, scores lower. On ID the scores have mean 0 and standard deviation 1.

    **When to use.** To tell attacks of a bounded strength from natural images that are new to the
    model. By itself it does not know intent: sensor noise as strong as an attack scores as one.
    With ``intent`` it also reads whether a residue is shaped as an attack's, as
    :class:`ViyogIntent` does, and lowers the score of those that are not, see
    :func:`~pytorch_ood_viyog.residue.intent.evidence.joined`. It does not withstand an attacker
    who optimises against it.

    **Layers.** The weights of a plain convolution are read; of any other first layer the answers
    to impulses tell which convolution it is, once per fit. One that is none is refused by ``fit``
    with a ``RuntimeError`` that says what was found.

    Fitting needs one pass and constant memory: everything is concluded from ``sample_size`` ID
    images, chosen by their content, so that neither order nor batches matter. All of them must
    have one size.

    .. rubric:: Examples

    .. code-block:: python

        detector = ViyogResidue(model)
        detector.fit(train_loader)
        scores = detector(images)
        levels = detector.noise_floor(images)   # about 5/255

    :see: new in this package; the idea of reading the first layer is from Singh et al., *Viyog:
        Separating Adversarial and Out-of-Distribution*, CODES+ISSS 2026 / IEEE TCAD
    """

    info = DetectorInfo(paper=PAPER, tasks={Task.CLASSIFICATION}, ai_coded=True)

    hyperparameter_space: ClassVar[dict[str, list[object]]] = {
        "directions": [8, 16, 24],
        "kappa": [1.5, 2.0, 3.0],
        "shrinkage": [None, 0.01, 0.1],
    }

    #: number of directions of each kind
    directions = Checked(partial(check_count, low=1))
    #: how much wider than ID and ADV anything else is
    kappa = Checked(partial(check_number, low=1.0))
    #: share of the covariance that is shrunk to its diagonal; ``None``: by the data's size
    shrinkage = Checked(lambda name, v: None if v is None else check_number(name, v, 0.0, 1.0))
    #: the way between attacker and model, ways as their names; ``None``: nothing
    through = Checked(lambda _, v: None if v is None else checked_through(v))

    def __init__(
        self,
        model: Module | None,
        *,
        layer: str | Module | None = None,
        eps: Sequence[float] = (1 / 255, 2 / 255, 4 / 255, 8 / 255),
        input_range: float | Sequence[float] | None = None,
        directions: int = 16,
        kappa: float = 2.0,
        shrinkage: float | None = None,
        sample_size: int = 256,
        seed: int = 0,
        intent: Shaping | None = None,
        through: Through | None = None,
    ):
        """
        :param model: model whose first convolution is read; ``None`` to use feature maps only,
            then the layer that made them is needed as ``layer``
        :param layer: layer to read instead, as dotted name or module: any whose output is linear
            in its input and, away from the border, shift-equivariant
        :param eps: strengths of the residues that count as ADV, as fractions of the input's
            dynamic range
        :param input_range: dynamic range of the convolution's input, one number or one per
            channel. Default: read from the data, or from what would give the maps
        :param directions: number of directions of each of the two kinds that are read one by one
        :param kappa: how much wider than ID and ADV anything else is, :math:`\\kappa > 1`
        :param shrinkage: share of the covariance that is shrunk to its diagonal, in [0, 1].
            Default: :math:`F / (F + 10 N)` for :math:`F` features and :math:`N` samples
        :param sample_size: number of ID images that the state is concluded from; fewer, but at
            least 64, where their maps would take more than 128 MiB
        :param seed: seed of the residues' signs and of the choice of ID images
        :param intent: what shapes simulated attacks, as ``residues`` of :class:`ViyogIntent`;
            ``None``: nothing is simulated, and benign changes score as attacks do
        :param through: the way between an attacker and the model, as a name of
            :class:`~pytorch_ood_viyog.images.ways.Way` (``"JPEG 95 4:2:0"``) or a function of
            images in [0, 1]; of several, one is drawn for each. ``fit`` then takes images
            *before* that way, everything else as the model gets them.
        :raises TypeError: if an argument has the wrong type
        :raises ValueError: if an argument is out of range, or ``layer`` not found
        :raises RuntimeError: if the model has no convolution and no layer is named
        """
        super().__init__(model, layer=layer)
        self.eps = check_strengths("eps", eps)
        self.input_range = check_range("input_range", input_range)
        self.directions = directions
        self.kappa = kappa
        self.shrinkage = shrinkage
        self.sample_size = check_count("sample_size", sample_size, low=2)
        self.seed = check_count("seed", seed, low=0)
        self.intent = None if intent is None else checked_shaping("intent", intent)
        self.through = through

    # -- fit --------------------------------------------------------------------------------

    # not the statistics: their sample of maps may take 128 MiB
    _saves_statistics = False
    _saved_shapes: ClassVar[dict[str, str]] = SHAPES

    def _shapes(self) -> dict[str, str]:
        return self._saved_shapes | ({} if self.intent is None else INTENT_SHAPES)

    def _measure(self, maps: Tensor, inputs: Tensor | None) -> Statistics:
        layer = self._layer_read()
        conv = self._known_layer.describe(layer, inputs, maps)
        if inputs is not None:  # rounding to half precision would count as noise
            maps = exact_maps(LayerCall(layer, inputs, maps), conv)
        if self.through is not None:
            check_takes_ways(inputs)
            require_ways(self.through)
        conv, inputs, maps = without_flat_axes(conv, inputs, maps)
        found = measure(conv, maps, inputs, self.sample_size, self.seed)
        if not self._keeps_inputs:
            return found
        if inputs is None and self.intent == "gradients":
            raise ValueError(
                "Residues shaped by gradients need the model's inputs: use fit(), or residues "
                "shaped by 'filters'."
            )
        return found | measure_inputs(maps, inputs, self.sample_size, self.seed)

    def _merge(self, one: Statistics, other: Statistics) -> Statistics:
        own = merge_inputs(one, other, self.sample_size) if self._keeps_inputs else {}
        return merge(one, other, self.sample_size) | own

    def _conclude(self, statistics: Statistics) -> dict[str, Tensor]:
        conv = convolution_of(statistics)

        def read(inputs: Tensor, state: dict[str, Tensor]) -> Reading:  # without the layer
            reading = self._read_seen(inputs, state)
            return self._read_maps(conv.maps(inputs), state) if reading is None else reading

        with without_autocast(statistics["sample"].device):
            behind = None
            if self.through is not None:
                behind = Behind.of(self.through, conv, statistics, self.seed)
            state = conclude(statistics, self._settings, behind, read)
            if self.intent is None:
                return state
            gradient = None
            if self._first_layer is not None and self.intent != "filters":
                gradient = LayerGradient(self._first_layer.model, self._first_layer.layer())
            return state | conclude_intent(
                *(statistics, state, self._settings, behind, read),
                gradient=gradient,
                optional=self.intent == "auto",
                progress=self._progress,
            )

    @property
    def _keeps_inputs(self) -> bool:
        return self.intent is not None or self.through is not None

    @property
    def _settings(self) -> Settings:
        return Settings(
            self.eps,
            self.input_range,
            self.directions,
            self.kappa,
            self.shrinkage,
            self.seed,
        )

    @property
    def shaped_by(self) -> str | None:
        """What shaped simulated residues, ``"filters"`` or ``"gradients"``; ``None``: nothing."""
        found = None if self.intent is None else self._fitted("by_gradients")
        return None if found is None else ("gradients" if bool(found) else "filters")

    def _score_reading(self, reading: Reading, state: dict[str, Tensor]) -> Tensor:
        scores = score(reading.features, state, self._settings)
        if self.intent is None:
            return scores
        return joined(scores, intent_score(reading, state), state)
