"""What runs the target: one model per platform, told apart by `kind`. A new platform is added to `Platform`."""

from typing import Annotated, TypeVar

from pydantic import Field

from models.errors import PreconditionError
from models.platforms.base import PlatformSpec
from models.platforms.compose import ComposePlatformSpec
from models.platforms.kubernetes import KubernetesPlatformSpec
from models.platforms.local import LocalPlatformSpec

__all__ = ["ComposePlatformSpec", "KubernetesPlatformSpec", "LocalPlatformSpec", "Platform", "PlatformSpec", "of_kind"]

Platform = Annotated[LocalPlatformSpec | ComposePlatformSpec | KubernetesPlatformSpec, Field(discriminator="kind")]
P = TypeVar("P", bound=PlatformSpec)


def of_kind(platform: PlatformSpec, wanted: type[P]) -> P:
    """The same platform, known to be of that kind.

    Raises:
        PreconditionError: it is another one.
    """
    if not isinstance(platform, wanted):
        raise PreconditionError(f"this is no {wanted.__name__}, but a {type(platform).__name__}")
    return platform
