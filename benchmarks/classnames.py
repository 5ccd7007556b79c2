"""Class lists of real lengths: (data set, class names) for a number of classes."""

__all__ = ["class_list"]

_EUROSAT = [
    "Annual Crop Land",
    "Forest",
    "Herbaceous Vegetation Land",
    "Highway or Road",
    "Industrial Buildings",
]
_FOOD = (
    "apple_pie baby_back_ribs baklava beef_carpaccio beef_tartare beet_salad beignets "
    "bibimbap bread_pudding breakfast_burrito bruschetta caesar_salad cannoli caprese_salad "
    "carrot_cake ceviche cheese_plate cheesecake chicken_curry chicken_quesadilla "
    "chicken_wings chocolate_cake chocolate_mousse churros clam_chowder club_sandwich "
    "crab_cakes creme_brulee croque_madame cup_cakes deviled_eggs donuts dumplings edamame "
    "eggs_benedict escargots falafel filet_mignon fish_and_chips foie_gras french_fries "
    "french_onion_soup french_toast fried_calamari fried_rice frozen_yogurt garlic_bread "
    "gnocchi greek_salad grilled_cheese_sandwich"
).split()
_CALTECH = (
    "face leopard motorbike accordion airplane anchor ant barrel bass beaver binocular "
    "bonsai brain brontosaurus buddha butterfly camera cannon car_side ceiling_fan "
    "cellphone chair chandelier cougar_body cougar_face crab crayfish crocodile "
    "crocodile_head cup dalmatian dollar_bill dolphin dragonfly electric_guitar elephant "
    "emu euphonium ewer ferry flamingo flamingo_head garfield gerenuk gramophone "
    "grand_piano hawksbill headphone hedgehog helicopter ibis inline_skate joshua_tree "
    "kangaroo ketch lamp laptop llama lobster lotus mandolin mayfly menorah metronome "
    "minaret nautilus octopus okapi pagoda panda pigeon pizza platypus pyramid revolver "
    "rhino rooster saxophone schooner scissors scorpion sea_horse snoopy soccer_ball "
    "stapler starfish stegosaurus stop_sign strawberry sunflower tick trilobite umbrella "
    "watch water_lilly wheelchair wild_cat windsor_chair wrench yin_yang"
).split()


def class_list(count: int) -> tuple[str, list[str]]:
    """Names of EuroSAT (up to 5), Food101 (up to 50), Caltech101 (up to 100), else ImageNet."""
    for dataset, names in (("EuroSAT", _EUROSAT), ("Food101", _FOOD), ("Caltech101", _CALTECH)):
        if count <= len(names):
            return dataset, names[:count]
    from open_clip import IMAGENET_CLASSNAMES

    return "ImageNet", list(IMAGENET_CLASSNAMES[:count])
