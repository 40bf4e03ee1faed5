"""
Find the first convolution that takes the image, run the model only that far, and read it there.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from torch import Tensor
from torch.nn import Module
from torch.nn.parameter import is_lazy

from .finding import Path, Runs, convolutions, examine, find_layer, layer_named, runs_unclear
from .finding.by_name import check_hookable, known_convolutions, no_convolution
from .finding.examination import in_order
from .layer_call import LayerCall
from .layer_reader import LayerReader
from .manners import answer_of, as_found, modules_of, unwrap

__all__ = ["FirstLayer"]

T = TypeVar("T")

# samples that are enough to see in which order rows come
_FEW = 4


class FirstLayer:
    """
    The layer of a model that the detectors read: by default the first convolution to *execute*
    that takes the image itself, or a layer that the user names. Further convolutions that take
    the same tensor and come together in one sum belong to it; where what lies between the image
    and the convolution is linear, all of that does.

    What it is, how often it runs and what it sees of the image is found out once, in one or two
    passes of a few samples. After that the model runs up to that layer only: a hook that lives
    for one call, and acts for the calling thread alone, hands the layer's input to the reader and
    ends the forward pass.
    """

    def __init__(self, model: Module, layer: str | Module | None = None):
        """
        :param model: model to read, also wrapped in ``DataParallel``, ``DistributedDataParallel``
            or ``torch.compile``
        :param layer: dotted name of the layer, or the module itself. Default is the first
            convolution that executes.
        :raises RuntimeError: if no layer is named and the model has no convolution
        :raises TypeError: if hooks do not run in the model, as in scripted and exported ones
        :raises ValueError: if the named layer is not part of the model
        """
        self.model = model
        #: dotted name of the layer; ``None`` until a forward pass has found it
        self.name: str | None = None
        #: whether the user named it
        self.named = layer is not None
        #: how its rows belong to samples, and what lies before it; ``None`` until that was looked
        #: at
        self.runs: Runs | None = None
        self.path: Path | None = None
        self._shape: tuple[int, ...] | None = None  # of the samples that were looked at
        check_hookable(unwrap(model))
        if layer is not None:
            self.name = find_layer(unwrap(model), layer)
        elif not convolutions(unwrap(model)):
            raise RuntimeError(no_convolution(unwrap(model)))

    def layer(self) -> Module:
        """
        :return: the layer that is read
        :raises RuntimeError: if no layer was named and no forward pass has found one yet
        """
        if self.name is None:
            raise RuntimeError("The first convolution is not known before a forward pass.")
        return layer_named(unwrap(self.model), self.name)

    def run(self, x: Tensor, read: Callable[[LayerCall], T]) -> T:
        """
        Run the model on ``x`` up to the layer and read it there.

        :param x: batch of model inputs
        :param read: called once, with the layer and its input, inside the forward pass (so that
            autocast and the like apply as they do for the layer)
        :return: what ``read`` returns
        :raises RuntimeError: if the layer does not run, or not on each sample, or the model has
            lazy parameters that were never initialised
        """
        self.find(x)
        reader = self._run(x, read)
        # samples may have other numbers of rows than those that were seen before
        if not reader.complete and reader.calls > 0 and self._examine(x, whole=True):
            reader = self._run(x, read)
        result: T = self._outcome(x, reader)
        return result

    @contextmanager
    def reading(self, x: Tensor, read: Callable[[LayerCall], Any]) -> Iterator[None]:
        """
        Read the layer in a forward pass that the caller runs inside the block and that goes on
        to its end, so that others can read further layers in it.

        :param x: batch of model inputs that the caller runs the model on
        :param read: called once, with the layer, its input and its output, right after the layer
            ran; if it raises, the forward pass ends there and the block raises that error
        :raises RuntimeError: as :meth:`run`
        """
        yield from self._around(x, read)

    @contextmanager
    def replacing(self, x: Tensor, change: Callable[[LayerCall], Tensor]) -> Iterator[None]:
        """
        Give the model another output of the layer in a forward pass that the caller runs inside
        the block; the model goes on from there.

        :param x: batch of model inputs that the caller runs the model on
        :param change: called right after the layer ran, once for each run that reads the image;
            gives the output that takes its place. If it raises, the forward pass ends there and
            the block raises that error.
        :raises RuntimeError: as :meth:`run`
        """
        yield from self._around(x, change, replace=True)

    def find(self, x: Tensor) -> None:
        """
        Find out which layer is the first, how often it runs and what it sees, unless that is
        known: a few samples run through the whole model.

        :param x: batch of model inputs
        :raises RuntimeError: if the layer does not run on each sample, or the model has lazy
            parameters that were never initialised
        """
        if self.runs is None or (self.runs.per_sample > 1 and self._shape != x.shape[1:]):
            self._examine(x)
        if self.runs is not None and self.runs.adjacent is None and len(x) > 1:
            self._find_order(x[:_FEW])

    # -- one pass ---------------------------------------------------------------------------

    def _run(self, x: Tensor, read: Callable[[LayerCall], Any]) -> LayerReader:
        model = unwrap(self.model)
        if self.name is None:
            with as_found(model):
                answer_of(model, x)  # may say itself what is wrong
            raise RuntimeError(self._never_ran())
        with as_found(model), self._reader(x, read, stop=True) as reader:
            answer_of(model, x)
        return reader

    def _around(self, x: Tensor, read: Callable[[LayerCall], Any], **how: bool) -> Iterator[None]:
        self.find(x)
        if self.name is None:
            yield
            raise RuntimeError(self._never_ran())
        with self._reader(x, read, **how) as reader:
            yield
        self._outcome(x, reader)

    def _reader(self, x: Tensor, read: Callable[[LayerCall], Any], **how: bool) -> LayerReader:
        if self.runs is None:
            self._check_lazy()
        runs = self.runs or Runs()
        return LayerReader(self.layer(), str(self.name), x, read, runs, self.path, **how)

    def _outcome(self, x: Tensor, reader: LayerReader) -> Any:
        if not reader.calls:
            raise RuntimeError(self._never_ran())
        if not reader.complete:
            raise RuntimeError(runs_unclear(reader.name, reader.rows, len(x), reader.calls))
        value, error = reader.outcome[-1]
        if error is not None:
            raise error
        unknown = self.runs is not None and not self.runs.in_order and len(x) > 1
        if reader.in_parts and unknown:
            self._find_order(x)
        return value

    # -- found once -------------------------------------------------------------------------

    def _examine(self, x: Tensor, *, whole: bool = False) -> bool:
        """Whether something else was found than was known."""
        self._check_lazy()
        found = examine(unwrap(self.model), x, self.name, whole=whole)
        if found is None or len(x) == 0:
            self.name = self.name if found is None else found.name
            return False
        before, self._shape = self.runs, x.shape[1:]
        self.name, self.runs = found.name, found.runs
        self.path = replace(found.path, name=found.name, named=self.named)
        return before is None or before.per_sample != found.runs.per_sample

    def _find_order(self, x: Tensor) -> None:
        assert self.runs is not None
        assert self.name is not None
        self.runs = in_order(unwrap(self.model), x, self.name, self.runs)

    def _check_lazy(self) -> None:
        model = unwrap(self.model)
        own = (parameter for module in modules_of(model) for parameter in _parameters(module))
        if any(map(is_lazy, own)):
            raise RuntimeError(
                f"{type(model).__name__} has lazy parameters that are not initialised yet. Run "
                f"the model once on a batch first."
            )

    def _never_ran(self) -> str:
        model = unwrap(self.model)
        looked_for = f"Layer {self.name!r}" if self.name else "A convolution"
        return (
            f"{looked_for} never runs in the forward pass of {type(model).__name__}. "
            f"{known_convolutions(model)}"
        )


def _parameters(module: Module) -> list[Any]:
    return [parameter for parameter in module._parameters.values() if parameter is not None]
