"""Settings of a composite method: `sets.epochs=3` is of one member, `seed=1` of all; all else names a member."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from ..errors import DataError, UnknownName
from ..methods import change, method_class
from ..methods.composite import Composite

if TYPE_CHECKING:
    from .config import TrainConfig

__all__ = ["SHARED", "config_of", "split_members"]

SHARED = ("seed", "precision", "device", "save_minutes", "bank")
"""Of the training config: what every member is given."""


def split_members(
    cls: type[Composite], settings: Mapping[str, Any], config: type[TrainConfig]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """As `split_settings`, of a composite method.

    Raises:
        UnknownName: no such member or field; offers the nearest.
        DataError: a field without the member it is of, or with one where it is of all.
    """
    own = {spec.name for spec in fields(cls)} - set(cls.fixed) - set(cls.parts)
    of_config = {spec.name for spec in fields(config)}
    mine: dict[str, Any] = {}
    shared: dict[str, Any] = {}
    for name, value in settings.items():
        member, dot, field = name.partition(".")
        if dot:
            _add(mine, member, _of_member(cls, member, field, value, config))
        elif name in cls.parts:
            _add(mine, name, value)
        elif name in own:
            mine |= change(cls.name, cls, {name: value})
        elif name in SHARED:
            shared[name] = value
        else:
            raise _unplaced(cls, name, own | set(SHARED), of_config)
    return mine, change("the training config", config, shared)


def _add(mine: dict[str, Any], member: str, settings: Any) -> None:
    """Settings of a member beside those it has; what are none stays as it is, and the method will say so."""
    known = mine.get(member, {})
    both = isinstance(known, Mapping) and isinstance(settings, Mapping)
    mine[member] = {**known, **settings} if both else settings if isinstance(known, Mapping) else known


def _of_member(cls: type[Composite], member: str, field: str, value: Any, config: type[TrainConfig]) -> dict[str, Any]:
    if member not in cls.parts:
        raise UnknownName(f"member of {cls.name}", member, cls.parts)
    if field in SHARED:
        raise DataError(f"--set {member}.{field}: all members of {cls.name} share it; give --set {field}={value}")
    from .config import split_settings

    of_method, of_config = split_settings(cls.parts[member][0], {field: value})
    return of_method | of_config


def _unplaced(cls: type[Composite], name: str, known: set[str], of_config: set[str]) -> DataError | UnknownName:
    """The error of a name that is no field of the whole: one of a member's without its name, or nobody's."""
    having = [
        member
        for member, (method, _) in cls.parts.items()
        if name in {spec.name for spec in fields(method_class(method))} - set(method_class(method).fixed)
        or (name in of_config and not method_class(method).fitted)
    ]
    if having:
        said = " or ".join(f"--set {member}.{name}=..." for member in having)
        return DataError(f"{cls.name}: {name} of which member? They train apart; name one: {said}")
    return UnknownName(f"field of {cls.name}", name, {*known, *(f"{member}." for member in cls.parts)})


def config_of(method: Composite, name: str, config: TrainConfig) -> TrainConfig:
    """How a member is trained. Raises DataError: the config changes what is each member's own."""
    kind = type(config)
    for spec in fields(config):
        if spec.name not in SHARED and (found := getattr(config, spec.name)) != spec.default:
            said = " or ".join(f"{member}={{'{spec.name}': {found!r}}}" for member in method.parts)
            raise DataError(
                f"{method.name}: {spec.name}={found!r} in the training config is of which member? They train apart; "
                f"give the method {said} instead"
            )
    shared = {each: getattr(config, each) for each in SHARED}
    own = change(f"the training of {name}", kind, method.training_of(name))
    return kind(**{**own, **shared})
