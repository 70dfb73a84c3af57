"""Frames as text, a whole batch in one go."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from eventserver.blocks import Lines, ended
from eventserver.event import Batch

#: Encodings in which LF is the byte 10 and no byte depends on those of the frame before: the frames can be joined,
#: decoded in one call and split again.
_JOINABLE = ("utf-8", "ascii", "iso8859-", "cp125", "cp437", "cp850", "koi8-")

#: U+FEFF in UTF-8: what programs on Windows write at the start of a file, and no part of its first line.
BOM = b"\xef\xbb\xbf"

#: Python's codecs that are no character encodings of what devices send, or that yield lone surrogates, which JSON
#: cannot carry.
_REFUSED = frozenset({"idna", "mbcs", "oem", "punycode", "raw-unicode-escape", "undefined", "unicode-escape", "utf-7"})


def encoding_problem(encoding: str) -> str | None:
    """What is wrong with the name of an encoding; None if it can be used."""
    try:
        name = codecs.lookup(encoding).name.replace("_", "-")
        b"a a ".decode(encoding)
    except (LookupError, UnicodeError, ValueError):
        return f'{encoding!r} is not a text encoding that Python knows; write one such as "utf-8" or "latin-1"'
    return f"{encoding!r} cannot be used here" if name in _REFUSED else None


class Texts:
    """Decodes the frames of a batch with one encoding. Never raises, whatever the bytes.

    With `skip_bom` the byte order mark of UTF-8 is left out where a frame begins with it.
    """

    def __init__(self, encoding: str = "utf-8", *, skip_bom: bool = False) -> None:
        self._encoding = codecs.lookup(encoding).name
        self.utf_8 = self._encoding == "utf-8"
        self._skip_bom = skip_bom and self.utf_8
        self._joinable = self._encoding.startswith(_JOINABLE)

    def read(self, batch: Batch) -> tuple[list[str], Sequence[int]]:
        """The text of each frame, and the indexes of the frames that lost something to U+FFFD.

        One call of the codec for the whole batch; frame by frame only where a frame has an LF inside or a byte
        that the encoding does not have.
        """
        frames = batch.frames
        if self._joinable and frames:
            block = ended(frames)
            if self._skip_bom and BOM in block:
                frames = [frame.removeprefix(BOM) for frame in frames]
                block = ended(frames)
            try:
                texts = block.decode(self._encoding).split("\n")
            except UnicodeDecodeError:
                pass
            else:
                # Behind the last LF there is nothing.
                texts.pop()
                if len(texts) == len(frames):
                    return texts, ()
        texts, damaged = [], []
        for index, frame in enumerate(frames):
            text, whole = self._one(frame, "truncated" in batch.marks.get(index, ()))
            texts.append(text)
            if not whole:
                damaged.append(index)
        return texts, damaged

    def read_as_utf_8(self, batch: Batch, strip: bytes) -> tuple[Sequence[bytes], Sequence[int]]:
        """As `read`, but the texts as UTF-8, and without the ASCII characters `strip` at their ends."""
        frames, ends = batch.frames, strip
        damaged: Sequence[int] = ()
        if isinstance(frames, Lines):
            # No line has an LF inside.
            block, frames, ends = frames.block, frames.cut(), strip.replace(b"\n", b"")
        else:
            block = b"\x7f".join(frames)
        try:
            if not self.utf_8:
                raise ValueError("it has to become UTF-8")
            if not block.isascii():
                block.decode()
        except ValueError:
            texts, damaged = self.read(batch)
            frames = [text.encode() for text in texts]
            block = ends = strip
        for end in ends:
            if end in block:
                return [frame.rstrip(strip) for frame in frames], damaged
        return frames, damaged

    def _one(self, frame: bytes, truncated: bool) -> tuple[str, bool]:
        """The text of a frame, and whether it is all there. A character that the limit cut in two is left out."""
        try:
            return frame.decode(self._encoding), True
        except UnicodeError:
            pass
        try:
            if truncated:
                return codecs.getincrementaldecoder(self._encoding)().decode(frame), True
        except UnicodeError:
            pass
        try:
            return frame.decode(self._encoding, "replace"), False
        except UnicodeError:  # some codecs cannot replace everything
            return frame.decode("utf-8", "replace"), False
