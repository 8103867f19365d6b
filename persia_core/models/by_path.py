"""A model class by its import path: a user's own or one of ours."""

import importlib
import re

from torch import nn

_IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def model_class(path: str) -> type[nn.Module]:
    """The torch.nn.Module named "package.module:Class".

    Raises ValueError for text of another form, ImportError when there is no such module or name in it,
    TypeError for anything but a subclass of torch.nn.Module.
    """
    if not _IMPORT_PATH.fullmatch(path):
        raise ValueError("it is no import path of the form package.module:Class")
    module_name, class_name = path.split(":")
    module = importlib.import_module(module_name)
    found = getattr(module, class_name, None)
    if found is None:
        raise ImportError(f"module {module_name} has no {class_name}")
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise TypeError("it is no torch.nn.Module")
    return found
