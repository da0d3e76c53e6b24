"""Which architecture a model type is."""

from bertrt.export.architectures.albert import Albert
from bertrt.export.architectures.architecture import Architecture
from bertrt.export.architectures.distilbert import DistilBert
from bertrt.export.architectures.electra import Electra
from bertrt.export.architectures.mpnet import MPNet
from bertrt.export.architectures.roberta import Roberta

__all__ = ["ARCHITECTURES"]

# By `model_type`, as a config.json gives it.
ARCHITECTURES: dict[str, type[Architecture]] = {
    model_type: architecture
    for architecture in (Architecture, Roberta, DistilBert, Electra, MPNet, Albert)
    for model_type in architecture.classes
}
