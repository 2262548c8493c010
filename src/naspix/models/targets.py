"""What is asked about: a class by its number or its name."""

from naspix.errors import InputError, UnknownNameError
from naspix.models.classifier import Classifier


def find_class(model: Classifier, target: str | int | None) -> int | None:
    """The number of a class that is given by its number, as a word too, or by its name.

    Args:
        model: Knows the classes.
        target: A number or a name, upper or lower case; None stays None.

    Raises:
        InputError: There is no class of that number.
        UnknownNameError: There is no class of that name; with the names most like it.

    Example:
        >>> import naspix
        >>> find_class(naspix.load_model("efficientnet_lite0"), "tiger cat")
        282
    """
    if target is None:
        return None
    if isinstance(target, int) or target.lstrip("-").isdecimal():
        if not 0 <= int(target) < model.n_classes:
            raise InputError(
                f"--target {target} is out of range: {model.name} has {model.n_classes} "
                f"classes, from 0 to {model.n_classes - 1}"
            )
        return int(target)
    names = [name.casefold() for name in model.categories or ()]
    if target.casefold() not in names:
        raise UnknownNameError.among("class", target, model.categories or ())
    return names.index(target.casefold())
