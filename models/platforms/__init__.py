"""What runs the target: one model per platform, told apart by `kind`. A new platform is added to `Platform`."""

from typing import Annotated, TypeVar

from pydantic import Field

from models.errors import Impossible
from models.platforms.base import PlatformSpec
from models.platforms.compose import ComposePlatform
from models.platforms.kubernetes import KubernetesPlatform
from models.platforms.local import LocalPlatform

__all__ = ["ComposePlatform", "KubernetesPlatform", "LocalPlatform", "Platform", "PlatformSpec", "of_kind"]

Platform = Annotated[LocalPlatform | ComposePlatform | KubernetesPlatform, Field(discriminator="kind")]
P = TypeVar("P", bound=PlatformSpec)


def of_kind(platform: PlatformSpec, wanted: type[P]) -> P:
    """The same platform, known to be of that kind.

    Raises:
        Impossible: it is another one.
    """
    if not isinstance(platform, wanted):
        raise Impossible(f"this is no {wanted.__name__}, but a {type(platform).__name__}")
    return platform
