"""Attacks of five libraries, made as their own documentation makes them, and ours beside them."""

import contextlib
import importlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from own_attacks import ColourShift, SmoothPGD, TrainedPatch
from torch import Tensor, nn

from pytorch_ood_viyog.benchmark.attacks import Square, as_attack, named_attack

__all__ = ["LIBRARIES", "Transferred", "foreign_attacks"]

#: package -> the module that is imported
LIBRARIES = {
    "foolbox": "foolbox",
    "torchattacks": "torchattacks",
    "adversarial-robustness-toolbox": "art",
    "adv-lib": "adv_lib",
    "secml-torch": "secmlt",
    "pytorch-ood-viyog": "pytorch_ood_viyog",
}
# for images of 32 pixels in [0, 1]
_LINF, _L2, _L1 = 8 / 255, 1.0, 20.0
_STEPS = 20


@dataclass(frozen=True)
class Transferred:
    """
    An attack on another classifier of the same classes, which may or may not fool this one.

    :param attack: the attack
    :param surrogate: the other classifier
    """

    attack: Any
    surrogate: nn.Module

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """
        :param model: not asked
        :param x: images in [0, 1]
        :param y: answers to change
        :return: perturbed images
        """
        with torch.enable_grad():
            attacked: Tensor = self.attack(self.surrogate, x, y)
        return attacked


def foreign_attacks(
    model: nn.Module,
    surrogate: nn.Module,
    shape: tuple[int, ...],
    classes: int,
    libraries: Collection[str] = tuple(LIBRARIES),
) -> tuple[dict[str, Any], dict[str, str]]:
    """
    :param model: the classifier
    :param surrogate: another classifier of the same classes
    :param shape: of one image
    :param classes: number of classes
    :param libraries: those that are asked for, of ``LIBRARIES``
    :return: ``library name`` -> attack; and for each that could not be made why
    """
    attacks: dict[str, Any] = {}
    problems: dict[str, str] = {}
    art, adv_lib = partial(_art, shape=shape, classes=classes), partial(_adv_lib, classes=classes)
    makers = (_foolbox, _torchattacks, art, adv_lib, _secml, partial(_ours, surrogate))
    for library, maker in zip(LIBRARIES, makers, strict=True):
        if library not in libraries:
            continue
        try:
            importlib.import_module(LIBRARIES[library])
            found = maker(model)
        except ImportError as error:
            problems[library] = f"not installed: {error}"
            continue
        for name, make in found.items():
            try:
                attacks[f"{library} {name}"] = as_attack(make())
            except Exception as error:
                problems[f"{library} {name}"] = f"{type(error).__name__}: {error}"
    return attacks, problems


Makers = dict[str, Callable[[], Any]]


def _foolbox(model: nn.Module) -> Makers:
    from foolbox import attacks as fa

    fixed = {
        "FGSM": (fa.FGSM(), _LINF),
        "FGM": (fa.FGM(), _L2),
        "LinfPGD": (fa.LinfPGD(steps=_STEPS), _LINF),
        "LinfPGD 2": (fa.LinfPGD(steps=_STEPS), 2 / 255),
        "L2PGD": (fa.L2PGD(steps=_STEPS), _L2),
        "L1PGD": (fa.L1PGD(steps=_STEPS), _L1),
        "LinfAdamPGD": (fa.LinfAdamPGD(steps=_STEPS), _LINF),
        "LinfBIM": (fa.LinfBasicIterativeAttack(steps=_STEPS), _LINF),
        "SparseL1Descent": (fa.SparseL1DescentAttack(steps=_STEPS), _L1),
        "VirtualAdversarial": (fa.VirtualAdversarialAttack(steps=_STEPS), 1.5),
        "Gaussian noise": (fa.L2RepeatedAdditiveGaussianNoiseAttack(repeats=50), 4.0),
        "uniform noise": (fa.LinfRepeatedAdditiveUniformNoiseAttack(repeats=50), 16 / 255),
        "contrast": (fa.L2ContrastReductionAttack(), 8.0),
    }
    minimal = {
        "L2DeepFool": fa.L2DeepFoolAttack(steps=30),
        "LinfDeepFool": fa.LinfDeepFoolAttack(steps=30),
        "L2CW": fa.L2CarliniWagnerAttack(binary_search_steps=3, steps=30, stepsize=0.02),
        "DDN": fa.DDNAttack(steps=30),
        "EAD": fa.EADAttack(binary_search_steps=2, steps=30),
        "NewtonFool": fa.NewtonFoolAttack(steps=30),
        "L0FMN": fa.L0FMNAttack(steps=30),
        "L1FMN": fa.L1FMNAttack(steps=30),
        "L2FMN": fa.L2FMNAttack(steps=30),
        "LInfFMN": fa.LInfFMNAttack(steps=30),
        "salt and pepper": fa.SaltAndPepperNoiseAttack(steps=100),
        "Gaussian blur": fa.GaussianBlurAttack(distance=_l2_distance()),
        "inversion": fa.InversionAttack(distance=_l2_distance()),
        "blended noise": fa.LinearSearchBlendedUniformNoiseAttack(distance=_l2_distance()),
        "Boundary": fa.BoundaryAttack(steps=100),
        "HopSkipJump": fa.HopSkipJumpAttack(steps=2, max_gradient_eval_steps=50),
        "spatial": fa.SpatialAttack(max_translation=3, grid_search=False, random_steps=30),
        "DatasetAttack": fa.DatasetAttack(distance=_l2_distance()),
    }
    targeted = {"GenAttack": (fa.GenAttack(steps=50, channel_axis=1), 16 / 255)}
    return {
        **{n: partial(as_attack, a, epsilon=eps) for n, (a, eps) in fixed.items()},
        **{n: partial(_same, a) for n, a in minimal.items()},
        **{
            f"{n}, targeted": partial(as_attack, a, epsilon=eps, targets="second")
            for n, (a, eps) in targeted.items()
        },
    }


def _l2_distance() -> Any:
    from foolbox.distances import l2

    return l2


def _same(attack: Any) -> Any:
    return attack


def _torchattacks(model: nn.Module) -> Makers:
    import torchattacks as ta

    linf = {"eps": _LINF, "steps": _STEPS}
    names = "BIM PGD EOTPGD TPGD MIFGSM UPGD DIFGSM TIFGSM Jitter NIFGSM VMIFGSM PIFGSM PIFGSMPP"
    settings: dict[str, dict[str, Any]] = dict.fromkeys(names.split(), linf)
    settings["PIFGSM"] = {"max_epsilon": _LINF}
    settings["PIFGSMPP"] = {"max_epsilon": _LINF}
    settings |= {
        "FGSM": {"eps": _LINF},
        "FFGSM": {"eps": _LINF},
        "RFGSM": linf,
        "SINIFGSM": {"eps": _LINF, "steps": 10},
        "VNIFGSM": {"eps": _LINF, "steps": 5},
        "PGDL2": {"eps": _L2, "steps": _STEPS},
        "APGD": linf,
        "APGDT": {"eps": _LINF, "steps": 5, "n_classes": 10},
        "AutoAttack": {"eps": _LINF, "n_classes": 10},
        "Square": {"eps": _LINF, "n_queries": 200},
        "FAB": {"eps": _LINF, "steps": 5, "n_classes": 10},
        "CW": {"c": 1, "steps": 50},
        "DeepFool": {"steps": 20},
        "SparseFool": {"steps": 3},
        "JSMA": {"gamma": 0.02},
        "EADL1": {"max_iterations": 30},
        "EADEN": {"max_iterations": 30},
        "OnePixel": {"pixels": 5, "steps": 3},
        "Pixle": {"max_iterations": 5},
        "SPSA": {"eps": _LINF, "nb_iter": 5},
        "GN": {"std": 0.1},
        "VANILA": {},
    }
    found: Makers = {n: partial(getattr(ta, n), model, **s) for n, s in settings.items()}
    found["PGD, least likely"] = partial(as_attack, ta.PGD(model, **linf), targets="least likely")
    found["PGD, class"] = lambda: partial(ta.PGD, **linf)
    return found


def _art(model: nn.Module, shape: tuple[int, ...], classes: int) -> Makers:
    from art.attacks import evasion as ae
    from art.estimators.classification import PyTorchClassifier

    estimator = PyTorchClassifier(
        model,
        loss=nn.CrossEntropyLoss(),
        input_shape=shape,
        nb_classes=classes,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    linf = {"eps": _LINF, "eps_step": 2 / 255, "max_iter": _STEPS, "verbose": False}
    search = {"max_iter": 5, "verbose": False}
    settings: dict[str, dict[str, Any]] = {
        "FastGradientMethod": {"eps": _LINF},
        "BasicIterativeMethod": linf,
        "ProjectedGradientDescent": linf,
        "MomentumIterativeMethod": linf,
        "AutoProjectedGradientDescent": linf | {"nb_random_init": 1},
        "AutoConjugateGradient": linf | {"nb_random_init": 1},
        "DeepFool": {"max_iter": 20, "verbose": False},
        "NewtonFool": {"max_iter": 20, "verbose": False},
        "CarliniL2Method": {"max_iter": 5, "binary_search_steps": 3, "verbose": False},
        "CarliniLInfMethod": search,
        "ElasticNet": search | {"binary_search_steps": 2},
        "SaliencyMapMethod": {"gamma": 0.02, "verbose": False},
        "VirtualAdversarialMethod": search,
        "BoundaryAttack": {"targeted": False, "max_iter": 20, "verbose": False},
        "HopSkipJump": search | {"max_eval": 50, "init_eval": 10},
        "GeoDA": {"max_iter": 50, "verbose": False},
        "SquareAttack": {"eps": _LINF, "max_iter": 100, "verbose": False},
        "SimBA": {"max_iter": 200, "verbose": False},
        "SpatialTransformation": {
            "max_translation": 10.0,
            "num_translations": 3,
            "max_rotation": 20.0,
            "num_rotations": 3,
            "verbose": False,
        },
        "ShadowAttack": {"nb_steps": 20, "batch_size": 1, "verbose": False},
        "Wasserstein": {"max_iter": 3, "conjugate_sinkhorn_max_iter": 3, "verbose": False},
        "ZooAttack": {"max_iter": 3, "nb_parallel": 16, "verbose": False},
        "PixelAttack": {"max_iter": 3},
        "UniversalPerturbation": {"max_iter": 1, "attacker": "fgsm", "verbose": False},
        "AutoAttack": {"eps": _LINF, "eps_step": 2 / 255},
    }
    found: Makers = {n: partial(getattr(ae, n), estimator, **s) for n, s in settings.items()}
    found["ProjectedGradientDescent, targeted"] = lambda: as_attack(
        ae.ProjectedGradientDescent(estimator, targeted=True, **linf), targets="second"
    )
    return found


def _adv_lib(model: nn.Module, classes: int) -> Makers:
    from adv_lib import attacks as al

    inf = float("inf")
    settings: dict[str, Any] = {
        "ddn": partial(al.ddn, steps=30),
        "ddn, not rounded": partial(al.ddn, steps=30, levels=None),
        "alma l2": partial(al.alma, distance="l2", num_steps=50),
        "alma ssim": partial(al.alma, distance="ssim", num_steps=50),
        "apgd linf": partial(al.apgd, eps=_LINF, norm=inf, n_iter=_STEPS),
        "apgd l2": partial(al.apgd, eps=_L2, norm=2, n_iter=_STEPS),
        "apgd l1": partial(al.apgd, eps=_L1, norm=1, n_iter=_STEPS),
        "apgd_targeted": partial(al.apgd_targeted, eps=_LINF, norm=inf, n_iter=5, num_targets=3),
        "carlini_wagner_l2": partial(
            al.carlini_wagner_l2, num_binary_search_steps=3, num_steps=30
        ),
        "df l2": partial(al.df, steps=20),
        "df linf": partial(al.df, steps=20, norm=inf),
        "sdf": partial(al.sdf, steps=10),
        "tr linf": partial(al.tr, norm=inf, iter=20),
        "pdgd": partial(al.pdgd, num_steps=50),
        "pdpgd l2": partial(al.pdpgd, norm=2, num_steps=50),
        "perc_al": partial(al.perc_al, num_classes=classes, max_iterations=20),
        "pgd_linf": partial(al.pgd_linf, ε=_LINF, steps=_STEPS),
        "sigma_zero": partial(al.sigma_zero, num_steps=50),
        "str_attack": partial(al.str_attack, max_iter=30, binary_search_steps=2),
        "vfga": al.vfga,
        "fga": al.fga,
        "ddn, targeted": partial(as_attack, al.ddn, targets="second", steps=30),
        **{
            f"fmn {name}": partial(al.fmn, norm=norm, steps=30)
            for name, norm in {"l0": 0, "l1": 1, "l2": 2, "linf": inf}.items()
        },
        **{
            f"fab {name}": partial(al.fab, norm=norm, n_iter=10)
            for name, norm in {"l1": 1, "l2": 2, "linf": inf}.items()
        },
    }
    made = settings.pop("ddn, targeted")
    return {n: partial(_same, a) for n, a in settings.items()} | {"ddn, targeted": made}


def _secml(model: nn.Module) -> Makers:
    from secmlt.adv.backends import Backends
    from secmlt.adv.evasion.ddn import DDN
    from secmlt.adv.evasion.deepfool import DeepFool
    from secmlt.adv.evasion.fgsm import FGSM
    from secmlt.adv.evasion.fmn import FMN
    from secmlt.adv.evasion.perturbation_models import LpPerturbationModels as Lp
    from secmlt.adv.evasion.pgd import PGD

    sizes = {Lp.LINF: (_LINF, 2 / 255), Lp.L2: (_L2, 0.2), Lp.L1: (_L1, 4.0)}
    found: Makers = {}
    for backend in (Backends.NATIVE, Backends.FOOLBOX, Backends.ADVLIB):
        for norm, (epsilon, step) in sizes.items():
            with contextlib.suppress(KeyError):
                found[f"PGD {norm} {backend}"] = partial(
                    PGD,
                    perturbation_model=norm,
                    epsilon=epsilon,
                    num_steps=_STEPS,
                    step_size=step,
                    backend=backend,
                )
        found[f"FMN linf {backend}"] = partial(
            FMN, perturbation_model=Lp.LINF, num_steps=30, step_size=1.0, backend=backend
        )
        found[f"DDN {backend}"] = partial(DDN, num_steps=30, backend=backend)
    found["DeepFool foolbox"] = partial(DeepFool, num_steps=20)
    found["FGSM foolbox"] = partial(FGSM, perturbation_model=Lp.LINF, epsilon=_LINF)
    found["PGD linf, y_target"] = partial(
        PGD,
        perturbation_model=Lp.LINF,
        epsilon=_LINF,
        num_steps=_STEPS,
        step_size=2 / 255,
        y_target=3,
        backend=Backends.NATIVE,
    )
    return found


def _ours(surrogate: nn.Module, model: nn.Module) -> Makers:
    attacks: dict[str, Any] = {
        "Square": Square(_LINF, queries=300),
        "TrainedPatch": TrainedPatch(),
        "ColourShift": ColourShift(),
        "PGD, transferred": Transferred(named_attack("pgd8"), surrogate),
        **{f"SmoothPGD {blur:g} px": SmoothPGD(_LINF, blur) for blur in (0.5, 1.0, 2.5)},
    }
    return {n: partial(_same, a) for n, a in attacks.items()}
