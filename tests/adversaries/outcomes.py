"""What comes of bad files where no library's version decides: so many images and these kinds of problems, or none."""

from __future__ import annotations

__all__ = ["OUTCOMES"]

_NAMED: dict[tuple[int | str, ...], str] = {
    (1, "caption is not text"): """
        precomp-latin-1
    """,
    (1, "damaged file"): """
        shard-cut-0.3
    """,
    (1, "empty caption"): """
        precomp-empty-caption
    """,
    (1,): """
        precomp-too-few-ids precomp-ids-up
    """,
    (2, "bad file name"): """
        karpathy-filename-null karpathy-filename-true karpathy-filename-number karpathy-filename-fraction
        karpathy-filename-list karpathy-filename-object karpathy-filename-half-a-pair
        karpathy-filename-list-of-null karpathy-filename-nothing
    """,
    (2, "bad id", "caption is not text"): """
        shard-json-wrong-types
    """,
    (2, "bad image"): """
        photos-no-text photos-no-text-sidecar
    """,
    (2, "bad metadata"): """
        karpathy-split-half-a-pair karpathy-imgid-half-a-pair
    """,
    (2, "bad split"): """
        karpathy-split-list karpathy-split-object karpathy-split-list-of-null
    """,
    (2, "damaged file"): """
        shard-cut-0.6
    """,
    (2, "damaged file", "missing picture"): """
        tar-header-size-negative tar-header-size-no-number tar-header-length-zero tar-header-length-huge
        tar-header-length-of-many-digits tar-header-no-sign tar-header-path-up tar-endless-name-x
        tar-endless-name-g tar-endless-name-L tar-endless-name-K tar-large-name
    """,
    (2, "damaged file", "unreadable picture"): """
        tar-header-size-of-a-petabyte
    """,
    (2, "missing picture"): """
        tar-header-sparse tar-header-sparse-map tar-header-sparse-size tar-header-not-utf-8
        tar-long-names-on-long-names shard-no-picture shard-link-as-picture shard-many-parts photos-pipe
        photos-link-to-itself
    """,
    (2, "no captions"): """
        karpathy-sentences-null karpathy-sentences-true karpathy-sentences-number
        karpathy-sentences-fraction karpathy-sentences-text karpathy-sentences-object
        karpathy-sentences-half-a-pair
    """,
    (2, "outside the folder"): """
        karpathy-folder-up shard-name-up shard-name-absolute photos-drive photos-link-out
        photos-link-to-a-device photos-circle-up photos-whole-disk
    """,
    (2, "repeated id"): """
        shard-json-id-of-another
    """,
    (2, "unreadable folder"): """
        photos-deep
    """,
    (2, "unreadable picture"): """
        shard-picture-cut shard-picture-empty shard-not-a-picture photos-empty photos-cut photos-page
    """,
    (2,): """
        precomp-ids-twice shard-hidden shard-no-suffix shard-key-twice photos-sidecar-of-nothing
        photos-backslash photos-hidden photos-folder-as-picture photos-circle photos-pipe-table
    """,
    (3, "bad category", "unknown category"): """
        coco-instances-nan
    """,
    (3, "bad category", "unknown image"): """
        coco-instances-wrong
    """,
    (3, "bad metadata"): """
        shard-json-nan shard-json-half-a-pair
    """,
    (3, "caption is not text"): """
        coco-annotation-caption-null coco-annotation-caption-object coco-annotation-caption-list
        coco-annotation-caption-number coco-annotation-caption-true coco-annotation-caption-half-a-pair
        coco-annotation-caption-nothing karpathy-sentence-raw-null karpathy-sentence-raw-true
        karpathy-sentence-raw-number karpathy-sentence-raw-fraction karpathy-sentence-raw-list
        karpathy-sentence-raw-object karpathy-sentence-raw-half-a-pair karpathy-sentences-list-of-null
        karpathy-sentence-raw-list-of-null karpathy-sentence-raw-nothing karpathy-sentence-null
        shard-text-latin-1 shard-class-not-text
    """,
    (3, "damaged file"): """
        shard-beside-a-bad-one shard-empty-beside
    """,
    (3, "empty caption"): """
        shard-text-empty
    """,
    (3, "member too large"): """
        shard-text-huge
    """,
    (3, "not JSON"): """
        shard-json-half shard-json-deep
    """,
    (3, "not an object"): """
        coco-annotation-null coco-annotation-true coco-annotation-number coco-annotation-fraction
        coco-annotation-text coco-annotation-list coco-annotation-half-a-pair coco-annotation-list-of-null
        shard-json-list
    """,
    (3, "unknown image"): """
        coco-annotation-image_id-null coco-annotation-image_id-object coco-annotation-image_id-list
        coco-annotation-image_id-number coco-annotation-image_id-true coco-annotation-image_id-half-a-pair
        coco-annotation-image_id-nothing coco-annotation-object
    """,
    (3, "unreadable table"): """
        photos-table-noise photos-table-empty
    """,
    (3, "unreadable text"): """
        photos-sidecar-latin-1 photos-sidecar-utf-16 photos-sidecar-binary photos-sidecar-huge
    """,
    (3,): """
        tar-header-no-text tar-header-charset tar-headers-on-headers karpathy-split-null karpathy-imgid-null
        karpathy-sentids-null karpathy-sentence-sentid-null karpathy-split-true karpathy-imgid-true
        karpathy-sentids-true karpathy-sentence-sentid-true karpathy-split-number karpathy-imgid-number
        karpathy-sentids-number karpathy-sentence-sentid-number karpathy-split-fraction
        karpathy-imgid-fraction karpathy-sentids-fraction karpathy-sentence-sentid-fraction
        karpathy-filename-text karpathy-split-text karpathy-imgid-text karpathy-sentids-text
        karpathy-sentence-raw-text karpathy-sentence-sentid-text karpathy-sentences-list karpathy-imgid-list
        karpathy-sentids-list karpathy-sentence-sentid-list karpathy-imgid-object karpathy-sentids-object
        karpathy-sentence-sentid-object karpathy-sentids-half-a-pair karpathy-sentence-sentid-half-a-pair
        karpathy-imgid-list-of-null karpathy-sentids-list-of-null karpathy-sentence-sentid-list-of-null
        karpathy-sentences-nothing karpathy-split-nothing karpathy-imgid-nothing karpathy-sentids-nothing
        karpathy-sentence-sentid-nothing tokens-bad-lists-of-splits shard-pickle shard-device-as-text
        shard-long-digits photos-sidecar-empty photos-sidecar-mark photos-newline-in-name
        photos-right-to-left photos-255-bytes photos-quotes photos-star photos-upper photos-table-half
        photos-table-of-others photos-pipe-sidecar photos-link-out-sidecar photos-device-sidecar
        photos-folder-as-sidecar
    """,
    (4, "duplicate image"): """
        photos-two-suffixes
    """,
    ("refused",): """
        coco-annotations-null coco-annotations-object coco-annotations-text coco-annotations-number
        coco-instances-half coco-instances-list coco-instances-wrong-again coco-instances-deep
        coco-instances-empty table-of-two-encodings precomp-rows precomp-no-rows precomp-no-captions
        precomp-objects precomp-pickle precomp-cut precomp-petabytes precomp-one-axis precomp-scalar
        precomp-text precomp-integers precomp-ids-of-nothing precomp-ids-binary
    """,
}

OUTCOMES = {name: outcome for outcome, names in _NAMED.items() for name in names.split()}
"""Name of a case -> ("refused",), or the number of images and the kinds of problems, sorted."""
