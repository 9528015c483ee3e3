"""Texts that cameras and programs write where a description belongs: they say nothing of the photo."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["is_stock", "tidy"]

_TEXTS = """
    ascii, camera, caption, charset=ascii, comment, cs-ascii, dcim, default, description, digital camera, image, jfif,
    jpeg, ldc, my photo, my picture, none, null, photo, picture, samsung digimax, screenshot, sony dsc, unicode,
    unknown, untitled, untitled photo, user comment, user comments, xp comment,
    asc, bsh, btf, btfmdn, cof, dav, dig, edf, fbt, hdr, hdrpl, mde, nor, oznor, oznorco, ptr, ptrbsh, qrf, rbt, rhdr,
    rpt, sdr
"""
"""Whole texts, in lower case; those of the last lines are modes of phones."""

_STOCK = frozenset(text.strip() for text in _TEXTS.split(","))

_MAKERS = (
    "aiptek|bell|casio|concord|creative|easypix|epson|fujifilm|ge|general|hp|jenoptik|kodak|konica|kyocera|medion|"
    "minolta|olympus|panasonic|pentax|polaroid|premier|ricoh|rollei|samsung|sanyo|sony|supra|toshiba|trust|vivitar"
)
_NAMES = "dcp|dji|dsc|dscf|dscn|gopr|image|img|mvimg|p|photo|pic|pict|picture|pxl|scan|screenshot|vid"
_DONE = "captured|compressed|created|edited|generated|made|optimi[sz]ed|processed|saved|scanned|written"
_PROGRAMS = "acdsee|adobe|gimp|imagemagick|irfanview|paint|photoshop|picasa|xnview"
_SETTINGS = (
    "aec_lux|aec_settling|ai_scene|albedo|appertureinfo|cct_value|confidence|filter|hist252|hist255|hw-remosaic|maker|"
    "mode|modeinfo|module|motionlevel|scenemode|size|temperature|touch|type|weatherinfo"
)

_PATTERNS = re.compile(
    rf"""
      (?:(?:{_MAKERS})\s){{0,2}}digital\s(?:still\s)?camera(?:\s\S+)?  # OLYMPUS DIGITAL CAMERA
    | exif[ _-]?jpe?g[\w ]*
    | (?:{_NAMES})[ _-]?[\d _-]*
    | \S+\.(?:jpe?g|png|tiff?|webp|gif|bmp|heic|avif)
    | (?:{_DONE})\s(?:with|by|using)\s(?:the\s)?(?:{_PROGRAMS}).*
    | (?:file\ssource|file\swritten\sby\sadobe|lead\stechnologies|creator:|software:|jpeg\sencoder|dcim\\).*
    | (?:{_SETTINGS})\s?[:=].*
    """,
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
"""Names of files, of programs and of settings."""


def tidy(text: str) -> str:
    """The text on one line, without characters that nobody sees."""
    shown = (" " if unicodedata.category(char) in ("Cc", "Cs", "Co", "Cn") else char for char in text)
    return " ".join("".join(shown).split())


def is_stock(text: str) -> bool:
    """Whether a text, tidied, is one that a camera or a program writes by itself, or holds no word at all."""
    if not any(char.isalpha() for char in text) or "\N{REPLACEMENT CHARACTER}" in text:
        return True
    return text.casefold() in _STOCK or _PATTERNS.fullmatch(text) is not None
