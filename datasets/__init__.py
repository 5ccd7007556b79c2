"""Data set readers. Importing the package registers them all."""

from datasets.caltech101 import Caltech101
from datasets.dtd import DescribableTextures
from datasets.eurosat import EuroSAT
from datasets.fgvc_aircraft import FGVCAircraft
from datasets.folder import Folder
from datasets.food101 import Food101
from datasets.imagenet import ImageNet, ImageNetA, ImageNetR, ImageNetSketch, ImageNetV2
from datasets.oxford_flowers import OxfordFlowers
from datasets.oxford_pets import OxfordPets
from datasets.shapes import Shapes
from datasets.stanford_cars import StanfordCars
from datasets.sun397 import SUN397
from datasets.ucf101 import UCF101

__all__ = [
    "SUN397",
    "UCF101",
    "Caltech101",
    "DescribableTextures",
    "EuroSAT",
    "FGVCAircraft",
    "Folder",
    "Food101",
    "ImageNet",
    "ImageNetA",
    "ImageNetR",
    "ImageNetSketch",
    "ImageNetV2",
    "OxfordFlowers",
    "OxfordPets",
    "Shapes",
    "StanfordCars",
]
