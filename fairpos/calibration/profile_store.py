"""Profiles that are kept: what lies in the shared directory, and which of them fits a request.

A profile fits where model, weights and template are the same; one for another number of segments may be stretched, if
that is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from fairpos.calibration.profile import Profile, Setting, directory
from fairpos.errors import InvalidRequest, NotCalibrated


def shared() -> list[Profile]:
    """All profiles in the shared directory, the newest first; files that aren't profiles are passed over."""
    found = []
    for path in sorted(directory().glob("*.json")):
        try:
            found.append(Profile.load(path))
        except InvalidRequest:
            continue  # somebody else's file must not keep a good profile from being found
    return sorted(found, key=lambda profile: profile.made, reverse=True)


def fitting(profiles: Iterable[Profile], setting: Setting) -> list[Profile]:
    """Those for this model and template, whatever their number of segments."""
    return [profile for profile in profiles if not profile.setting.differences(setting)]


def for_count(profiles: Sequence[Profile], count: int, *, interpolate: bool) -> Profile | None:
    """The first profile for so many segments; else, if allowed, the one with the nearest number, interpolated.

    Args:
        profiles: All of them fit the model and the template.
        count: Number of segments.
        interpolate: Whether a profile for another number of segments may be stretched.
    """
    for profile in profiles:
        if profile.setting.count == count:
            return profile
    usable = [profile for profile in profiles if profile.setting.count > 1]
    if not interpolate or not usable:
        return None
    return min(usable, key=lambda profile: abs(profile.setting.count - count)).interpolated(count)


def find(setting: Setting, path: str = "", *, interpolate: bool = False) -> list[Profile]:
    """The profiles that a method may use for a setting, among them one for its number of segments.

    Args:
        setting: What is to be asked.
        path: A profile's file; empty: look in the shared directory.
        interpolate: Whether a profile for another number of segments may be stretched.

    Raises:
        NotCalibrated: there is none; the message says which command makes it.
    """
    missing = f"Make one with: {setting.command}"
    if path:
        try:
            profiles = [Profile.load(Path(path).expanduser())]
        except NotCalibrated as error:
            raise NotCalibrated(f"{error}. {missing} -o {path}") from None
        differences = profiles[0].setting.differences(setting)
        if differences:
            raise NotCalibrated(f"the profile {path} doesn't fit: {'; '.join(differences)}. {missing}")
    else:
        profiles = fitting(shared(), setting)
    if for_count(profiles, setting.count, interpolate=interpolate) is None:
        counts = sorted({profile.setting.count for profile in profiles})
        where = path or f"the directory {directory()}"
        known = (
            f"{where} has one for {', '.join(map(str, counts))} segments, "
            "which interpolate=true would stretch (at the price of accuracy)"
            if counts
            else f"there is none in {where}"
        )
        raise NotCalibrated(
            f"no slot profile of {setting.model} for {setting.count} segments in the template {setting.template} "
            f"({setting.task}): {known}. {missing}"
        )
    return profiles
