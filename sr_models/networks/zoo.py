"""Any network that spandrel knows (https://github.com/chaiNNer-org/spandrel), as a network of ours: one adapter.

spandrel recognises architectures by the keys and shapes of a state dict, which is read elsewhere, without pickle: its
own file loader is never used, nor are its extra architectures, which are under other licences. Needs the extra [zoo].
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sr_models.errors import InputError
from sr_models.hyper.zoo import ZooHyper
from sr_models.networks.base import SRNetwork, check_window, parameters

Descriptor = Any
"""spandrel's `ImageModelDescriptor`, of a library that need not be there."""


class Zoo(SRNetwork):
    """A network of spandrel in fp32, on RGB in [0, 1]; it exposes no features, so no σ head reads it.

    Dropout and stochastic depth are off, and the statistics of BatchNorm stay as they are in training too.
    """

    feature_channels = 0

    def __init__(
        self,
        scale: int,
        *,
        architecture: str,
        network: str,
        arguments: Mapping[str, Any],
        factor: int,
        multiple: int,
        cost: float,
    ) -> None:
        super().__init__()
        self.scale = self.feature_scale_to_go = factor
        self.window = multiple
        found = _built(architecture, network, arguments)
        if (own := (found.scale, found.size_requirements.multiple_of)) != (factor, multiple):
            raise InputError(
                f"model 'zoo': this {architecture} has factor {own[0]}, multiple {own[1]}, got {factor} and {multiple}"
            )
        self.net: nn.Module = found.model.float()
        self.least = found.size_requirements.minimum
        self._call = found._call_fn  # what of the network's outputs is the picture, in which range
        for module in self.net.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            elif hasattr(module, "drop_prob"):
                module.drop_prob = 0.0
        self.train()

    def train(self, mode: bool = True) -> Zoo:
        """As of any module, but for BatchNorm."""
        super().train(mode)
        for module in self.net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def features(self, lr_BCHW: Tensor) -> Tensor:
        raise ValueError("a network of the zoo exposes no features")

    def reconstruct(self, feat_BCHW: Tensor, lr_BCHW: Tensor) -> Tensor:
        raise ValueError("a network of the zoo exposes no features")

    def forward(self, lr_BCHW: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, 3, H * scale, W * scale); what is smaller than it takes is padded."""
        check_window(lr_BCHW, self.window)
        height, width = lr_BCHW.shape[2:]
        beyond = max(self.least - height, 0), max(self.least - width, 0)
        x = functional.pad(lr_BCHW, (0, beyond[1], 0, beyond[0]), "replicate") if any(beyond) else lr_BCHW
        out: Tensor = self._call(self.net, x)
        return out[..., : height * int(self.scale), : width * int(self.scale)]


def recognised(state: Mapping[str, Tensor], where: str) -> tuple[ZooHyper, dict[str, Tensor]]:
    """What network a state dict is of, and its tensors under the keys of `Zoo`.

    Args:
        where: begins what is refused.

    Raises:
        InputError: the extra is not there, no architecture that spandrel knows, or none that makes one RGB picture of
            another.
    """
    if find_spec("spandrel") is None:
        raise InputError(f"{where}: other projects' networks need spandrel: pip install 'sr-sweep[zoo]'")
    import spandrel

    try:
        with torch.random.fork_rng(devices=[]):  # initial weights are drawn and thrown away
            found = spandrel.ModelLoader("cpu").load_from_state_dict(dict(state))
    except spandrel.UnsupportedModelError:
        some = ", ".join(list(state)[:3])
        raise InputError(
            f"{where}: no architecture that spandrel {spandrel.__version__} knows (keys: {some}, ...)"
        ) from None
    except Exception as error:  # what is recognised by some keys and lacks others fails anywhere
        raise InputError(f"{where}: {type(error).__name__}: {' '.join(str(error).split())[:200]}") from None
    name = found.architecture.id
    _check(found, f"{where}: {name}")
    plain = {key: value for key, value in found.model.hyperparameters.items() if not isinstance(value, type)}
    arguments = json.loads(json.dumps(plain))  # classes of layers are defaults: no file names one
    hyper = ZooHyper(
        architecture=name, network=type(found.model).__name__, arguments=arguments, factor=found.scale,
        multiple=found.size_requirements.multiple_of, cost=parameters(found.model),
    )  # fmt: skip
    return hyper, {f"net.{key}": value for key, value in found.model.float().state_dict().items()}


def _check(found: Descriptor, where: str) -> None:
    """Raises InputError: not a network from one RGB picture to a larger or equally large one."""
    if found.purpose not in ("SR", "Restoration"):
        raise InputError(f"{where} is for {found.purpose}, and not for super-resolution")
    if (channels := (found.input_channels, found.output_channels)) != (3, 3):
        grey = ", a network of grey pictures" if channels == (1, 1) else ""
        raise InputError(f"{where} takes {channels[0]} channels to {channels[1]}{grey}; RGB to RGB (3 to 3) is needed")
    if found.size_requirements.square:
        raise InputError(f"{where} takes square pictures alone, and photographs are of any sides")


def _built(architecture: str, network: str, arguments: Mapping[str, Any]) -> Descriptor:
    """spandrel's description of a new network with these arguments; weights drawn from torch's generator.

    Raises:
        InputError: the extra is not there, or it knows no such network.
    """
    if find_spec("spandrel") is None:
        raise InputError("model 'zoo': other projects' networks need spandrel: pip install 'sr-sweep[zoo]'")
    import spandrel

    support = spandrel.MAIN_REGISTRY.get(architecture)
    cls = None
    if support is not None:
        known = vars(sys.modules[type(support.architecture).__module__]).values()
        cls = next((each for each in known if getattr(each, "__name__", None) == network), None)
    if support is None or not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise InputError(f"model 'zoo': spandrel {spandrel.__version__} knows no {architecture} network {network!r}")
    try:
        return support.architecture.load(cls(**arguments).state_dict())
    except Exception as error:  # anyone's model.json may hold the arguments, and each class fails in its own way
        said = " ".join(str(error).split())[:200]
        raise InputError(f"model 'zoo': {architecture} cannot be built ({type(error).__name__}: {said})") from None
